"""Savina 27, successive over-relaxation: a checkerboard whose every cell is an actor.

Black cells begin by telling their values to the red ones around them; from then on a cell that has heard from all its
neighbours takes the next value and tells it on. The colours alternate without anybody conducting, and the stream adds
up the values that the cells emit as their last act.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG

SIDES = (20, 80, 100, 120, 150, 200, 250, 300, 350, 400)
SUITE_REFERENCES = (0.000003189420084871275, 0.001846644602759566)
ITERATIONS = 100
OMEGA = 1.25
SEED = 10101010

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grid:
    """The values at first, and how many to give each cell, the first of a black cell included."""

    values: list[list[float]]
    iterations: int


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The cells above, below, left and right, where there are such: told to each cell before anything else."""

    cells: dict[Place, Address]


@dataclass(frozen=True, slots=True)
class Value:
    """The new value of a neighbour."""

    place: Place
    value: float


class Lay(Operator):
    """Spawn the cells and introduce neighbours to one another."""

    def process(self, grid: Grid) -> None:
        cells = {
            (i, j): self.spawn(Cell, (i, j), value, grid.iterations)
            for i, row in enumerate(grid.values)
            for j, value in enumerate(row)
        }
        for (i, j), cell in cells.items():
            around = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
            self.tell(cell, Neighbours({place: cells[place] for place in around if place in cells}))


class Cell(Operator):
    """One element of the grid; it is black when row and column add up to an even number."""

    def __init__(self, place: Place, value: float, iterations: int) -> None:
        self.place = place
        self.value = value
        self.black = sum(place) % 2 == 0
        self.left = iterations - 1 if self.black else iterations
        self.neighbours: dict[Place, Address] = {}
        self.heard: dict[Place, float] = {}

    def process(self, item: Neighbours | Value) -> float | None:
        if isinstance(item, Neighbours):
            self.neighbours = item.cells
            if self.black:
                self.tell_neighbours()
        else:
            assert item.place not in self.heard, f"{item.place} was ahead of {self.place}: red and black must alternate"
            self.heard[item.place] = item.value
        return self.relax() if len(self.heard) == len(self.neighbours) else None

    def relax(self) -> float | None:
        """Take the next value; the last one is the cell's result."""
        around = sum(self.heard[place] for place in self.neighbours)
        self.value = 0.25 * OMEGA * around + (1 - OMEGA) * self.value
        self.heard.clear()
        self.left -= 1
        if self.left or self.black:  # a red cell's last value interests nobody: the black ones have had their share
            self.tell_neighbours()
        if self.left:
            return None
        self.stop_actor()
        return self.value

    def tell_neighbours(self) -> None:
        """Tell the own value to all around."""
        for neighbour in self.neighbours.values():
            self.tell(neighbour, Value(self.place, self.value))


app = App("savina-sor")
sor = app.stream("sor", Grid, float).then(Lay).collect().map(math.fsum)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Relax the grid of size class `level`."""
    level = params["level"]
    side = SIDES[level]
    generator = SavinaLCG(SEED)
    values = [[generator.next_double() * 1e-6 for _ in range(side)] for _ in range(side)]
    total = await client.request(sor, Grid(values, ITERATIONS))
    reference = SUITE_REFERENCES[level] if level < len(SUITE_REFERENCES) else None
    return {"size": side, "g_total": total, "suite_ref_val": reference}
