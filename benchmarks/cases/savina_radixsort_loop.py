"""Savina 16, radix sort, in synchronous rounds: one for each bit.

A round lets numbers pass whose bit is clear and keeps the others until it ends, so every round is a stable partition
and the last bit decides last. The pipeline of actors has become one operator with a note of what it keeps, and a stage
that counts its numbers to know the last one has become `on_round_end`. It leans on the order of what goes round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from actorflow import App, Client, Operator, Rounds
from benchmarks.cases import flow
from benchmarks.cases.generators import SavinaLCG, seq_hash
from benchmarks.cases.savina_radixsort import Numbers


@dataclass(frozen=True, slots=True)
class Number:
    """A number below `bound`, and the bit that its round is about."""

    value: int
    bit: int
    bound: int


def draw(task: Numbers) -> Iterator[Number]:
    """Yield the numbers to sort."""
    generator = SavinaLCG(task.seed)
    for _ in range(task.count):
        yield Number(generator.next_long() % task.bound, 1, task.bound)


class Partition(Operator):
    """Hand on the numbers without the bit at once, then, when all have been here, those with it."""

    def process(self, number: Number) -> Number | None:
        after = Number(number.value, number.bit << 1, number.bound)
        if not number.value & number.bit:
            return after
        self.scratch.setdefault("kept", []).append(after)
        return None

    def on_round_end(self, round: int) -> None:
        for number in self.scratch.pop("kept", ()):
            self.emit(number)


app = App("savina-radixsort-loop")
loop = (
    app.stream("radixsort", Numbers, dict)
    .flat_map(draw)
    .then(Partition)
    .feedback(when=lambda number: number.bit < number.bound, rounds=Rounds())
)
radixsort = flow.record(
    numbers=loop.map(lambda number: number.value).collect(),
    stages=loop.loop_end.map(lambda end: end.rounds),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Sort `N` numbers below `M` from seed `S`."""
    result = await client.request(radixsort, Numbers(params["N"], params["M"], params["S"]))
    numbers = result["numbers"]
    assert all(left <= right for left, right in pairwise(numbers)), "the loop changed the order of its items"
    return {
        "n": len(numbers),
        "sum": sum(numbers),
        "sorted_sha256": seq_hash(numbers),
        "first": numbers[0],
        "last": numbers[-1],
        "stages": result["stages"],
    }
