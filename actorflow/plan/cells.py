"""Cells: pieces of state that streams share, and how an operator declares that it touches one.

A cell is declared on the app (`stock = app.table("stock", key="sku")`), and an operator that uses it says how, in a
class attribute: `stock = stock.owned()`. What it then finds in `self.stock` is the protocol of that access, below.

| access | of | may | why that is safe |
|---|---|---|---|
| `owned()` | table | read and write the key in hand | nobody else works on this key meanwhile |
| `exclusive()` | table, value | read and write what it has locked | the same locks |
| `merged()` | counter, max, min, set, register, map, log | change it, in any order | the order does not matter |
| `snapshot()` | all | read what is committed | nothing is written |
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NoReturn, Protocol, TypeAlias, TypeVar, cast, overload

from actorflow.errors import AccessError
from actorflow.limits import is_count
from actorflow.plan.topology import KeySpace

if TYPE_CHECKING:
    from actorflow.plan.operator import Operator

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
V_co = TypeVar("V_co", covariant=True)

Kind: TypeAlias = Literal["table", "value", "counter", "max", "min", "set", "grow_set", "register", "map", "log"]
How: TypeAlias = Literal["owned", "exclusive", "merged", "snapshot"]
Migrate: TypeAlias = Callable[[int, Any, Any], Any]

ALLOWED: Final[dict[str, tuple[How, ...]]] = {
    "table": ("owned", "exclusive", "snapshot"),
    "value": ("exclusive", "snapshot"),
}
MERGED: Final[tuple[How, ...]] = ("merged", "snapshot")
"""Accesses of every other kind."""

ENTRIES_MAX: Final = 10_000_000
WHOLE: Final = "whole:"
"""Prefix of the key space of a value: it has one key, which is None."""


# -- what an operator finds under the name of a declared access


class Rows(Protocol[K, V]):  # type: ignore[misc] # a key is given and never received here, which is no promise
    """Rows of a table that are in hand: a dict of the keys that may be touched. Missing keys are simply not there.

    Values come back as they were put in; what is mutable is copied, on both ways. Raises: AccessError for any other
    key; CellTypeError; CellFullError.
    """

    @overload
    def get(self, key: K) -> V | None: ...

    @overload
    def get(self, key: K, default: R) -> V | R: ...

    def __getitem__(self, key: K) -> V: ...
    def __setitem__(self, key: K, value: V) -> None: ...
    def __delitem__(self, key: K) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def pop(self, key: K, default: V = ...) -> V:
        """Take a row out and return it."""

    def setdefault(self, key: K, default: V) -> V:
        """Return the row, put there first where it is missing."""

    def update(self, rows: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """Set several rows."""

    def edit(self, key: K) -> AbstractContextManager[V]:
        """Give a copy of the row to be changed in a `with` block, and write it back at the end of the block."""


class OwnedTable(Rows[K, V], Protocol[K, V]):
    """A table that this operator owns: the row of the key in hand, and the shard it belongs to, to look at."""

    def keys(self) -> Iterator[K]:
        """Iterate over the keys of the shard of the key in hand, in their order."""

    def values(self) -> Iterator[V]:
        """Iterate over the rows of this shard, in order of their keys."""

    def items(self) -> Iterator[tuple[K, V]]:
        """Iterate over keys and rows of this shard, in order of the keys; others' rows as they are committed."""


class ExclusiveTable(Rows[K, V], Protocol[K, V]):  # type: ignore[misc] # as above
    """A table of which this operator locks what it touches."""

    def lock(self, *keys: K, shared: bool = False) -> Coroutine[Any, Any, Rows[K, V]]:
        """Wait until no other activation works on these keys, and keep them until this activation ends.

        shared: others may read the keys meanwhile, and nobody may write them.

        Raises: CallCycleError, naming the circle, when this request would wait for itself.
        """

    def transact(self, keys: Iterable[K], function: Callable[[Rows[K, V]], R]) -> Coroutine[Any, Any, R]:
        """Call `function(rows)` with these keys locked, as a transaction of its own: it takes effect when this returns.

        `function` is a plain or a coroutine function; what it raises undoes what it has written, and is raised here.
        """


class ExclusiveValue(Protocol[V]):
    """A single value that this operator locks before it touches it."""

    def lock(self, *, shared: bool = False) -> Coroutine[Any, Any, V]:
        """Wait until no other activation works on the value, keep it until this activation ends, and return it."""

    def get(self, default: V = ...) -> V:
        """Return the value. Raises: AccessError before `lock`."""

    def set(self, value: V) -> None:
        """Replace the value. Raises: AccessError before `lock`; CellTypeError."""


class ReadTable(Protocol[K, V_co]):
    """What is committed of a table, to be read: any key, without waiting."""

    @overload
    def get(self, key: K) -> V_co | None: ...

    @overload
    def get(self, key: K, default: R) -> V_co | R: ...

    def __getitem__(self, key: K) -> V_co: ...
    def __contains__(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def items(self, start: Any = ..., end: Any = ..., limit: int | None = ...) -> Iterator[tuple[K, V_co]]:
        """Iterate in order of the keys from `start` up to, not including, `end`; at most `limit`."""


class ReadValue(Protocol[V_co]):
    """What is committed of a single value."""

    def get(self, default: Any = ...) -> V_co:
        """Return the value."""


class Counter(Protocol):
    """A number that everybody may add to. `counter[key]` is the counter of a key, where it has a key space."""

    def __getitem__(self, key: Any) -> Counter: ...
    def add(self, count: int = 1) -> None:
        """Add a whole number, which may be negative."""

    def value(self) -> int:
        """Return the sum of all that was added."""


class Extreme(Protocol[V]):
    """The greatest, or smallest, of all that anybody has put in. `cell[key]` is that of a key."""

    def __getitem__(self, key: Any) -> Extreme[V]: ...
    def put(self, value: V) -> None:
        """Put a value in; it stays when it is beyond all others."""

    def value(self, default: Any = ...) -> V:
        """Return the greatest, or smallest."""


class MergedSet(Protocol[V]):
    """A set that everybody may add to; removing takes away what the remover has seen. `cell[key]` is that of a key."""

    def __getitem__(self, key: Any) -> MergedSet[V]: ...
    def add(self, element: V) -> None:
        """Add an element."""

    def discard(self, element: V) -> None:
        """Remove an element if it is there."""

    def __contains__(self, element: object) -> bool: ...
    def __iter__(self) -> Iterator[V]: ...
    def __len__(self) -> int: ...


class Register(Protocol[V]):
    """A value of which the last one put in stays. `cell[key]` is that of a key."""

    def __getitem__(self, key: Any) -> Register[V]: ...
    def put(self, value: V) -> None:
        """Put a value in; it stays until a later one comes."""

    def value(self, default: Any = ...) -> V:
        """Return the last value."""


class MergedMap(Protocol[V]):
    """Fields of which each keeps the last value put in. `cell[key]` is the map of a key."""

    def __getitem__(self, key: Any) -> MergedMap[V]: ...
    def put(self, field: Any, value: V) -> None:
        """Put a value into a field; it stays until a later one comes."""

    def discard(self, field: Any) -> None:
        """Remove a field."""

    def get(self, field: Any, default: Any = ...) -> V:
        """Return the value of a field."""

    def items(self) -> Iterator[tuple[Any, V]]:
        """Iterate over fields and values."""

    def __contains__(self, field: object) -> bool: ...
    def __len__(self) -> int: ...


class Log(Protocol[V]):
    """Entries that everybody may append, in the order of their time. `cell[key]` is the log of a key."""

    def __getitem__(self, key: Any) -> Log[V]: ...
    def append(self, entry: V) -> None:
        """Append an entry."""

    def __iter__(self) -> Iterator[V]: ...
    def __len__(self) -> int: ...


# -- declarations


class Access:
    """How one operator class touches one cell. As a class attribute it gives the operator what it declares."""

    __slots__ = ("cell", "how", "max_age_s", "name", "read_only")

    def __init__(self, cell: Cell, how: How, *, read_only: bool = False, max_age_s: float | None = None) -> None:
        allowed = ALLOWED.get(cell.kind, MERGED)
        if how not in allowed:
            ways = " or ".join(f"{way}()" for way in allowed)
            raise AccessError(f"{cell.kind} {cell.name!r} has no {how}() access: declare {ways}", cell=cell.name)
        if max_age_s is not None and not max_age_s > 0:
            raise ValueError(f"{cell.name}.snapshot(max_age_s={max_age_s}): an age is a positive number of seconds")
        self.cell = cell
        self.how = how
        self.read_only = read_only or how == "snapshot"
        self.max_age_s = max_age_s
        self.name = cell.name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, operator: Operator | None, owner: type | None = None) -> Any:
        """Return the handle of the activation at work; plain operators find theirs in their `__dict__`."""
        return self if operator is None else operator._activation.handle(self)

    @property
    def writes(self) -> bool:
        """Return whether state can change by it."""
        return not self.read_only

    def __str__(self) -> str:
        return f"{self.how}(read_only=True)" if self.read_only and self.how != "snapshot" else f"{self.how}()"

    def __repr__(self) -> str:
        return f"<{self} access to {self.cell.kind} {self.cell.name!r}>"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class Cell:
    """A piece of shared state, as it is declared.

    space: the key space of its keys; None where there is one value for all.   key_type, value_type: what is checked
    when something is written (Any: nothing).   ttl_s: entries vanish so long after they were last written.
    entries_max: more are refused with CellFullError.   version: of the schema of its values; `migrate(version, key,
    value)` returns what a stored value of an older version is now.
    """

    app: str
    kind: Kind
    name: str
    space: KeySpace | None = None
    key_type: Any = Any
    value_type: Any = Any
    ttl_s: float | None = None
    entries_max: int = ENTRIES_MAX
    version: int = 1
    migrate: Migrate | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "_").replace(".", "_").isidentifier():
            raise ValueError(f"{self.kind}({self.name!r}): a name is letters, digits, '_', '-' and '.'")
        if self.ttl_s is not None and not self.ttl_s > 0:
            raise ValueError(f"{self.kind} {self.name!r}: ttl_s={self.ttl_s}, but it is a positive number of seconds")
        if not is_count(self.entries_max) or not is_count(self.version):
            raise ValueError(f"{self.kind} {self.name!r}: entries_max and version are whole numbers, at least 1")

    def same_as(self, other: Cell) -> bool:
        """Return whether two declarations say the same, so that the state of one is that of the other."""
        return self is other or not self.differs_from(other)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"

    def differs_from(self, other: Cell) -> str:
        """Return what is declared differently of another cell; empty when either may stand for the other."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in Cell.__slots__)
        return ", ".join(f"{name} is {theirs!r}, and not {own!r}" for name, own, theirs in pairs if own != theirs)

    def _undeclared(self) -> NoReturn:
        ways = " or ".join(f"{self.name} = {self.name}.{way}()" for way in ALLOWED.get(self.kind, MERGED))
        raise AccessError(
            f"{self.kind} {self.name!r} is touched without a declared access: write {ways} in the class of the "
            f"operator, and use self.{self.name} there",
            cell=self.name,
        )

    def __getitem__(self, key: Any) -> NoReturn:
        self._undeclared()

    def __setitem__(self, key: Any, value: Any) -> None:
        self._undeclared()

    def __delitem__(self, key: Any) -> None:
        self._undeclared()

    def __contains__(self, key: object) -> bool:
        self._undeclared()

    def __iter__(self) -> NoReturn:
        self._undeclared()


class _Undeclared:
    """Verbs of handles: called on the declaration itself they say what is missing."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in _VERBS:
            cast("Cell", self)._undeclared()
        if name in {"owned", "exclusive", "merged"}:
            Access(cast("Cell", self), cast("How", name))  # raises, since this kind has no such method
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


_VERBS: Final = frozenset(
    [
        "get",
        "pop",
        "setdefault",
        "update",
        "edit",
        "keys",
        "values",
        "items",
        "lock",
        "transact",
        "set",
        "add",
        "value",
        "put",
        "discard",
        "append",
    ]
)


class Table(_Undeclared, Cell, Generic[K, V]):
    """Rows by key, in the shards of a key space."""

    __slots__ = ()

    def owned(self, *, read_only: bool = False) -> OwnedTable[K, V]:
        """Declare: touches the row of the key in hand. The edge to the operator must be keyed by the table's space."""
        return cast("OwnedTable[K, V]", Access(self, "owned", read_only=read_only))

    def exclusive(self, *, read_only: bool = False) -> ExclusiveTable[K, V]:
        """Declare: locks the rows it touches, whichever they are. read_only: locks are shared."""
        return cast("ExclusiveTable[K, V]", Access(self, "exclusive", read_only=read_only))

    def snapshot(self, *, max_age_s: float | None = None) -> ReadTable[K, V]:
        """Declare: reads what is committed, no older than `max_age_s`."""
        return cast("ReadTable[K, V]", Access(self, "snapshot", max_age_s=max_age_s))


class Value(_Undeclared, Cell, Generic[V]):
    """One value for the whole app."""

    __slots__ = ()

    def exclusive(self, *, read_only: bool = False) -> ExclusiveValue[V]:
        """Declare: locks the value before it touches it."""
        return cast("ExclusiveValue[V]", Access(self, "exclusive", read_only=read_only))

    def snapshot(self, *, max_age_s: float | None = None) -> ReadValue[V]:
        """Declare: reads what is committed, no older than `max_age_s`."""
        return cast("ReadValue[V]", Access(self, "snapshot", max_age_s=max_age_s))


R_co = TypeVar("R_co", covariant=True)


class MergedCell(_Undeclared, Cell, Generic[R_co]):
    """A cell that is changed by operations that commute; `R_co` is the protocol of its handle."""

    __slots__ = ()

    def merged(self) -> R_co:
        """Declare: changes it, by operations whose order does not matter, and reads what has come so far."""
        return cast("R_co", Access(self, "merged"))

    def snapshot(self, *, max_age_s: float | None = None) -> R_co:
        """Declare: reads what is committed, no older than `max_age_s`."""
        return cast("R_co", Access(self, "snapshot", max_age_s=max_age_s))


def accesses_of(operator: Any) -> dict[str, Access]:
    """Return the declared accesses of an operator class, by the name of the attribute."""
    found: dict[str, Access] = {}
    for kind in reversed(getattr(operator, "__mro__", ())):
        for name, value in vars(kind).items():
            if isinstance(value, Access):
                found[name] = value
            else:
                found.pop(name, None)
    return found
