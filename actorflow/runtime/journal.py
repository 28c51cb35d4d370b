"""The journal: what a host has done, epoch by epoch, in its store.

An epoch is a list of rows `(table, key, value)`: entries of cells that were written, requests that were accepted and
are not finished, answers to requests with a key, sends that are due later. What began and ended within one epoch leaves
only its effects. A thread of its own gives epochs to the store, one at a time, as fast as the disk answers; meanwhile
the next one fills. Later, in pauses, the newest rows of many epochs are folded into tables.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow import codec
from actorflow.core.epoch import Gate, pause_after
from actorflow.core.merges import ABSENT
from actorflow.errors import ActorflowError, HostStoppingError, StoreError, StoreFullError
from actorflow.runtime.request import Request
from actorflow.stores.store import Opened, Row, Store

if TYPE_CHECKING:
    from actorflow.runtime.cells import Entries
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import Wiring

log = logging.getLogger("actorflow.journal")

CELL, REQUESTS, ANSWERS, DELAYED, SCHEDULES, META = "cell:", "requests", "answers", "delayed", "schedules", "meta"
"""Tables: one per cell, whose name follows CELL."""

FREEZE_TIMEOUT_S = 10.0

LEAVE_AT_ONCE = 64
"""Replies that leave together."""

YOUNG_S = 0.02
"""How long a request may be under way before it is written down, where nobody was told that it was accepted."""

FULL_RETRY_S = 0.25
"""How often a store without room is tried again."""

FOLD_ROWS, FOLD_ROWS_AT_ONCE, FOLD_IDLE_S = 200_000, 2_000, 1.0
"""Rows that are kept in epochs before they are folded, rows that are folded between two epochs, and the time without
any epoch after which all are folded."""

_blob = msgspec.msgpack.Encoder()
_rows_of_blob = msgspec.msgpack.Decoder(list[tuple[str, bytes, bytes | None]])


class Journal:
    """What a host does with its store. All methods are called on the event loop.

    gate: what waits for an epoch.   inputs: items of requests that are not finished, as they came.   wrote: those of
    them of which something has taken effect that cannot be done twice.   touched: those of `wrote` that have gone on
    since the last cut.   beginning: one that is not among the inputs yet, and may never be.   failed: what ended the
    store; nothing is acknowledged any more.
    """

    def __init__(self, host: Host, store: Store) -> None:
        self._host = host
        self._store = store
        self.opened: Opened | None = None
        self.gate: Gate[Callable[[], None]] = Gate()
        self.inputs: dict[Request, list[Any]] = {}
        self.beginning: Request | None = None
        self._began_writing: Request | None = None
        self.wrote: dict[Request, None] = {}
        self.touched: dict[Request, None] = {}
        self.failed: StoreError | None = None
        self._known: dict[Request, bytes] = {}  # requests that have a row, with its checksum
        self._rows: dict[tuple[str, bytes], bytes | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="actorflow-store")
        self._backlog: dict[tuple[str, bytes], bytes | None] = {}
        self._young: dict[Request, float] = {}  # since when, of those that may end before anybody needs to know
        self._at_once: dict[Request, None] = {}
        self._look: asyncio.TimerHandle | None = None
        self._cost_s = 0.0
        self._leaving: deque[Callable[[], None]] = deque()
        self._letting_go = False
        self._under_way = self._asked = self._closing = self._abandoned = self._frozen = False
        self._idle: asyncio.TimerHandle | None = None
        self._settling: asyncio.Future[None] | None = None

    # -- what is to be kept

    def dirty(self) -> None:
        """Note that something was done; a cut follows at the end of the turn, unless one is being written."""
        self.gate.dirty = True
        if not (self._asked or self._under_way):
            self._asked = True
            self._host.loop.call_soon(self._pump)

    def hold(self, what: Callable[[], None]) -> None:
        """Call something as soon as all that was done before is durable."""
        if self._frozen or self.gate.hold(what):
            if self._frozen:
                what()
        elif self._leaving:
            self._leaving.append(what)  # behind those that may leave already
        else:
            what()

    def put(self, table: str, key: Any, value: Any) -> None:
        """Keep a row, or remove it (ABSENT)."""
        self._rows[table, codec.encode(key)] = None if value is ABSENT else codec.encode(value)
        self.dirty()

    def accept(self, request: Request, items: list[Any]) -> None:
        """Take note of a request that is to be finished whatever happens.

        One that was sent by something that has happened is as durable as that. Of others nobody knows yet, so one that
        ends within a moment is never written down.
        """
        self.inputs[request] = items
        if self._began_writing is request:
            self._began_writing = None
            self.mark_written(request)
        details = request.details
        if details is not None and details.sent:
            self._at_once[request] = None
            self.dirty()
        else:
            self._young[request] = self._host.loop.time()
            if self._look is None and not self._frozen:
                self._look = self._host.loop.call_later(YOUNG_S, self._look_at_young)

    def _look_at_young(self) -> None:
        """Write down what is not finished after a moment."""
        self._look = None
        if self._young and not self._frozen:
            first_s = next(iter(self._young.values()))
            left_s = first_s + YOUNG_S - self._host.loop.time()
            if left_s <= 0:
                self.dirty()
            else:
                self._look = self._host.loop.call_later(left_s, self._look_at_young)

    def touch(self, request: Request) -> None:
        """Note that a request has gone on, where that matters."""
        root = request.top or request
        if root in self.wrote:
            self.touched[root] = None
            self.dirty()

    def mark_written(self, request: Request) -> None:
        """Note that something of a request has taken effect: from now on it cannot be begun again."""
        root = request.top or request
        if root.stream.pure:
            self._is_not_pure(root.stream)
        if root in self.inputs:
            self.wrote[root] = self.touched[root] = None
        elif root is self.beginning:
            self._began_writing = root
        self.dirty()

    def _is_not_pure(self, stream: Wiring) -> None:
        """Treat a stream from now on as one that writes: it does, in a way that its source does not show."""
        log.warning(
            "stream %s was taken for pure, and has written: its operators write, send or call in a way that their "
            "source does not show; its replies wait for the store from now on",
            stream.name,
        )
        stream.pure, stream.gated = False, True

    def fold_later(self, rows: list[Row]) -> None:
        """Take rows that are in epochs of an earlier start: they must be in tables before those epochs go."""
        for table, key, value in rows:
            self._backlog[table, key] = value

    def known(self, request: Request) -> None:
        """Note that the store has a row of a request: it was there at the start."""
        self._known[request] = b""

    def ended(self, request: Request) -> None:
        """Forget a request that has ended; how is not kept here."""
        if self.inputs.pop(request, None) is None and request not in self._known:
            return
        self.wrote.pop(request, None)
        self.touched.pop(request, None)
        self._young.pop(request, None)
        self._at_once.pop(request, None)
        if self._known.pop(request, None) is not None:
            self.put(REQUESTS, request.id, ABSENT)

    def abandon(self) -> None:
        """Write nothing any more, and let nothing go: for tests of recovery."""
        self._frozen = self._abandoned = True
        self._stop_timers()

    def _stop_timers(self) -> None:
        for timer in (self._idle, self._look):
            if timer is not None:
                timer.cancel()

    async def freeze(self) -> None:
        """Write what was done so far, and nothing after that: the host is about to end what it has begun."""
        self._closing = True
        try:
            async with asyncio.timeout(FREEZE_TIMEOUT_S):
                if self.opened is not None:
                    await self.settled()
        except (StoreError, TimeoutError) as error:
            log.error("host %s ends before the store has all that it did: %r", self._host.name, error)
        self._frozen = True
        self._lose(HostStoppingError(f"host {self._host.name} stops", host=self._host.name))

    async def settled(self) -> None:
        """Wait until all that was done so far is durable. Raises: StoreError when that can never be."""
        if self.failed is not None:
            raise self.failed
        settled = _Settled(self._host.loop.create_future())
        self.hold(settled.end)
        await settled.future

    # -- epochs

    def _cut(self) -> list[Row]:
        """Return the rows of the epoch that was filled."""
        from actorflow.runtime.records import record_of

        host = self._host
        host.carry_on_passing()
        rows, self._rows = self._rows, {}
        for entries in host.cells.values():
            if entries.changed:
                table = CELL + entries.name
                for key in entries.changed:
                    rows[table, codec.encode(key)] = packed_entry(entries, key)
                entries.changed.clear()
        began_s = host.clock()
        for request in self.touched:
            record = record_of(host, request, self.inputs[request], written=True)
            if self._known.get(request) != record:
                self._known[request] = record
                rows[REQUESTS, codec.encode(request.id)] = record
            self._at_once.pop(request, None)
            self._young.pop(request, None)
        self.touched.clear()
        # these are written again and again, the more often the more are under way: that must not take all the time
        self._cost_s = host.clock() - began_s
        self._grown_up()
        for request in self._at_once:
            self._known[request] = b""
            rows[REQUESTS, codec.encode(request.id)] = record_of(host, request, self.inputs[request], written=False)
        self._at_once.clear()
        return [(table, key, value) for (table, key), value in rows.items()]

    def _grown_up(self) -> None:
        """Choose what has been under way for long enough to be written down; look at the others later."""
        if not self._young:
            return
        old_s = self._host.loop.time() - YOUNG_S
        for request, began_s in list(self._young.items()):
            if began_s > old_s:
                break
            del self._young[request]
            self._at_once[request] = None
        if self._young and self._look is None:
            self._look = self._host.loop.call_later(YOUNG_S, self._look_at_young)

    def _pump(self) -> None:
        """Cut an epoch, and have it written."""
        self._asked = False
        if self._under_way or not self.gate.dirty or self.failed is not None or self._frozen:
            return
        loop = self._host.loop
        try:
            rows = self._cut()
        except Exception as error:  # of ours: what cannot be kept must not be acknowledged
            log.exception("host %s could not make an epoch", self._host.name)
            self._fail(StoreError(f"host {self._host.name} could not make an epoch: {type(error).__name__}: {error}"))
            return
        number = self.gate.cut()
        blob = _blob.encode(rows)
        pause_s = pause_after(self._cost_s)
        self._under_way = True
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        loop.create_task(self._append(number, blob, rows, pause_s), name=f"epoch {number}")

    async def _append(self, number: int, blob: bytes, rows: list[Row], pause_s: float) -> None:
        """Give an epoch to the store, and let go what has waited for it; then the next."""
        host = self._host
        while True:
            try:
                await host.loop.run_in_executor(self._thread, self._store.append, number, blob)
                break
            except StoreFullError as error:
                if self._closing:
                    self._fail(error)
                    return
                log.error("%s; what is done now is acknowledged when there is room", error)
                await asyncio.sleep(FULL_RETRY_S)
            except StoreError as error:
                if not self._abandoned:
                    self._fail(error)
                return
        self._kept(number, rows)
        if len(self._backlog) > FOLD_ROWS:
            await self._fold()
        elif pause_s and self.gate.dirty and not self._closing:
            await asyncio.sleep(pause_s)
        self._under_way = False
        if self.gate.dirty:
            self._pump()
        elif not self._closing:
            self._idle = host.loop.call_later(FOLD_IDLE_S, self._fold_idle)
        if not self._under_way and self._settling is not None and not self._settling.done():
            self._settling.set_result(None)

    def _fold_idle(self) -> None:
        self._idle = None
        if self._backlog and not self._under_way and self.failed is None:
            self._under_way = True
            self._host.loop.create_task(self._fold_and_go_on(), name="fold")

    async def _fold_and_go_on(self) -> None:
        try:
            await self._fold()
        finally:
            self._under_way = False
            if self.gate.dirty:
                self._pump()
            if not self._under_way and self._settling is not None and not self._settling.done():
                self._settling.set_result(None)

    async def _fold(self) -> None:
        """Fold the newest rows into tables, some at a time, and forget the epochs that they are from.

        Rows are whole values, so that it does no harm when a table is ahead of epochs which are read after it.
        """
        backlog, self._backlog = self._backlog, {}
        upto = self.gate.durable
        ahead = iter(sorted(backlog.items(), key=lambda row: row[0]))
        left = len(backlog)
        try:
            while left:
                some = [(table, key, value) for (table, key), value in islice(ahead, FOLD_ROWS_AT_ONCE)]
                left -= len(some)
                await self._host.loop.run_in_executor(self._thread, self._store.fold, 0 if left else upto, some)
                if self.gate.dirty and left and not self._closing:
                    await self._append_between()
        except StoreFullError as error:
            log.error("%s; epochs are folded when there is room", error)
            self._backlog = {**backlog, **self._backlog}
        except StoreError as error:
            self._fail(error)

    async def _append_between(self) -> None:
        """Write what has been done meanwhile, so that nobody waits for a fold."""
        rows = self._cut()
        number = self.gate.cut()
        blob = _blob.encode(rows)
        while True:
            try:
                await self._host.loop.run_in_executor(self._thread, self._store.append, number, blob)
                break
            except StoreFullError as error:
                log.error("%s; what is done now is acknowledged when there is room", error)
                await asyncio.sleep(FULL_RETRY_S)
        self._kept(number, rows)

    def _kept(self, number: int, rows: list[Row]) -> None:
        """Let go what has waited for an epoch: the store has it."""
        if self._abandoned:
            return
        for table, key, value in rows:
            self._backlog[table, key] = value
        self._leaving.extend(self.gate.kept(number))
        if not self._letting_go:
            self._let_go()

    def _let_go(self) -> None:
        """Let some of what may leave go, then others: what comes of the first is written while those are at work."""
        leaving = self._leaving
        for _ in range(min(len(leaving), LEAVE_AT_ONCE)):
            try:
                leaving.popleft()()
            except Exception:
                log.exception("something that waited for an epoch raised")
        self._letting_go = bool(leaving)
        if leaving:
            self._host.loop.call_soon(self._let_go)

    def _fail(self, error: StoreError) -> None:
        """Give up: nothing is acknowledged any more, and the host ends."""
        log.critical("host %s cannot keep what it does any more: %s", self._host.name, error)
        self.failed = error
        self._under_way = False
        self._lose(error)
        if self._settling is not None and not self._settling.done():
            self._settling.set_result(None)
        self._host.store_failed(error)

    def _lose(self, error: ActorflowError) -> None:
        """Tell those who wait for what will never be durable that its outcome is unknown."""
        while self._leaving:
            self._leaving.popleft()()  # these are durable
        for what in self.gate.drop():
            waiting = getattr(what, "__self__", None)
            if isinstance(waiting, Request):
                said = f"the outcome of request {waiting.id} is unknown, since the host could not keep it: {error}"
                waiting.error = type(error)(said, stream=waiting.stream.name, host=self._host.name)
                waiting.error.retryable = False
                waiting.tell()
            elif isinstance(waiting, _Settled):
                waiting.fail(error)

    # -- its life

    async def open(self) -> None:
        """Open the store. Raises: StoreError."""
        loop = self._host.loop
        self.opened = await loop.run_in_executor(self._thread, lambda: self._store.open(app=self._host.app.name))
        self.gate = Gate(self.opened.epoch)

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the thread of the store."""
        return await self._host.loop.run_in_executor(self._thread, function, *arguments)

    @property
    def store(self) -> Store:
        """Return the store, whose methods are called by `run`."""
        return self._store

    async def close(self) -> None:
        """Fold what is written, and close the store."""
        self._closing = self._frozen = True
        self._stop_timers()
        try:
            while self.failed is None and self._under_way:
                self._settling = self._host.loop.create_future()
                await self._settling
            if self.failed is None and self._backlog:
                await self._fold()
        finally:
            await self._host.loop.run_in_executor(self._thread, self._store.close)
            self._thread.shutdown(wait=False)


class _Settled:
    """Somebody who waits until all that was done is durable."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def end(self) -> None:
        """It is."""
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, error: ActorflowError) -> None:
        """It never will be."""
        if not self.future.done():
            self.future.set_exception(error)


def packed_entry(entries: Entries, key: Any) -> bytes | None:
    """Return an entry of a cell as it is kept; None when it is not there."""
    value = entries.read(key)
    if value is ABSENT:
        return None
    if entries.cell.kind in {"map", "register"} and value[1] is ABSENT:
        value = (value[0],)  # a field that was removed at a time
    if entries.expires is not None:
        host = entries.host
        return codec.encode([value, host.wall_s() + entries.expires.get(key, host.now_s()) - host.now_s()])
    return codec.encode(value)


def unpacked_rows(blob: bytes) -> list[Row]:
    """Return the rows of an epoch."""
    rows: list[Row] = _rows_of_blob.decode(blob)
    return rows
