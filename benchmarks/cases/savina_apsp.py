"""Savina 26, all-pairs shortest paths: blocks of a matrix in lock-step with those of their row and column.

Floyd and Warshall's step `k` of a block needs row `k` and column `k` of the matrix as step `k - 1` left them. So before
each step a block tells its content to all others of its block row and block column, and takes the step once it has
heard from each. Nobody keeps them in step but these messages: a neighbour can be one step ahead, never two.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash

Matrix = list[list[int]]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """The lengths of the edges of a complete graph, and the side of the blocks to cut them into."""

    lengths: Matrix
    block_side: int

    def blocks(self) -> dict[Place, Matrix]:
        """Return the blocks of the matrix by their place in its grid."""
        side = self.block_side
        starts = range(0, len(self.lengths), side)
        return {
            (i // side, j // side): [row[j : j + side] for row in self.lengths[i : i + side]]
            for i, j in product(starts, repeat=2)
        }


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The other blocks in a block's row and column: told to each before anything else."""

    addresses: list[Address]


@dataclass(frozen=True, slots=True)
class State:
    """What a block holds before step `step`. Blocks make new rows and never change one that they have told."""

    step: int
    place: Place
    rows: Matrix


class Cut(Operator):
    """Spawn a block for each part of the matrix and make them known to one another."""

    def process(self, graph: Graph) -> None:
        steps = len(graph.lengths)
        blocks = {place: self.spawn(Block, place, rows, steps) for place, rows in graph.blocks().items()}
        for (i, j), block in blocks.items():
            others = [blocks[place] for place in blocks if place != (i, j) and (place[0] == i or place[1] == j)]
            self.tell(block, Neighbours(others))


class Block(Operator):
    """One block of the distances."""

    def __init__(self, place: Place, rows: Matrix, steps: int) -> None:
        self.place = place
        self.rows = rows
        self.steps = steps
        self.step = 0
        self.neighbours: list[Address] = []
        self.early: list[State] = []
        self.heard: dict[Place, Matrix] = {}

    def process(self, item: Neighbours | State) -> State | None:
        if isinstance(item, Neighbours):
            self.neighbours = item.addresses
            self.publish()
        elif item.step == self.step:
            self.heard[item.place] = item.rows
        else:
            assert item.step == self.step + 1, f"block {self.place} at step {self.step} heard of step {item.step}"
            self.early.append(item)
        while self.neighbours and len(self.heard) == len(self.neighbours):
            self.take_step()
            if self.step == self.steps:
                self.stop_actor()
                return State(self.step, self.place, self.rows)
            self.publish()
        return None

    def take_step(self) -> None:
        """Shorten what is shorter by way of node `step`, and turn to what has been heard of the next one."""
        side = len(self.rows)
        block, line = divmod(self.step, side)
        self.heard[self.place] = self.rows
        from_via = self.heard[block, self.place[1]][line]
        to_via = [row[line] for row in self.heard[self.place[0], block]]
        self.rows = [
            [old if old <= (via := to + onward) else via for old, onward in zip(row, from_via, strict=True)]
            for row, to in zip(self.rows, to_via, strict=True)
        ]
        self.step += 1
        self.heard = {state.place: state.rows for state in self.early}
        self.early = []

    def publish(self) -> None:
        """Tell the neighbours what this block holds before the next step."""
        for neighbour in self.neighbours:
            self.tell(neighbour, State(self.step, self.place, self.rows))


def assemble(states: list[State]) -> Matrix:
    """Put the blocks together, row by row."""
    rows: dict[int, Matrix] = {}
    for state in sorted(states, key=lambda state: state.place):
        above = rows.setdefault(state.place[0], [[] for _ in state.rows])
        for whole, part in zip(above, state.rows, strict=True):
            whole.extend(part)
    return [row for block_row in rows.values() for row in block_row]


app = App("savina-apsp")
apsp = app.stream("apsp", Graph, Matrix, timeout_s=600).then(Cut).collect().map(assemble)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Find all shortest paths in a graph of `N` nodes with lengths up to `W`, in blocks of side `B`."""
    nodes, block_side = params["N"], params["B"]
    generator = SavinaLCG(nodes)
    lengths = [[0] * nodes for _ in range(nodes)]
    for one in range(nodes):
        for other in range(one + 1, nodes):
            lengths[one][other] = lengths[other][one] = generator.next_int(params["W"]) + 1
    distances = await client.request(apsp, Graph(lengths, block_side))
    return {
        "blocks": (len(distances) // block_side) ** 2,
        "input_sum": sum(map(sum, lengths)),
        "distance_sum": sum(map(sum, distances)),
        "diameter": max(map(max, distances)),
        "matrix_sha256": seq_hash(distances),
    }
