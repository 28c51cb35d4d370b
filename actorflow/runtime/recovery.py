"""What a host does with its store before it takes anything: load what was kept, go on with what was not finished."""

from __future__ import annotations

import decimal
import enum
import fractions
import logging
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow import codec
from actorflow.core.merges import ABSENT
from actorflow.envelope import Context, Frame
from actorflow.errors import (
    ActorflowError,
    CellTypeError,
    CodecError,
    HostLostError,
    StoreDamagedError,
    StoreVersionError,
)
from actorflow.plan.app import OpenPlan
from actorflow.plan.cells import Cell
from actorflow.plan.operator import Outcome
from actorflow.runtime.access import NO_KEY
from actorflow.runtime.activation import Again, Answer
from actorflow.runtime.asynchronous import AsyncReplica
from actorflow.runtime.cells import Entries
from actorflow.runtime.journal import (
    ANSWERS,
    CELL,
    CELLS_KEY,
    DELAYED,
    META,
    REQUESTS,
    SCHEDULES,
    Journal,
    Unclaimed,
    signature_of,
    unpacked_rows,
)
from actorflow.runtime.records import VERSION, restored
from actorflow.runtime.request import UNSET, Request
from actorflow.runtime.return_path import ReturnStep
from actorflow.runtime.steps import Calling, Folding, Gathered

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import OperatorNode
    from actorflow.stores.store import Row, Store

log = logging.getLogger("actorflow.journal")

ROWS_AT_ONCE = 4096
_SPELLED = (bool, float, complex, decimal.Decimal, fractions.Fraction, enum.Enum)

SAMPLE_MAX = 1_000
"""Entries that are looked at where a type does not say at once whether it fits."""


async def recover(host: Host, journal: Journal) -> None:
    """Load what the store has into a host that has not begun, and begin again what was not finished.

    Raises: StoreError, above all StoreVersionError when the app's cells are not those that the store knows.
    """
    opened = journal.opened
    assert opened is not None
    tables, unfolded = await journal.run(_load, journal.store)
    journal.fold_later(unfolded)
    outdated = _check_cells(host, tables.pop(META, {}).get(CELLS_KEY), tables)
    for entries in host.cells.values():
        kept = tables.pop(CELL + entries.name, None)
        if kept:
            _fill(entries, kept)
            if entries.name not in outdated:
                _check_types(entries)
        entries.track()
        if entries.name in outdated:
            _migrate(entries, outdated[entries.name])
    journal.note_cells()
    for key, row in tables.pop(ANSWERS, {}).items():
        host.answers.restore(key, row)
    host.answers.restored()
    for ticket, row in tables.pop(DELAYED, {}).items():
        if row[1] not in host.wirings and isinstance(host.app, OpenPlan):
            log.warning("a send to stream %s waits in the store: it is made after a start with that stream", row[1])
            continue
        if row[1] not in host.wirings:
            raise StoreVersionError(
                f"a send to stream {row[1]!r} waits for its time, and the app has no such stream: start the code that "
                "has it, and let it come, or call it off, before the stream goes"
            )
        host.delays.restore(ticket, row)
    host.delays.start(tables.pop(SCHEDULES, {}))
    records = sorted(tables.pop(REQUESTS, {}).items(), key=lambda each: _age(each[0]))
    journal.waiting = {request_id: record for request_id, record in records if not _can_go_on(host, request_id, record)}
    for request_id, record in records:
        if request_id not in journal.waiting:
            _go_on(host, journal, request_id, record)


def resume(host: Host, journal: Journal) -> None:
    """Go on with requests that waited for a stream which has come by now.

    What was half done ends with an error: the keys that it held may be others' meanwhile.
    """
    for request_id in [each for each, record in journal.waiting.items() if record["stream"] in host.wirings]:
        record = journal.waiting.pop(request_id)
        if "tree" in record:
            _lose(record, "its stream was not there when its host started again")
        _go_on(host, journal, request_id, record)


def _load(store: Store) -> tuple[dict[str, dict[Any, Any]], list[Row]]:
    """Return all rows as of the last epoch, and those that are in epochs only. In the thread of the store."""
    tables: dict[str, dict[Any, Any]] = {}
    unfolded: list[Row] = []
    for table in store.tables():
        try:
            tables[table] = _decoded(store.rows(table))
        except CodecError as error:
            raise _unreadable(table, error) from None
    for _, blob in store.epochs():
        try:
            rows = unpacked_rows(blob)
        except msgspec.DecodeError as error:
            raise StoreDamagedError(f"an epoch cannot be read: {error}; restore a backup") from None
        unfolded += rows
        for name, key, value in rows:
            content = tables.setdefault(name, {})
            try:
                decoded = codec.decode(key)
                if value is None:
                    content.pop(decoded, None)
                else:
                    content[decoded] = codec.decode(value)
            except CodecError as error:
                raise _unreadable(name, error) from None
    return tables, unfolded


def _unreadable(table: str, error: CodecError) -> StoreVersionError:
    """Return an error that says what of the store cannot be read, and what to do."""
    what = f"cell {table.removeprefix(CELL)!r}" if table.startswith(CELL) else f"its {table}"
    return StoreVersionError(
        f"the store cannot be read, {what}: {error} (a class must be there by the name it had: start the code that "
        "wrote it, and migrate the cell before the class goes)"
    )


def _decoded(rows: Iterable[tuple[bytes, bytes]]) -> dict[Any, Any]:
    """Decode many rows at once: a message for some thousand of them costs a fraction of one each."""
    table: dict[Any, Any] = {}
    keys: list[bytes] = []
    values: list[bytes] = []

    def flush() -> None:
        head = b"\xdd" + len(keys).to_bytes(4, "big")
        table.update(zip(codec.decode(head + b"".join(keys)), codec.decode(head + b"".join(values)), strict=True))
        keys.clear()
        values.clear()

    for key, value in rows:
        keys.append(key)
        values.append(value)
        if len(keys) == ROWS_AT_ONCE:
            flush()
    if keys:
        flush()
    return table


# -- cells


def _check_cells(host: Host, known: dict[str, list[Any]] | None, tables: dict[str, Any]) -> dict[str, int]:
    """Return the cells whose values are of an older version. Raises: StoreVersionError when the app cannot read one."""
    outdated: dict[str, int] = {}
    unclaimed = host.journal.unclaimed if host.journal is not None and isinstance(host.app, OpenPlan) else None
    for name, (kind, version, timed, *more) in (known or {}).items():
        cell = host.app.cells.get(name)
        has_rows = bool(tables.get(CELL + name))
        if cell is None:
            if has_rows and unclaimed is not None:  # an app to come may declare it again
                unclaimed[name] = Unclaimed([kind, version, timed, *more], tables[CELL + name])
            elif has_rows:
                raise StoreVersionError(
                    f"the store has {len(tables[CELL + name])} entries of {kind} {name!r}, and app {host.app.name!r} "
                    "declares no such cell: declare it again, and delete its entries before it goes",
                    cell=name,
                )
            continue
        wanted = signature_of(cell)
        if (kind, timed) != (wanted[0], wanted[2]) and has_rows:
            old, new = (f"{each}{' with ttl_s' if has_ttl else ''}" for each, has_ttl in ((kind, timed), wanted[0:3:2]))
            raise StoreVersionError(
                f"the store has {name!r} as a {old}, and the app declares a {new}: give the new one another name, and "
                "copy what is to be kept",
                cell=name,
            )
        if version == cell.version:
            continue
        if version > cell.version or cell.migrate is None:
            way = (
                "run the newer code" if version > cell.version
                else f"declare how values of version {version} become version {cell.version} (migrate=)"
            )  # fmt: skip
            raise StoreVersionError(
                f"the store has {kind} {name!r} in version {version} of its schema, and the app declares version "
                f"{cell.version}: {way}",
                cell=name,
            )
        outdated[name] = version
    return outdated


def claim(entries: Entries, kept: Unclaimed) -> None:
    """Fill a cell that is declared again with what the store has of it. Raises: StoreVersionError."""
    _fill(entries, kept.rows)
    _check_types(entries)


def _fill(entries: Entries, kept: dict[Any, Any]) -> None:
    """Put loaded rows into a cell."""
    if entries.expires is not None:
        late_s = entries.host.now_s() - entries.host.wall_s()
        timed = sorted(kept.items(), key=lambda each: each[1][1])
        entries.expires.update((key, wall_s + late_s) for key, (_, wall_s) in timed)
        kept = {key: value for key, (value, _) in timed}
    if entries.cell.kind in {"map", "register"}:
        kept = {key: (row[0], ABSENT) if len(row) == 1 else row for key, row in kept.items()}
    entries.host.stamped(_latest(entries.cell.kind, kept))
    if isinstance(kind := entries.cell.key_type, type) and issubclass(kind, _SPELLED) and not entries.parted:
        kept = {kind(key): value for key, value in kept.items()}  # rows have the plainest of equal keys
    if entries.parted:
        for key, value in kept.items():
            entries.put(key, value)
    else:
        entries.data.update(kept)  # in place: handles have a hold of it
        entries.size = len(entries.data)
    if entries.expires is not None:
        entries.host.sweep_cells()
    if not entries.copies and entries.merge is None:
        entries.copies = _may_change(entries.cell) and any(
            entries.copy(value) is not value for value in entries.data.values()
        )
        entries.special = entries.special or entries.copies


def _check_types(entries: Entries) -> None:
    """Refuse entries that are not of the types which the app declares now. Raises: StoreVersionError."""
    cell = entries.cell
    if cell.kind not in {"table", "value"}:
        return
    for check, found in ((entries.check_key, entries.data), (entries.check_value, entries.data.values())):
        if check is None:
            continue
        sample = {type(each): each for each in found}  # of each type there is one to look at
        exact = cell.key_type if check is entries.check_key else cell.value_type
        some = islice(found, SAMPLE_MAX) if not isinstance(exact, type) else sample.values()
        try:
            for each in some:
                check(each)
        except CellTypeError as error:
            raise StoreVersionError(
                f"the store's entries of {cell.kind} {cell.name!r} are not of the types declared now: {error}; "
                f"declare version={cell.version + 1} and how they become what they should be (migrate=)",
                cell=cell.name,
            ) from None


def _latest(kind: str, kept: dict[Any, Any]) -> int:
    """Return the time of the latest stamp among the entries of a cell: new ones are later, whatever the clock says."""
    if kind in {"register", "map", "log"}:
        return max((value[0][0] for value in kept.values()), default=0)
    if kind == "set":
        return max((stamp[0] for tags in kept.values() for part in tags for stamp in part), default=0)
    return 0


def _may_change(cell: Cell) -> bool:
    return cell.value_type not in {int, str, float, bool, bytes}


def _migrate(entries: Entries, version: int) -> None:
    migrate = entries.cell.migrate
    assert migrate is not None
    for key in list(entries.keys()):
        try:
            value = entries.check(migrate(version, key, entries.read(key)))
        except Exception as error:
            raise StoreVersionError(
                f"{entries.cell.kind} {entries.name!r}: migrate({version}, {key!r}, …) raised {type(error).__name__}: "
                f"{error}; nothing was changed",
                cell=entries.name,
            ) from error
        entries.put(key, value)
        entries.note(key)
    entries.host.dirty()


# -- requests


def _age(request_id: str) -> tuple[str, int]:
    incarnation, _, number = request_id.rpartition(".")
    return incarnation, int(number)


def _can_go_on(host: Host, request_id: str, record: dict[str, Any]) -> bool:
    """Return whether a request under way can go on, or be told that it cannot, with the streams that there are now.

    Where apps are deployed, it waits for a stream that is not there. Elsewhere it keeps the host from starting, as long
    as nothing has changed. Raises: StoreVersionError.
    """
    comes = isinstance(host.app, OpenPlan)
    if record["version"] > VERSION:
        raise StoreVersionError(f"request {request_id} was written down by newer software: run that")
    if record["stream"] not in host.wirings:
        if comes:
            log.warning("request %s waits in the store for its stream, %s", request_id, record["stream"])
            return False
        raise StoreVersionError(
            f"request {request_id} of stream {record['stream']!r} is not finished, and the app has no such stream: "
            "start the code that began it, and drain (Ctrl-C, or SIGTERM) before the stream goes"
        )
    if "tree" in record and not _fits(host, record):
        if not comes:
            raise StoreVersionError(
                f"request {request_id} of stream {record['stream']!r} is half done, and the stream has other steps "
                "now: start the code that began it, and drain (Ctrl-C, or SIGTERM) before it is changed"
            )
        _lose(record, "its stream was replaced while it was under way")
    return True


def _lose(record: dict[str, Any], why: str) -> None:
    """Have a request that was half done end with an error that says why."""
    record["lost"] = why
    del record["tree"]


def _fits(host: Host, record: dict[str, Any]) -> bool:
    """Return whether the streams of a request that is half done have the steps that they had."""
    for each in record["tree"]["requests"]:
        child = host.wirings.get(each["stream"])
        if child is None or (each is record["tree"]["requests"][0] and child.shape != record["shape"]):
            return False
    return True


def _go_on(host: Host, journal: Journal, request_id: str, record: dict[str, Any]) -> None:
    """Go on with a request as it was written down; one that is lost ends with an error that says so."""
    wiring = host.stream(record["stream"])
    request = host.open(wiring, record["timeout_s"], record["attributes"], restored=True)
    details = request.more()
    details.id, details.sent = request_id, record["sent"]
    if record["key"] is not None:
        details.key, details.digest = record["key"], record["digest"]
        host.answers.begin(record["key"], request)
    host.aliases[request_id] = request
    journal.known(request)
    if details.sent:
        host.detach(request, *record.get("items", ())[:1])  # of one that has written, the item is not kept
    host.register(request)
    left_s = record["deadline_s"] - host.wall_s()
    host.set_deadline(request, max(left_s, 0.0))
    if "lost" in record:
        request.committed = True  # something of it stands, so that asking again with its key must not do it again
        request.fail(
            HostLostError(
                f"request {request_id} of stream {wiring.name} was lost with its host ({record['lost']}): what it had "
                "written stays, and the rest of it was not done",
                stream=wiring.name,
                host=host.name,
            )
        )
    elif "tree" in record:
        journal.inputs[request] = []
        journal.wrote[request] = None
        _Restoring(host, request, record["tree"]).restore()
    else:
        journal.inputs[request] = [codec.copy_if_mutable(item) for item in record["items"]]
        try:
            items = [wiring.checked(item) for item in record["items"]]
        except ActorflowError as error:
            request.fail(error)
        else:
            host.enter(request, items)


class _Restoring:
    """Puts a tree of requests back where it was."""

    def __init__(self, host: Host, root: Request, tree: dict[str, Any]) -> None:
        self._host = host
        self._rows: list[dict[str, Any]] = tree["requests"]
        self._frame_rows: list[list[Any]] = tree["frames"]
        self._requests: list[Request] = [root]
        self._frames: list[Frame | None] = [None] * len(self._frame_rows)
        self._agains: dict[tuple[int, int], Again] = {}

    def restore(self) -> None:
        """Make the requests and what they consist of; nothing runs before all of it is there."""
        host = self._host
        for row in self._rows[1:]:
            parent = self._requests[row["parent"]]
            child = host.open(host.stream(row["stream"]), parent.timeout_s, None, parent)
            host.register(child)
            self._requests.append(child)
        for request, row in zip(self._requests, self._rows, strict=True):
            request.committed, request.answered = row["committed"], row["answered"]
            if row["value"]:
                request.value = row["value"][0]
            if row["values"] and request.replies is not None:
                request.replies.push(row["values"])
            # what completes is looked at when all is there
            request.counts[request.stream.entry_region] += 1
            for number, work in enumerate(row["work"]):
                self._work(request, number, work)
        for request, row in zip(self._requests, self._rows, strict=True):
            if row["caller"] is not None:
                stream, item = row["asked"]
                again = self._agains[row["parent"], row["caller"]]
                again.children.append((stream, item, request))
                request.caller, request.more().asked = again, (stream, item)
        for again in self._agains.values():
            assert isinstance(again.replica, AsyncReplica)
            again.replica.run_again(again)
            again.replica.schedule()
        for request in self._requests:
            request.counts[request.stream.entry_region] -= 1
            if not request.counts[request.stream.entry_region]:
                request.settle()

    def _frame(self, number: int | None, request: Request) -> Frame | None:
        if number is None:
            return None
        frame = self._frames[number]
        if frame is None:
            step, index, item, below, done = self._frame_rows[number]
            node = request.stream.nodes[step]
            frame = self._frames[number] = Frame(node.replicas[index], item, self._frame(below, request))
            frame.done = done
            if not done:
                request.more().own("frames")[frame] = None
        return frame

    def _context(self, kept: Any, request: Request) -> Context | None:
        if kept is None:
            return None
        return Context(self._frame(kept[0], request), None, tuple(kept[1]))

    def _work(self, request: Request, number: int, work: list[Any]) -> None:
        kind, *rest = work
        if kind == "items":
            step, index, context, items = rest
            request.stream.nodes[step].replicas[index].put(request, self._context(context, request), items)
        elif kind == "activation":
            self._activation(request, number, rest)
        elif kind == "return":
            frame, value, error = rest
            there = self._frame(frame, request)
            assert there is not None
            self._host.enqueue(ReturnStep(request, there, Outcome(value, error)))
        elif kind == "timer":
            step, index, context, due_s, item = rest
            replica = request.stream.nodes[step].replicas[index]
            delay_s = max(due_s - self._host.wall_s(), 0.0)
            self._host.timer(request, replica, self._context(context, request), delay_s, item)
        elif kind == "fold":
            self._fold(request, *rest)
        elif kind == "join":
            step, (left, right, met), held = rest
            request.more().own("folds")[step] = (left, right, met)
            if held:
                assert request.progress is not None
                request.progress.hold(step)
        else:
            self._calls(request, *rest)

    def _fold(self, request: Request, step: int, kept: dict[str, Any], mark: Any, held: bool) -> None:
        node = request.stream.nodes[step]
        assert isinstance(node, Folding)
        state = Gathered(restored(kept))
        state.frames = UNSET if mark == "unset" else self._frame(mark, request)
        request.more().own("folds")[step] = state
        if held:
            assert request.progress is not None
            request.progress.hold(step)

    def _calls(
        self, request: Request, step: int, results: list[Any], waiting: list[Any], open_calls: list[Any]
    ) -> None:
        node = request.stream.nodes[step]
        assert isinstance(node, Calling)
        calls = node.calls_of(request)
        places: list[list[Any]] = []
        for context, place in results:
            places.append([tuple(place[0])] if place else [UNSET])
            calls.results.append((self._context(context, request), places[-1]))

        def place_of(number: int | None) -> list[Any]:
            return [UNSET] if number is None else places[number]

        request.counts[node.region] += len(waiting) + len(open_calls)
        for context, item, place in waiting:
            calls.waiting.append((self._context(context, request), item, place_of(place)))
        for child, context, item, place in open_calls:
            node.adopt(request, calls, self._requests[child], self._context(context, request), item, place_of(place))

    def _activation(self, request: Request, number: int, row: list[Any]) -> None:
        step, index, context, onward, item, recorded, handed, fed, reruns, held, given = row
        node = request.stream.nodes[step]
        replica = node.replicas[index]
        assert isinstance(replica, AsyncReplica)
        again = Again.restored(
            request=request,
            context=self._context(context, request),
            onward=self._context(onward, request),
            item=item,
            recorded=[Answer(*each) for each in recorded],
            reruns=reruns,
            handed=handed,
            fed=fed,
            given=tuple(given) if given is not None else None,
            key=_key_of_rerun(node, request, item),
            held=[(self._host.spaces[space], key, shared) for space, key, shared in held],
            replica=replica,
        )
        if again.held:
            request.more().own("releases")[again] = None
        # nobody else may have these keys before: what it was answered may depend on what it has read under them
        for locks, key, shared in again.held:
            granted = locks.ask(again, key, shared=shared)
            assert granted, "two activations held a key"
        request.counts[replica.region_of(request)] += len(item) if node.batches else 1
        self._agains[self._requests.index(request), number] = again


def _key_of_rerun(node: OperatorNode, request: Request, item: Any) -> Any:
    """Return what an activation is serial by where several run at once."""
    if node.in_order:
        return request
    return node.key(item) if node.key is not None and not node.batches and node.concurrency > 1 else NO_KEY
