"""A line that is served by priority, the smallest first, and equal ones in order of arrival.

Priorities are the user's: comparing them may raise. Invariant: what raises loses nothing. A `push` that raises leaves
the line as it was; a `pop` that raises leaves all that was in it, in an order of which nothing is promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Ordered(Generic[T]):
    """A heap of values with their priorities."""

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[T]:
        """Return the values, in no order."""
        return (entry[2] for entry in self._heap)

    def push(self, priority: Any, value: T) -> None:
        """Add a value. Raises: what comparing its priority raises."""
        self._count += 1
        entry = (priority, self._count, value)
        try:
            heappush(self._heap, entry)
        except BaseException:
            self._heap = [each for each in self._heap if each is not entry]
            self._restore()
            raise

    def pop(self) -> T:
        """Take the value with the smallest priority. Raises: IndexError when empty; what comparing raises."""
        first = self._heap[0]
        try:
            return heappop(self._heap)[2]
        except BaseException:
            self._heap.append(first)
            raise

    def _restore(self) -> None:
        """Make it a heap again, as far as the priorities that are left can be compared."""
        try:
            heapify(self._heap)
        except Exception:  # they could be compared one by one only: `pop` will say so
            return
