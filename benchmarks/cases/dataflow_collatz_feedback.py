"""How many steps does each number take to reach 1, when even ones are halved and odd ones tripled and raised by one?

Shows an operator that sends items back to itself, and that the runtime counts their trips: nobody else has to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actorflow import App, Client, Operator
from benchmarks.cases.generators import rows_hash


def numbers(limit: int) -> Iterator[tuple[int, int]]:
    """Yield each number up to the limit twice: as what it is at first, and as what it is now."""
    for number in range(1, limit + 1):
        yield number, number


class Walk(Operator):
    """Take one step and come back, or tell how many steps it were."""

    def process(self, walk: tuple[int, int]) -> tuple[int, int] | None:
        start, number = walk
        if number == 1:
            return start, self.round
        self.feedback((start, 3 * number + 1 if number & 1 else number >> 1))
        return None


app = App("collatz-feedback")
collatz = (
    app.stream("collatz-feedback", int, list[tuple[int, int]], timeout_s=180)
    .flat_map(numbers)
    .then(Walk, feedback=True)
    .collect()
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Count the steps of each number up to `limit`."""
    rows = await client.request(collatz, params["limit"])
    passes = [steps for _, steps in rows]
    return {
        "items": len(rows),
        "total_passes": sum(passes),
        "max_passes": max(passes),
        "rows_sha256": rows_hash(rows),
    }
