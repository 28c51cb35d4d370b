"""Savina 18, the sieve of Eratosthenes, as a loop: each trip of a number is one filter more that it goes through.

A filter keeps up to `capacity` primes and feeds back what none of them divides. There is one operator, its notes on a
request hold the primes of each round, and the pipeline is as long as the largest numbers go round. No end mark runs
through it: the fold is told when the last number has left the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from actorflow import App, Client, Operator
from benchmarks.cases.savina_sieve import Primes, Range

Candidate: TypeAlias = tuple[int, int]
"""A number, and how many primes a filter keeps."""


def candidates(task: Range) -> Iterator[Candidate]:
    """Yield two and the odd numbers, smallest first."""
    if task.below > 2:
        yield 2, task.primes_per_filter
    for number in range(3, task.below, 2):
        yield number, task.primes_per_filter


class Filter(Operator):
    """Keep the first primes to arrive in a round, and send what may be a larger one to the next."""

    def process(self, candidate: Candidate) -> Primes | None:
        number, capacity = candidate
        primes: list[int] = self.scratch.setdefault(self.round, [])
        for prime in primes:
            if number % prime == 0:
                return None
            if prime * prime > number:
                break
        if len(primes) == capacity:
            self.feedback(candidate)
            return None
        primes.append(number)
        return Primes(1, self.round + 1, number)


def add(found: Primes, more: Primes) -> Primes:
    """Put together what was found in any order."""
    return Primes(found.count + more.count, max(found.filters, more.filters), max(found.largest, more.largest))


app = App("savina-sieve-loop")
sieve = app.stream("sieve", Range, Primes).flat_map(candidates).then(Filter, feedback=True).fold(Primes(), add)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Find the primes below `N` with `M` of them per filter."""
    primes = await client.request(sieve, Range(params["N"], params["M"]))
    return {"primes_below_N": primes.count, "filter_actors": primes.filters, "largest": primes.largest}
