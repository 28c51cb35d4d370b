"""What a synchronous loop declares: when its rounds end, and what its rounds amount to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


class _Unset:
    def __repr__(self) -> str:
        return "(the initial value)"


UNSET: Final[Any] = _Unset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How a loop goes round in synchronous rounds: nothing begins a round before all of the last one is done.

    In each round the votes that operators cast with `self.vote(…)`, and those that `vote` makes of items, are folded:
    `fold(value, vote)`, from `initial` (a value, or a function that makes one). At the end of the round `update(state,
    value)` makes the new state of the loop of the old one and of what was folded (by default that is the new state).
    Every operator in the loop reads it as `self.loop_state`; before the first round it is `state`.

    The loop ends when `until(state)` is true, after `rounds_max` rounds, or when nothing comes back.

    vote: makes a vote of each item that comes back.   fold: needs not care for order, since votes come in any.
    """

    until: Callable[[Any], Any] | None = None
    rounds_max: int | None = None
    fold: Callable[[Any, Any], Any] | None = None
    initial: Any = None
    state: Any = UNSET
    update: Callable[[Any, Any], Any] | None = None
    vote: Callable[[Any], Any] | None = None

    def begin_value(self) -> Any:
        """Return what the votes of a round are folded from."""
        return self.initial() if callable(self.initial) else self.initial

    def begin_state(self) -> Any:
        """Return the state of the loop before its first round."""
        if self.state is UNSET:
            return self.begin_value()
        return self.state() if callable(self.state) else self.state


@dataclass(frozen=True, slots=True)
class LoopEnd:
    """What a synchronous loop, or a delta iteration, amounted to: `rounds` were done, and `state` is its last state."""

    rounds: int
    state: Any = None
