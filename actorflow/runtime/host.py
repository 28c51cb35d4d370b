"""A host: one event loop, its run queue, and the life of the requests that begin here."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol

from actorflow import codec
from actorflow.address import Address
from actorflow.core.deadlines import NEVER, Deadlines
from actorflow.core.progress import Progress
from actorflow.envelope import Context, Frame
from actorflow.errors import (
    AccessError,
    ActorflowError,
    ActorGoneError,
    CallDepthError,
    HostStoppingError,
    InvalidItemError,
    ItemBudgetError,
    ReplayExpiredError,
    ReplicaFailedError,
    SpawnLimitError,
    StoreError,
    TooManyRequestsError,
    UnknownStreamError,
    activation_error,
    cause_text,
    summary,
)
from actorflow.plan.app import AppPlan, unknown_stream
from actorflow.plan.cells import Access, accesses_of
from actorflow.plan.check import check
from actorflow.plan.check_cells import purity_of
from actorflow.plan.operator import Operator, Outcome, Restart
from actorflow.runtime.activation import Activation, tell_into
from actorflow.runtime.answers import Answer, Answers
from actorflow.runtime.asynchronous import AsyncReplica
from actorflow.runtime.cells import cells_of
from actorflow.runtime.changing import Changes
from actorflow.runtime.dead_letters import DeadLetters
from actorflow.runtime.delayed import Delays
from actorflow.runtime.journal import Journal
from actorflow.runtime.pulse import MEASURED, MEASURED_NOW, Pulses, pulse_of
from actorflow.runtime.recovery import recover
from actorflow.runtime.replays import Replays
from actorflow.runtime.replica import NEXT, SLICE_S, WAITING, Replica, behaviour
from actorflow.runtime.request import CLEAN, RUNNING, UNSET, Hold, ReplyQueue, Request, Timer
from actorflow.runtime.return_path import ReturnStep
from actorflow.runtime.steps import Node
from actorflow.runtime.supervisor import Supervisor, needs_supervisor
from actorflow.runtime.tracing import tracer_of_program
from actorflow.runtime.waiting import Circles
from actorflow.runtime.watchdog import Watchdog
from actorflow.runtime.wiring import Wiring
from actorflow.stores.store import Store

log = logging.getLogger("actorflow.host")


class Runnable(Protocol):
    """What can stand in the run queue."""

    def run(self, host: Host) -> None:
        """Take a turn."""


class BulkRunnable(Runnable, Protocol):
    """What can stand in the line for bulk work, and may leave it for the run queue."""

    scheduled: int


class Host:
    """One host of an app, on the running event loop.

    strict: every item goes through the codec between operators, as between hosts.   store: where what it does is kept
    (None: nowhere, a restart forgets).   idle_s: streams that are unused for so long give up their replicas, and have
    new ones when a request comes (None: never).
    inline: a request may be processed on its caller's stack when the host is idle (off in the simulation, where the
    order of turns is to be chosen by the seed). `chance` is the one source of randomness.
    """

    def __init__(
        self,
        app: AppPlan,
        *,
        name: str | None = None,
        strict: bool = False,
        inline: bool = True,
        shuffle: bool = False,
        watch: bool = True,
        chance: random.Random | None = None,
        store: Store | None = None,
        idle_s: float | None = None,
    ) -> None:
        check(app)
        self.app = app
        self.frozen = self.crashed = False
        self.limits = app.limits
        self.loop = asyncio.get_running_loop()
        self.chance = chance or random.Random()
        self.incarnation = f"{name or app.name}-{self.chance.getrandbits(32):08x}"
        self.name = name or app.name
        self.strict = strict
        self.inline = inline
        self.shuffle = shuffle
        self.clock: Callable[[], float] = time.perf_counter if inline else self.loop.time
        self.breath = 0.0
        # the run queue: `awake` says that a turn is under way or asked for
        self.ready: deque[Runnable] = deque()
        self.ready_bulk: deque[BulkRunnable] = deque()
        self.awake = False
        # what lasts
        self._wall_offset_s = time.time() - self.loop.time() if inline else 0.0
        self.journal = Journal(self, store) if store is not None else None
        self.purity = purity_of(app) if store is not None else {}
        self.answers = Answers(self)
        self.replays = Replays(self)
        self.delays = Delays(self)
        self.aliases: dict[str, Request] = {}
        self.cells, self.spaces = cells_of(self)
        self._accesses: dict[type[Operator], Mapping[str, Access]] = {}
        self._stamped = 0
        self.claim: Any = None  # on whose behalf keys are held while a plain activation works
        self._cell_sweeper: asyncio.TimerHandle | None = None
        self.activation = Activation(self)
        self.emit = self.activation.out.append
        self.feed_back = self.activation.back.append
        self.tell_effect = tell_into(self.activation.effects)
        self.working: Activation | None = None
        self.turning = self.tired = False
        self._turns = 0
        self.began = 0.0
        self.workers: dict[asyncio.Task[Any], Any] = {}
        # what is alive
        self.in_flight = 0
        self.requests: dict[int, Request] = {}
        self.bulk: dict[Request, None] = {}
        self.actors: dict[int, Replica] = {}
        self.dead_letters = DeadLetters(self)
        self.stopping = self.draining = False
        self._deadlines: Deadlines[Request] = Deadlines()
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: asyncio.Future[None] | None = None
        self._count = 0
        self.circles = Circles(self)
        self._ends: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._ending = False
        self._bulk_commits = 0
        self._watchdog = Watchdog(self.loop, self.limits.blocked_after_s) if watch else None
        self.tracer = tracer_of_program()
        self.began_s = self.now_s()
        self.pulses = Pulses(self)
        self.wirings = {stream: Wiring(self, topology) for stream, topology in app.streams.items()}
        self.changes = Changes(self, idle_s=idle_s)
        for wiring in self.wirings.values():
            self.changes.supervise(wiring)

    # -- its own life

    async def start(self) -> None:
        """Open the store, run the start hooks of all operators, and go on with what was not finished.

        Raises: StoreError; ReplicaFailedError when an operator cannot be started.
        """
        if self._watchdog is not None:
            self._watchdog.start()
        try:
            if self.journal is not None:
                await self.journal.open()
            for supervisor in self.changes.supervisors():
                await supervisor.start()
            if self.journal is not None:
                await recover(self, self.journal)
            else:
                self.delays.start({})
            self.changes.start()
        except BaseException:
            if self.journal is not None:
                self.journal.abandon()  # what was begun to be loaded, or migrated, changes nothing
            await self.stop()
            raise

    async def drain(self, timeout_s: float = 30.0) -> bool:
        """Take no new requests, finish those in flight, and stop. Return False when some had to be cancelled."""
        self.draining = True
        finished = True
        if self.requests:
            self._idle = self.loop.create_future()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._idle
            except TimeoutError:
                finished = False
        await self.stop()
        return finished

    async def stop(self) -> None:
        """End at once: what is in flight is failed, every task is awaited, stop hooks run."""
        self.draining = True
        self.delays.stop()
        self.changes.stop()
        if self.journal is not None:
            await self.journal.freeze()
            self.frozen = True  # what is not finished goes on at the next start
        for request in list(self.requests.values()):
            request.fail(self.stops())
        for replica in list(self.actors.values()):
            replica.close(at_once=True)
        for _ in range(100):  # cancelled activations clean up; what they start ends too
            if not self._tasks and not any(worker.activation.request is not None and _busy(worker)
                                           for worker in self.workers.values()):  # fmt: skip
                break
            await asyncio.sleep(0 if _ < 50 else 0.01)
        self.stopping = True
        self.replays.stop()
        for timer in (self._sweeper, self._cell_sweeper):
            if timer is not None:
                timer.cancel()
        tasks = [*self.workers, *self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        self.workers.clear()
        for supervisor in reversed(self.changes.supervisors()):
            await supervisor.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self.journal is not None:
            self.ready.clear()
            self.ready_bulk.clear()
            await self.journal.close()
        self.turn()  # what was cancelled leaves its mailboxes

    def crash(self) -> None:
        """End as if the process had been killed: nothing that is not durable was ever done. For tests of recovery."""
        self.frozen = self.crashed = self.draining = self.stopping = True
        self.delays.stop()
        self.changes.stop()
        self.ready.clear()
        self.ready_bulk.clear()
        for timer in (self._sweeper, self._cell_sweeper):
            if timer is not None:
                timer.cancel()
        for request in self.requests.values():
            for delayed in request.details.timers if request.details is not None else ():
                delayed.cancel()
        for task in (*self.workers, *self._tasks):
            task.cancel()
        if self.journal is not None:
            self.journal.abandon()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None

    def store_failed(self, error: StoreError) -> None:
        """Take nothing any more: what is done cannot be kept."""
        self.draining = True
        for wiring in self.wirings.values():
            wiring.failed = wiring.failed or error

    def run_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in a task that the host owns: awaited at the end, its errors logged."""
        task = self.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %r failed", task.get_name(), exc_info=error)

    @property
    def memory(self) -> str:
        """Return a name of what this host remembers: of its store, or of this start where there is none."""
        opened = self.journal.opened if self.journal is not None else None
        return f"store:{opened.identity}" if opened is not None else self.incarnation

    # -- clock and chance

    def now_s(self) -> float:
        """Return the event loop's clock, in seconds."""
        return self.loop.time()

    def wall_s(self) -> float:
        """Return the wall clock in seconds since 1970, as it was at the start and has gone on evenly since."""
        return self.loop.time() + self._wall_offset_s

    def next_number(self) -> int:
        """Return the next number of a request, activation or actor."""
        self._count += 1
        return self._count

    def soon(self, function: Callable[[Any], None], argument: Any) -> None:
        """Call a function in the next turn."""
        self.enqueue(_Call(function, argument))

    def bind(self, op: Operator, kind: str, *, feeds: bool = False) -> None:
        """Tell a new operator which activation it works in: plain ones share the host's.

        Their `emit` and `tell` are then the outbox's own, without the steps that lead there from the operator.
        """
        op._activation = self.activation
        hooks = (getattr(op, name, None) for name in ("on_reply", "on_round_end"))
        if kind != "async" and not any(map(inspect.iscoroutinefunction, hooks)):
            for name, access in self.accesses(type(op)).items():
                op.__dict__[name] = self.activation.handle(access)
            op.emit = self.emit  # type: ignore[method-assign, assignment]
            op.tell = self.tell_effect  # type: ignore[method-assign, assignment]
            if feeds:
                op.feedback = self.feed_back  # type: ignore[method-assign, assignment]
        if self.tracer is not None:
            self.tracer.watch(op)

    # -- shared state

    def accesses(self, operator: type[Operator]) -> Mapping[str, Access]:
        """Return the declared accesses of an operator class, by name."""
        found = self._accesses.get(operator)
        if found is None:
            found = self._accesses[operator] = accesses_of(operator)
        return found

    def stamp(self) -> tuple[int, str, int]:
        """Return a stamp that is later than all that were given here before, and unique over hosts."""
        now = max(int(self.wall_s() * 1e9), self._stamped + 1)
        self._stamped = now
        return now, self.incarnation, 0

    def stamped(self, time_ns: int) -> None:
        """Take note of a stamp that was given before this start."""
        self._stamped = max(self._stamped, time_ns)

    async def settled(self) -> None:
        """Wait until all that has taken effect is durable; with a store only. Raises: StoreError."""
        if self.journal is not None:
            await self.journal.settled()

    def dirty(self) -> None:
        """Note that something was committed that a store has to keep."""
        assert self.journal is not None
        self.journal.dirty()

    def sweep_cells(self) -> None:
        """See to it that entries which outlive their time are removed."""
        if self._cell_sweeper is None and not self.stopping:
            times = [next(iter(entries.expires.values())) for entries in self.cells.values() if entries.expires]
            if times:
                self._cell_sweeper = self.loop.call_at(min(times), self._sweep_cells)

    def _sweep_cells(self) -> None:
        self._cell_sweeper = None
        now_s = self.now_s()
        for entries in self.cells.values():
            if entries.expires:
                entries.sweep(now_s)
        self.sweep_cells()

    # -- the run queue

    def enqueue(self, runnable: Runnable) -> None:
        """Give something a turn."""
        self.ready.append(runnable)
        if not self.awake:
            self.wake()

    def enqueue_bulk(self, runnable: BulkRunnable) -> None:
        """Give bulk work a turn: one piece of it per turn of the host, more when nothing quick is ready."""
        self.ready_bulk.append(runnable)
        if not self.awake:
            self.wake()

    def wake(self) -> None:
        """Ask the event loop for a turn."""
        self.awake = True
        self.loop.call_soon(self.turn)

    def passing(self) -> Iterator[ReturnStep]:
        """Iterate over the replies that are between two operators on their way back."""
        for runnable in self.ready:
            if isinstance(runnable, ReturnStep):
                yield runnable
        for locks in self.spaces.values():
            for owner, _ in locks.wanted():
                if isinstance(owner, ReturnStep):
                    yield owner

    def carry_on_passing(self) -> None:
        """Do what is only on its way between two places: after that everything is where it can be found."""
        while True:
            calls = [each for each in self.ready if isinstance(each, _Call) and each.is_passing(self)]
            if not calls and not self._ends:
                return
            for call in calls:
                self.ready.remove(call)
                call.run(self)
            if self._ends and not self._ending:
                self._carry_out_ends(None)

    def turn(self) -> None:
        """Let what is ready run until the slice is over, then one piece of bulk work; then the event loop breathes."""
        if self.crashed:
            self.awake = False
            return
        ready, bulk, clock = self.ready, self.ready_bulk, self.clock
        self.began = began = clock()
        working, turning, shuffle = self.working, self.turning, self.shuffle
        self.turning, self.tired = True, False
        running: Any = None
        looks = 0
        self._turns += 1
        try:
            if (len(ready) == 1 or (ready and not self._turns & MEASURED)) and not shuffle:
                running = ready.popleft()
                self._measured_run(running)
            while ready:
                if shuffle:
                    ready.rotate(self.chance.randrange(len(ready)))
                running = ready.popleft()
                running.run(self)
                looks += 1
                if self.tired or not looks & 15:  # a replica that met its own limit says so; else look now and then
                    self.began = now = clock()
                    if now - began > SLICE_S:
                        break
                    self.tired = False
            while bulk:
                running = bulk.popleft()
                if running.scheduled == WAITING:  # else it has had its turn meanwhile, for something quick
                    running.scheduled = NEXT
                    self.began = clock()
                    running.run(self)
                    if ready or clock() - began > SLICE_S:
                        break
        except BaseException as error:  # it must neither strand the replica nor hang the request
            self._recover(running, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self.working, self.turning = working, turning
            if ready or bulk:
                self.loop.call_soon(self.turn)
            else:
                self.awake = False
                self.activation.forget_last()

    def _recover(self, running: Runnable, error: BaseException) -> None:
        """Fail the request that was being worked on, and let its replica go on with the next."""
        log.error("a turn of host %s failed", self.name, exc_info=error)
        activation = self.activation
        activation.abort()
        if isinstance(running, Replica):
            running.drop_current()
            if activation.replica is running and activation.request is not None:
                activation.request.fail(running.node.error_of(running, activation.request, "an item", error))
            running.schedule()
            if activation.replica is not None and activation.replica is not running:
                activation.replica.schedule()  # a message may have been passed on
        elif (at_work := getattr(running, "at_work", None)) is not None:
            said = f"a turn of host {self.name} failed for request {at_work.id}: {cause_text(error)}"
            at_work.fail(activation_error(error, said))

    def working_activation(self) -> Activation | None:
        """Return the activation whose code is running, if any."""
        if self.turning:
            return self.working
        task = asyncio.current_task(self.loop)
        worker = self.workers.get(task) if task is not None else None
        return worker.activation if worker is not None else None

    def activation_here(self) -> Activation | None:
        """Return the activation that calls this, whatever thread and event loop that is in."""
        if asyncio._get_running_loop() is not self.loop:
            return None
        activation = self.working_activation()
        return activation if activation is not None and activation.replica is not None else None

    def _measured_run(self, running: Runnable) -> None:
        """Let a replica run, and note how long that took for each item that it processed."""
        if not isinstance(running, Replica) or running.suspends:
            running.run(self)
            return
        began_s, before = self.clock(), running.done
        running.run(self)
        if done := running.done - before:
            pulse_of(running).times.append((self.clock() - began_s) / done)

    # -- requests

    def stream(self, name: str) -> Wiring:
        """Return a stream by name. Raises: UnknownStreamError."""
        try:
            return self.wirings[name]
        except KeyError:
            if (woken := self.changes.wake(name)) is not None:
                return woken
            raise UnknownStreamError(unknown_stream(name, self.wirings), stream=name) from None

    def begin(
        self, wiring: Wiring, item: Any, timeout_s: float | None = None, attributes: Mapping[str, Any] | None = None
    ) -> Request:
        """Begin a request with one item and, when the host is idle, process it at once on the caller's stack.

        Raises: HostStoppingError; TooManyRequestsError; ReplicaFailedError.
        """
        direct = wiring.direct
        if (
            direct is None
            or self.awake
            or timeout_s is not None
            or attributes
            or wiring.in_flight >= wiring.in_flight_max
            or self.in_flight >= self.limits.requests_per_host
            or self.draining
            or wiring.failed is not None
        ):
            request = self.open(wiring, timeout_s, attributes)
            self.enter(request, [item])
            return request
        request = Request(self, wiring, wiring.timeout_s, [0])
        journal = self.journal
        if journal is None or wiring.pure:
            self.take_now(direct, request, None, item)
            if not request.state:
                self.register(request)
            return request
        kept = codec.copy_if_mutable(item)  # in case it does not end at once, and is to be begun again
        journal.beginning = request
        self.take_now(direct, request, None, item)
        journal.beginning = None
        if not request.state:
            self.register(request)
            journal.accept(request, [kept])
        return request

    def begin_once(
        self,
        wiring: Wiring,
        item: Any,
        key: str,
        timeout_s: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        *,
        sent: bool = False,
    ) -> Request | Answer:
        """Begin a request under a key of its caller's, unless there is one already: then return that, or its answer.

        Raises: InvalidItemError, when the key was used for something else; as `begin`.
        """
        found = self.answers.find(key, wiring.name, item)
        if not isinstance(found, int):
            return found
        if self.journal is None and not sent:  # most end at once, and need no more than that their answer is kept
            request = self.begin(wiring, item, timeout_s, attributes)
            if request.state:
                self.answers.keep(key, found, request)
            else:
                request.more().key, request.more().digest = key, found
                self.answers.begin(key, request)
            return request
        request = self.open(wiring, timeout_s, attributes)
        details = request.more()
        details.key, details.digest, details.sent = key, found, sent
        self.answers.begin(key, request)
        if sent:
            self.detach(request, item)
        self.enter(request, [item])
        return request

    def take_now(self, replica: Replica, request: Request, context: Context | None, item: Any) -> None:
        """Process an item on its sender's stack, and then whatever comes of it; only while the host is idle.

        Nothing else is to be done here then: the replica takes the item without mailbox and run queue.
        """
        self.awake = self.turning = True
        self.began = self.clock()
        try:
            replica.take_now(request, context, item)
            if replica.done & MEASURED_NOW == 1 and not replica.suspends:
                pulse_of(replica).times.append(self.clock() - self.began)
        except BaseException as error:
            self._recover(replica, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self.turning = False
            if self.ready or self.ready_bulk:
                self.turn()
            else:
                self.awake = False

    def open(
        self,
        wiring: Wiring,
        timeout_s: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        parent: Request | None = None,
        *,
        restored: bool = False,
        inner: bool = False,
    ) -> Request:
        """Make a request without any item yet.

        restored: it was taken before a restart, and is not refused now.   inner: it comes of one that was taken, and is
        not refused because the host drains.

        Raises: HostStoppingError; TooManyRequestsError; ReplicaFailedError.
        """
        if not restored and (
            wiring.in_flight >= wiring.in_flight_max
            or self.in_flight >= self.limits.requests_per_host
            or (self.draining and parent is None and not inner)
            or wiring.failed is not None
        ):
            raise self._refusal(wiring)
        if timeout_s is None:
            timeout_s = wiring.timeout_s
        elif not timeout_s > 0:
            raise ValueError(f"timeout_s={timeout_s}: a deadline is a positive number of seconds")
        if wiring.watched:
            progress = Progress(wiring.regions)
            request = Request(self, wiring, timeout_s, progress.counts, progress, parent)
        else:
            request = Request(self, wiring, timeout_s, [0], None, parent)
        if parent is not None:
            request.depth = parent.depth + 1
            request.top = parent.top or parent
        if attributes:
            request.more().attributes = attributes
        if wiring.replies == "many":
            request.replies = ReplyQueue(request)
        if self.tracer is not None:
            self.tracer.begin(request)
        return request

    def enter(self, request: Request, items: list[Any]) -> None:
        """Let the first items of a request in."""
        wiring = request.stream
        counts, region = request.counts, wiring.entry_region
        idle = self.inline and not self.awake
        if idle:
            self.awake = True  # what becomes ready is run below, without a turn of the event loop
            self.began = self.clock()
        counts[region] += 1  # nothing can complete before all of it is in
        try:
            if wiring.keeps_item and items:
                request.more().item = items[0]
            for node in wiring.always:
                node.begin(request)
            for source in wiring.sources:
                source.put(request, None, [request])
            if self.journal is not None and request.parent is None:
                self._accept(self.journal, request, items)
            if items and not request.state:
                wiring.enter(request, None, items)
            counts[region] -= 1
            if not counts[region]:
                request.settle()
        except BaseException as error:  # it must neither hang the request nor keep the host awake
            log.error("request %s could not begin", request.id, exc_info=error)
            request.fail(
                activation_error(error, f"request {request.id} of {wiring.name} could not begin: {cause_text(error)}")
            )
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            if idle:
                if self.ready or self.ready_bulk:
                    self.turn()
                else:
                    self.awake = False
        if not request.state and not request.registered:
            self.register(request)

    def _accept(self, journal: Journal, request: Request, items: list[Any]) -> None:
        """Note what a request came with, where it is to be finished after a restart, too.

        Nobody would miss a request without effects whose caller has gone, and one whose items are still coming in lives
        with its connection.
        """
        details = request.details
        wanted = not request.stream.pure or (details is not None and (details.sent or details.key is not None))
        if wanted and (details is None or details.input is None) and request not in journal.inputs:
            journal.accept(request, [codec.copy_if_mutable(item) for item in items])

    def set_deadline(self, request: Request, left_s: float) -> None:
        """Let a request that goes on after a restart end when it would have ended."""
        self._deadlines.discard(request, request.timeout_s)
        request.deadline_given_s = self.loop.time() + left_s

        def expire() -> None:
            request.expire()

        later = self.loop.call_later(left_s, expire)
        request.more().own("releases")[later.cancel] = None

    def register(self, request: Request) -> None:
        """Note a request that did not end at once: now it has a deadline, and can be found and cancelled."""
        request.registered = True
        request.stream.in_flight += 1
        self.in_flight += 1
        if not request.number:
            request.number = self.next_number()
        self.requests[request.number] = request
        if request.parent is None:
            now_s = self.loop.time()
            request.deadline_given_s = now_s + request.timeout_s
            if request.timeout_s != NEVER and self._deadlines.add(request, request.timeout_s, now_s):
                self._arm_sweeper()
        else:
            request.parent.more().own("children")[request] = None
            request.root.more().open_children += 1

    def ended(self, request: Request) -> None:
        """Forget a request that has ended."""
        if request.registered:
            request.stream.in_flight -= 1
            self.in_flight -= 1
            del self.requests[request.number]
            if request.parent is None:
                self._deadlines.discard(request, request.timeout_s)
            elif request.parent.details is not None:
                request.parent.details.children.pop(request, None)
                request.root.more().open_children -= 1
            if self._idle is not None and not self.requests and not self._idle.done():
                self._idle.set_result(None)
        if request.parent is not None and request.committed:
            request.parent.committed = True
        if request.caller is not None:
            request.caller.child_ended(request)
        details = request.details
        if details is not None and not (self.frozen and request.error is not None):
            if details.id is not None:
                self.aliases.pop(details.id, None)
            if details.key is not None:
                self.answers.ended(details.key, request)
        if self.journal is not None and not self.frozen:
            if request.parent is None:
                self.journal.ended(request)
            else:
                self.journal.touch(request)
        if request.bulk:
            self.bulk.pop(request, None)

    async def answer(self, request: Request) -> Any:
        """Await the end of a request and return its reply; cancelling the wait cancels the request.

        Raises: what the request failed with.
        """
        if (request.state == RUNNING and not request.answered) or request.held:
            if request.future is None:
                request.future = self.loop.create_future()
            try:
                if request.details is None or request.details.key is None:
                    await request.future
                else:
                    await asyncio.shield(request.future)  # others may wait for it, too
            except asyncio.CancelledError:
                if request.details is None or request.details.key is None:
                    request.cancel("its caller was cancelled")  # who has a key may ask again
                raise
        if request.error is not None:
            raise request.error
        return request.answer_value()

    async def answer_of(self, name: str) -> Any:
        """Await the answer to a request that was begun by somebody else, under a key or an id; it goes on regardless.

        Raises: ReplayExpiredError when there is none, or not any more; what the request failed with.
        """
        found: Request | Answer | None = self.answers.under(name) or self.find(name)
        if found is None:
            uptime_s = self.now_s() - self.began_s
            raise ReplayExpiredError(
                f"no request {name!r} is in flight on host {self.name}, and its answer is not kept: it had no key, it "
                f"is too long ago, or it streamed its replies and the host began anew since ({uptime_s:,.0f} s ago)",
                host=self.name,
            )
        if isinstance(found, Answer):
            await self.settled()
            return found.result()
        if found.replies is not None and (found.details is None or found.details.key is None):
            raise InvalidItemError(f"the replies of request {found.id} belong to whoever began it, without a key")
        if (not found.state and not found.answered) or found.held:
            if found.future is None:
                found.future = self.loop.create_future()
            await asyncio.shield(found.future)
        if found.error is not None:
            raise found.error
        return found.answer_value()

    def stops(self) -> HostStoppingError:
        """Return the error of whoever still waits for this host when it stops."""
        return HostStoppingError(f"host {self.name} stops", host=self.name)

    def _refusal(self, wiring: Wiring) -> ActorflowError:
        if wiring.failed is not None:
            return ReplicaFailedError(str(wiring.failed), stream=wiring.name, host=self.name, retryable=True)
        if self.draining:
            return HostStoppingError(f"host {self.name} drains and takes no new requests", host=self.name)
        if wiring.in_flight >= wiring.in_flight_max:
            where, limit, way = f"stream {wiring.name}", wiring.in_flight_max, "in_flight= on the stream"
        else:
            where, limit, way = f"host {self.name}", self.limits.requests_per_host, "Limits(requests_per_host=…)"
        return TooManyRequestsError(
            f"{where} has {limit} requests in flight, its limit; try again later, or raise {way}",
            stream=wiring.name,
            host=self.name,
        )

    def _arm_sweeper(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweeper = self.loop.call_at(self._deadlines.next_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_s = self.loop.time()
        for request in self._deadlines.due(now_s):
            idle_since_s = request.details.idle_since_s if request.details is not None else None
            if idle_since_s is None:
                request.expire()
            else:
                self._expire_idle(request)
        if self._deadlines.next_s != NEVER:
            self._arm_sweeper()

    def _expire_idle(self, request: Request) -> None:
        """End a request that streams when nothing has come for its time-out; else look again when that would be."""
        details = request.more()
        assert details.idle_since_s is not None
        ends_s = details.idle_since_s + request.timeout_s
        if self.loop.time() >= ends_s:
            request.expire()
            return
        later = self.loop.call_at(ends_s, self._look_idle, request)
        details.own("releases")[later.cancel] = None

    def _look_idle(self, request: Request) -> None:
        if not request.state:
            self._expire_idle(request)

    # -- what activations ask for

    def call(self, activation: Activation, wiring: Wiring, item: Any) -> Request:
        """Begin a child request of an activation."""
        parent: Request | None = activation.request
        if parent is None or parent.state:  # a start hook, or an `on_reply` after the end: a request of its own
            return self.begin(wiring, item, self.limits.unwind_timeout_s)
        child = self._child(parent, wiring)
        child.caller = activation
        if self.journal is not None:
            child.more().asked = (wiring.name, codec.copy_if_mutable(item))
            self.journal.touch(parent)
        self.enter(child, [codec.handed_over(item)] if self.strict else [item])
        return child

    def call_for(self, parent: Request, wiring: Wiring, item: Any, ended: Callable[[Request], None]) -> Request:
        """Begin a child request for a step; `ended` is called when it ends.

        Raises: CallDepthError, TooManyRequestsError and the like.
        """
        child = self._child(parent, wiring)
        child.on_end = ended
        items = [codec.handed_over(item)] if self.strict else [item]
        # streams whose call steps call one another must neither nest on the stack nor hold the loop for long
        late = self.clock() - self.began > SLICE_S
        if late or parent.depth & 15 == 15:
            self.tired = self.tired or late
            self.register(child)
            self.soon(self._enter_later, (child, items))
        else:
            self.enter(child, items)
        return child

    def _enter_later(self, entering: tuple[Request, list[Any]]) -> None:
        request, items = entering
        if not request.state:
            self.enter(request, items)

    def _child(self, parent: Request, wiring: Wiring) -> Request:
        if parent.depth >= self.limits.call_depth:
            raise CallDepthError(
                f"request {parent.root.id} nests child requests {parent.depth} deep (limit); the innermost calls "
                f"{wiring.name}; end the recursion earlier, or raise Limits(call_depth=…)",
                stream=wiring.name,
                request_id=parent.root.id,
            )
        root = parent.root
        if root.details is not None and root.details.open_children >= self.limits.children_per_request:
            raise TooManyRequestsError(
                f"request {root.id} has {root.details.open_children} child requests open (limit); await some of "
                "them first, or raise Limits(children_per_request=…)",
                stream=wiring.name,
                request_id=root.id,
                retryable=False,
            )
        return self.open(wiring, parent.timeout_s, None, parent)

    def send(self, wiring: Wiring, item: Any) -> Request | None:
        """Begin a request that nobody waits for; what it ends badly with becomes a dead letter."""
        try:
            return self.begin_sent(wiring, item, inner=not self.stopping)
        except ActorflowError as error:
            self.dead_letters.add(Request(self, wiring, wiring.timeout_s, [0]), error, item=item)
            return None

    def begin_sent(
        self,
        wiring: Wiring,
        item: Any,
        timeout_s: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        *,
        inner: bool = False,
    ) -> Request:
        """Begin a request that nobody waits for. inner: as for `open`.

        Raises: HostStoppingError; TooManyRequestsError; ReplicaFailedError.
        """
        request = self.open(wiring, timeout_s, attributes, inner=inner)
        self.detach(request, item)
        if self.journal is not None:
            request.more().sent = True
        self.enter(request, [item])
        return request

    def detach(self, request: Request, item: Any = UNSET) -> None:
        """Let a request end without anybody waiting: an error becomes a dead letter, with the item it began with."""
        request.on_end = functools.partial(self._sent_ended, item)
        request.replies = None

    def find(self, request_id: str) -> Request | None:
        """Return a request in flight by its id."""
        if (known := self.aliases.get(request_id)) is not None:
            return known
        incarnation, _, number = request_id.rpartition(".")
        if incarnation != self.incarnation or not number.isdecimal():
            return None
        return self.requests.get(int(number))

    def _sent_ended(self, item: Any, request: Request) -> None:
        if request.error is not None:
            self.dead_letters.add(request, request.error, item=None if item is UNSET else item, whole=item is not UNSET)

    def replay(self, node: Node, item: Any, actor: Replica | None = None) -> Request:
        """Begin a request without an answer whose item enters at a given step, or at an actor that is still alive.

        Raises: UnknownStreamError when the actor has ended.
        """
        if actor is not None and (actor.closing or actor.address is None):
            raise UnknownStreamError(f"{actor.name} has ended and cannot process {summary(item)} again")
        request = self.open(node.stream)
        request.answered = True
        request.replies = None
        request.counts[node.stream.entry_region] += 1
        for always in node.stream.always:
            always.begin(request)
        (actor or node).put(request, None, [item])
        request.counts[node.stream.entry_region] -= 1
        request.settle()
        if not request.state:
            self.register(request)
        return request

    def tell(self, request: Request, address: Address, items: list[Any], rounds: tuple[int, ...] = ()) -> None:
        """Deliver items to an actor; one that has ended leaves dead letters."""
        replica = address.local or self.actor(address)
        if replica is None:
            self.set_aside_gone(address, items, request)
        elif rounds and not request.state:
            replica.put(request, Context(rounds=rounds), items)
        elif not request.state:
            replica.tell(request, items)

    def gone(self, address: Address | None, items: list[Any], request: Request) -> ActorGoneError:
        """Return the error of items that an actor can no longer process."""
        name = address.name if address is not None else None
        what = summary(items[0]) if items else "nothing"
        return ActorGoneError(
            f"{address} has ended and did not process {what}", operator=name, stream=request.stream.name
        )

    def set_aside_gone(self, address: Address | None, items: list[Any], request: Request) -> None:
        """Keep dead letters of items that were told to an actor which has ended."""
        for item in items:
            self.dead_letters.add(request, self.gone(address, [item], request), item=item)

    def actor(self, address: Address) -> Replica | None:
        """Return the actor at an address, or None when it has ended."""
        if address.__class__ is not Address:
            raise TypeError(f"{summary(address)} is not an address; spawn() returns one")
        replica = self.actors.get(address.number) if address.host == self.incarnation else None
        return None if replica is None or replica.closing else replica

    def spawn(
        self,
        activation: Activation,
        operator: type[Operator],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        detached: bool,
    ) -> Replica:
        """Create an actor where an activation works. Raises: SpawnLimitError."""
        if not (isinstance(operator, type) and issubclass(operator, Operator)) or behaviour(operator) is None:
            raise TypeError(
                "spawn(operator, …) takes a subclass of Operator with process or process_batch, "
                f"not {summary(operator)}"
            )
        if owned := [access.cell.name for access in self.accesses(operator).values() if access.how == "owned"]:
            raise AccessError(
                f"{operator.__name__} owns {', '.join(owned)}, and an actor has no key in hand: reach it by a stream "
                "that is keyed, or declare exclusive()",
                cell=owned[0],
            )
        request: Request | None = activation.request
        if request is None and not detached:
            raise TypeError("start() works for no request that an actor could end with: use spawn_detached()")
        if request is not None:
            self._refuse_spawn(request)
        if self.strict:
            args, kwargs = codec.handed_over(args), codec.handed_over(kwargs)
        node = activation.replica.node.actor_node(operator)
        op = operator(*args, **kwargs)
        self.bind(op, node.kind, feeds=node.feeds)
        number = self.next_number()
        replica = node.replica_kind(self, node, op, number)
        # in strict mode an address is looked up every time, as one that came from another host
        local = None if self.strict else replica
        replica.address = Address(self.incarnation, number, operator.__name__, local)
        self.actors[number] = replica
        if request is not None and not detached:
            request.more().own("actors")[number] = replica
            replica.owner = request
        if needs_supervisor(operator):
            self._start_actor(replica, operator, args, kwargs)
        return replica

    def _refuse_spawn(self, request: Request) -> None:
        limit = self.limits.actors_per_request
        alive = len(request.details.actors) if request.details is not None else 0
        if alive >= limit or len(self.actors) >= 10 * limit:
            raise SpawnLimitError(
                f"request {request.id} has {alive} actors alive and the host {len(self.actors)} "
                f"(limit {limit} for one, {10 * limit} for all); stop some, or raise Limits(actors_per_request=…)",
                stream=request.stream.name,
                request_id=request.id,
            )

    def _start_actor(
        self, replica: Replica, operator: type[Operator], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        node = _Remade(replica.node, operator, args, kwargs)
        replica.node = node  # type: ignore[assignment] # the same node, but it makes this very actor again
        supervisor = Supervisor(self, [replica], operator.restart or Restart(), None)
        if hasattr(operator, "start"):
            replica.pause()
            self.run_task(self._run_start(supervisor, replica), f"start of {replica.name}")

    async def _run_start(self, supervisor: Supervisor, replica: Replica) -> None:
        try:
            await supervisor.start()
        except ReplicaFailedError as error:
            if replica.owner is not None:
                replica.owner.fail(error)
            replica.close(at_once=True)
        else:
            replica.resume()

    def actor_ended(self, replica: Replica) -> None:
        """Forget an actor; its `stop` hook runs."""
        assert replica.address is not None
        number = replica.address.number
        if self.actors.pop(number, None) is None:
            return
        owner = replica.owner
        if owner is not None and owner.details is not None:
            owner.details.actors.pop(number, None)
        replica.address.local = None
        if isinstance(replica, AsyncReplica):
            replica.retire_idle()
        if hasattr(replica.op, "stop"):
            supervisor = replica.supervisor or Supervisor(self, [replica], Restart(), None)
            self.run_task(supervisor.stop(), f"stop of {replica.name}")

    def timer(self, request: Request, replica: Replica, context: Context | None, delay_s: float, item: Any) -> None:
        """Have a replica process an item later; until then it is a hold of the request."""
        if request.state:
            return
        region = replica.region_of(request)
        request.counts[region] += 1
        timers = request.more().own("timers")
        timer = Timer((replica, context, self.now_s() + delay_s, item))

        def due() -> None:
            del timers[timer]
            if not replica.closing:
                replica.put(request, context, [item])
            if self.journal is not None:
                self.journal.touch(request)
            request.release(region)

        timer.handle = self.loop.call_later(delay_s, due)
        timers[timer] = region
        if self.journal is not None:
            self.journal.touch(request)

    # -- ways back and ends

    def send_back(
        self, request: Request, frame: Frame, *, value: Any = None, error: ActorflowError | None = None
    ) -> None:
        """Send a reply or an error through the return stack."""
        if not request.state:
            self.enqueue(ReturnStep(request, frame, Outcome(value, error)))

    def unwind_rest(self, request: Request, frames: Iterable[Frame]) -> None:
        """Tell the frames that no reply has passed that their request has failed, newest first."""
        if request.error is not None and (left := list(frames)):
            newest = left.pop()
            self.enqueue(ReturnStep(request, newest, Outcome(error=request.error), told=left))

    def note_failure(self, replica: Replica, request: Request, item: Any, cause: BaseException) -> None:
        """Keep what can no longer be told to anybody."""
        error = replica.node.error_of(replica, request, item, cause)
        self.dead_letters.add(request, error, item=item)

    def fail_stream(self, wiring: Wiring, error: ActorflowError) -> None:
        """End every request that is in flight in a stream, and refuse new ones."""
        wiring.failed = error
        for request in [each for each in self.requests.values() if each.stream is wiring]:
            request.fail(ReplicaFailedError(str(error), stream=wiring.name, host=self.name))

    def end_later(self, function: Callable[[Any], None], argument: Any) -> None:
        """Carry out a consequence of an end once the end itself is done: a long chain of them needs no deep stack."""
        self._ends.append((function, argument))
        if not self._ending:
            self._carry_out_ends(None)

    def _carry_out_ends(self, _: None) -> None:
        """Carry out what is due, for one slice; the rest of a long chain in a turn of its own."""
        self._ending = True
        try:
            while self._ends:
                then, about = self._ends.popleft()
                then(about)
                if self._ends and self.clock() - self.began > SLICE_S:
                    self.tired = True
                    self.soon(self._carry_out_ends, None)
                    return
        finally:
            self._ending = False

    def check_budget(self) -> None:
        """Enforce the host's item budget, looked at every few large commits: the largest request fails."""
        self._bulk_commits += 1
        if self._bulk_commits & 15:
            return
        held = {request: request.outstanding() for request in self.bulk}
        total = sum(held.values())
        if total > self.limits.items_per_host and held:
            largest = max(held, key=lambda request: held[request])
            largest.fail(
                ItemBudgetError(
                    f"host {self.name} has {total} items outstanding (limit {self.limits.items_per_host}); request "
                    f"{largest.id} of stream {largest.stream.name} holds most, {held[largest]}",
                    stream=largest.stream.name,
                    host=self.name,
                )
            )

    def close_generator(self, generator: Any, replica: Replica) -> None:
        """Close a generator that nobody wants more of; what it raises is logged."""
        try:
            generator.close()
        except Exception:
            log.exception("%s/%s raised when its generator was closed", replica.stream.name, replica.name)

    def feed(self, wiring: Wiring, timeout_s: float | None, attributes: Mapping[str, Any] | None) -> Request:
        """Begin a request whose items will follow; its input is a hold until `fed`."""
        request = self.open(wiring, timeout_s, attributes)
        request.make_bulk(CLEAN)
        request.more().input = hold = Hold(request, wiring.entry_region)
        hold.take()
        self.enter(request, [])
        return request

    def feed_items(self, request: Request, items: list[Any]) -> None:
        """Let further items of a fed request in."""
        if items and not request.state:
            request.stream.enter(request, None, items)

    def fed(self, request: Request) -> None:
        """Note that no more items will follow."""
        hold = request.more().input
        if hold is not None:
            hold.give_up()


class _Call:
    """A function call in the run queue."""

    __slots__ = ("_argument", "_function")

    def __init__(self, function: Callable[[Any], None], argument: Any) -> None:
        self._function = function
        self._argument = argument

    def run(self, host: Host) -> None:
        self._function(self._argument)

    def is_passing(self, host: Host) -> bool:
        """Return whether this carries something of a request from one place to another."""
        return self._function in {host._enter_later, host._carry_out_ends}


class _Remade:
    """An actor's node that makes the same actor again when it is restarted."""

    def __init__(self, node: Any, operator: type[Operator], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._node = node
        self._made = (operator, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def make(self) -> Operator:
        operator, args, kwargs = self._made
        op = operator(*args, **kwargs)
        self._node.stream.host.bind(op, self._node.kind, feeds=self._node.feeds)
        return op


def _busy(worker: Any) -> bool:
    return worker.activation in (worker.activation.request.details.activations if
                                 worker.activation.request.details is not None else ())  # fmt: skip
