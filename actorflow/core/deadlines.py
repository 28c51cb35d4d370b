"""Deadlines that cost almost nothing.

Requests with the same time-out end in the order in which they began, so an insertion-ordered table per time-out is a
deadline queue: adding and removing are one dict operation each, and only the heads are ever looked at.

Invariants
1. `next_s` is never later than the earliest deadline in the tables.
2. `due` returns each key once, and never before its deadline.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import takewhile
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

NEVER = float("inf")


class Deadlines(Generic[Key]):
    """Keys with deadlines, in one insertion-ordered table per time-out."""

    __slots__ = ("_tables", "next_s")

    def __init__(self) -> None:
        self._tables: dict[float, dict[Key, float]] = {}
        self.next_s = NEVER

    def add(self, key: Key, timeout_s: float, now_s: float) -> bool:
        """Add a key; `now_s` must not go back. Return whether `next_s` has become earlier.

        A key has one time-out: added again under the same one, its deadline moves; discard it before it gets another.
        """
        table = self._tables.get(timeout_s)
        if table is None:
            table = self._tables[timeout_s] = {}
        deadline_s = now_s + timeout_s
        if table.setdefault(key, deadline_s) != deadline_s:  # it was there: now it comes after those added since
            del table[key]
            table[key] = deadline_s
        if deadline_s < self.next_s:
            self.next_s = deadline_s
            return True
        return False

    def discard(self, key: Key, timeout_s: float) -> None:
        """Remove a key if it is there. The table of a rare time-out goes with its last key."""
        table = self._tables.get(timeout_s)
        if table is not None and table.pop(key, None) is not None and not table and len(self._tables) > 16:
            del self._tables[timeout_s]

    def due(self, now_s: float) -> list[Key]:
        """Remove and return the keys whose deadline has come, and set `next_s` anew."""
        ended: list[Key] = []
        self.next_s = NEVER
        for timeout_s, table in list(self._tables.items()):
            heads = _heads(table, now_s)
            for key in heads:
                del table[key]
            if table:
                self.next_s = min(self.next_s, next(iter(table.values())))
            else:
                del self._tables[timeout_s]
            ended += heads
        return ended

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))


def _heads(table: dict[Key, float], now_s: float) -> list[Key]:
    """Return the keys at the head of a table whose deadline has come."""
    return [key for key, _ in takewhile(lambda entry: entry[1] <= now_s, table.items())]
