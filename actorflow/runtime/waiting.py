"""Who waits for whom on this host: what `core.waits` looks at, and looks that concern many, one for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actorflow.core.waits import TooManyWaitersError, find_circles
from actorflow.runtime.request import Details, Request

if TYPE_CHECKING:
    from actorflow.runtime.activation import Activation, Ask, LockWait
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica

WAITERS_AT_ONCE = 256
"""Waiters that are looked at whenever a wait begins; where more are concerned, many waits share a look."""

LOOK_AT_ONCE_S, LOOK_SHARE = 0.0001, 10
"""A look that takes longer is followed by a pause, so many times as long."""


class Look:
    """One look at who waits for whom, for `core.waits`: what waits at a replica is listed once, however many ask."""

    __slots__ = ("_waiters_max", "_waiting")

    def __init__(self, *, waiters_max: int | None = None) -> None:
        self._waiters_max = waiters_max
        self._waiting: dict[Replica, Mapping[Any, list[Any]]] = {}

    def needs_of(self, waiter: Any) -> list[list[Any]]:
        """Return what a waiter needs. What can go on by itself, now or later, needs nothing."""
        needs: list[list[Any]] = waiter.needs(self)
        return needs

    def pieces_of(self, request: Request) -> list[list[Any]]:
        """Return the pieces of work of a request that are suspended, or queued where all places are taken."""
        details = request.details
        if details is None:
            details = _NO_DETAILS
        # children that an activation awaits are that activation's needs; those of a call step are the request's own
        needs: list[list[Any]] = [[activation] for activation in details.activations]
        needs += [[child] for child in details.children if child.caller is None]
        held = len(request.progress.holders) if request.progress is not None else 0
        if request.outstanding() > len(needs) + held:
            for replica in (*request.stream.suspending(), *details.actors.values(), *details.told):
                needs += self.queued_at(replica, request)
        return needs

    def queued_at(self, replica: Replica, waiter: Any) -> list[list[Any]]:
        """Return whom a request or an ask waits for at a replica: nobody, or any one of some."""
        waiting = self._waiting.get(replica)
        if waiting is None:
            if self._waiters_max is not None and replica.depth() > self._waiters_max:
                raise TooManyWaitersError
            waiting = self._waiting[replica] = replica.who_waits()
        occupants = waiting.get(waiter)
        return [occupants] if occupants else []


class Circles:
    """Looks for circles among so many waiters that it is not done at once whenever a wait begins.

    A circle never dissolves by itself, so it may be found later: all waits that have begun meanwhile are looked at
    together, and as long as none is found no more than a tenth of the time goes into it.
    """

    __slots__ = ("_due", "_host", "_under_way")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._due: dict[tuple[Activation, Request | Ask | LockWait], None] = {}
        self._under_way = False

    def look_later(self, activation: Activation, awaited: Request | Ask | LockWait) -> None:
        """Note that a wait has begun."""
        self._due[activation, awaited] = None
        if not self._under_way:
            self._under_way = True
            self._host.soon(self._look, None)

    def _look(self, _: None) -> None:
        """Look at all waits that have begun and go on, and break one circle: who else is stuck is seen after that."""
        host = self._host
        began_s = host.clock()
        due = [wait for wait in self._due if wait[1] in wait[0].waiting]
        self._due.clear()
        look = Look()

        def needs_of(waiter: Any) -> list[list[Any]]:
            # a wait of its own stands for the activation that began it: only this one can have closed a circle
            return [[waiter[1]]] if waiter.__class__ is tuple else look.needs_of(waiter)

        found: dict[Any, list[Any]] = find_circles(due, needs_of)
        for wait, circle in found.items():
            activation, awaited = wait
            error = activation.broken(circle)
            if error is not None:
                awaited.fail(error)
            # it may have closed several circles at once: it stays, as long as it waits
            self._due.update(dict.fromkeys(due))
            break
        spent_s = host.clock() - began_s
        if spent_s > LOOK_AT_ONCE_S and not found:
            host.loop.call_later(LOOK_SHARE * spent_s, host.soon, self._look, None)  # waits that begin meanwhile wait
        elif self._due:
            host.soon(self._look, None)
        else:
            self._under_way = False


_NO_DETAILS = Details()
