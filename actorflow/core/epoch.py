"""What may leave a host, and when: nothing before everything that it follows from is kept.

What a host does fills one *epoch* after another. An epoch is cut between two turns of the event loop, so it holds all
or nothing of every activation; it is durable once the store has it. Replies, acknowledgements and frames that follow
from an epoch wait at the gate until it is.

Invariants
1. Epochs are cut, and become durable, in the order of their numbers.
2. What waits leaves in the order in which it came, and not before the epoch that was being filled when it came is
   durable, nor before any earlier one; where nothing has been done since the last durable epoch, it leaves at once.
3. What waits is never dropped: it leaves, or the host ends.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

What = TypeVar("What")

CUT_COST_S = 0.002
"""A cut that costs the event loop more than this is followed by a pause, so that cuts take a tenth of the time."""

CUT_SHARE = 9


class Gate(Generic[What]):
    """The output gate of one host.

    filling: the number of the epoch being filled.   durable: that of the last one that the store has.   dirty: whether
    anything was done since the last cut.
    """

    __slots__ = ("_waiting", "dirty", "durable", "filling")

    def __init__(self, durable: int = 0) -> None:
        self.durable = durable
        self.filling = durable + 1
        self.dirty = False
        self._waiting: deque[tuple[int, What]] = deque()

    def hold(self, what: What) -> bool:
        """Let something wait for all that was done before; return False when it may leave at once."""
        number = self.filling if self.dirty else self.filling - 1
        if number <= self.durable:
            return False
        self._waiting.append((number, what))
        return True

    def cut(self) -> int:
        """Begin a new epoch and return the number of the one that was filled."""
        number = self.filling
        self.filling += 1
        self.dirty = False
        return number

    def kept(self, number: int) -> list[What]:
        """Note that an epoch is durable; return what may leave now.

        Raises: ValueError when it is not the next one.
        """
        if number != self.durable + 1 or number >= self.filling:
            raise ValueError(
                f"epoch {number} is durable, after {self.durable} and while {self.filling} is being filled"
            )
        self.durable = number
        leaving: list[What] = []
        while self._waiting and self._waiting[0][0] <= number:
            leaving.append(self._waiting.popleft()[1])
        return leaving

    def drop(self) -> list[What]:
        """Return what waits, which will never leave: no epoch will be durable any more."""
        dropped = [what for _, what in self._waiting]
        self._waiting.clear()
        return dropped

    @property
    def waiting(self) -> int:
        """Return how much waits."""
        return len(self._waiting)


def pause_after(cut_s: float) -> float:
    """Return how many seconds to wait after a cut that took so long before the next one."""
    return 0.0 if cut_s <= CUT_COST_S else cut_s * CUT_SHARE
