"""Workers: an async activation runs in a task that its replica owns, created once and not per message.

The first step of an activation is taken at once, under that task: many handlers end without ever waiting, and those
then cost no turn of the event loop. Since the task is the worker's own, `asyncio.timeout`, `TaskGroup` and
`current_task()` work as everywhere. What suspends is carried on by the task itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import types
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from actorflow.carrying import carry_on
from actorflow.envelope import Context
from actorflow.errors import ItemBudgetError, TooManyRepliesError
from actorflow.plan.operator import ItemError, Operator
from actorflow.runtime.access import NO_KEY
from actorflow.runtime.activation import NO_KEYS, Activation, Again, Ask
from actorflow.runtime.cells import ordered
from actorflow.runtime.pulse import MEASURED, pulse_of
from actorflow.runtime.replica import without_newest
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.runtime.asynchronous import AsyncReplica
    from actorflow.runtime.replica import Replica

_SUSPENDED = object()


class Worker:
    """One place for an async activation: its own task, its own view of the operator, its own activation object."""

    __slots__ = (
        "_awaited",
        "_coroutine",
        "_retired",
        "_started",
        "_stop",
        "_wake",
        "activation",
        "base",
        "context",
        "key",
        "left",
        "op",
        "replica",
        "stepping",
        "task",
    )  # fmt: skip

    def __init__(self, replica: AsyncReplica) -> None:
        self.replica = replica
        host = replica.host
        self.activation = Activation(host, self)
        self.activation.replica = replica
        self.op = view(replica.op, self.activation)
        self.key: Any = NO_KEY
        self.stepping = self.left = False
        self._stop = self._started = self._retired = False
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._awaited: Any = None
        self._wake = host.loop.create_future()
        self.base = contextvars.copy_context()
        self.context = self.base.copy()
        self.task = self._make_task()

    def _make_task(self) -> asyncio.Task[None]:
        replica = self.replica
        task = replica.host.loop.create_task(
            self._main(), name=f"{replica.stream.name}/{replica.name}", context=self.context
        )
        replica.host.workers[task] = self
        return task

    def start(self, request: Request, context: Context | None, item: Any, again: Again | None = None) -> None:
        """Begin an activation and take its first step at once."""
        activation = self.activation
        activation.request = request
        activation.item = item
        activation.rerun = False
        activation.context = context
        activation.began_s = 0.0 if self.replica.done & MEASURED else self.replica.host.clock()
        if again is not None:
            activation.recorded, activation.reruns, activation.skip = again.recorded, again.reruns, again.handed
            activation.skip_back = again.fed
            activation.given, activation.children = again.given, again.children
            activation.exclusively = again.exclusively
            for _, _, child in again.children:
                child.caller = activation
            if again.held:
                self._take_over(again)
            activation.recalled = 0
            for answer in again.recorded:
                answer.used = False
        if context is not None and context.ask is not None:
            activation.onward = without_newest(context)
        elif not self.replica.node.returns:
            activation.onward = context
        elif again is not None:
            activation.onward = again.onward  # its frame stands where the first run put it
        else:
            activation.onward = self.replica.frames(context, item, request)
        if context is not None and context.ask is not None:
            context.ask.activation = activation
        if self.replica.node.owned is None:
            self.begin(self._process(item))
        else:
            self._begin_owned(item)

    def _take_over(self, again: Again) -> None:
        """Hold what the activation held before a restart."""
        again.request.more().releases.pop(again, None)
        for locks in {locks for locks, _, _ in again.held}:
            locks.pass_on(again, self.activation)
            self.activation.locked.append(locks)
        again.held = []

    def _begin_owned(self, item: Any) -> None:
        """Take the key in hand, waiting for it if somebody works on it, and begin."""
        node, activation = self.replica.node, self.activation
        owned = node.owned
        assert owned is not None
        assert node.key is not None
        try:
            if node.batches:
                activation.keys = {node.key(each) for each in item}
            else:
                key = activation.key = node.key(item)
                if owned.locks not in activation.locked:
                    activation.locked.append(owned.locks)
                if owned.locks.ask(activation, key, shared=node.owned_shared):
                    self.begin(self._process(item))
                    return
        except Exception as error:
            self.begin(_failing(error))
        else:
            self.begin(self._process_when_locked(item))

    async def _process_when_locked(self, item: Any) -> Any:
        node, activation = self.replica.node, self.activation
        assert node.owned is not None
        keys = (activation.key,) if activation.keys is None else ordered(activation.keys)
        await activation.lock(node.owned, keys, shared=node.owned_shared)
        return await self._process(item)

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
            if not self._started and self.task.cancelling():
                # cancelled by the handler itself before the task has begun: that one will never run
                self.replica.host.workers.pop(self.task, None)
                self.task = self._make_task()
                self._stop = True
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
                result = await carry_on(coroutine, awaited, cancelled)
            except BaseException as failure:
                error = failure
            self._coroutine = self._awaited = None
            self._wake = self.replica.host.loop.create_future()
            # cancelled by whoever ends the event loop, and not by us: this worker takes no more
            ended = isinstance(error, asyncio.CancelledError) and not self._stop and self.task.cancelling() > 0
            while self.task.cancelling():
                self.task.uncancel()
            self._retired = self._retired or ended
            self._finished(result, error)
            if self._retired:
                self.replica.host.workers.pop(self.task, None)
                if ended:
                    raise asyncio.CancelledError
                return

    @property
    def is_clean(self) -> bool:
        """Return whether the next activation may run here: none has left a context variable set."""
        return not self._retired and self.context == self.base

    def retire(self) -> None:
        """End the task of a worker that has nothing to do."""
        self._retired = True
        if asyncio.current_task(self.replica.host.loop) is not self.task:
            self.task.cancel()

    # -- what the activation does

    def _process(self, item: Any) -> Coroutine[Any, Any, Any]:
        node = self.replica.node
        if node.batches:
            return self._process_batch(item)
        made = self.op.process(item)
        if made.__class__ is types.AsyncGeneratorType:
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
        async with contextlib.aclosing(made):  # it ends with its activation, and not when the collector finds it
            async for value in made:
                if ask is not None:
                    if only is not None:
                        raise TooManyRepliesError(f"{replica.name} was asked once and yielded more than one answer")
                    only = value
                    continue
                if value is not None:
                    out.append(value)
                if replica.node.writes:
                    if len(out) > replica.host.limits.items_ahead:
                        raise held_too_much(replica)
                elif len(out) >= batch or (out and replica.node.streams):
                    if activation.effects:
                        activation.commit()
                    if activation.back:
                        activation.feed_back(activation.onward)
                    self._hand_on(1)
                    await replica.make_room(self, activation.request)
        return only

    def _hand_on(self, count: int) -> None:
        """Hand on what was emitted; a re-run leaves out what its first run had handed on already."""
        activation, out = self.activation, self.activation.out
        skip = min(activation.skip, len(out))
        if skip:
            activation.skip -= skip
            del out[:skip]
        activation.handed += skip + len(out)
        if out:
            self.replica.hand_on(activation.request, activation.onward, out, count)

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
        if replica.host.crashed:
            return  # the host is gone: what it was doing goes on elsewhere, from what it had kept
        request, context = activation.request, activation.context
        details = request.details
        if activation.began_s:
            pulse_of(replica).times.append(replica.host.clock() - activation.began_s)
        # out of the books first: a failing activation must not be cancelled by the end of its own request
        if details is not None:
            details.activations.pop(activation, None)
        self._stop = False
        ask = context.ask if context is not None else None
        if ask is not None:
            ask.activation = None
        count = len(activation.item) if replica.node.batches else 1
        if (activation.recorded or activation.children) and error is None and not request.state:
            try:
                activation.check_replay()
            except Exception as mismatch:
                error = mismatch
        if activation.rerun and not request.state:
            activation.abort()
            replica.run_again(Again(activation, self.key))
            activation.recorded = []  # the old one goes along
        elif replica.closing and isinstance(error, asyncio.CancelledError) and not request.state:
            activation.abort()
            replica.drop(request, context, activation.item if replica.node.batches else [activation.item])
        elif error is not None or request.state:
            activation.abort()
            if replica.node.returns and ask is None and not activation.handed:
                replica.forget_frame(request, activation.onward)  # nothing was done that it could want to undo
            if error is not None and not request.state:
                replica.failed(request, context, activation.item, error)
            elif ask is not None:
                ask.forget()
            replica.finished(request, count)
        else:
            try:
                if (
                    ask is None
                    and result is not None
                    and not activation.out
                    and not activation.back
                    and not activation.skip
                    and not activation.skip_back
                    and result.__class__ is not types.CoroutineType
                    and request.stream is replica.stream
                ):
                    # one item comes of one: most activations
                    if activation.effects:
                        activation.commit()
                    if not request.committed:
                        request.committed = True
                    if not request.state:
                        replica.node.hand_on(request, activation.onward, [result])
                else:
                    self._commit(result, ask, count)
            except Exception as fault:  # of ours: the request must not hang on it
                activation.abort()
                replica.failed(request, context, activation.item, fault)
            replica.finished(request, count)
        if activation.locked:
            activation.release_locks()
        if activation.recorded:
            activation.recorded = []
            activation.recalled = 0
        if activation.given is not None:
            activation.given = activation.chance = None
        if activation.children:
            activation.children = []
        if activation.exclusively:
            activation.exclusively = NO_KEYS
        if error is not None or sys.getrefcount(self.op) > VIEW_REFERENCES:
            self.left = True  # something of it may still run, and must not have a part in what comes after
            activation.leave_behind()
        activation.reruns = activation.skip = activation.handed = activation.fed = activation.skip_back = 0
        replica.worker_free(self)

    def _commit(self, result: Any, ask: Ask | None, count: int) -> None:
        """Let all that the activation did take effect."""
        activation = self.activation
        if result.__class__ is types.CoroutineType:
            result.close()
            raise TypeError(f"{self.replica.name} returned a coroutine: await what it calls, such as self.ask(...)")
        if ask is None and result is not None:
            activation.out.append(result)
        answered = activation.answered or activation.deferred
        if activation.effects:
            activation.commit()
        activation.deferred = activation.answered = False
        if activation.back:
            activation.feed_back(activation.onward)
        if activation.out:
            self._hand_on(count)
        if ask is not None and not answered:
            ask.reply(result)


async def _failing(error: Exception) -> None:
    raise error


def held_too_much(replica: Replica) -> ItemBudgetError:
    """Return the error of a generator that may write, and so commits once, and yields more than is held till then."""
    limit = replica.host.limits.items_ahead
    return ItemBudgetError(
        f"{replica.stream.name}/{replica.name} yields more than {limit} items in one activation, and since it writes "
        "state they are held until it ends; yield from an operator that only reads, or raise Limits(items_ahead=…)",
        stream=replica.stream.name,
        operator=replica.name,
    )


VIEW_REFERENCES = 2
"""References to a worker's handle of the operator when none of its code runs: the worker's, and that of the count."""

_enter_task = asyncio.tasks._enter_task  # documented for task implementers
_leave_task = asyncio.tasks._leave_task


def view(op: Operator, activation: Activation) -> Operator:
    """Return another handle of an operator: the same attributes, an activation of its own.

    Attributes live in the one `__dict__` that all views share; the activation lives in a slot, of which each view has
    its own. So `self.emit` and `self.request` are right in every one of several interleaved activations.
    """
    other = object.__new__(type(op))
    other.__dict__ = op.__dict__
    other._activation = activation
    return other
