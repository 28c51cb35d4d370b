"""The journal: what a host has done, epoch by epoch, in its store.

An epoch is a list of rows `(table, key, value)`: entries of cells that were written, requests that were accepted and
are not finished, answers to requests with a key, sends that are due later. What began and ended within one epoch leaves
only its effects. A thread of its own gives epochs to the store, one at a time, as fast as the disk answers; meanwhile
the next one fills. Later, in pauses, the newest rows of many epochs are folded into tables.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow import codec
from actorflow.core.epoch import Gate, Leaving, Waiting, pause_after
from actorflow.core.merges import ABSENT
from actorflow.errors import ActorflowError, StoreError, StoreFullError
from actorflow.runtime.records import Parts, record_of
from actorflow.runtime.request import Request
from actorflow.runtime.store_thread import StoreThread
from actorflow.stores.store import Opened, Row, Store

if TYPE_CHECKING:
    from actorflow.plan.cells import Cell
    from actorflow.runtime.cells import Entries
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import Wiring

log = logging.getLogger("actorflow.journal")

CELL, REQUESTS, ANSWERS, DELAYED, SCHEDULES, META = "cell:", "requests", "answers", "delayed", "schedules", "meta"
"""Tables: one per cell, whose name follows CELL."""
CELLS_KEY = "cells"
"""In META: the cells, as they were declared."""

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

Rows = dict[tuple[str, bytes], bytes | None]
"""Of each table and key that was written, what is there now, encoded; None where nothing is."""

_AS_KEPT = frozenset({"table", "value"})
"""Kinds of cells whose entries are written as they are kept."""

_blob = msgspec.msgpack.Encoder()
_rows_of_blob = msgspec.msgpack.Decoder(list[tuple[str, bytes, bytes | None]])


class Journal:
    """What a host does with its store. All methods are called on the event loop.

    gate: what waits for an epoch.   inputs: items of requests that are not finished, as they came.   wrote: those of
    them of which something has taken effect that cannot be done twice.   touched: those of `wrote` that have gone on
    since the last cut.   beginning: one that is not among the inputs yet, and may never be.   unclaimed: cells in the
    store that no app declares now, by name.   waiting: records of requests whose stream is not there, by id.   failed:
    what ended the store; nothing is acknowledged any more.
    """

    def __init__(self, host: Host, store: Store) -> None:
        self._host = host
        self._store = store
        self.opened: Opened | None = None
        self.gate: Gate[Waiting] = Gate()
        self.inputs: dict[Request, list[Any]] = {}
        self.unclaimed: dict[str, Unclaimed] = {}
        self.waiting: dict[str, dict[str, Any]] = {}
        self.beginning: Request | None = None
        self._began_writing: Request | None = None
        self.wrote: dict[Request, None] = {}
        self.touched: dict[Request, None] = {}
        self.failed: StoreError | None = None
        self._known: dict[Request, bytes] = {}  # requests that have a row; of those in `wrote`, what is in it
        self._rows: Rows = {}
        self._thread = StoreThread(host.loop)
        self._backlog: deque[Rows] = deque()
        self._unfolded = 0  # rows in the backlog
        self._young: dict[Request, float] = {}  # since when, of those that may end before anybody needs to know
        self._at_once: dict[Request, None] = {}
        self._look: asyncio.TimerHandle | None = None
        self._cost_s = 0.0
        self._leaving: deque[Waiting] = deque()
        self._letting_go = False
        self._asked = self._closing = self._abandoned = self._frozen = self._opening = False
        self._writing: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None

    # -- what is to be kept

    def dirty(self) -> None:
        """Note that something was done; a cut follows at the end of the turn, unless one is being written."""
        self.gate.dirty = True
        if not self._asked and self._writing is None:
            self._asked = True
            self._host.loop.call_soon(self._pump)

    def hold(self, what: Waiting) -> None:
        """Let something wait until all that was done before is durable; it is told, or that this will never be."""
        if self._abandoned:
            return
        if self.failed is not None:
            what.lost(self.failed)
        elif self._frozen or not self.gate.hold(what):
            if self._leaving:
                self._leaving.append(what)  # behind those that may leave already
            else:
                what.tell()

    def put(self, table: str, key: Any, value: Any) -> None:
        """Keep a row, or remove it (ABSENT)."""
        self._rows[table, codec.encode(key)] = None if value is ABSENT else codec.encode(value)
        self.dirty()

    def note_cells(self) -> None:
        """Keep which cells there are, as they are declared now."""
        left = {name: each.signature for name, each in self.unclaimed.items()}
        self.put(META, CELLS_KEY, {**left, **{cell.name: signature_of(cell) for cell in self._host.app.cells.values()}})

    def drop_unclaimed(self, app: str) -> None:
        """Keep nothing of the cells that an app once declared."""
        for name in [name for name, each in self.unclaimed.items() if each.app == app]:
            self._drop_rows(name, self.unclaimed.pop(name).rows)

    def drop_cell(self, entries: Entries) -> None:
        """Keep nothing of a cell any more."""
        keys = {**dict.fromkeys(entries.keys()), **(entries.changed or {})}  # those that were just removed, too
        self._drop_rows(entries.name, keys)

    def _drop_rows(self, cell: str, keys: Iterable[Any]) -> None:
        self._rows.update(((CELL + cell, codec.encode_key(key)), None) for key in keys)
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
            self._see_to_young()

    def _see_to_young(self) -> None:
        """Have what is not finished after a moment written down then."""
        if self._young and self._look is None and not self._frozen:
            grown_up_s = next(iter(self._young.values())) + YOUNG_S
            self._look = self._host.loop.call_at(grown_up_s, self._look_at_young)

    def _look_at_young(self) -> None:
        self._look = None
        if self._young and next(iter(self._young.values())) + YOUNG_S <= self._host.loop.time():
            self.dirty()
        else:
            self._see_to_young()

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
        self._put_back({(table, key): value for table, key, value in rows})

    def _put_back(self, rows: Rows) -> None:
        """Have rows folded before all others."""
        self._backlog.appendleft(rows)
        self._unfolded += len(rows)

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
        """Write nothing any more, and let nothing go: what is not durable by now was never done."""
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
                if self.opened is not None and not self._frozen:
                    await self.settled()
        except (StoreError, TimeoutError) as error:
            log.error("host %s ends before the store has all that it did: %r", self._host.name, error)
        self._frozen = True
        self._lose(self._host.stops())

    async def settled(self) -> None:
        """Wait until all that was done so far is durable. Raises: StoreError when that can never be."""
        future: asyncio.Future[None] = self._host.loop.create_future()

        def end(error: ActorflowError | None = None) -> None:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)

        self.hold(Leaving(end, end))
        await future

    # -- epochs

    def _cut(self) -> Rows:
        """Return the rows of the epoch that was filled."""
        host = self._host
        host.carry_on_passing()
        rows, self._rows = self._rows, {}
        for entries in host.cells.values():
            if entries.changed:
                pack_changed(entries, rows)
        began_s = host.clock()
        parts = Parts(host)
        for request in self.touched:
            record = record_of(host, parts, request, self.inputs[request], written=True)
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
            rows[REQUESTS, codec.encode(request.id)] = record_of(
                host, parts, request, self.inputs[request], written=False
            )
        self._at_once.clear()
        return rows

    def _grown_up(self) -> None:
        """Choose what has been under way for long enough to be written down; see to it that the others will be."""
        now_s = self._host.loop.time()
        while self._young:
            request, began_s = next(iter(self._young.items()))
            if began_s + YOUNG_S > now_s:
                self._see_to_young()
                return
            del self._young[request]
            self._at_once[request] = None

    def _pump(self) -> None:
        """Begin to write, where there is something to be written and nothing is being written."""
        self._asked = False
        if self.gate.dirty and self._writing is None and self._may_write:
            self._start(self._write(), "epochs")

    @property
    def _may_write(self) -> bool:
        return self.failed is None and not self._frozen

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._writing = self._host.loop.create_task(work, name=name)
        self._writing.add_done_callback(self._stopped_writing)

    def _stopped_writing(self, task: asyncio.Task[None]) -> None:
        """Begin again with what was done meanwhile; what went wrong is the end: it must not be acknowledged."""
        self._writing = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._abandoned:
            if not isinstance(error, StoreError):
                log.error("host %s could not make an epoch", self._host.name, exc_info=error)
                error = StoreError(f"host {self._host.name} could not make an epoch: {type(error).__name__}: {error}")
            self._fail(error)
        elif self.gate.dirty:
            self._pump()
        elif self._backlog and self._may_write:
            self._idle = self._host.loop.call_later(FOLD_IDLE_S, self._fold_idle)

    def _fold_idle(self) -> None:
        self._idle = None
        if self._writing is None and self._may_write:
            self._start(self._fold(), "fold")

    async def _write(self) -> None:
        """Write epoch after epoch, as long as there is something; fold when there are many rows."""
        while self.gate.dirty and self._may_write:
            await self._write_epoch()
            if self._unfolded > FOLD_ROWS:
                await self._fold()
            elif (pause_s := pause_after(self._cost_s)) and self.gate.dirty and not self._closing:
                await asyncio.sleep(pause_s)

    async def _write_epoch(self) -> None:
        """Cut an epoch, give it to the store, and let go what has waited for it."""
        rows = self._cut()
        number = self.gate.cut()
        blob = packed_rows(rows)
        while True:
            try:
                await self.run(self._store.append, number, blob)
                break
            except StoreFullError as error:
                if self._closing:
                    raise
                log.error("%s; what is done now is acknowledged when there is room", error)
                await asyncio.sleep(FULL_RETRY_S)
        self._kept(number, rows)

    async def _fold(self) -> None:
        """Fold the newest rows into tables, in their order, and forget the epochs that they are from.

        Rows are whole values, so that it does no harm when a table is ahead of epochs which are read after it. All of
        it is done some rows at a time, so that neither the event loop nor an epoch waits for long.
        """
        epochs, self._backlog, self._unfolded = self._backlog, deque(), 0
        upto = self.gate.durable
        backlog: Rows = {}
        while epochs:
            await self.run(_merge_some, epochs, backlog)
            await self._write_between()
        unordered = iter(backlog.items())
        runs: list[list[Any]] = []
        while run := await self.run(_in_order, unordered):
            runs.append(run)
            await self._write_between()
        ahead = heapq.merge(*runs, key=_key_of)
        left = len(backlog)
        while left:
            left = max(left - FOLD_ROWS_AT_ONCE, 0)
            try:
                await self.run(self._store.fold, 0 if left else upto, _some_rows(ahead))
            except StoreFullError as error:
                log.error("%s; epochs are folded when there is room", error)
                self._put_back(backlog)
                return
            await self._write_between()

    async def _write_between(self) -> None:
        """Write what has been done meanwhile: nobody waits for a fold."""
        if self.gate.dirty and self._may_write:
            await self._write_epoch()

    def _kept(self, number: int, rows: Rows) -> None:
        """Let go what has waited for an epoch: the store has it."""
        if self._abandoned:
            return
        self._backlog.append(rows)
        self._unfolded += len(rows)
        self._leaving.extend(self.gate.kept(number))
        if not self._letting_go:
            self._let_go()

    def _let_go(self) -> None:
        """Let some of what may leave go, then others: what comes of the first is written while those are at work."""
        leaving = self._leaving
        for _ in range(min(len(leaving), LEAVE_AT_ONCE)):
            try:
                leaving.popleft().tell()
            except Exception:
                log.exception("something that waited for an epoch raised")
        self._letting_go = bool(leaving)
        if leaving:
            self._host.loop.call_soon(self._let_go)

    def _fail(self, error: StoreError) -> None:
        """Give up: nothing is acknowledged any more, and the host ends."""
        log.critical("host %s cannot keep what it does any more: %s", self._host.name, error)
        self.failed = error
        self._lose(error)
        self._host.store_failed(error)

    def _lose(self, error: ActorflowError) -> None:
        """Tell those who wait for what will never be durable."""
        while self._leaving:
            self._leaving.popleft().tell()  # these are durable
        for what in self.gate.drop():
            what.lost(error)

    # -- its life

    async def open(self) -> None:
        """Open the store. Raises: StoreError."""
        self._opening = True
        try:
            self.opened = await self.run(lambda: self._store.open(app=self._host.app.name))
        except StoreError:
            self._opening = False  # there is nothing to be closed; who cancels leaves a store that is being opened
            raise
        self._thread.hurry()
        self.gate = Gate(self.opened.epoch)

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the thread of the store."""
        return await self._thread.run(function, *arguments)

    @property
    def store(self) -> Store:
        """Return the store, whose methods are called by `run`."""
        return self._store

    async def close(self) -> None:
        """Fold what is written, and close the store."""
        self._closing = self._frozen = True
        self._stop_timers()
        try:
            if self._writing is not None:
                await asyncio.wait({self._writing})
            if self.failed is None and self._backlog and not self._abandoned:
                await self._fold()
        except StoreError as error:
            log.error("host %s leaves its last epochs as they are: %s", self._host.name, error)
        finally:
            if self._opening:
                await self.run(self._store.close)
            self._thread.end()


def _merge_some(epochs: deque[Rows], newest: Rows) -> None:
    """Take the rows of the next epochs; of those with one key the newest stays."""
    taken = 0
    while epochs and taken < FOLD_ROWS_AT_ONCE:
        rows = epochs.popleft()
        newest.update(rows)
        taken += len(rows)


def _in_order(rows: Iterator[tuple[tuple[str, bytes], bytes | None]]) -> list[Any]:
    """Return the next rows, in order: a run, to be merged with others."""
    return sorted(islice(rows, FOLD_ROWS_AT_ONCE), key=_key_of)


def _key_of(row: tuple[tuple[str, bytes], bytes | None]) -> tuple[str, bytes]:
    return row[0]


def _some_rows(ahead: Iterator[tuple[tuple[str, bytes], bytes | None]]) -> Iterator[Row]:
    return ((table, key, value) for (table, key), value in islice(ahead, FOLD_ROWS_AT_ONCE))


def signature_of(cell: Cell) -> list[Any]:
    """Return what is kept of a cell's declaration."""
    space = cell.space.name if cell.space is not None else None
    return [cell.kind, cell.version, cell.ttl_s is not None, space, cell.app]


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A cell in the store that no app declares now. signature: as it was declared.   rows: what is in it."""

    signature: list[Any]
    rows: dict[Any, Any]

    @property
    def app(self) -> str:
        """Return whose it was."""
        return self.signature[4] if len(self.signature) > 4 else ""


def pack_changed(entries: Entries, rows: Rows) -> None:
    """Add the entries of a cell that were written since the last epoch, and forget that they were."""
    changed = entries.changed
    assert changed is not None
    table, encode, encode_key = CELL + entries.name, codec.encode, codec.encode_key
    if entries.cell.kind in _AS_KEPT and entries.expires is None:
        data = entries.data
        for key in changed:
            value = data.get(key, ABSENT)
            rows[table, encode_key(key)] = None if value is ABSENT else encode(value)
    else:
        for key in changed:
            rows[table, encode_key(key)] = packed_entry(entries, key)
    changed.clear()


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


def packed_rows(rows: Rows) -> bytes:
    """Return the rows of an epoch as they are written."""
    return _blob.encode([(table, key, value) for (table, key), value in rows.items()])


def unpacked_rows(blob: bytes) -> list[Row]:
    """Return the rows of an epoch."""
    rows: list[Row] = _rows_of_blob.decode(blob)
    return rows
