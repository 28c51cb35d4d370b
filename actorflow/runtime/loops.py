"""Loops as they run on this host: where items turn back, and the gates of loops that go in synchronous rounds.

In an asynchronous loop the way back is an edge like any other, and nobody counts trips unless an operator asks for it.
A gate (see `core.progress`) keeps what is to go back until progress says that nothing of the round is left anywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from heapq import heappop, heappush
from itertools import compress
from operator import length_hint, not_
from typing import TYPE_CHECKING, Any

from actorflow import codec
from actorflow.envelope import Context
from actorflow.errors import ItemBudgetError, RoundLimitError, summary
from actorflow.plan.loops import Loop
from actorflow.plan.rounds import LoopEnd, Rounds
from actorflow.plan.topology import Delta, Feedback, Replay, Step
from actorflow.report import LoopReport
from actorflow.runtime.replica import FAILURES, IDLE, SLICE_S, WAITING
from actorflow.runtime.request import Request
from actorflow.runtime.steps import Folding, Joining, Node, Put, nowhere

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import OperatorNode, Wiring

CROWD = 64
"""Items in a loop above which its request is a large one."""
CROWD_LARGE = 16_384
"""Items in a loop above which the budgets are looked at with every envelope."""

Delivery = tuple[Put, Context | None, list[Any]]


class RunningLoop:
    """A loop of a running stream.

    gate: of a synchronous loop.   slot: where its round stands in the rounds of a context (None: nobody asked for it).
    """

    __slots__ = ("gate", "loop", "slot", "stream")

    def __init__(self, stream: Wiring, loop: Loop, slot: int | None, gate: Gate | None) -> None:
        self.stream = stream
        self.loop = loop
        self.slot = slot
        self.gate = gate

    def round_of(self, request: Request, context: Context | None) -> int:
        """Return the round that a request's item is in. Raises: TypeError when nobody counts."""
        if self.gate is not None:
            run = self.gate.run_of(request)
            return run.round if run is not None else 0
        if self.slot is None:
            raise TypeError(
                f"loop {self.loop.name} of stream {self.stream.name} does not count its rounds, since no operator in "
                "it names self.round; set tells_round = True on one of them"
            )
        rounds = context.rounds if context is not None else ()
        return rounds[self.slot] if len(rounds) > self.slot else 0

    def report(self, request: Request) -> LoopReport | None:
        """Return how far a request is in this loop, None when it is not in it."""
        regions = self.stream.regions
        items = sum(request.counts[region] for region in {regions.into[number] for number in self.loop.steps})
        if self.gate is not None:
            run = self.gate.run_of(request)
            if run is None:
                return None
            return LoopReport(self.loop.name, items + run.size, max(run.round, 0), run.state)
        trips = request.details.trips.get(self.loop.number, 0) if request.details is not None else 0
        return LoopReport(self.loop.name, items, None if self.slot is None else trips) if items else None


class Round:
    """A synchronous loop of one request.

    round: the one that is under way, -1 while what the first one works on is gathered.
    state: what the last one amounted to.   value: what the votes of this one do.
    kept: what has come back, `(node, context, items)`.   size: how many items that is.
    own: what the node that keeps items of its own has (a replay, a delta).   last: the number of rounds at the most.
    """

    __slots__ = ("kept", "last", "own", "round", "size", "state", "value")

    def __init__(self, first: int, last: int | None, state: Any, value: Any) -> None:
        self.round = first
        self.last = last
        self.state = state
        self.value = value
        self.kept: list[tuple[Turn, Context | None, list[Any]]] = []
        self.size = 0
        self.own: Any = None


class Gate:
    """Where the rounds of a synchronous loop end.

    members: the nodes where items turn back.   watching: operators with `on_round_end`.   always: folds that have a
    result in every round, and loops within this one, which have gates of their own for theirs.   joins: those whose
    sides, or one of them, are of one round.
    """

    __slots__ = (
        "_first",
        "_synchronous",
        "always",
        "joins",
        "members",
        "number",
        "rounds",
        "rounds_done",
        "stream",
        "watching",
    )

    def __init__(self, stream: Wiring, loop: Loop) -> None:
        assert loop.gate is not None
        self.stream = stream
        self.number = loop.gate
        self.rounds = loop.rounds or Rounds()
        self.rounds_done = 0
        self.members: list[Turn] = []
        self.watching: list[OperatorNode] = []
        self.always: list[Folding | Gate] = []
        self.joins: list[Joining] = []
        self._synchronous = loop.synchronous
        gathers = isinstance(stream.topology.steps[loop.gate], Delta) and loop.synchronous
        self._first = -1 if gathers else 0

    @property
    def node(self) -> Node:
        """Return the node in whose place the gate stands."""
        node: Node = self.stream.nodes[self.number]
        return node

    def run_of(self, request: Request) -> Round | None:
        """Return the loop of a request, None when it has not begun or is over."""
        run: Round | None = request.details.folds.get(self.number) if request.details is not None else None
        return run

    def begin(self, request: Request) -> Round | None:
        """Begin the loop of a request unless it has begun; None when that failed, and the request with it.

        A loop begins with its request, or with a round of the loop around it, as a fold does that has a result even
        when no item came.
        """
        run = self.run_of(request)
        if run is None:
            rounds = self.rounds
            try:
                state, value = rounds.begin_state(request), rounds.begin_value(request)
                run = Round(self._first, rounds.last_round(request), state, value)
            except FAILURES as error:
                request.fail(self.node.error_of(None, request, "the beginning of a loop", error))
                return None
            for member in self.members:
                member.prepare(run)
            request.more().own("folds")[self.number] = run
            assert request.progress is not None
            request.progress.hold(self.number)
            if run.round >= 0:
                self._begin_round(request)
        return run

    def _begin_round(self, request: Request) -> None:
        assert request.progress is not None
        for operator in self.watching:
            request.progress.hold(operator.number)
        for each in self.always:
            each.begin(request)

    def vote(self, request: Request, value: Any) -> None:
        """Fold a vote into the round of a request."""
        run = self.run_of(request)
        if run is None or request.state:
            return
        assert self.rounds.fold is not None
        try:
            run.value = self.rounds.fold(run.value, value)
        except FAILURES as error:
            request.fail(self.node.error_of(None, request, value, error))

    def keep(self, request: Request, node: Turn, context: Context | None, items: list[Any]) -> None:
        """Keep what is to go back when the round ends."""
        run = self.begin(request)
        if run is None:
            return
        kept = run.kept
        if kept and kept[-1][0] is node and kept[-1][1] is context:
            kept[-1][2].extend(items)
        else:
            kept.append((node, context, items))
        run.size += len(items)
        limit = self.stream.host.limits.items_per_request
        if run.size > limit:
            request.fail(
                ItemBudgetError(
                    f"{self.stream.name}/{self.node.name} keeps {run.size} items for the next round (limit {limit}); "
                    "send less round, or raise Limits(items_per_request=…)",
                    stream=self.stream.name,
                    operator=self.node.name,
                )
            )

    def finish(self, request: Request) -> bool:
        """End a round; return False when what comes of it is still being let go."""
        host = self.stream.host
        if host.clock() - host.began > SLICE_S:
            host.enqueue_bulk(Opening(self, request, None))
            return False
        deliveries = self.turn(request)
        if request.state or sum(len(items) for _, _, items in deliveries) <= host.limits.batch_items:
            for put, context, items in deliveries:
                if request.state:
                    break
                put(request, context, items)
            self.opened(request)
            return True
        host.enqueue_bulk(Opening(self, request, deliveries))
        return False

    def opened(self, request: Request) -> None:
        """Give up the guards that kept the next round from ending before all of it had begun."""
        for region in self.stream.regions.opening[self.number]:
            request.counts[region] -= 1

    def turn(self, request: Request) -> list[Delivery]:
        """Decide whether another round follows, and return what is to be let go then."""
        run = self.run_of(request)
        assert run is not None
        rounds, stream = self.rounds, self.stream
        try:
            if counts := self._synchronous and run.round >= 0:
                if rounds.update is not None:
                    run.state = rounds.update(run.state, run.value)
                elif rounds.fold is not None:
                    run.state = run.value
                run.value = rounds.begin_value(request)
            over = counts and rounds.is_over(run.state, request)
        except FAILURES as error:
            request.fail(self.node.error_of(None, request, f"the end of round {run.round}", error))
            return []
        run.round += self._synchronous
        self.rounds_done += counts
        over = over or not any(member.has_more(run) for member in self.members) or run.round == run.last
        deliveries: list[Delivery] = []
        if over:
            assert request.details is not None
            del request.details.folds[self.number]
            for member in self.members:
                deliveries += member.leave(run)
            return deliveries
        if run.round >= stream.host.limits.rounds:
            request.fail(too_many_rounds(self.node, request, run.round))
            return []
        assert request.progress is not None
        request.progress.hold(self.number)
        for join in self.joins:
            join.begin_round(request)
        self._begin_round(request)
        if request.state:
            return []
        for member in self.members:
            deliveries += member.again(run)
        run.kept, run.size = [], 0
        return deliveries


class Opening:
    """A gate that opens: in a turn of its own, since this one has lasted long enough, or slice by slice."""

    __slots__ = ("_gate", "_parts", "_request", "scheduled")

    def __init__(self, gate: Gate, request: Request, deliveries: list[Delivery] | None) -> None:
        self._gate = gate
        self._request = request
        self._parts = self._cut(deliveries) if deliveries is not None else None
        self.scheduled = WAITING
        request.more().own("releases")[self._forget] = None

    def _cut(self, deliveries: list[Delivery]) -> deque[Delivery]:
        size = self._gate.stream.host.limits.batch_items
        total = sum(len(items) for _, _, items in deliveries)
        self._request.grow(total, 0)
        return deque(
            (put, context, items[start : start + size])
            for put, context, items in deliveries
            for start in range(0, len(items), size)
        )

    def run(self, host: Host) -> None:
        """Let one slice go."""
        request, gate = self._request, self._gate
        if request.state:
            return  # all was given up with the request
        if self._parts is None:
            deliveries = gate.turn(request)
            self._parts = self._cut(deliveries) if deliveries else deque()
        if self._parts and not request.state:
            put, context, items = self._parts.popleft()
            put(request, context, items)
        if self._parts:
            self.scheduled = WAITING
            host.enqueue_bulk(self)
        elif not request.state:
            request.more().releases.pop(self._forget, None)
            gate.opened(request)
            request.release(gate.stream.regions.out[gate.number])
            request.settle()

    def _forget(self) -> None:
        self._gate.opened(self._request)
        self._request.counts[self._gate.stream.regions.out[self._gate.number]] -= 1


def too_many_rounds(node: Node, request: Request, limit: int) -> RoundLimitError:
    """Return the error of a loop that does not come to an end."""
    return RoundLimitError(
        f"{node.stream.name}/{node.name}: request {request.id} has not converged after {limit} rounds (limit); declare "
        "when it ends (until=, when=), or raise Limits(rounds=…) or trips_max=",
        stream=node.stream.name,
        operator=node.name,
        request_id=request.id,
    )


class Turn(Node):
    """A step at which items of a loop turn back.

    back: the `put` at the end of the edge that leads back.   ended: that of the loop's `LoopEnd`, if anybody wants it.
    """

    __slots__ = ("back", "ended", "gate", "region")

    def __init__(self, stream: Wiring, step: Step, gate: Gate | None) -> None:
        super().__init__(stream, step)
        self.back: Put = nowhere
        self.ended: Put | None = None
        self.region: int = stream.regions.into[step.number]
        self.gate = gate
        if gate is not None:
            gate.members.append(self)

    def finish(self, request: Request) -> bool:
        """End a round of the loop whose gate is here."""
        assert self.gate is not None
        return self.gate.finish(request)

    def prepare(self, run: Round) -> None:
        """Make room for what this node keeps of its own."""

    def has_more(self, run: Round) -> bool:
        """Return whether there is something to go round again."""
        raise NotImplementedError

    def again(self, run: Round) -> list[Delivery]:
        """Return what goes round again."""
        raise NotImplementedError

    def leave(self, run: Round) -> list[Delivery]:
        """Return what leaves the loop at its end."""
        raise NotImplementedError

    def _loop_end(self, run: Round) -> list[Delivery]:
        return [(self.ended, None, [LoopEnd(run.round, run.state)])] if self.ended is not None else []


class Feeding(Turn):
    """Where a predicate sends items back, along an edge like any other."""

    __slots__ = ("_items_max", "_loop", "_next", "_seen", "_slot", "_trips_max", "_when")

    def __init__(self, stream: Wiring, step: Feedback, loop: RunningLoop) -> None:
        super().__init__(stream, step, loop.gate)
        self._when = step.when
        self._loop = loop.loop.number
        self._slot = loop.slot
        limits = stream.host.limits
        self._trips_max = limits.rounds if step.trips_max is None else step.trips_max
        self._items_max = limits.items_per_request
        self._seen: Any = self  # the context that came last, and the one that it became: most come many times
        self._next: Context | None = None

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        when = self._when
        if when is not None:
            if len(items) == 1:  # the common case of a lone item, without lists
                try:
                    again = when(items[0])
                except FAILURES as error:
                    self.failed(None, request, context, items[0], error)
                    return
                if not again:
                    self.hand_on(request, context, items)
                    return
            else:
                items = self._divided(request, context, items)
                if not items or request.state:
                    return
        count = request.counts[self.region]
        if count > CROWD and (count > CROWD_LARGE or not request.bulk):
            request.grow(len(items), 0)
            if request.state:
                return
        if self._slot is not None:
            context = self._counted(request, context)
            if request.state:
                return
        self.back(request, context, items)

    def _divided(self, request: Request, context: Context | None, items: list[Any]) -> list[Any]:
        """Hand on the items that leave and return those that go back."""
        when = self._when
        assert when is not None
        try:
            chosen = [bool(when(item)) for item in items]
        except FAILURES:
            chosen, items = self._one_by_one(request, context, items)
            if request.state:
                return []
        if True not in chosen:
            self.hand_on(request, context, items)
            return []
        if False in chosen:
            self.hand_on(request, context, list(compress(items, map(not_, chosen))))
            return list(compress(items, chosen))
        return items

    def _one_by_one(self, request: Request, context: Context | None, items: list[Any]) -> tuple[list[bool], list[Any]]:
        chosen: list[bool] = []
        sound: list[Any] = []
        for item in items:
            try:
                chosen.append(bool(self._when(item)))  # type: ignore[misc] # only called where there is one
            except FAILURES as error:
                self.failed(None, request, context, item, error)
                if request.state:
                    break
            else:
                sound.append(item)
        return chosen, sound

    def _counted(self, request: Request, context: Context | None) -> Context | None:
        """Return the context of the next trip."""
        if context is self._seen:
            return self._next
        slot = self._slot
        assert slot is not None
        rounds = context.rounds if context is not None else ()
        padded = (*rounds, *(0,) * (slot + 1 - len(rounds)))
        count = padded[slot] + 1
        if count > self._trips_max:
            request.fail(too_many_rounds(self, request, self._trips_max))
            return None
        frames = context.frames if context is not None else None
        following = Context(frames, None, (*padded[:slot], count))
        if frames is None:  # a return stack would be kept alive
            self._seen, self._next = context, following
        trips = request.more().own("trips")
        if count > trips.get(self._loop, 0):
            trips[self._loop] = count
        return following


class QueuedFeeding(Feeding):
    """Where items turn back in a loop without any mailbox: they wait here, or a long loop would be a deep stack."""

    __slots__ = ("_back", "_waiting", "scheduled")

    def __init__(self, stream: Wiring, step: Feedback, loop: RunningLoop) -> None:
        super().__init__(stream, step, loop)
        self.scheduled = IDLE
        self._waiting: dict[Request, deque[tuple[Context | None, list[Any]]]] = {}
        self._back: Put = nowhere

    def close(self, back: Put) -> None:
        """Say where the edge back leads: behind the queue."""
        self._back, self.back = back, self._put

    def _put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        request.counts[self.region] += len(items)
        queue = self._waiting.get(request)
        if queue is None:
            queue = self._waiting[request] = deque()
        if queue and queue[-1][0] is context and len(queue[-1][1]) + len(items) <= self.stream.host.limits.batch_items:
            queue[-1][1].extend(items)
        else:
            queue.append((context, items))
        if not self.scheduled:
            self.scheduled = WAITING
            self.stream.host.enqueue_bulk(self)

    def run(self, host: Host) -> None:
        """Send one envelope of the request whose turn it is back."""
        waiting, batch = self._waiting, host.limits.batch_items
        request = next(iter(waiting))
        queue = waiting.pop(request)
        try:
            if request.state:
                request.counts[self.region] -= sum(len(items) for _, items in queue)
                return
            context, items = queue.popleft()
            if len(items) > batch:
                queue.appendleft((context, items[batch:]))
                items = items[:batch]
            if queue:
                waiting[request] = queue
            count = len(items)
            self._back(request, context, items)
            request.release(self.region, count)
        finally:
            self.scheduled = IDLE
            if waiting:
                self.scheduled = WAITING
                host.enqueue_bulk(self)

    def depth(self) -> int:
        """Return the number of envelopes that wait here."""
        return sum(map(len, self._waiting.values()))


class GatedFeeding(Feeding):
    """Where items turn back together: they are kept until the round ends."""

    __slots__ = ("_vote",)

    def __init__(self, stream: Wiring, step: Feedback, loop: RunningLoop) -> None:
        super().__init__(stream, step, loop)
        assert self.gate is not None
        self._vote = self.gate.rounds.vote

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        assert self.gate is not None
        if self._when is not None:
            items = self._divided(request, context, items)
        if self._vote is not None and not request.state:
            items = self._voted(request, context, items)
        if items and not request.state:
            self.gate.keep(request, self, context, items)

    def _voted(self, request: Request, context: Context | None, items: list[Any]) -> list[Any]:
        assert self.gate is not None
        assert self._vote is not None
        sound = []
        for item in items:
            try:
                vote = self._vote(item)
                if self.stream.host.strict:
                    vote = codec.handed_over(vote)
            except FAILURES as error:
                self.failed(None, request, context, item, error)
            else:
                sound.append(item)
                self.gate.vote(request, vote)
            if request.state:
                return []
        return sound

    def has_more(self, run: Round) -> bool:
        return bool(run.kept)

    def again(self, run: Round) -> list[Delivery]:
        return [(self.back, context, items) for node, context, items in run.kept if node is self]

    def leave(self, run: Round) -> list[Delivery]:
        left: list[Delivery] = [(self.hand_on, context, items) for node, context, items in run.kept if node is self]
        return left + self._loop_end(run)


class Replaying(Turn):
    """Items that go into every round; what comes back are votes."""

    __slots__ = ()

    def __init__(self, stream: Wiring, step: Replay, gate: Gate) -> None:
        super().__init__(stream, step, gate)

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        assert self.gate is not None
        run = self.gate.begin(request)
        if run is None:
            return
        run.own.append((context, items))
        run.size += len(items)
        self.back(request, context, [codec.copy_if_mutable(item) for item in items])

    def prepare(self, run: Round) -> None:
        run.own = []

    def receive_other(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Take what comes back."""
        assert self.gate is not None
        for item in items:
            self.gate.vote(request, item)

    def has_more(self, run: Round) -> bool:
        return True

    def again(self, run: Round) -> list[Delivery]:
        return [(self.back, context, [codec.copy_if_mutable(item) for item in items]) for context, items in run.own]

    def leave(self, run: Round) -> list[Delivery]:
        return [(self.hand_on, None, [run.state]), *self._loop_end(run)]


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _no_pair(item: Any) -> TypeError:
    return TypeError(f"a delta takes pairs (key, value), not {summary(item)}")


class _Best:
    """The values of keys of one request, and which of them have changed and wait to go round."""

    __slots__ = ("best", "context", "count", "line", "waiting")

    def __init__(self) -> None:
        self.best: dict[Any, Any] = {}
        self.waiting: set[Any] = set()
        self.line: Any = deque()
        self.context: Context | None = None
        self.count = 0


class Improving(Turn):
    """A delta iteration: one value per key, and what changes goes round.

    Its gate ends once when nothing waits any more, or, with rounds, each time that a round is done.
    """

    __slots__ = ("_ahead", "_batch", "_combine", "_priority", "_synchronous", "_waiting", "scheduled")

    def __init__(self, stream: Wiring, step: Delta, gate: Gate) -> None:
        super().__init__(stream, step, gate)
        self._combine = step.combine
        self._priority = step.priority
        self._synchronous = step.rounds is not None
        self._batch = stream.host.limits.batch_items
        self._ahead = self._batch if step.priority is None else step.ahead
        self._waiting: dict[Request, Round] = {}
        self.scheduled = IDLE

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        assert self.gate is not None
        run = self.gate.begin(request)
        if run is None:
            return
        if run.own.context is None:
            run.own.context = context  # a return stack that goes on with what comes of this
        self.receive_other(request, context, items)

    def prepare(self, run: Round) -> None:
        run.own = _Best()

    def receive_other(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Take proposals."""
        assert self.gate is not None
        run = self.gate.run_of(request)
        assert run is not None
        own: _Best = run.own
        before = len(own.waiting)
        ahead = iter(items)
        while True:
            try:
                self._improve(own, ahead)
                break
            except FAILURES as error:
                failed = items[len(items) - length_hint(ahead) - 1]
                self.failed(None, request, context, failed, error if _is_pair(failed) else _no_pair(failed))
                if request.state:
                    return
        if self._synchronous:
            run.size = len(own.waiting)
            return
        if more := len(own.waiting) - before:
            request.counts[self.region] += more
            if len(own.waiting) > CROWD and not request.bulk:
                request.grow(more, 0)
        if own.waiting and request not in self._waiting and not request.state:
            self._waiting[request] = run
            if not self.scheduled:
                self.scheduled = WAITING
                self.stream.host.enqueue_bulk(self)

    def _improve(self, own: _Best, ahead: Iterator[Any]) -> None:
        """Combine pairs into the values; a key whose value changes stands in line, once."""
        best, waiting, get = own.best, own.waiting, own.best.get
        note, line = waiting.add, own.line.append
        if self._priority is not None and not self._synchronous:
            line = partial(self._push, own)
        if self._combine is min:  # most do, and a comparison costs less than a call
            again = self._priority is not None
            for key, value in ahead:
                old = get(key, own)
                if old is own or value < old:
                    best[key] = value
                    if again or key not in waiting:
                        line(key)
                        note(key)
            return
        combine = self._combine
        for key, value in ahead:
            old = get(key, own)
            if old is not own:
                value = combine(old, value)
                if value is old or value == old:
                    continue
            best[key] = value
            if key not in waiting or self._priority is not None:
                line(key)
                note(key)

    def _push(self, own: _Best, key: Any) -> None:
        """Note a change by its priority. One that was noted before, less urgent, is found to be done then."""
        assert self._priority is not None
        own.count += 1
        if own.line.__class__ is deque:
            own.line = []
        heappush(own.line, (self._priority((key, own.best[key])), own.count, key))

    def run(self, host: Host) -> None:
        """Send some of the changes of the request whose turn it is round."""
        waiting = self._waiting
        request = next(iter(waiting))
        run = waiting.pop(request)
        own: _Best = run.own
        self.scheduled = IDLE
        if request.state:
            request.counts[self.region] -= len(own.waiting)
            own.waiting.clear()
        else:
            pairs = self._next(own)
            run.round += 1
            if run.round > host.limits.rounds:
                request.fail(too_many_rounds(self, request, host.limits.rounds))
            if own.waiting:
                waiting[request] = run
            if not request.state:
                self.back(request, own.context, pairs)
            request.release(self.region, len(pairs))
        if waiting and not self.scheduled:
            self.scheduled = WAITING
            host.enqueue_bulk(self)

    def _next(self, own: _Best) -> list[Any]:
        line, waiting, best = own.line, own.waiting, own.best
        pairs: list[Any] = []
        if line.__class__ is deque:
            keys = [line.popleft() for _ in range(min(len(line), self._ahead))]
            waiting.difference_update(keys)
            return [(key, best[key]) for key in keys]
        while line and len(pairs) < self._ahead:
            key = heappop(line)[2]
            if key in waiting:
                waiting.discard(key)
                pairs.append((key, best[key]))
        return pairs

    def depth(self) -> int:
        """Return the number of requests whose changes wait here."""
        return len(self._waiting)

    def has_more(self, run: Round) -> bool:
        own: _Best = run.own
        return self._synchronous and bool(own.waiting)

    def again(self, run: Round) -> list[Delivery]:
        own: _Best = run.own
        pairs = [(key, own.best[key]) for key in own.line]
        if self._priority is not None:
            pairs.sort(key=self._priority)
        own.line.clear()
        own.waiting.clear()
        return [(self.back, own.context, pairs)]

    def leave(self, run: Round) -> list[Delivery]:
        own: _Best = run.own
        context = own.context
        return [(self.hand_on, context, list(own.best.items())), *self._loop_end(run)]


class StatePairing(Node):
    """Pairs items with the state of the loop around them."""

    __slots__ = ("gate",)

    def __init__(self, stream: Wiring, step: Step, gate: Gate) -> None:
        super().__init__(stream, step)
        self.gate = gate

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        run = self.gate.run_of(request)
        state = run.state if run is not None else None
        self.hand_on(request, context, [(item, state) for item in items])


def crossing(put: Put, *, keep: int, add: int) -> Put:
    """Return a `put` for an edge that leads into loops whose rounds are told, or out of them.

    keep: how many rounds of the context stay.   add: how many begin at 0.
    """
    zeros = (0,) * add
    first: Any = Context(rounds=zeros) if add else None
    seen: Any = _NEVER
    made: Context | None = None

    def cross(request: Request, context: Context | None, items: list[Any]) -> None:
        nonlocal seen, made
        if context is None:
            if not keep:
                put(request, first, items)
                return
        elif context is seen:
            put(request, made, items)
            return
        had = context.rounds if context is not None else ()
        rounds = (*had[:keep], *(0,) * (keep - len(had)), *zeros)
        frames = context.frames if context is not None else None
        told = Context(frames, None, rounds) if frames is not None or rounds else None
        if frames is None:
            seen, made = context, told  # a context that tells rounds only is the same for every request
        put(request, told, items)

    return cross


_NEVER: Any = object()


def nested_slots(loops: Iterable[Loop]) -> Iterator[tuple[Loop, int | None]]:
    """Yield each loop with its place among the rounds that a context tells: only asynchronous loops have one."""
    depth: dict[int | None, int] = {None: 0}
    for loop in loops:
        slot = depth[loop.parent]
        counted = loop.told and loop.gate is None
        depth[loop.number] = slot + 1 if counted else slot
        yield loop, slot if counted else None
