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

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Waiter = TypeVar("Waiter", bound=Hashable)
Needs = Sequence[Sequence[Waiter]]


def find_circle(start: Waiter, needs_of: Callable[[Waiter], Needs[Waiter]]) -> list[Waiter] | None:
    """Return a circle of waiters that `start` is stuck behind, or None when it can go on in time.

    The list names each waiter once; each waits for the next and the last for the first. `needs_of` is asked once per
    waiter, and only for those that `start` depends on.
    """
    needs = _explore(start, needs_of)
    stuck = _stuck(needs)
    if start not in stuck:
        return None
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


def _explore(start: Waiter, needs_of: Callable[[Waiter], Needs[Waiter]]) -> dict[Waiter, Needs[Waiter]]:
    needs: dict[Waiter, Needs[Waiter]] = {}
    todo = [start]
    while todo:
        waiter = todo.pop()
        if waiter not in needs:
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
