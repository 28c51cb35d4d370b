"""When is a request complete, and when has an operator seen its last item? Counted in integers, never guessed.

The protocol is Naiad's (Murray et al., "Naiad: A Timely Dataflow System", SOSP 2013, section 3.3; Abadi, McSherry,
Murray, Rodeheffer, "Formal Analysis of a Distributed Algorithm for Tracking Progress", FMOODS 2013), scoped to one
request, whose home keeps the counts.

Words. A *location* is a place where an item can wait (the input of an operator) or something can be held that will
still produce (its output: fold state, a timer, a deferred answer, an activation under way). A *pointstamp* is a
location together with the incarnation of the host that it is on. An *observer* is an operator that must learn the end
of its input. Locations from which the same observers can be reached never need to be told apart, so they share one
count: they form a *region*, and a stream without observers has a single one. An observer *holds* on a host from the
first item that it gathers there until it has emitted what comes of them.

Invariants
1. A count is the number of items and holds at the region's locations on that host, as far as home knows.
2. Consuming an item and producing what comes of it is one batch: home applies it whole. Batches of one host arrive in
   the order in which they happened. A count may be negative for a while, when a consumption is known before the
   production (of home too, which knows its own at once); a count is settled only at zero.
3. If every count of a set of regions that is closed under "can be reached from" is zero, no item and no hold is there.
4. A host says that an observer holds in the batch that consumes its first item there, and this hold is counted there
   at the observer's output. So when the input of an observer has ended, home knows every host on which it holds.

Why 3 holds. Suppose something is left. Take the first event in real time that home does not know and that concerns the
set, on host h at location l: it consumes something that was produced earlier, by an event which home therefore knows.
What home knows of h's consumptions at l is a prefix of them that ends before this event, and each of those was produced
before it too. So home knows at least one production at (l, h) more than consumptions, and that count is positive. This
needs the host in the pointstamp: summed over hosts, a late production and an early consumption would cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

COMPLETE: Final = -1
"""What `Progress.next_end` returns when nothing of the request is anywhere."""


@dataclass(slots=True)
class Batch:
    """What one host has done since its last batch: applied together or not at all.

    changes: of counts, by (region, host incarnation), of this host and of those that it has sent items to.
    holds: where an observer has begun to gather: (observer, host incarnation).
    """

    changes: Mapping[tuple[int, str], int]
    holds: tuple[tuple[int, str], ...] = ()


class Regions:
    """The regions of one graph, worked out once.

    into[n]: the region of items waiting at operator n.   out[n]: the region of what operator n holds or is emitting.
    observers: those that must learn the end of their input, upstream ones first.
    """

    __slots__ = ("count", "into", "observers", "out", "upstream")

    def __init__(self, operators: int, edges: Iterable[tuple[int, int]], observers: Iterable[int]) -> None:
        ahead: list[set[int]] = [set() for _ in range(operators)]
        for source, target in edges:
            ahead[source].add(target)
        watching = set(observers)
        reach = [frozenset(watching & _reachable(ahead, operator)) for operator in range(operators)]
        after = [frozenset[int]().union(*(reach[target] for target in ahead[each])) for each in range(operators)]
        kinds: dict[frozenset[int], int] = {}
        self.into = [kinds.setdefault(kind, len(kinds)) for kind in reach]
        self.out = [kinds.setdefault(kind, len(kinds)) for kind in after]
        self.count = max(len(kinds), 1)
        self.upstream = {
            observer: tuple(sorted(region for kind, region in kinds.items() if observer in kind))
            for observer in watching
        }
        self.observers = sorted(watching, key=lambda observer: (-len(after[observer]), observer))


def _reachable(ahead: list[set[int]], start: int) -> set[int]:
    """Return what can be reached from an operator, itself included."""
    seen, todo = {start}, [start]
    while todo:
        for target in ahead[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    return seen


class Progress:
    """The counts of one request, at its home.

    `counts[region]` is of this host; the runtime adds to it in place, since a method call per item would cost more
    than the item. `remote` are the counts of other hosts, by (region, incarnation), without zeros. `holders` are the
    observers that hold here, `remote_holders` the other hosts on which one holds. `ending` are the incarnations on
    which the observer that `next_end` named last holds, this one included: each has to learn the end.
    """

    __slots__ = ("counts", "ending", "holders", "incarnation", "regions", "remote", "remote_holders")

    def __init__(self, regions: Regions, incarnation: str = "") -> None:
        self.regions = regions
        self.incarnation = incarnation
        self.counts = [0] * regions.count
        self.holders: set[int] = set()
        self.remote: dict[tuple[int, str], int] = {}
        self.remote_holders: dict[int, set[str]] = {}
        self.ending: frozenset[str] = frozenset()

    def hold(self, observer: int) -> None:
        """Note that an observer has begun to gather here: it will produce at the end of its input."""
        if observer not in self.holders:
            self.holders.add(observer)
            self.counts[self.regions.out[observer]] += 1

    def apply(self, batch: Batch) -> None:
        """Apply what another host did since its last batch; what it has produced for this one is a count of ours."""
        remote = self.remote
        for (region, incarnation), change in batch.changes.items():
            if incarnation == self.incarnation:
                self.counts[region] += change
                continue
            count = remote.get((region, incarnation), 0) + change
            if count:
                remote[region, incarnation] = count
            else:
                remote.pop((region, incarnation), None)
        for observer, incarnation in batch.holds:
            self.remote_holders.setdefault(observer, set()).add(incarnation)

    def next_end(self) -> int | None:
        """Return an observer whose input has ended, COMPLETE, or None when there is more to come.

        The observer is named once and is no longer a holder anywhere; `ending` says where it was one. Its holds are
        still counted: each host there subtracts its own (at `regions.out[observer]`) when what it produces has been
        counted, this one in place and another one in its ledger.
        """
        busy = {region for region, _ in self.remote} if self.remote else ()
        counts = self.counts
        if self.holders or self.remote_holders:
            for observer in self.regions.observers:
                if (observer in self.holders or observer in self.remote_holders) and not any(
                    counts[region] or region in busy for region in self.regions.upstream[observer]
                ):
                    self._end(observer)
                    return observer
            return None
        return None if busy or any(counts) else COMPLETE

    def _end(self, observer: int) -> None:
        here = (self.incarnation,) if observer in self.holders else ()
        self.holders.discard(observer)
        self.ending = frozenset(self.remote_holders.pop(observer, ())).union(here)

    def lost(self, incarnation: str) -> bool:
        """Return whether anything of the request is, as far as is known, on a host that went away."""
        return any(host == incarnation for _, host in self.remote) or any(
            incarnation in hosts for hosts in self.remote_holders.values()
        )


class Ledger:
    """What a host that is not the home of a request has consumed and produced since it last said so."""

    __slots__ = ("_began", "_changes", "holders", "incarnation", "regions")

    def __init__(self, regions: Regions, incarnation: str) -> None:
        self.regions = regions
        self.incarnation = incarnation
        self.holders: set[int] = set()
        self._began: list[int] = []
        self._changes: dict[tuple[int, str], int] = {}

    def add(self, region: int, incarnation: str, change: int) -> None:
        """Note a production (positive, at its receiver) or a consumption (negative, here)."""
        self._changes[region, incarnation] = self._changes.get((region, incarnation), 0) + change

    def hold(self, observer: int) -> None:
        """Note that an observer has begun to gather here; call it in the activation that consumes its first item."""
        if observer not in self.holders:
            self.holders.add(observer)
            self._began.append(observer)
            self.add(self.regions.out[observer], self.incarnation, +1)

    def release(self, observer: int) -> None:
        """Note that an observer has produced all that came of the end of its input."""
        self.holders.remove(observer)
        self.add(self.regions.out[observer], self.incarnation, -1)

    def flush(self) -> Batch | None:
        """Return all of it as one batch for home, or None when it cancels out. Call it between activations only."""
        changes = {pointstamp: change for pointstamp, change in self._changes.items() if change}
        holds = tuple((observer, self.incarnation) for observer in self._began)
        self._changes.clear()
        self._began.clear()
        return Batch(changes, holds) if changes or holds else None
