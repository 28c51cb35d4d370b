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

Loops. An edge may lead back. Most loops are one more way to reach what can be reached anyway: items go round as they
come, the loop is over when the counts of its region are zero, and nothing here knows that there is a loop. In a
*synchronous* loop items go round together: a *gate* gathers what is to go back, and lets it go when nothing of the
round is left anywhere. A gate is an observer whose ends are the ends of rounds, so an edge back leads to the gate and
no further: that is the order of timestamps of Naiad and timely dataflow (round r before r + 1) for those inside the
loop, without a count per round. What a gate holds comes later than all that is under way inside the loop, and before
the end of everything behind it: it is counted where only observers outside the loop can be reached.

Invariants
1. A count is the number of items and holds at the region's locations on that host, as far as home knows.
2. Consuming an item and producing what comes of it is one batch: home applies it whole. Batches of one host arrive in
   the order in which they happened. A count may be negative for a while, when a consumption is known before the
   production (of home too, which knows its own at once); a count is settled only at zero.
3. If every count of a set of regions that is closed under "can be reached from" is zero, no item and no hold is there.
   The order to let go what a gate holds is itself an item at the head of the loop, on each host that holds some.
4. A host says that an observer holds in the batch that consumes its first item there, and this hold is counted there
   at the observer's output. So when the input of an observer has ended, home knows every host on which it holds.

Why 3 holds. Suppose something is left. Take the first event in real time that home does not know and that concerns the
set, on host h at location l: it consumes something that was produced earlier, by an event which home therefore knows.
What home knows of h's consumptions at l is a prefix of them that ends before this event, and each of those was produced
before it too. So home knows at least one production at (l, h) more than consumptions, and that count is positive. This
needs the host in the pointstamp: summed over hosts, a late production and an early consumption would cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Gate:
    """A synchronous loop, as far as progress is concerned.

    number: of the operator whose ends are the ends of the rounds.   back: the edges (source, target) that lead back.
    inside: the operators in the loop, of loops within it too.
    """

    number: int
    back: tuple[tuple[int, int], ...]
    inside: frozenset[int]


class Regions:
    """The regions of one graph, worked out once.

    edges: all but those that lead back through a gate.   observers: those that must learn the end of their input.
    into[n]: the region of items waiting at operator n.   out[n]: the region of what operator n holds or is emitting.
    opening[g]: the regions at which the order to let go what gate g holds is counted, on each host that holds.
    observers, afterwards, are gates too, and those upstream come first.

    Raises: ValueError when an observer could receive what comes of its own end: its input would never end.
    """

    __slots__ = ("count", "into", "observers", "opening", "out", "upstream")

    def __init__(
        self,
        operators: int,
        edges: Iterable[tuple[int, int]],
        observers: Iterable[int],
        gates: Sequence[Gate] = (),
    ) -> None:
        ahead: list[set[int]] = [set() for _ in range(operators)]
        for source, target in edges:
            ahead[source].add(target)
        watching = {*observers, *(gate.number for gate in gates)}
        closed: list[set[int]] = [set() for _ in range(operators)]  # the gates that edges back of an operator lead to
        for gate in gates:
            for source, _ in gate.back:
                closed[source].add(gate.number)
        reached = [_reachable(ahead, operator) for operator in range(operators)]
        behind: dict[int, frozenset[int]] = {gate.number: frozenset() for gate in gates}
        while True:
            # what leads to a gate also leads, a round later, to all that is behind its loop
            beyond = [each.union(*(behind[gate] for gate in each)) for each in closed]
            reach = [frozenset(watching & each).union(*(beyond[other] for other in each)) for each in reached]
            after = [
                frozenset(beyond[each]).union(*(reach[target] for target in ahead[each])) for each in range(operators)
            ]
            last = behind
            behind = {
                gate.number: after[gate.number].union(*(after[source] | reach[target] for source, target in gate.back))
                - gate.inside
                - {gate.number}
                for gate in gates
            }
            if behind == last:
                break
        for gate in gates:
            after[gate.number] = behind[gate.number]
        cycles = [number for number in behind if any(number in reached[target] for target in ahead[number])]
        endless = cycles + [observer for observer in watching if observer in after[observer]]
        if endless:
            raise ValueError(f"observers {sorted(endless)} are part of a loop that has no rounds")
        kinds: dict[frozenset[int], int] = {}
        self.into = [kinds.setdefault(kind, len(kinds)) for kind in reach]
        self.out = [kinds.setdefault(kind, len(kinds)) for kind in after]
        self.count = max(len(kinds), 1)
        self.opening = {gate.number: tuple({self.into[target] for _, target in gate.back}) for gate in gates}
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
        for (region, incarnation), change in batch.changes.items():
            self._add(region, incarnation, change)
        for observer, incarnation in batch.holds:
            self.remote_holders.setdefault(observer, set()).add(incarnation)

    def _add(self, region: int, incarnation: str, change: int) -> None:
        if incarnation == self.incarnation:
            self.counts[region] += change
        elif count := self.remote.get((region, incarnation), 0) + change:
            self.remote[region, incarnation] = count
        else:
            self.remote.pop((region, incarnation), None)

    def next_end(self) -> int | None:
        """Return an observer whose input has ended, COMPLETE, or None when there is more to come.

        The observer is no longer a holder anywhere, and `ending` says where it was one. Its holds are still counted:
        each host there subtracts its own (at `regions.out[observer]`) when what it produces has been counted, this one
        in place and another one in its ledger. For a gate, each also subtracts the order to open (at the regions in
        `regions.opening`) when all that it let go has been counted; it holds again before that if a round follows.
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
        for region in self.regions.opening.get(observer, ()):
            for incarnation in self.ending:
                self._add(region, incarnation, +1)

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
