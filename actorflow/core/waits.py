"""Who waits for whom, and is it a circle?

A waiter needs every one of its *needs*, and a need is met as soon as any one of its *providers* can go on: an
activation that awaits a child request needs each piece of work of that request; a queued item needs any one of the
activations that occupy its replica. What has no needs can go on by itself. A need without providers is met by nobody
who waits here, hence from outside (a timer, a caller) or never; in both cases by no circle, and it is left out.

Invariants
1. A waiter is stuck if and only if one of its needs has providers and all of them are stuck (the greatest such set).
2. A circle is reported only among stuck waiters, so what is reported can never dissolve by itself; and since the wait
   that closes a circle begins at a known instant, looking from that waiter at that instant finds every circle.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

Waiter = TypeVar("Waiter", bound=Hashable)
Needs = Sequence[Sequence[Waiter]]


class TooManyWaitersError(Exception):
    """More waiters are concerned than a look was to take in."""


def find_circle(
    start: Waiter, needs_of: Callable[[Waiter], Needs[Waiter]], *, waiters_max: int | None = None
) -> list[Waiter] | None:
    """Return a circle of waiters that `start` is stuck behind, or None when it can go on in time.

    The list names each waiter once; each waits for the next and the last for the first. `needs_of` is asked once per
    waiter, and only for those that `start` depends on.

    Raises: TooManyWaitersError, when it depends on more than `waiters_max`.
    """
    return find_circles((start,), needs_of, waiters_max=waiters_max).get(start)


def find_circles(
    starts: Iterable[Waiter], needs_of: Callable[[Waiter], Needs[Waiter]], *, waiters_max: int | None = None
) -> dict[Waiter, list[Waiter]]:
    """Return, for each start that is stuck, a circle that it is stuck behind: one look serves them all.

    Raises: TooManyWaitersError.
    """
    starts = list(starts)
    needs = _explore(starts, needs_of, waiters_max)
    stuck = _stuck(needs)
    return {start: _circle_behind(start, needs, stuck) for start in starts if start in stuck}


def _circle_behind(start: Waiter, needs: dict[Waiter, Needs[Waiter]], stuck: set[Waiter]) -> list[Waiter]:
    path: list[Waiter] = [start]
    position = {start: 0}
    while True:
        ahead = next(
            provider for need in needs[path[-1]] if all(provider in stuck for provider in need) for provider in need
        )
        if ahead in position:
            return path[position[ahead] :]
        position[ahead] = len(path)
        path.append(ahead)


def _explore(
    starts: Iterable[Waiter], needs_of: Callable[[Waiter], Needs[Waiter]], waiters_max: int | None
) -> dict[Waiter, Needs[Waiter]]:
    needs: dict[Waiter, Needs[Waiter]] = {}
    todo = list(starts)
    while todo:
        waiter = todo.pop()
        if waiter not in needs:
            if len(needs) == waiters_max:
                raise TooManyWaitersError
            needs[waiter] = [list(need) for need in needs_of(waiter) if need]
            todo.extend(provider for need in needs[waiter] for provider in need)
    return needs


def _stuck(needs: dict[Waiter, Needs[Waiter]]) -> set[Waiter]:
    """Assume that all are stuck, free those that need nothing, and then whoever that frees: each need is met once."""
    unmet = {waiter: len(of_waiter) for waiter, of_waiter in needs.items()}
    waiting_for: dict[Waiter, list[tuple[Waiter, int]]] = {waiter: [] for waiter in needs}
    for waiter, of_waiter in needs.items():
        for number, need in enumerate(of_waiter):
            for provider in need:
                waiting_for[provider].append((waiter, number))
    freed = [waiter for waiter, count in unmet.items() if not count]
    stuck = needs.keys() - freed
    met: set[tuple[Waiter, int]] = set()
    while freed:
        for waiter, number in waiting_for[freed.pop()]:
            if (waiter, number) not in met:
                met.add((waiter, number))
                unmet[waiter] -= 1
                if not unmet[waiter]:
                    stuck.discard(waiter)
                    freed.append(waiter)
    return stuck
