"""Savina 25, quicksort: actors that fork on long lists and join what comes back.

An actor splits a long list around a pivot, gives the two sides to two new actors and puts their answers together. It
shows recursion by `spawn`, an address as return path, and messages of several megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash


@dataclass(frozen=True, slots=True)
class Unsorted:
    """Numbers to sort; lists shorter than `threshold` are not split further."""

    numbers: list[int]
    threshold: int


@dataclass(frozen=True, slots=True)
class Part:
    """A sorted part of the parent's list, from one side of its pivot."""

    side: str
    numbers: list[int]


class Sort(Operator):
    """Begin with one sorter for the whole list."""

    def process(self, task: Unsorted) -> None:
        self.tell(self.spawn(Sorter), task)


class Sorter(Operator):
    """Sort one list: by itself when it is short, else through two others."""

    def __init__(self, parent: Address | None = None, side: str = "") -> None:
        self.parent = parent
        self.side = side
        self.middle: list[int] = []
        self.parts: dict[str, list[int]] = {}

    def process(self, item: Unsorted | Part) -> list[int] | None:
        if isinstance(item, Part):
            self.parts[item.side] = item.numbers
            if len(self.parts) < 2:
                return None
            return self.answer(self.parts["below"] + self.middle + self.parts["above"])
        numbers = item.numbers
        if len(numbers) < item.threshold:
            return self.answer(sorted(numbers))
        pivot = numbers[len(numbers) // 2]
        self.middle = [number for number in numbers if number == pivot]
        self.sort("below", [number for number in numbers if number < pivot], item.threshold)
        self.sort("above", [number for number in numbers if number > pivot], item.threshold)
        return None

    def sort(self, side: str, numbers: list[int], threshold: int) -> None:
        """Have another actor sort one side."""
        self.tell(self.spawn(Sorter, self.address, side), Unsorted(numbers, threshold))

    def answer(self, numbers: list[int]) -> list[int] | None:
        """End, and give the sorted list to whoever waits for it."""
        self.stop_actor()
        if self.parent is None:
            return numbers
        self.tell(self.parent, Part(self.side, numbers))
        return None


app = App("savina-quicksort")
quicksort = app.stream("quicksort", Unsorted, list[int]).then(Sort)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Sort `N` numbers below `M` from seed `S`, splitting lists down to `T`."""
    generator = SavinaLCG(params["S"])
    numbers = [generator.next_long() % params["M"] for _ in range(params["N"])]
    ordered = await client.request(quicksort, Unsorted(numbers, params["T"]))
    return {
        "n": len(ordered),
        "sum": sum(ordered),
        "sorted_sha256": seq_hash(ordered),
        "median": ordered[len(ordered) // 2],
    }
