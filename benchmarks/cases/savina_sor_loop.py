"""Savina 27, successive over-relaxation, in synchronous rounds: the colours of a checkerboard take turns.

In each round every cell tells its value to where it is needed: the cells of one colour to themselves and to all around,
those of the other, whose turn it is, only to themselves. What has come together at a place makes its next value. The
rounds keep red and black in turn, so no cell has to count what it has heard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow import App, Client, Rounds
from benchmarks.cases.generators import SavinaLCG
from benchmarks.cases.savina_sor import ITERATIONS, OMEGA, SEED, SIDES, SUITE_REFERENCES, Grid, Place


@dataclass(frozen=True, slots=True)
class Cell:
    """One element of a grid of some side; it is black when row and column add up to an even number."""

    place: Place
    value: float
    side: int
    turns_left: int

    @property
    def relaxes(self) -> bool:
        """Return whether it is this cell's turn: red cells have the first and the last."""
        return sum(self.place) % 2 == self.turns_left % 2


def lay(grid: Grid) -> Iterator[Cell]:
    """Yield the cells of a grid; black ones have one value more at first."""
    for i, row in enumerate(grid.values):
        for j, value in enumerate(row):
            yield Cell((i, j), value, len(grid.values), 2 * grid.iterations - 1)


def tell(cell: Cell) -> Iterator[tuple[Place, Cell]]:
    """Yield the cell with each place where its value is needed."""
    i, j = cell.place
    yield cell.place, cell
    if not cell.relaxes:
        for row, column in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= row < cell.side and 0 <= column < cell.side:
                yield (row, column), cell


def relax(heard: tuple[Place, list[tuple[Place, Cell]]]) -> Cell:
    """Make the next value of the cell at a place, of its own and of those around."""
    place, told = heard
    cell = next(cell for _, cell in told if cell.place == place)
    value = cell.value
    if cell.relaxes:
        around = math.fsum(other.value for _, other in told if other is not cell)
        value = 0.25 * OMEGA * around + (1 - OMEGA) * value
    return Cell(place, value, cell.side, cell.turns_left - 1)


app = App("savina-sor-loop")
round_begin = app.stream("sor", Grid, float).flat_map(lay).merge()
sor = (
    round_begin.flat_map(tell)
    .key_by(lambda told: told[0])
    .collect()
    .map(relax)
    .feedback(round_begin, when=lambda cell: cell.turns_left, rounds=Rounds())
    .map(lambda cell: cell.value)
    .collect()
    .map(math.fsum)
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Relax the grid of size class `level`."""
    level = params["level"]
    side = SIDES[level]
    generator = SavinaLCG(SEED)
    values = [[generator.next_double() * 1e-6 for _ in range(side)] for _ in range(side)]
    total = await client.request(sor, Grid(values, ITERATIONS))
    reference = SUITE_REFERENCES[level] if level < len(SUITE_REFERENCES) else None
    return {"size": side, "g_total": total, "suite_ref_val": reference}
