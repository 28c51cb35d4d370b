"""Async replicas: up to `concurrency` activations at once, serial per key, with the same mailbox as all others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from actorflow.envelope import Context
from actorflow.plan.operator import Operator
from actorflow.runtime.access import NO_KEY
from actorflow.runtime.activation import Activation, Again, Ask
from actorflow.runtime.replica import FAILURES, IDLE, Queue, Replica, moved
from actorflow.runtime.request import MIXED, Request
from actorflow.runtime.worker import Worker

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.waiting import Look
    from actorflow.runtime.wiring import OperatorNode

Entry = tuple[Request, Context | None, Any]


class AsyncReplica(Replica):
    """A replica whose `process` is a coroutine or an async generator.

    working: workers with an activation.   aside: those whose generator waits for room; they hold no place meanwhile.
    returning: those that have room and wait for a place.   current: the quick envelope at hand, its next item last.
    held: items of a request whose generator waits, or has waited, for room: they keep their order behind it.
    first: those that may go on.   keys: who works on a key.   key_waits: what waits for one, in order.
    free_keys: those that became free when no place was.   again: what is to be run again.
    """

    __slots__ = (
        "again", "aside", "bulk_turn", "current", "first", "free_keys", "held", "idle", "key_waits", "keys",
        "returning", "working",
    )  # fmt: skip
    suspends = True

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        super().__init__(host, node, op, index)
        self.idle: list[Worker] = []
        self.working: dict[Worker, None] = {}
        self.aside: dict[Worker, None] = {}
        self.returning: deque[tuple[asyncio.Future[None], Worker]] = deque()
        self.current: tuple[Request, Context | None, list[Any]] | None = None
        self.bulk_turn = False
        self.held: dict[Request, deque[Entry]] = {}
        self.first: deque[Entry] = deque()
        self.again: deque[Again] = deque()
        self.keys: dict[Any, Worker] = {}
        self.free_keys: dict[Any, None] = {}
        self.key_waits: dict[Any, deque[tuple[Request, Context | None, Any, Again | None]]] = {}

    def put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        super().put(request, context, items)
        if len(self.working) >= self.node.concurrency:
            look_for_circle(self.host, request, context, activations_of(self.working))

    def tell(self, request: Request, items: list[Any]) -> None:
        super().tell(request, items)
        if self.owner is not request:
            request.more().own("told")[self] = None
        if len(self.working) >= self.node.concurrency:
            look_for_circle(self.host, request, None, activations_of(self.working))

    def _put_bulk(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if request.bulk == MIXED and request not in (self.bulk or ()) and request not in (self.parked or ()):
            # here the lanes alternate item by item, so all that came earlier goes into the queue
            earlier: Queue = deque()
            if self.current is not None and self.current[0] is request:
                earlier.append((self.current[1], self.current[2][::-1], None))
                self.current = None
            self.rest[:] = reversed(moved(request, reversed(self.rest), earlier))
            self.quick = moved(request, self.quick, earlier)
            if earlier:
                self.bulk = self.bulk or {}
                self.bulk[request] = earlier
        super()._put_bulk(request, context, items)

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        node = self.node
        free = not (self.scheduled or self.paused or self.working) and request.stream is self.stream
        if not free or node.key is not None or node.batches:
            self.put(request, context, [item])
            return
        request.counts[self.region] += 1
        self._start(request, context, item)

    # -- a turn

    def run(self, host: Host) -> None:
        """Start activations while there is a place for one and something to do."""
        started = 0
        while not self.paused and len(self.working) < self.node.concurrency:
            if not self._start_next():
                self.scheduled = IDLE
                if self.closing and not self.busy():
                    self._end()
                return
            started += 1
            if started >= self.pace:
                started = 0
                if not self._new_pace(host.began, host.clock()):
                    self.schedule()
                    return
        self.scheduled = IDLE

    def _start_next(self) -> bool:
        """Begin one activation; return False when nothing waits."""
        while True:
            while self.free_keys:
                key, _ = self.free_keys.popitem()
                if key not in self.keys and self._next_of_key(key):
                    return True
            if self.again and (self.again[0].passed or not self._anything_else(self.again[0].request)):
                again = self.again.popleft()
                if again.request.state:
                    self.drop(again.request, again.context, self._items(again.item))
                    if again.key not in self.keys:
                        self._next_of_key(again.key)
                elif again.key in self.keys:
                    waits = self.key_waits.setdefault(again.key, deque())
                    waits.appendleft((again.request, again.context, again.item, again))
                else:
                    self._start(again.request, again.context, again.item, again, again.key)
                    return True
                continue
            entry = self._next_entry()
            if entry is None:
                if self.again and not self.again[0].passed:
                    self.again[0].passed = True  # what waited before it was of requests that have ended
                    continue
                return False
            for again in self.again:
                again.passed = True
            request, context, item = entry
            if request in self.held:
                self.held[request].append(entry)
                continue
            if not self.node.in_order and (self.node.key is None or self.node.concurrency == 1 or self.node.batches):
                self._start(request, context, item)
                return True
            if self._start_keyed(request, context, item):
                return True

    def _start_keyed(self, request: Request, context: Context | None, item: Any) -> bool:
        """Begin an activation unless its key (its request, where order is kept so) is in use: then it waits for it."""
        try:
            key = request if self.node.in_order or self.node.key is None else self.node.key(item)
            holder = self.keys.get(key)
        except FAILURES as error:
            self.failed(request, context, item, error)
            self.finished(request, 1)
            return False
        if holder is None and key not in self.key_waits:
            self._start(request, context, item, None, key)
            return True
        self.key_waits.setdefault(key, deque()).append((request, context, item, None))
        if holder is not None:
            look_for_circle(self.host, request, context, (holder.activation,))
        return False

    def _items(self, item: Any) -> list[Any]:
        """Return the items of one activation: `process_batch` takes a list of them."""
        return item if self.node.batches else [item]

    def _anything_else(self, request: Request) -> bool:
        """Return whether an item of another request waits: that goes before a re-run, one of the same does not."""
        for lane in (self.current, self.rest[-1] if self.rest else None, self.quick[0] if self.quick else None):
            if lane is not None:
                return lane[0] is not request
        return any(other is not request for other in self.bulk or ())

    def _next_entry(self) -> Entry | None:
        """Take the next item: from the quick and the bulk lane in turn."""
        while self.first:
            request, context, item = self.first.popleft()
            if not request.state:
                return request, context, item
            self.drop(request, context, self._items(item))
        while True:
            quick = self.current is not None or self.rest or self.quick
            if self.bulk and (self.bulk_turn or not quick):
                self.bulk_turn = False
                entry = self._from_bulk()
            elif quick:
                self.bulk_turn = True
                entry = self._from_quick()
            else:
                return None
            if entry is not None:
                return entry

    def _from_quick(self) -> Entry | None:
        if self.current is None:
            rest = self._swapped()
            request, context, items = rest.pop()
            if self.node.batches and not request.state:
                return request, context, items
            items.reverse()  # taken from the end: no index is kept
            self.current = (request, context, items)
        request, context, items = self.current
        if request.state:
            self.current = None
            self.drop(request, context, items)
            return None
        item = items.pop()
        if not items:
            self.current = None
        return request, context, item

    def _from_bulk(self) -> Entry | None:
        assert self.bulk is not None
        request = next(iter(self.bulk))
        queue = self.bulk.pop(request)
        if request.state:
            self._drop_queue(request, queue)
            return None
        context, items, _ = queue[0]
        if self.node.batches:
            queue.popleft()
            item: Any = items
        else:
            item = items.pop(0)
            if not items:
                queue.popleft()
        if queue:
            self.bulk[request] = queue
        return request, context, item

    def _start(
        self, request: Request, context: Context | None, item: Any, again: Again | None = None, key: Any = NO_KEY
    ) -> None:
        worker = self.idle.pop() if self.idle else Worker(self)
        if key is not NO_KEY:
            self.keys[key] = worker
            worker.key = key
        self.working[worker] = None
        worker.start(request, context, item, again)

    def worker_free(self, worker: Worker) -> None:
        """Take back a worker whose activation has ended, and go on with what waits."""
        self.working.pop(worker, None)
        if self.held and (held := self.held.pop(worker.activation.request, None)):
            self.first.extend(held)
        if worker.key is not NO_KEY:
            key, worker.key = worker.key, NO_KEY
            if self.keys.get(key) is worker:
                del self.keys[key]
            self._next_of_key(key)
        ended = self.closing and not self.busy() and self.address is not None and not self.depth()
        if worker.op.__dict__ is self.op.__dict__ and worker.is_clean and not (ended or worker.left):
            self.idle.append(worker)
        else:
            worker.retire()  # of a replaced instance, a changed context or left tasks; or its actor has ended
        if self.returning and len(self.working) < self.node.concurrency:
            self._let_return()
        waiting = self.free_keys or self.first or self.quick or self.current or self.rest or self.bulk or self.again
        if self.scheduled == IDLE and (waiting or self.closing):
            self.schedule()

    def _next_of_key(self, key: Any) -> bool:
        """Go on with what waits for a key that is free now; return whether something was started."""
        waits = self.key_waits.get(key)
        while waits:
            if self.paused or len(self.working) >= self.node.concurrency:
                self.free_keys[key] = None  # the next turn that has a place sees to it
                return False
            request, context, item, again = waits[0]
            rerun = next((each for each in self.again if each.key == key), None)
            if rerun is not None and rerun.request is request:
                return False  # the one that is run again came before; when it ends, or is dropped, the key goes on
            waits.popleft()
            if not waits:
                del self.key_waits[key]
            if request.state:
                self.drop(request, context, self._items(item))
                continue
            if rerun is not None:
                rerun.passed = True
            self._start(request, context, item, again, key)
            return True
        return False

    def resume(self) -> None:
        super().resume()
        if self.free_keys and self.scheduled == IDLE:
            self.schedule()

    def run_again(self, again: Again) -> None:
        """Queue an activation that was rolled back, behind one item of another request."""
        self.again.append(again)
        look_for_circle(self.host, again.request, again.context, ())

    # -- generators that wait for room

    async def make_room(self, worker: Worker, request: Request) -> None:
        """Wait until the request has room for more; without a key, the worker gives its place away meanwhile."""
        if self.node.loops:
            await asyncio.sleep(0)  # in a loop a wait could be for itself; a limit is an error there
            return
        own = self._waiting_of(request)
        if not request.crowded(own):
            return
        if worker.key is not NO_KEY or self.node.key is not None:
            await request.room(own)
            return
        self.working.pop(worker, None)
        self.aside[worker] = None
        if self.node.concurrency == 1:
            self.held.setdefault(request, deque())
        if self.scheduled == IDLE:
            self.schedule()
        try:
            await request.room(own)
            if len(self.working) >= self.node.concurrency:
                place: asyncio.Future[None] = self.host.loop.create_future()
                self.returning.append((place, worker))
                await place
        finally:
            self.aside.pop(worker, None)
            self.working[worker] = None

    def _let_return(self) -> None:
        while self.returning:
            place, worker = self.returning.popleft()
            if not place.done():
                self.working[worker] = None
                place.set_result(None)
                return

    def _waiting_of(self, request: Request) -> int:
        """Return how many items of a request wait here: behind a generator that pauses, they do not move."""
        lanes = [*self.rest, *self.quick, *([self.current] if self.current is not None else [])]
        waiting = sum(len(envelope[2]) for envelope in lanes if envelope[0] is request)
        waiting += len(self.held.get(request, ())) + sum(1 for entry in self.first if entry[0] is request)
        return waiting + sum(len(each[1]) for each in (self.bulk or {}).get(request, ()))

    # -- what others ask of it

    def waiting(self) -> Iterator[tuple[Request, Context | None, list[Any], Iterator[Any] | None]]:
        for key_waits in self.key_waits.values():
            for request, context, item, again in key_waits:
                if again is None:
                    yield request, context, self._items(item), None
        for request, context, item in (*self.first, *(entry for held in self.held.values() for entry in held)):
            yield request, context, self._items(item), None
        if self.current is not None:
            request, context, items = self.current
            yield request, context, items[::-1], None
        yield from super().waiting()

    def rerunning(self) -> Iterator[Again]:
        yield from self.again
        for waits in self.key_waits.values():
            yield from (again for _, _, _, again in waits if again is not None)

    def who_waits(self) -> dict[Any, list[Any]]:
        waiting: dict[Any, list[Any]] = {}
        if len(self.working) >= self.node.concurrency and not self.paused:
            lanes = [*self.rest, *self.quick, *([self.current] if self.current is not None else [])]
            queued = [(request, context) for request, context, _ in lanes]
            queued += [(request, each[0]) for request, queue in (self.bulk or {}).items() for each in queue]
            queued += [(request, context) for request, context, _ in self.first]
            queued += [(again.request, again.context) for again in self.again]
            for request, context in queued:
                waiting[waiter_of(request, context)] = waiting[request] = [self]
        for key, waits in self.key_waits.items():
            if key in self.keys:
                for request, context, _, _ in waits:
                    waiting[waiter_of(request, context)] = waiting[request] = [self.keys[key].activation]
        return waiting

    def needs(self, look: Look) -> list[list[Any]]:
        """Return what who waits for a place here waits for: any of the activations that have one."""
        return [[worker.activation for worker in self.working]]

    def busy(self) -> bool:
        """Return whether an activation is under way here."""
        return bool(self.working or self.aside)

    def at_work(self) -> int:
        return len(self.working)

    def depth(self) -> int:
        """Return the number of envelopes and single items that wait here."""
        waiting = super().depth() + len(self.again) + len(self.first)
        waiting += sum(map(len, self.key_waits.values())) + sum(map(len, self.held.values()))
        return waiting + (1 if self.current is not None else 0)

    def close(self, *, at_once: bool = False) -> None:
        """End this actor: when its mailbox is empty and nothing is under way, or at once."""
        self.closing = True
        if at_once:
            self.drop_current()
            for again in self.again:
                self.drop(again.request, again.context, self._items(again.item))
            self.again.clear()
            for request, context, item in (*self.first, *(entry for held in self.held.values() for entry in held)):
                self.drop(request, context, self._items(item))
            self.first.clear()
            self.held.clear()
            for waits in self.key_waits.values():
                for request, context, item, _ in waits:
                    self.drop(request, context, self._items(item))
            self.key_waits.clear()
            for worker in [*self.working, *self.aside]:
                worker.cancel()
        super().close(at_once=at_once)

    def drop_current(self) -> None:
        if self.current is not None:
            (request, context, items), self.current = self.current, None
            self.drop(request, context, items)

    def retire_idle(self) -> None:
        """End the workers that have nothing to do: their operator is replaced, or their actor has ended."""
        for worker in self.idle:
            worker.retire()
        self.idle.clear()


def activations_of(workers: Iterable[Worker]) -> list[Activation]:
    """Return what workers work on."""
    return [worker.activation for worker in workers]


def look_for_circle(host: Host, request: Request, context: Context | None, before: Iterable[Any]) -> None:
    """Look for a circle from whoever awaits an item that has to queue behind suspended activations."""
    awaited: Request | Ask
    if context is not None and context.ask is not None:
        awaited = context.ask
        waiting: Activation | Again | None = context.ask.asker
    else:
        while request.caller is None and request.parent is not None:
            request = request.parent  # a child of a call step: whoever awaits its parent
        awaited, waiting = request, request.caller
    if waiting is not None and waiting.waiting and all(getattr(each, "waiting", True) for each in before):
        host.soon(_reconsider, (waiting, awaited))


def waiter_of(request: Request, context: Context | None) -> Any:
    """Return who waits for what comes of an envelope."""
    return context.ask if context is not None and context.ask is not None else request


def _reconsider(wait: tuple[Activation, Any]) -> None:
    activation, awaited = wait
    activation.reconsider(awaited)
