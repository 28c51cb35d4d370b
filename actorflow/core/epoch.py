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

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from actorflow.errors import ActorflowError

What = TypeVar("What")

CUT_COST_S = 0.002
"""A cut that costs the event loop more than this is followed by a pause, so that cuts take a tenth of the time."""

CUT_SHARE = 9


class Gate(Generic[What]):
    """The output gate of one host.

    filling: the number of the epoch being filled.   durable: that of the last one that the store has.   dirty: whether
    anything was done since the last cut.
    """

    __slots__ = ("_filled", "_filling", "dirty", "durable", "filling")

    def __init__(self, durable: int = 0) -> None:
        self.durable = durable
        self.filling = durable + 1
        self.dirty = False
        self._filled: list[list[What]] = []  # by epoch that was cut and is not durable, the oldest first
        self._filling: list[What] = []

    def hold(self, what: What) -> bool:
        """Let something wait for all that was done before; return False when it may leave at once."""
        if self.dirty:
            self._filling.append(what)
        elif self._filled:
            self._filled[-1].append(what)
        else:
            return False
        return True

    def cut(self) -> int:
        """Begin a new epoch and return the number of the one that was filled."""
        number = self.filling
        self.filling += 1
        self.dirty = False
        self._filled.append(self._filling)
        self._filling = []
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
        return self._filled.pop(0)

    def drop(self) -> list[What]:
        """Return what waits, which will never leave: no epoch will be durable any more."""
        dropped = [what for waiting in self._filled for what in waiting] + self._filling
        for waiting in self._filled:
            waiting.clear()
        self._filling = []
        return dropped

    @property
    def waiting(self) -> int:
        """Return how much waits."""
        return sum(map(len, self._filled)) + len(self._filling)


class Waiting(Protocol):
    """What waits for an epoch to be durable."""

    def tell(self) -> None:
        """Go on: it is."""

    def lost(self, error: ActorflowError) -> None:
        """Give up: it never will be."""


class Leaving:
    """A function that waits for an epoch to be durable, and what is called when it never will be."""

    __slots__ = ("lost", "tell")

    def __init__(self, tell: Callable[[], None], lost: Callable[[ActorflowError], None] | None = None) -> None:
        self.tell = tell
        self.lost = lost if lost is not None else _nobody_to_tell


def pause_after(cut_s: float) -> float:
    """Return how many seconds to wait after a cut that took so long before the next one."""
    return 0.0 if cut_s <= CUT_COST_S else cut_s * CUT_SHARE


def _nobody_to_tell(error: ActorflowError) -> None:
    """Leave it: nobody waits to hear that it never was durable."""
