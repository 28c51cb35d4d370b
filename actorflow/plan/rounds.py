"""What a synchronous loop declares: when its rounds end, and what its rounds amount to."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from actorflow.errors import summary
from actorflow.limits import is_count


class _Unset:
    def __repr__(self) -> str:
        return "(not given)"


UNSET: Final[Any] = _Unset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How a loop goes round in synchronous rounds: nothing begins a round before all of the last one is done.

    In each round the votes that operators cast with `self.vote(…)`, and those that `vote` makes of items, are folded:
    `fold(value, vote)`, from `initial`, or from the first vote where that is not given. At the end of the round
    `update(state, value)` makes the new state of the loop of the old one and of what was folded (by default that is the
    new state; without any vote and `initial` the old one stays). Every operator in the loop reads it as
    `self.loop_state`, and must not change it; before the first round it is `state`, by default what `initial` is.

    The loop ends when `until(state)` is true, after `rounds_max` rounds, or when nothing comes back.

    vote: makes a vote of each item that comes back (not of those that leave by `when`).   fold: needs not care for
    order, since votes come in any.   initial, state: a value, or a function that makes one.

    What depends on the request is a function that takes it: `rounds_max(request)`, `state(request)`,
    `initial(request)`, `until(state, request)`. `request.item` is what the caller sent (None where many items were),
    `request.attributes` what it sent along.
    """

    until: Callable[..., Any] | None = None
    rounds_max: int | Callable[[Any], int] | None = None
    fold: Callable[[Any, Any], Any] | None = None
    initial: Any = UNSET
    state: Any = UNSET
    update: Callable[[Any, Any], Any] | None = None
    vote: Callable[[Any], Any] | None = None

    def begin_value(self, request: Any) -> Any:
        """Return what the votes of a round are folded from; UNSET where that is the first of them."""
        return UNSET if self.initial is UNSET else _made(self.initial, request)

    def begin_state(self, request: Any) -> Any:
        """Return the state of the loop before its first round."""
        state = self.initial if self.state is UNSET else self.state
        return None if state is UNSET else _made(state, request)

    def last_round(self, request: Any) -> int | None:
        """Return after how many rounds the loop ends; None when that is not limited. Raises: ValueError."""
        limit = self.rounds_max
        if not callable(limit):
            return limit
        count = limit(request)
        if not is_count(count):
            raise ValueError(
                f"rounds_max(request) gave {summary(count)}, but it is a whole number of rounds, at least 1"
            )
        return count

    def is_over(self, state: Any, request: Any) -> bool:
        """Return whether the loop ends with a state."""
        if self.until is None:
            return False
        return bool(self.until(state, request) if _needs(self.until, 2) else self.until(state))


def _made(value: Any, request: Any) -> Any:
    """Return a value of one's own: what a function makes, or a copy."""
    if not callable(value):
        return copy.deepcopy(value)
    return value(request) if _needs(value, 1) else value()


def _needs(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function must be called with so many positional arguments, and not with one less."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of C, such as dict: those that make values need nothing
        return False
    return _binds(signature, count) and not _binds(signature, count - 1)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LoopEnd:
    """What a synchronous loop, or a delta iteration, amounted to: `rounds` were done, and `state` is its last state."""

    rounds: int
    state: Any = None
