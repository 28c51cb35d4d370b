"""Savina 29, N queens: a master and twenty workers that split a search as they go.

A worker that meets a shallow board hands its continuations back to the master, one that meets a deep board counts its
solutions. The master deals out what there is to whoever is idle, and the stream's fold adds the counts: when all
messages are consumed the search is over, so nobody keeps a tally of outstanding work to learn that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import add
from typing import Any

from actorflow import Address, App, Client, Operator

SPLIT_ROWS = 4
WORKERS = 20


@dataclass(frozen=True, slots=True)
class Board:
    """A board of `size` with queens in the first rows: the columns and diagonals they hold, as bits of the next row."""

    size: int
    row: int = 0
    columns: int = 0
    falling: int = 0
    rising: int = 0

    def continuations(self) -> Iterator[Board]:
        """Yield the boards with one queen more."""
        free = ((1 << self.size) - 1) & ~(self.columns | self.falling | self.rising)
        while free:
            queen = free & -free
            free -= queen
            yield replace(
                self,
                row=self.row + 1,
                columns=self.columns | queen,
                falling=(self.falling | queen) << 1,
                rising=(self.rising | queen) >> 1,
            )


@dataclass(frozen=True, slots=True)
class Work:
    """A board for a worker, and whom to tell about it."""

    board: Board
    master: Address


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker leaves to others of the board it was given; it is idle again."""

    worker: Address
    boards: list[Board]


class Queens(Operator):
    """Give each request a master."""

    def process(self, size: int) -> None:
        self.tell(self.spawn(Master), Board(size))


class Master(Operator):
    """Deal boards to idle workers."""

    def __init__(self) -> None:
        self.boards: deque[Board] = deque()
        self.idle: list[Address] = []

    def process(self, item: Board | Done) -> None:
        if isinstance(item, Done):
            self.boards.extend(item.boards)
            self.idle.append(item.worker)
        else:
            self.boards.append(item)
            self.idle = [self.spawn(Worker) for _ in range(WORKERS)]
        while self.boards and self.idle:
            self.tell(self.idle.pop(), Work(self.boards.popleft(), self.address))


class Worker(Operator):
    """Split a shallow board, count the solutions of a deep one."""

    def process(self, work: Work) -> int | None:
        board = work.board
        split = board.row < min(SPLIT_ROWS, board.size)
        self.tell(work.master, Done(self.address, list(board.continuations()) if split else []))
        return None if split else solutions((1 << board.size) - 1, board.columns, board.falling, board.rising)


def solutions(full: int, columns: int, falling: int, rising: int) -> int:
    """Count the ways to fill the rows that are left."""
    if columns == full:
        return 1
    count = 0
    free = full & ~(columns | falling | rising)
    while free:
        queen = free & -free
        free -= queen
        count += solutions(full, columns | queen, (falling | queen) << 1, (rising | queen) >> 1)
    return count


app = App("savina-nqueens")
nqueens = app.stream("nqueens", int, int).then(Queens).fold(0, add)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Count the solutions for `n` queens."""
    return {"solutions": await client.request(nqueens, params["n"])}
