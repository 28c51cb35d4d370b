"""Where items of a loop turn back: along an edge like any other, through a queue, or through a gate.

In an asynchronous loop nobody counts trips unless an operator asks for it.
"""

from __future__ import annotations

from collections import deque
from functools import reduce
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Any

from actorflow import codec
from actorflow.envelope import Context, common_frames
from actorflow.plan.topology import Feedback, Replay, Step
from actorflow.runtime.gate import Delivery, Gate, Round, Turn, too_many_rounds
from actorflow.runtime.replica import FAILURES, IDLE, WAITING
from actorflow.runtime.request import Request
from actorflow.runtime.steps import Node, Put, nowhere

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.loops import RunningLoop
    from actorflow.runtime.wiring import Wiring

CROWD = 64
"""Items in a loop above which its request is a large one."""
CROWD_LARGE = 16_384
"""Items in a loop above which the budgets are looked at with every envelope."""


class Feeding(Turn):
    """Where a predicate sends items back, along an edge like any other."""

    __slots__ = ("_loop", "_next", "_seen", "_slot", "_trips_max", "_when")

    def __init__(self, stream: Wiring, step: Feedback, loop: RunningLoop) -> None:
        super().__init__(stream, step, loop.gate)
        self._when = step.when
        self._loop = loop.loop.number
        self._slot = loop.slot
        limits = stream.host.limits
        self._trips_max = limits.rounds if step.trips_max is None else step.trips_max
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
        slot = self._slot
        assert slot is not None
        if context is self._seen:
            assert self._next is not None
            self._note_trips(request, self._next.rounds[slot])
            return self._next
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
        self._note_trips(request, count)
        return following

    def _note_trips(self, request: Request, count: int) -> None:
        trips = request.more().own("trips")
        if count > trips.get(self._loop, 0):
            trips[self._loop] = count


class QueuedFeeding(Feeding):
    """Where items turn back in a loop without any mailbox: they wait here, or a long loop would be a deep stack."""

    __slots__ = ("_back", "_waiting", "at_work", "scheduled")

    def __init__(self, stream: Wiring, step: Feedback, loop: RunningLoop) -> None:
        super().__init__(stream, step, loop)
        self.scheduled = IDLE
        self.at_work: Request | None = None  # who pays when a turn fails
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
        request = self.at_work = next(iter(waiting))
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
        self.gate.grow(request, run, len(items))
        if not request.state:
            self._send_copies(request, context, items)

    def _send_copies(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Send copies into the body, which may change them: the same items are needed in the next round."""
        copies = []
        for item in items:
            try:
                copies.append(codec.copy_if_mutable(item))
            except FAILURES as error:
                self.failed(None, request, context, item, error)
                if request.state:
                    return
        if copies:
            self.back(request, context, copies)

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
        return [(self._send_copies, context, items) for context, items in run.own]

    def leave(self, run: Round) -> list[Delivery]:
        # the state is made of all items, and passes on what their return stacks have in common, as a fold does
        stacks = [context.frames if context is not None else None for context, _ in run.own]
        frames = reduce(common_frames, stacks) if stacks else None
        context = Context(frames) if frames is not None else None
        return [(self.hand_on, context, [run.state]), *self._loop_end(run)]


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
