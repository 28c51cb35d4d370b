"""Savina 26, all-pairs shortest paths, in synchronous rounds: one for each node that paths may go by.

The blocks of the matrix go round. Those that row and column `step` run through vote with their part of them, and the
next round finds row and column as the state of the loop. No block has neighbours to keep in step with, and none can
be ahead: the runtime ends a round when all blocks are through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import or_
from typing import Any, Literal, TypeAlias

from actorflow import App, Client, Operator, Rounds
from benchmarks.cases.generators import SavinaLCG, seq_hash
from benchmarks.cases.savina_apsp import Graph, Matrix, Place, State, assemble

Lines: TypeAlias = dict[tuple[Literal["row", "column"], int], list[int]]
"""Parts of the row and of the column of a step, by the column and the row of blocks that they are in."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the distances before step `step`; -1 before the first lines are known."""

    place: Place
    rows: Matrix
    step: int
    steps: int

    def lines(self) -> Lines:
        """Return what the others need of this block for the step before it."""
        block, line = divmod(self.step, len(self.rows))
        lines: Lines = {}
        if self.place[0] == block:
            lines["row", self.place[1]] = self.rows[line]
        if self.place[1] == block:
            lines["column", self.place[0]] = [row[line] for row in self.rows]
        return lines


def blocks(graph: Graph) -> Iterator[Block]:
    """Yield the blocks of a graph."""
    return (Block(place, rows, -1, len(graph.lengths)) for place, rows in graph.blocks().items())


class Shorten(Operator):
    """Shorten what is shorter by way of node `step`."""

    def process(self, block: Block) -> Block:
        lines: Lines = self.loop_state
        rows = block.rows
        if lines:
            from_via, to_via = lines["row", block.place[1]], lines["column", block.place[0]]
            rows = [
                [old if old <= (via := to + onward) else via for old, onward in zip(row, from_via, strict=True)]
                for row, to in zip(rows, to_via, strict=True)
            ]
        return Block(block.place, rows, block.step + 1, block.steps)


app = App("savina-apsp-loop")
apsp = (
    app.stream("apsp", Graph, Matrix, timeout_s=600)
    .flat_map(blocks)
    .then(Shorten)
    .feedback(
        when=lambda block: block.step < block.steps,
        rounds=Rounds(vote=Block.lines, fold=or_, initial=dict),
    )
    .map(lambda block: State(block.step, block.place, block.rows))
    .collect()
    .map(assemble)
)


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
