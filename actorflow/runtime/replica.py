"""Replicas: actors with a mailbox. This is the hot room: few operations per envelope, each liberty explained.

A mailbox has two lanes. The *quick* lane is a list that fills while another is drained (cheaper than a deque, and an
idle actor costs one empty list). The *bulk* lane keeps one queue per large request and serves them in turn. After the
quick envelopes that were there, one envelope of the bulk lane follows, so that neither delays the other for long. A
request changes to the bulk lane only while nothing of it waits anywhere, and stays there, so its order is kept.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from actorflow.address import Address
from actorflow.envelope import Context, Frame
from actorflow.errors import MailboxFullError
from actorflow.plan.operator import Operator
from actorflow.runtime.pulse import Pulse, pulse_of
from actorflow.runtime.request import MIXED, Request

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.supervisor import Supervisor
    from actorflow.runtime.wiring import OperatorNode, Wiring

PACE_MIN, PACE_MAX = 1, 256
SLICE_S = 0.0002
"""Longest turn of one replica before others have theirs: 200 µs keeps full throughput at small delays."""

BATCH = 512
"""Items that one envelope in a mailbox holds at the most: what is cut off its front is copied."""

IDLE, WAITING, NEXT = 0, 1, 2
"""Whether a replica stands in line: not at all, in the line for bulk work, or in the run queue."""

MANY = 64
"""Items from one activation that make a request a large one."""

Queue = deque[tuple[Context | None, list[Any], Iterator[Any] | None]]


class Replica:
    """One running copy of an operator, or an actor: its mailbox, and the walk through it.

    `work` is what subclasses do with one envelope. `region` counts what waits here (and what is held or under way,
    since an operator that has no end of input shares one region for both).
    """

    __slots__ = (
        "address", "bulk", "closing", "done", "failures", "host", "index", "node", "op", "owner", "pace", "parked",
        "paused", "place", "pulse", "quick", "region", "rest", "scheduled", "stream", "supervisor",
    )  # fmt: skip
    suspends: ClassVar[bool] = False  # an activation here may wait for something

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        self.host = host
        self.node = node
        self.stream: Wiring = node.stream
        self.op = op
        self.index = index
        self.region: int = node.region
        self.place: object = node.place
        self.quick: list[tuple[Request, Context | None, list[Any]]] = []
        self.rest: list[tuple[Request, Context | None, list[Any]]] = []  # being drained, the next one last
        self.bulk: dict[Request, Queue] | None = None
        self.parked: dict[Request, Queue] | None = None
        self.scheduled = IDLE
        self.paused = False
        self.closing = False
        self.pace = PACE_MIN
        self.done = 0  # items processed
        self.pulse: Pulse | None = None
        self.address: Address | None = None
        self.owner: Request | None = None  # the request that an actor ends with
        self.supervisor: Supervisor | None = None
        self.failures: Any = None

    @property
    def name(self) -> str:
        """Return how messages call it: the operator's name, with the replica's or actor's number."""
        if self.address is not None:
            return f"{self.address.name}#{self.address.number}"
        return f"{self.node.name}[{self.index}]" if self.node.replica_count > 1 else self.node.name

    # -- the mailbox

    def put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Count an envelope and let it wait its turn. Never blocks; the list belongs to the mailbox from now on."""
        request.counts[self.region if request.stream is self.stream else request.stream.entry_region] += len(items)
        if len(items) > BATCH:
            for start in range(0, len(items), BATCH):
                some = items[start : start + BATCH]
                if request.bulk:
                    self._put_bulk(request, context, some)
                else:
                    self.quick.append((request, context, some))
        elif request.bulk:
            self._put_bulk(request, context, items)
        else:
            self.quick.append((request, context, items))
        if len(self.quick) > self.node.mailbox_envelopes:
            self._refuse(request)
        if self.scheduled != NEXT:
            if not request.bulk:
                self.schedule()
            elif not self.scheduled:
                self.schedule_bulk()

    def tell(self, request: Request, items: list[Any]) -> None:
        """Put what one activation told; items of one request that follow one another share an envelope."""
        if request.bulk or len(items) > MANY:
            if len(items) > MANY:
                request.grow(len(items), 0)
            self.put(request, None, items)
            return
        request.counts[self.region if request.stream is self.stream else request.stream.entry_region] += len(items)
        quick = self.quick
        if not quick:
            quick.append((request, None, items))
        elif (last := quick[-1])[0] is request and last[1] is None and len(last[2]) < BATCH:
            last[2].extend(items)
        else:
            quick.append((request, None, items))
            if len(quick) > self.node.mailbox_envelopes:
                self._refuse(request)
        if self.scheduled != NEXT:
            self.schedule()

    def tell_counted(self, request: Request, items: list[Any]) -> None:
        """Put an envelope of one item that is counted already."""
        quick = self.quick
        if quick and (last := quick[-1])[0] is request and last[1] is None and len(last[2]) < BATCH:
            last[2].append(items[0])
        else:
            quick.append((request, None, items))
            if len(quick) > self.node.mailbox_envelopes:
                self._refuse(request)
        if self.scheduled != NEXT:
            self.schedule()

    def _put_bulk(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if self.parked is not None and request in self.parked:
            self.parked[request].append((context, items, None))
            request.more().own("parked")[self] += len(items)
            return
        if self.bulk is None:
            self.bulk = {}
        queue = self.bulk.get(request)
        if queue is None:
            queue = self.bulk[request] = deque()
            if request.bulk == MIXED:
                self.quick = moved(request, self.quick, queue)  # what came earlier stays before what comes now
        elif queue[-1][2] is None and queue[-1][0] is context and len(queue[-1][1]) < BATCH:
            queue[-1][1].extend(items)
            return
        queue.append((context, items, None))

    def _refuse(self, request: Request) -> None:
        limit = self.node.mailbox_envelopes
        request.fail(
            MailboxFullError(
                f"mailbox of {self.stream.name}/{self.name} on host {self.host.name} is full ({limit} envelopes); "
                "slow the source, or raise mailbox_envelopes= on the operator",
                stream=self.stream.name,
                operator=self.name,
                host=self.host.name,
            )
        )

    def schedule(self) -> None:
        """Ask the host for a turn."""
        self.scheduled = NEXT
        if self.paused:
            return  # whoever resumes it schedules it
        host = self.host
        host.ready.append(self)
        if not host.awake:
            host.wake()

    def schedule_bulk(self) -> None:
        """Ask the host for a turn behind those who have something quick to do."""
        self.scheduled = WAITING
        if not self.paused:
            self.host.enqueue_bulk(self)

    def depth(self) -> int:
        """Return the number of envelopes that wait here."""
        waiting = len(self.quick) + len(self.rest)
        for lane in (self.bulk, self.parked):
            waiting += sum(map(len, lane.values())) if lane else 0
        return waiting

    def pause(self) -> None:
        """Keep what comes until `resume`."""
        self.paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self.paused = False
        if self.scheduled or self.depth():
            self.schedule()

    def region_of(self, request: Request) -> int:
        """Return where work of a request here is counted: a request of another stream has no operator here."""
        return self.region if request.stream is self.stream else request.stream.entry_region

    # -- a turn

    def run(self, host: Host) -> None:
        """Take a turn."""
        self._run_all(host)

    def _run_all(self, host: Host) -> None:
        """Work through the mailbox until it is empty or the time slice is over."""
        host.working = host.activation
        left = pace = self.pace
        while not self.paused:
            rest = self._swapped()
            while rest:
                request, context, items = rest.pop()
                count = len(items)
                if request.state:
                    self.drop(request, context, items)
                elif count > pace:
                    rest.append((request, context, items[pace:]))
                    count = pace
                    self.work(request, context, items[:pace])
                else:
                    self.work(request, context, items)
                left -= count
                if left <= 0:
                    pace = left = self._new_pace(host.began, host.clock())
                    if not pace:
                        self._yield_turn()
                        return
                if self.paused:
                    return
            if self._after_quick():
                return

    def _swapped(self) -> list[tuple[Request, Context | None, list[Any]]]:
        """Return the list to drain: what is left of the last, or all that has come since. The other one fills."""
        rest = self.rest
        if not rest and self.quick:
            self.quick, self.rest = rest, self.quick
            rest = self.rest
            rest.reverse()
        return rest

    def _yield_turn(self) -> None:
        """End a turn whose slice is over: stand in line again if anything is left."""
        if self.quick or self.rest:
            self.scheduled = NEXT
            self.host.ready.append(self)
            return
        if self.bulk:
            self.schedule_bulk()
            return
        self._leave_line()

    def _leave_line(self) -> None:
        """Stand in no line, since nothing is left; an actor that was to end when its mailbox is empty ends now."""
        self.scheduled = IDLE
        if self.closing:
            self._end()

    def _after_quick(self) -> bool:
        """Serve the bulk lane once the quick envelopes that were there are done; return whether the turn is over."""
        if self.bulk:
            self._serve_bulk()
            if self.paused:
                return True
            self.host.activation.context = None
            if not self._new_pace(self.host.began, self.host.clock()):
                self._yield_turn()
                return True
        if self.quick or self.bulk:
            return False
        self._leave_line()
        return True

    def _new_pace(self, began: float, now: float) -> int:
        """Return how many items may pass until the clock is read again; 0 when the slice is over.

        Reading the clock per item costs as much as a short item; the pace doubles while items are quick.
        """
        spent = now - began
        if spent > SLICE_S:
            self.pace = max(self.pace >> 2, PACE_MIN)
            self.host.tired = True
            return 0
        if spent * 4 < SLICE_S:
            self.pace = min(self.pace * 2, PACE_MAX)
        return self.pace

    def _serve_bulk(self) -> bool:
        """Serve one envelope of the request whose turn it is; return whether there was one."""
        bulk = self.bulk
        assert bulk is not None
        request = next(iter(bulk))
        queue = bulk.pop(request)
        if request.state:
            self._drop_queue(request, queue)
            return True
        context, items, generator = queue.popleft()
        if len(items) > PACE_MAX:
            queue.appendleft((context, items[PACE_MAX:], None))
            items = items[:PACE_MAX]
        # the queue goes back before work begins: what arrives meanwhile must stay behind what waits
        if queue:
            bulk[request] = queue
        if generator is None:
            self.work(request, context, items)
        else:
            self.go_on(request, context, items, generator)
        return True

    def go_on(self, request: Request, context: Context | None, items: list[Any], generator: Iterator[Any]) -> None:
        """Continue a generator that was set aside; only replicas of generators do."""
        raise NotImplementedError

    def set_aside(self, request: Request, context: Context | None, items: list[Any], generator: Iterator[Any]) -> None:
        """Keep a generator that is not finished, before all else of its request; parked when the request is full."""
        if self.bulk is None:
            self.bulk = {}
        queue = self.bulk.pop(request, None) or deque()
        if not request.bulk:
            request.make_bulk(MIXED)
        if request.bulk == MIXED:
            earlier: Queue = deque()  # what waits in the quick lane came after this, and before the queue
            self.rest[:] = reversed(moved(request, reversed(self.rest), earlier))
            self.quick = moved(request, self.quick, earlier)
            queue.extendleft(reversed(earlier))
        queue.appendleft((context, items, generator))
        waiting = sum(len(each[1]) for each in queue)
        if not self.node.loops and request.crowded(waiting):  # in a loop a wait could be for itself
            if self.parked is None:
                self.parked = {}
            self.parked[request] = queue
            request.more().own("parked")[self] = waiting
        else:
            self.bulk[request] = queue

    def unpark(self, request: Request) -> None:
        """Let a parked request go on."""
        queue = self.parked.pop(request, None) if self.parked else None
        if queue is not None:
            assert self.bulk is not None
            self.bulk[request] = queue
            if not self.scheduled:
                self.schedule_bulk()

    def drop(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Forget an envelope: of a request that has ended, or because this actor has."""
        if context is not None and context.ask is not None:
            context.ask.fail(self.host.gone(self.address, items, request))
        elif not request.state:
            self.host.set_aside_gone(self.address, items, request)
        self.finished(request, len(items))

    def _drop_queue(self, request: Request, queue: Queue) -> None:
        for context, items, generator in queue:
            if generator is not None:
                self.host.close_generator(generator, self)
            self.drop(request, context, items)

    def finished(self, request: Request, count: int) -> None:
        """Count items as consumed. What came of them was counted before, so the count cannot touch zero too early."""
        counts = request.counts
        region = self.region if request.stream is self.stream else request.stream.entry_region
        self.done += count
        counts[region] -= count
        if not counts[region] and not request.state:
            request.settle()
        if request.bulk:
            request.relieve()

    def hand_on(self, request: Request, context: Context | None, out: list[Any], taken: int) -> None:
        """Give what came of `taken` items to what follows; `out` is emptied, its copy belongs to the receiver."""
        if len(out) == 1:
            items = [out.pop()]
        else:
            items = out[:]
            out.clear()
        if len(items) > MANY:
            request.grow(len(items), taken)
        if not request.committed:
            request.committed = True
        if request.stream is not self.stream:
            self.no_way_on(request, items)
            return
        self.node.hand_on(request, context, items)

    def no_way_on(self, request: Request, items: list[Any]) -> None:
        """Refuse what an actor emits for a request of a stream that it is no part of."""
        self.failed(
            request,
            None,
            items[0],
            TypeError(
                f"{self.name} belongs to stream {self.stream.name} and cannot emit into {request.stream.name}: "
                "answer an ask, or tell an address"
            ),
        )

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Process the items of an envelope and count them as consumed."""
        raise NotImplementedError

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        """Process an item on its sender's stack when nothing waits here; else it waits its turn."""
        self.put(request, context, [item])

    def take_plain(self, request: Request, context: Context | None, item: Any) -> None:
        """Take an item now (the `take_now` of replicas whose `work` never waits)."""
        if self.scheduled or self.paused or request.stream is not self.stream:
            self.put(request, context, [item])
            return
        request.counts[self.region] += 1
        self.host.working = self.host.activation
        self.work(request, context, [item])

    def failed(self, request: Request, context: Context | None, item: Any, cause: BaseException) -> None:
        """Do with a failed item what its operator declares."""
        if context is not None and context.ask is not None:
            context.ask.fail(self.node.error_of(self, request, item, cause))
        else:
            self.node.failed(self, request, context, item, cause)
        pulse_of(self).errors += 1
        supervisor = self.supervisor
        if supervisor is not None:
            supervisor.activation_failed(self, cause)

    # -- what others ask of it

    def waiting(self) -> Iterator[tuple[Request, Context | None, list[Any], Iterator[Any] | None]]:
        """Iterate over what waits here: of each request in its order; with its generator, what is under way in one."""
        for request, context, items in (*reversed(self.rest), *self.quick):
            yield request, context, items, None
        for lane in (self.bulk, self.parked):
            for request, queue in (lane or {}).items():
                for context, items, generator in queue:
                    yield request, context, items, generator

    def rerunning(self) -> Iterable[Any]:
        """Iterate over the activations that are to be run again."""
        return ()

    def who_waits(self) -> dict[Any, list[Any]]:
        """Return, for each request and ask that waits here for a place or a key, whom it waits for: any of these."""
        return {}

    def frames(self, context: Context | None, item: Any, request: Request) -> Context:
        """Return the context of what comes of an item when this operator wants to see the reply."""
        below = context.frames if context is not None else None
        frame = Frame(self, item, below)
        request.more().own("frames")[frame] = None
        return Context(frame)

    def forget_frame(self, request: Request, context: Context | None) -> None:
        """Take the newest frame off: what it was to see the reply of has come to nothing."""
        if context is not None and context.frames is not None:
            request.more().frames.pop(context.frames, None)

    def close(self, *, at_once: bool = False) -> None:
        """End this actor: when its mailbox is empty, or at once."""
        self.closing = True
        if self.address is not None:
            self.address.local = None  # nothing more comes in
        if at_once:
            waiting = [*reversed(self.rest), *self.quick]
            self.rest.clear()
            self.quick.clear()
            for request, context, items in waiting:
                self.drop(request, context, items)
            for lane in (self.bulk, self.parked):
                for request, queue in (lane or {}).items():
                    self._drop_queue(request, queue)
            self.bulk = self.parked = None
            self._end()
        elif not self.scheduled and not self.busy():
            self._end()

    def drop_current(self) -> None:
        """Forget the envelope at hand, if it is kept between turns."""

    def busy(self) -> bool:
        """Return whether an activation is suspended here."""
        return False

    def at_work(self) -> int:
        """Return how many activations are under way here, those between two turns."""
        return 0

    def _end(self) -> None:
        self.host.actor_ended(self)


FAILURES = (Exception, asyncio.CancelledError, GeneratorExit)
"""What a plain handler may raise and only its item pays for; KeyboardInterrupt and SystemExit are for the program."""


def moved(request: Request, lane: Iterable[Any], queue: Queue) -> list[Any]:
    """Move the envelopes of a request from a quick lane to the end of its queue; return the others."""
    others = []
    for envelope in lane:
        if envelope[0] is request:
            queue.append((envelope[1], envelope[2], None))
        else:
            others.append(envelope)
    return others


def without_newest(context: Context | None) -> Context | None:
    """Return the context without its ask, and without its newest frame."""
    if context is None:
        return None
    below = context.frames.below if context.frames is not None else None
    return Context(below, None, context.rounds) if below is not None or context.rounds else None


def behaviour(operator: Any) -> str | None:
    """Return what kind of replica an operator needs: plain, batch, generator, async; None when it can do nothing."""
    process = getattr(operator, "process", None)
    if process is None:
        batch = getattr(operator, "process_batch", None)
        if batch is None:
            return None
        return "async" if inspect.iscoroutinefunction(batch) else "batch"
    if inspect.iscoroutinefunction(process) or inspect.isasyncgenfunction(process):
        return "async"
    return "generator" if inspect.isgeneratorfunction(process) else "plain"
