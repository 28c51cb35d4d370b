"""Async replicas: an activation runs in a task that its replica owns, created once and not per message.

The first step of an activation is taken at once, under that task: many handlers end without ever waiting, and those
then cost no turn of the event loop. Since the task is the worker's own, `asyncio.timeout`, `TaskGroup` and
`current_task()` work as everywhere. What suspends is carried on by the task itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import types
from collections import deque
from collections.abc import Coroutine, Generator
from operator import length_hint
from typing import TYPE_CHECKING, Any

from actorflow.envelope import Context
from actorflow.errors import TooManyRepliesError
from actorflow.plan.operator import ItemError, Operator
from actorflow.runtime.activation import Activation, Answer, Ask
from actorflow.runtime.replica import IDLE, Replica, _below
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import OperatorNode


class AsyncReplica(Replica):
    """A replica whose `process` is a coroutine or an async generator: up to `concurrency` at once, serial per key."""

    __slots__ = ("again", "current", "idle", "key_waits", "keys", "working")
    suspends = True

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        super().__init__(host, node, op, index)
        self.idle: list[Worker] = []
        self.working: dict[Worker, None] = {}
        self.current: tuple[Request, Context | None, list[Any]] | None = None
        self.again: deque[Again] = deque()
        self.keys: dict[Any, Worker] = {}
        self.key_waits: dict[Any, deque[tuple[Request, Context | None, Any]]] = {}

    def put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        request.at = self
        super().put(request, context, items)
        if len(self.working) >= self.node.concurrency:
            self._look_for_circle(request, context)

    def _look_for_circle(self, request: Request, context: Context | None) -> None:
        """Look for a circle from whoever awaits an item that has to queue behind suspended activations."""
        waiting: Any = request.caller
        if context is not None and context.ask is not None:
            waiting = context.ask.asker
        if waiting is not None and waiting.waiting and all(worker.activation.waiting for worker in self.working):
            awaited = context.ask if context is not None and context.ask is not None else request
            self.host.soon(_reconsider, (waiting, awaited))

    # -- a turn

    def run(self, host: Host) -> None:
        """Start activations while there is a place for one and something to do."""
        began = host.began
        started = 0
        while not self.paused and len(self.working) < self.node.concurrency:
            if not self._start_next():
                self.scheduled = IDLE
                if self.closing and not self.working:
                    self._end()
                return
            started += 1
            if started >= self.pace:
                started = 0
                if not self._new_pace(began, host.clock()):
                    self.schedule()
                    return
        self.scheduled = IDLE

    def _start_next(self) -> bool:
        """Begin one activation; return False when nothing waits."""
        while True:
            if self.again and (self.again[0].passed or not self._anything_else(self.again[0].request)):
                again = self.again.popleft()
                if again.request.state:
                    self._drop(again.request, self._items(again.item))
                    continue
                self._start(again.request, again.context, again.item, again)
                return True
            entry = self._next_entry()
            if entry is None:
                return False
            request, context, item = entry
            for again in self.again:
                again.passed = True
            if self.node.key is not None and self.node.concurrency > 1:
                try:
                    key = self.node.key(item)
                    holder = self.keys.get(key)
                except Exception as error:
                    self.failed(request, context, item, error)
                    self.finished(request, 1)
                    continue
                if holder is not None or key in self.key_waits:
                    self.key_waits.setdefault(key, deque()).append((request, context, item))
                    continue
                self._start(request, context, item, None, key)
            else:
                self._start(request, context, item)
            return True

    def _items(self, item: Any) -> list[Any]:
        """Return the items of one activation: `process_batch` takes a list of them."""
        return item if self.node.batches else [item]

    def _anything_else(self, request: Request) -> bool:
        """Return whether an item of another request waits: that goes before a re-run, one of the same does not."""
        envelope = self.current
        if envelope is None:
            for lane in (self.rest, self.quick):
                if lane is self.rest:
                    waiting = list(self.rest)
                    self.rest = iter(waiting)
                    lane = waiting
                for each in lane:
                    return each[0] is not request
            return any(other is not request for other in self.bulk or ())
        return envelope[0] is not request

    def _next_entry(self) -> tuple[Request, Context | None, Any] | None:
        """Take the next item from the lanes."""
        while True:
            if self.current is not None:
                request, context, items = self.current
                if request.state:
                    self._drop(request, items)
                    self.current = None
                    continue
                if self.node.batches:
                    self.current = None
                    return request, context, items
                item = items.pop()
                if not items:
                    self.current = None
                return request, context, item
            envelope = next(self.rest, None)
            if envelope is None:
                if self.bulk:
                    request = next(iter(self.bulk))
                    queue = self.bulk.pop(request)
                    context, items, _ = queue.popleft()
                    if queue:
                        self.bulk[request] = queue
                    envelope = (request, context, items)
                if self.quick:
                    self.rest = iter(self.quick)
                    self.quick = []
                    if envelope is None:
                        continue
                if envelope is None:
                    return None
            request, context, items = envelope
            if not self.node.batches:
                items = items[::-1]  # taken from the end: no index is kept
            self.current = (request, context, items)

    def _start(
        self, request: Request, context: Context | None, item: Any, again: Again | None = None, key: Any = None
    ) -> None:
        worker = self.idle.pop() if self.idle else Worker(self)
        if key is not None:
            self.keys[key] = worker
            worker.key = key
        elif again is not None and again.key is not None:
            self.keys[again.key] = worker
            worker.key = again.key
        self.working[worker] = None
        worker.start(request, context, item, again)

    def worker_free(self, worker: Worker) -> None:
        """Take back a worker whose activation has ended, and go on with what waits."""
        self.working.pop(worker, None)
        if worker.key is not None:
            key, worker.key = worker.key, None
            if self.keys.get(key) is worker:
                del self.keys[key]
            self._next_of_key(key)
        if worker.op.__dict__ is self.op.__dict__:
            self.idle.append(worker)
        else:
            worker.task.cancel()  # the operator was restarted meanwhile: this is a view of the old instance
        if not self.scheduled and (self.closing or self.quick or self.current is not None or self._anything_left()):
            self.schedule()

    def _anything_left(self) -> bool:
        return bool(self.bulk or self.again or length_hint(self.rest))

    def _next_of_key(self, key: Any) -> None:
        waits = self.key_waits.get(key)
        while waits:
            request, context, item = waits.popleft()
            if not waits:
                del self.key_waits[key]
            if request.state:
                self._drop(request, [item])
                continue
            self._start(request, context, item, None, key)
            return

    def run_again(self, worker: Worker) -> None:
        """Queue an activation that was rolled back, behind one item of another request."""
        activation = worker.activation
        context, item = activation.context, activation.item
        again = Again(activation.request, context, item, activation.recorded, activation.reruns + 1, worker.key)
        self.again.append(again)

    # -- what others ask of it

    def occupants(self, waiter: Any) -> list[Any]:
        """Return the activations that all must wait for to get a place here; empty when there is a place."""
        if isinstance(waiter, Request):
            for key, waits in self.key_waits.items():
                if any(request is waiter for request, _, _ in waits) and key in self.keys:
                    return [self.keys[key].activation]
        if len(self.working) < self.node.concurrency or self.paused:
            return []
        return [worker.activation for worker in self.working]

    def drop_current(self) -> None:
        if self.current is not None:
            self._drop(self.current[0], self.current[2])
            self.current = None

    def busy(self) -> bool:
        """Return whether an activation is under way here."""
        return bool(self.working)

    def depth(self) -> int:
        """Return the number of envelopes and single items that wait here."""
        waiting = super().depth() + len(self.again) + sum(map(len, self.key_waits.values()))
        return waiting + (1 if self.current is not None else 0)

    def close(self, *, at_once: bool = False) -> None:
        """End this actor: when its mailbox is empty and nothing is under way, or at once."""
        if at_once:
            self.drop_current()
            for again in self.again:
                self._drop(again.request, self._items(again.item))
            self.again.clear()
            for waits in self.key_waits.values():
                for request, _, item in waits:
                    self._drop(request, [item])
            self.key_waits.clear()
            for worker in list(self.working):
                worker.cancel()
        super().close(at_once=at_once)

    def tell(self, request: Request, items: list[Any]) -> None:
        request.at = self
        super().tell(request, items)

    def take_now(self, request: Request, item: Any) -> None:
        if self.scheduled or self.paused or self.working or self.node.key is not None or self.node.batches:
            self.put(request, None, [item])
            return
        request.at = self
        request.counts[self.region] += 1
        self._start(request, None, item)

    def retire_idle(self) -> None:
        """End the workers that have nothing to do: their operator is replaced, or their actor has ended."""
        for worker in self.idle:
            worker.task.cancel()
        self.idle.clear()


class Again:
    """An activation to be run again, with the answers that its earlier run received."""

    __slots__ = ("context", "item", "key", "passed", "recorded", "request", "reruns")

    def __init__(
        self, request: Request, context: Context | None, item: Any, recorded: list[Answer], reruns: int, key: Any
    ) -> None:
        self.request = request
        self.context = context
        self.item = item
        self.recorded = recorded
        self.reruns = reruns
        self.key = key
        self.passed = False


class Worker:
    """One place for an async activation: its own task, its own view of the operator, its own activation object."""

    __slots__ = (
        "_awaited", "_coroutine", "_started", "_stop", "_wake", "activation", "context", "key", "op", "replica",
        "stepping", "task",
    )  # fmt: skip

    def __init__(self, replica: AsyncReplica) -> None:
        self.replica = replica
        host = replica.host
        self.activation = Activation(host, self)
        self.activation.replica = replica
        self.op = view(replica.op, self.activation)
        self.key: Any = None
        self.stepping = False
        self._stop = self._started = False
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._awaited: Any = None
        self._wake = host.loop.create_future()
        self.context = contextvars.copy_context()
        self.task: asyncio.Task[None] = host.loop.create_task(
            self._main(), name=f"{replica.stream.name}/{replica.name}", context=self.context
        )
        host.workers[self.task] = self

    def start(self, request: Request, context: Context | None, item: Any, again: Again | None = None) -> None:
        """Begin an activation and take its first step at once."""
        activation = self.activation
        activation.request = request
        activation.item = item
        activation.rerun = False
        activation.number = self.replica.host.next_number()
        if again is not None:
            activation.recorded, activation.reruns = again.recorded, again.reruns
            for answer in again.recorded:
                answer.used = False
        if self.replica.node.returns and (context is None or context.ask is None):
            activation.context = self.replica.frames(context, item, request)
        else:
            activation.context = context
        if context is not None and context.ask is not None:
            context.ask.activation = activation
        self.begin(self._process(item))

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Take the first step of a coroutine under this worker's task; what suspends goes on in the task."""
        host = self.replica.host
        current = asyncio.current_task(host.loop)
        working, host.working = host.working, self.activation
        if current is not None:
            _leave_task(host.loop, current)
        _enter_task(host.loop, self.task)
        self.stepping = True
        result: Any = None
        error: BaseException | None = None
        try:
            self._awaited = self.context.run(coroutine.send, None)
        except StopIteration as stop:
            result = stop.value
        except BaseException as raised:
            error = raised
        else:
            result = _SUSPENDED
        finally:
            self.stepping = False
            _leave_task(host.loop, self.task)
            if current is not None:
                _enter_task(host.loop, current)
            host.working = working
        if result is _SUSPENDED:
            self._coroutine = coroutine
            self.activation.request.more().own("activations")[self.activation] = None
            self._wake.set_result(None)
            if self._stop or self.activation.request.state:
                self.cancel()
        else:
            self._finished(result, error)

    def cancel(self) -> None:
        """Throw CancelledError into what the activation awaits."""
        if self.stepping:
            self._stop = True  # it is running just now: when it suspends
        elif self._coroutine is not None:
            self._stop = True
            if self._started:
                self.task.cancel()  # one that has not begun would never run: it looks at `_stop` when it does

    async def _main(self) -> None:
        """Carry on what suspended, activation by activation, until the host ends this task."""
        self._started = True
        while True:
            cancelled: BaseException | None = None
            try:
                await self._wake
                if self._stop and not self.task.cancelling():
                    cancelled = asyncio.CancelledError()
            except asyncio.CancelledError as raised:
                if self._coroutine is None:
                    self.replica.host.workers.pop(self.task, None)
                    raise
                cancelled = raised
            coroutine, awaited = self._coroutine, self._awaited
            assert coroutine is not None
            result: Any = None
            error: BaseException | None = None
            try:
                result = await _carry_on(coroutine, awaited, cancelled)
            except BaseException as failure:
                error = failure
            self._coroutine = self._awaited = None
            self._wake = self.replica.host.loop.create_future()
            retiring = isinstance(error, asyncio.CancelledError) and not self._stop
            while self.task.cancelling():
                self.task.uncancel()
            self._finished(result, error)
            if retiring and self._retires():
                self.replica.host.workers.pop(self.task, None)
                raise asyncio.CancelledError

    def _retires(self) -> bool:
        return self.replica.host.stopping

    # -- what the activation does

    def _process(self, item: Any) -> Coroutine[Any, Any, Any]:
        node = self.replica.node
        if node.batches:
            return self._process_batch(item)
        made = self.op.process(item)
        if inspect.isasyncgen(made):
            return self._process_each(made)
        coroutine: Coroutine[Any, Any, Any] = made
        return coroutine

    async def _process_each(self, made: Any) -> Any:
        """Hand on what an async generator yields, batch by batch, pausing while the request is crowded."""
        activation, replica = self.activation, self.replica
        batch = replica.host.limits.batch_items
        out = activation.out
        ask = activation.context.ask if activation.context is not None else None
        only = None
        async for value in made:
            if ask is not None:
                if only is not None:
                    raise TooManyRepliesError(f"{replica.name} was asked once and yielded more than one answer")
                only = value
                continue
            if value is not None:
                out.append(value)
            if len(out) >= batch or (out and replica.node.streams):
                if activation.effects:
                    activation.commit()
                replica.hand_on(activation.request, activation.context, out, 1)
                await activation.request.room()
        return only

    async def _process_batch(self, items: list[Any]) -> Any:
        results = await self.op.process_batch(items)  # type: ignore[attr-defined] # checked before start
        activation, replica = self.activation, self.replica
        ask = activation.context.ask if activation.context is not None else None
        for item, result in zip(items, results or (), strict=False):
            if type(result) is ItemError:
                replica.failed(activation.request, activation.context, item, result.error)
            elif ask is not None:
                return result
            elif result is not None:
                activation.out.append(result)
        return None

    def _finished(self, result: Any, error: BaseException | None) -> None:
        """Commit or abort, count the item as consumed, and make room for the next."""
        activation, replica = self.activation, self.replica
        request, context = activation.request, activation.context
        details = request.details
        # out of the books first: a failing activation must not be cancelled by the end of its own request
        if details is not None:
            details.activations.pop(activation, None)
        self._stop = False
        ask = context.ask if context is not None else None
        if ask is not None:
            ask.activation = None
        count = len(activation.item) if replica.node.batches else 1
        if error is None and not request.state:
            try:
                activation.check_replay()
            except Exception as mismatch:
                error = mismatch
        if activation.rerun and not request.state:
            activation.abort()
            replica.run_again(self)
        elif error is not None or request.state:
            activation.abort()
            if error is not None and not request.state:
                replica.failed(request, context, activation.item, error)
            elif ask is not None:
                ask.forget()
            replica.finished(request, count)
        else:
            try:
                self._commit(result, ask, count)
            except Exception as fault:  # of ours: the request must not hang on it
                activation.abort()
                replica.failed(request, context, activation.item, fault)
            replica.finished(request, count)
        activation.recorded = []
        activation.reruns = 0
        activation.waiting.clear()
        replica.worker_free(self)

    def _commit(self, result: Any, ask: Ask | None, count: int) -> None:
        """Let all that the activation did take effect."""
        activation, replica = self.activation, self.replica
        request, context = activation.request, activation.context
        if ask is None and result is not None:
            activation.out.append(result)
        answered = activation.answered or activation.deferred
        if activation.effects:
            activation.commit()
        activation.deferred = activation.answered = False
        if activation.out:
            replica.hand_on(request, context if ask is None else _below(context), activation.out, count)
        if ask is not None and not answered:
            ask.reply(result)


def _reconsider(wait: tuple[Activation, Any]) -> None:
    activation, awaited = wait
    activation.reconsider(awaited)


_SUSPENDED = object()
_enter_task = asyncio.tasks._enter_task  # documented for task implementers
_leave_task = asyncio.tasks._leave_task


@types.coroutine
def _carry_on(
    coroutine: Coroutine[Any, Any, Any], awaited: Any, cancelled: BaseException | None
) -> Generator[Any, Any, Any]:
    """Await what a coroutine awaited in its first step, then the rest of the coroutine."""
    while True:
        try:
            if cancelled is not None:
                raised, cancelled = cancelled, None
                raise raised
            yield awaited
        except BaseException as error:
            try:
                awaited = coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            return (yield from coroutine)


def view(op: Operator, activation: Activation) -> Operator:
    """Return another handle of an operator: the same attributes, an activation of its own.

    Attributes live in the one `__dict__` that all views share; the activation lives in a slot, of which each view has
    its own. So `self.emit` and `self.request` are right in every one of several interleaved activations.
    """
    other = object.__new__(type(op))
    other.__dict__ = op.__dict__
    other._activation = activation
    return other
