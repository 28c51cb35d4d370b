"""Savina 25, quicksort, as a loop: long lists go round and come out in parts, short ones are sorted and go on.

A part knows where in the whole it begins, so nothing has to be joined on a way back: the parts are put in order when
all have left the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow import App, Client
from benchmarks.cases.generators import SavinaLCG, seq_hash
from benchmarks.cases.savina_quicksort import Unsorted


@dataclass(frozen=True, slots=True)
class Part:
    """Numbers that stand together in the sorted whole, from `start` on; `threshold` of them make a long part."""

    start: int
    numbers: list[int]
    threshold: int
    equal: bool = False

    def is_long(self) -> bool:
        """Return whether this part is worth splitting."""
        return len(self.numbers) >= self.threshold and not self.equal


def split(part: Part) -> Iterator[Part]:
    """Yield what is below the pivot, equal to it and above it."""
    numbers, start = part.numbers, part.start
    pivot = numbers[len(numbers) // 2]
    below = [number for number in numbers if number < pivot]
    middle = [number for number in numbers if number == pivot]
    yield Part(start, below, part.threshold)
    yield Part(start + len(below), middle, part.threshold, equal=True)
    yield Part(
        start + len(below) + len(middle),
        [number for number in numbers if number > pivot],
        part.threshold,
    )


def append(ordered: list[int], part: Part) -> list[int]:
    """Put a part behind those before it."""
    ordered.extend(part.numbers)
    return ordered


app = App("savina-quicksort-loop")
quicksort = (
    app.stream("quicksort", Unsorted, list[int])
    .map(lambda task: Part(0, task.numbers, task.threshold))
    .flat_map(split)
    .feedback(when=Part.is_long)
    .map(lambda part: Part(part.start, sorted(part.numbers), part.threshold))
    .sort(lambda part: part.start)
    .fold(list, append)
)


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
