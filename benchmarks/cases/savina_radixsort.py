"""Savina 16, radix sort: a pipeline with one actor per bit.

A stage lets numbers pass whose bit is clear and keeps the others until all have arrived, so every stage is a stable
partition and the last bit decides last. It shows a pipeline built by `spawn` whose actors know only their successor,
and leans on the order of messages: a single pair of numbers that overtake each other leaves the result unsorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash


@dataclass(frozen=True, slots=True)
class Numbers:
    """What to sort: `count` numbers below `bound`, a power of two, drawn from the generator at `seed`."""

    count: int
    bound: int
    seed: int


@dataclass(frozen=True, slots=True)
class Sorted:
    """The numbers in order, and the length of the pipeline that they came through."""

    numbers: list[int]
    stages: int


class Source(Operator):
    """Build the pipeline from its end, the stage of the lowest bit last, and feed it."""

    def process(self, task: Numbers) -> None:
        stages = task.bound.bit_length() - 1
        first = self.spawn(Sink, task.count, stages)
        for bit in reversed(range(stages)):
            first = self.spawn(Stage, 1 << bit, task.count, first)
        generator = SavinaLCG(task.seed)
        for _ in range(task.count):
            self.tell(first, generator.next_long() % task.bound)


class Stage(Operator):
    """Hand on the numbers without a bit, then, when all have been here, those with it."""

    def __init__(self, bit: int, count: int, successor: Address) -> None:
        self.bit = bit
        self.missing = count
        self.successor = successor
        self.kept: list[int] = []

    def process(self, number: int) -> None:
        if number & self.bit:
            self.kept.append(number)
        else:
            self.tell(self.successor, number)
        self.missing -= 1
        if not self.missing:
            for late in self.kept:
                self.tell(self.successor, late)
            self.stop_actor()


class Sink(Operator):
    """Collect the numbers, which must arrive in order."""

    def __init__(self, count: int, stages: int) -> None:
        self.count = count
        self.stages = stages
        self.numbers: list[int] = []

    def process(self, number: int) -> Sorted | None:
        self.numbers.append(number)
        return Sorted(self.numbers, self.stages) if len(self.numbers) == self.count else None


app = App("savina-radixsort")
radixsort = app.stream("radixsort", Numbers, Sorted).then(Source)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Sort `N` numbers below `M` from seed `S`."""
    result = await client.request(radixsort, Numbers(params["N"], params["M"], params["S"]))
    numbers = result.numbers
    assert all(left <= right for left, right in pairwise(numbers)), "the pipeline changed the order of its messages"
    return {
        "n": len(numbers),
        "sum": sum(numbers),
        "sorted_sha256": seq_hash(numbers),
        "first": numbers[0],
        "last": numbers[-1],
        "stages": result.stages,
    }
