"""Fibonacci numbers by a stream that calls itself twice, until the numbers are small.

Shows recursion in a topology (a stream is a value, and may be called by itself), and `send`, with which every run of
the stream reports itself to another stream, exactly once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from actorflow import App, Client, Operator

Answer: TypeAlias = tuple[int, int]

app = App("fibonacci")


class Tally(Operator):
    """Count what arrives and answer with the count."""

    def __init__(self) -> None:
        self.count = 0

    def process(self, amount: int) -> int:
        self.count += amount
        return self.count


class Report(Operator):
    """Report each run of the stream to the tally."""

    def process(self, number: int) -> int:
        self.send(tally, 1)
        return number


def combine(one: Answer, other: Answer) -> Answer:
    """Add two numbers, and the runs that it took to find them."""
    return one[0] + other[0], one[1] + other[1]


tally = app.stream("tally", int, int).then(Tally)
fibonacci = app.stream("fibonacci", int)
small, large = fibonacci.then(Report).split(lambda number: number < 2)
small.map(lambda number: (number, 1))
(
    large.flat_map(lambda number: (number - 1, number - 2))
    .call(fibonacci)
    .reduce(combine)
    .map(lambda answer: (answer[0], answer[1] + 1))
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask for the n-th Fibonacci number."""
    number, runs = await client.request(fibonacci, params["n"])
    counted = await client.request(tally, 0)
    assert counted == runs, f"{runs} runs answered, {counted} took place"
    return {"fib": number, "stream_invocations": runs}
