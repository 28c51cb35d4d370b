"""An app: the streams of one program, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar, overload

from actorflow import codec
from actorflow.errors import UnknownStreamError
from actorflow.limits import Limits
from actorflow.plan.cells import (
    ENTRIES_MAX,
    WHOLE,
    Cell,
    Counter,
    Extreme,
    Log,
    MergedCell,
    MergedMap,
    MergedSet,
    Migrate,
    Register,
    Table,
    Value,
    accesses_of,
)
from actorflow.plan.operator import OnError, Restart
from actorflow.plan.schedules import Schedule
from actorflow.plan.stream import Stream, declare
from actorflow.plan.topology import KeySpace, Replies, Topology

Q = TypeVar("Q")
K = TypeVar("K")
V = TypeVar("V")
CellT = TypeVar("CellT", bound=Cell)


class AppPlan:
    """A named set of streams and the limits they run under."""

    def __init__(self, name: str, *, limits: Limits | None = None) -> None:
        if not name or not name.replace("-", "_").isidentifier():
            raise ValueError(f"App({name!r}): a name is letters, digits, '_' and '-', and begins with a letter")
        self.name = name
        self.limits = limits or Limits()
        self._streams: dict[str, Stream[Any, Any]] = {}
        self._cells: dict[str, Cell] = {}
        self._schedules: dict[str, Schedule] = {}

    @overload
    def stream(
        self,
        name: str,
        request_type: type[Q],
        reply_type: Any = ...,
        *,
        replies: Replies = ...,
        early: bool = ...,
        timeout_s: float | None = ...,
        in_flight: int | None = ...,
        on_error: OnError = ...,
        restart: Restart | None = ...,
    ) -> Stream[Q, Q]: ...
    @overload
    def stream(
        self,
        name: str,
        request_type: Any = ...,
        reply_type: Any = ...,
        *,
        replies: Replies = ...,
        early: bool = ...,
        timeout_s: float | None = ...,
        in_flight: int | None = ...,
        on_error: OnError = ...,
        restart: Restart | None = ...,
    ) -> Stream[Any, Any]: ...
    def stream(
        self,
        name: str,
        request_type: Any = Any,
        reply_type: Any = Any,
        *,
        replies: Replies = "one",
        early: bool = False,
        timeout_s: float | None = None,
        in_flight: int | None = None,
        on_error: OnError = "fail",
        restart: Restart | None = None,
    ) -> Stream[Any, Any]:
        """Declare a stream and return its entry, to which steps are chained.

        replies: "one" (delivered when the request is complete, so that a request which failed cannot have answered),
        "many" (streamed as they come) or "none". `early` delivers the one reply at once; later failures become dead
        letters. `timeout_s` is the default deadline; `in_flight` the most requests at once; `on_error` and `restart`
        the defaults of its operators.
        """
        if name in self._streams:
            raise ValueError(f"app {self.name!r} has a stream {name!r} already: names are unique")
        if not name or not all(part.isidentifier() for part in name.replace("-", "_").split(".")):
            raise ValueError(f"stream({name!r}): a name is letters, digits, '_', '-' and '.'")
        if replies not in {"one", "many", "none"}:
            raise ValueError(f"stream({name!r}, replies={replies!r}): one of 'one', 'many', 'none'")
        for kind in (request_type, reply_type):
            codec.register_all(kind)
        entry = declare(
            name,
            request_type,
            reply_type,
            replies=replies,
            early=early,
            timeout_s=timeout_s,
            in_flight=in_flight,
            on_error=on_error,
            restart=restart or Restart(),
        )
        self._streams[name] = entry
        return entry

    # -- shared state

    @overload
    def table(
        self,
        name: str,
        *,
        key: str,
        value: type[V],
        key_type: type[K],
        shards: int = ...,
        ttl_s: float | None = ...,
        entries_max: int = ...,
        version: int = ...,
        migrate: Migrate | None = ...,
    ) -> Table[K, V]: ...
    @overload
    def table(
        self,
        name: str,
        *,
        key: str,
        value: type[V],
        key_type: Any = ...,
        shards: int = ...,
        ttl_s: float | None = ...,
        entries_max: int = ...,
        version: int = ...,
        migrate: Migrate | None = ...,
    ) -> Table[Any, V]: ...
    @overload
    def table(
        self,
        name: str,
        *,
        key: str,
        value: Any = ...,
        key_type: Any = ...,
        shards: int = ...,
        ttl_s: float | None = ...,
        entries_max: int = ...,
        version: int = ...,
        migrate: Migrate | None = ...,
    ) -> Table[Any, Any]: ...
    def table(
        self,
        name: str,
        *,
        key: str,
        value: Any = Any,
        key_type: Any = Any,
        shards: int = 256,
        ttl_s: float | None = None,
        entries_max: int = ENTRIES_MAX,
        version: int = 1,
        migrate: Migrate | None = None,
    ) -> Table[Any, Any]:
        """Declare a table, partitioned by the key space `key`: the one that `.key_by("…")` names.

        value, key_type: what values and keys must be (by default anything).   ttl_s: rows vanish so long after they
        were last written.   entries_max: more rows are refused with CellFullError.   version, migrate: of the schema of
        the values in a store; `migrate(version, key, value)` brings an older one up to date.
        """
        return self._declare(
            Table(
                app=self.name, kind="table", name=name, space=KeySpace(key, shards), key_type=key_type,
                value_type=value, ttl_s=ttl_s, entries_max=entries_max, version=version, migrate=migrate,
            )
        )  # fmt: skip

    @overload
    def value(self, name: str, value: type[V], *, version: int = ..., migrate: Migrate | None = ...) -> Value[V]: ...
    @overload
    def value(
        self, name: str, value: Any = ..., *, version: int = ..., migrate: Migrate | None = ...
    ) -> Value[Any]: ...
    def value(self, name: str, value: Any = Any, *, version: int = 1, migrate: Migrate | None = None) -> Value[Any]:
        """Declare one value for the whole app."""
        return self._declare(
            Value(
                app=self.name, kind="value", name=name, space=KeySpace(f"{WHOLE}{name}", 1), value_type=value,
                version=version, migrate=migrate,
            )
        )  # fmt: skip

    def counter(self, name: str, *, key: str | None = None, **options: Any) -> MergedCell[Counter]:
        """Declare a counter: whole numbers that operators add to. With `key`, one per key of that key space.

        options: `shards`, `key_type`, `ttl_s`, `entries_max`, as for `table`.
        """
        return self._merged("counter", name, key, int, options)

    @overload
    def max(self, name: str, value: type[V], *, key: str | None = ..., **options: Any) -> MergedCell[Extreme[V]]: ...
    @overload
    def max(
        self, name: str, value: Any = ..., *, key: str | None = ..., **options: Any
    ) -> MergedCell[Extreme[Any]]: ...
    def max(self, name: str, value: Any = Any, *, key: str | None = None, **options: Any) -> MergedCell[Extreme[Any]]:
        """Declare a cell that keeps the greatest value put in. Options as for `counter`."""
        return self._merged("max", name, key, value, options)

    @overload
    def min(self, name: str, value: type[V], *, key: str | None = ..., **options: Any) -> MergedCell[Extreme[V]]: ...
    @overload
    def min(
        self, name: str, value: Any = ..., *, key: str | None = ..., **options: Any
    ) -> MergedCell[Extreme[Any]]: ...
    def min(self, name: str, value: Any = Any, *, key: str | None = None, **options: Any) -> MergedCell[Extreme[Any]]:
        """Declare a cell that keeps the smallest value put in. Options as for `counter`."""
        return self._merged("min", name, key, value, options)

    @overload
    def set(
        self, name: str, element: type[V], *, key: str | None = ..., grow_only: bool = ..., **options: Any
    ) -> MergedCell[MergedSet[V]]: ...
    @overload
    def set(
        self, name: str, element: Any = ..., *, key: str | None = ..., grow_only: bool = ..., **options: Any
    ) -> MergedCell[MergedSet[Any]]: ...
    def set(
        self, name: str, element: Any = Any, *, key: str | None = None, grow_only: bool = False, **options: Any
    ) -> MergedCell[MergedSet[Any]]:
        """Declare a set. Removing takes away what the remover has seen; `grow_only` has no removing, and is smaller."""
        return self._merged("grow_set" if grow_only else "set", name, key, element, options)

    @overload
    def register(
        self, name: str, value: type[V], *, key: str | None = ..., **options: Any
    ) -> MergedCell[Register[V]]: ...
    @overload
    def register(
        self, name: str, value: Any = ..., *, key: str | None = ..., **options: Any
    ) -> MergedCell[Register[Any]]: ...
    def register(
        self, name: str, value: Any = Any, *, key: str | None = None, **options: Any
    ) -> MergedCell[Register[Any]]:
        """Declare a register: the last value put in stays. Options as for `counter`."""
        return self._merged("register", name, key, value, options)

    @overload
    def map(self, name: str, value: type[V], *, key: str | None = ..., **options: Any) -> MergedCell[MergedMap[V]]: ...
    @overload
    def map(
        self, name: str, value: Any = ..., *, key: str | None = ..., **options: Any
    ) -> MergedCell[MergedMap[Any]]: ...
    def map(self, name: str, value: Any = Any, *, key: str | None = None, **options: Any) -> MergedCell[MergedMap[Any]]:
        """Declare a map of which each field keeps the last value put in. Options as for `counter`."""
        return self._merged("map", name, key, value, options)

    @overload
    def log(self, name: str, entry: type[V], *, key: str | None = ..., **options: Any) -> MergedCell[Log[V]]: ...
    @overload
    def log(self, name: str, entry: Any = ..., *, key: str | None = ..., **options: Any) -> MergedCell[Log[Any]]: ...
    def log(self, name: str, entry: Any = Any, *, key: str | None = None, **options: Any) -> MergedCell[Log[Any]]:
        """Declare a log that operators append to, read in the order of time. Options as for `counter`."""
        return self._merged("log", name, key, entry, options)

    def _merged(self, kind: Any, name: str, key: str | None, value: Any, options: dict[str, Any]) -> MergedCell[Any]:
        space = KeySpace(key, options.pop("shards", 256)) if key is not None else None
        return self._declare(MergedCell(app=self.name, kind=kind, name=name, space=space, value_type=value, **options))

    def _declare(self, cell: CellT) -> CellT:
        if cell.name in self._cells:
            raise ValueError(f"app {self.name!r} has a cell {cell.name!r} already: names are unique")
        for kind in (cell.key_type, cell.value_type):
            codec.register_all(kind)
        self._cells[cell.name] = cell
        return cell

    def adopt(self, *operators: Any) -> None:
        """Have the app use the very cells that some operators have declared accesses to, in place of its own.

        For an app that was written down, and whose operators were not: its cells must be declared as theirs are.
        Cells that the app has not declared are left to the checker.

        Raises: ValueError when a cell of the same name is declared otherwise.
        """
        for operator in operators:
            for access in accesses_of(operator).values():
                own = self._cells.get(access.cell.name)
                if own is None or own is access.cell:
                    continue
                if other := own.differs_from(access.cell):
                    raise ValueError(
                        f"{own.kind} {own.name!r} is declared otherwise where {operator.__name__} uses it: {other}"
                    )
                self._cells[own.name] = access.cell

    @property
    def cells(self) -> Mapping[str, Cell]:
        """Return every declared cell by name."""
        return MappingProxyType(self._cells)

    # -- by the clock

    def schedule(
        self,
        name: str,
        stream: Stream[Any, Any] | str,
        item: Any = None,
        *,
        every_s: float | None = None,
        cron: str | None = None,
    ) -> None:
        """Begin a request of a stream again and again: every so many seconds, or as a cron expression says (UTC).

        Nobody waits for its answer; an error becomes a dead letter. With a store, one that was missed while no host ran
        begins once, at the start.

        Raises: ValueError.
        """
        if name in self._schedules:
            raise ValueError(f"app {self.name!r} has a schedule {name!r} already: names are unique")
        target = stream if isinstance(stream, str) else stream.name
        self._schedules[name] = Schedule(name=name, stream=target, item=item, every_s=every_s, cron=cron)

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """Return every schedule by name."""
        return MappingProxyType(self._schedules)

    # -- what there is

    @property
    def streams(self) -> Mapping[str, Topology]:
        """Return the topology of every stream by name."""
        return MappingProxyType({name: stream.topology for name, stream in self._streams.items()})

    def __getitem__(self, name: str) -> Stream[Any, Any]:
        """Return a stream by name. Raises: UnknownStreamError, which says what was meant."""
        try:
            return self._streams[name]
        except KeyError:
            raise UnknownStreamError(unknown_stream(name, self._streams), stream=name) from None

    def __repr__(self) -> str:
        return f"<app {self.name!r} with streams {', '.join(self._streams) or '(none)'}>"


def unknown_stream(name: str, known: Mapping[str, Any]) -> str:
    """Return the sentence that says which streams there are, and which was probably meant."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no stream {name!r}{hint} (streams: {', '.join(sorted(known)) or 'none'})"
