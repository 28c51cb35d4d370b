"""Savina 23, Fibonacci, by a stream that calls itself: each run of the stream takes the place of an actor.

A run splits its number in two, calls the stream for both and adds the answers. Nothing is spawned and nobody keeps an
address to answer to: the answer to a child request comes back to where it was asked for.
"""

from __future__ import annotations

from typing import Any

from actorflow import App, Client
from benchmarks.cases.savina_fib import Sum


def add(one: Sum, other: Sum) -> Sum:
    """Add two numbers, and the runs that it took to find them."""
    return Sum(one.value + other.value, one.actors + other.actors)


app = App("savina-fib-loop")
fib = app.stream("fib", int, Sum, timeout_s=300)
small, large = fib.split(lambda n: n <= 2)
small.map(lambda n: Sum(1, 1))
large.flat_map(lambda n: (n - 1, n - 2)).call(fib).reduce(add).map(lambda total: add(total, Sum(0, 1)))


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Compute the `N`th Fibonacci number."""
    result = await client.request(fib, params["N"])
    return {"fib": result.value, "actors_created": result.actors}
