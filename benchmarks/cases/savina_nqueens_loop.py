"""Savina 29, N queens, as a loop: shallow boards go round and come out with one queen more, deep ones are counted.

There is no master who deals out boards and no worker to be idle: the feedback edge brings back what is to be split
further, and the fold adds the counts of what is not.
"""

from __future__ import annotations

from operator import add
from typing import Any

from actorflow import App, Client
from benchmarks.cases.savina_nqueens import SPLIT_ROWS, Board, solutions


def is_shallow(board: Board) -> bool:
    """Return whether a board is to be split further."""
    return board.row < min(SPLIT_ROWS, board.size)


def count(board: Board) -> int:
    """Count the solutions of a board."""
    return solutions((1 << board.size) - 1, board.columns, board.falling, board.rising)


app = App("savina-nqueens-loop")
nqueens = (
    app.stream("nqueens", int, int)
    .map(Board)
    .flat_map(Board.continuations)
    .feedback(when=is_shallow)
    .map(count)
    .fold(0, add)
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Count the solutions for `n` queens."""
    return {"solutions": await client.request(nqueens, params["n"])}
