"""What an operator finds in `self.stock`: the handle of one declared access, for one activation after another.

Handles of plain activations write in place (`PlainRows`, and merged cells of a plain activation); those of activations
that may be suspended write into the activation's overlay. Every handle refuses what is not in hand, with an AccessError
that names operator, cell, access and the declaration that would allow it.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from actorflow.core.merges import ABSENT
from actorflow.errors import AccessError, CellTypeError, summary
from actorflow.plan.cells import Access
from actorflow.runtime.cells import Entries, commit_in_place, commit_overlay, ordered
from actorflow.runtime.request import UNSET

if TYPE_CHECKING:
    from actorflow.runtime.activation import Activation

NO_KEY: Any = object()


def handle_of(activation: Activation, access: Access) -> Any:
    """Return what an operator finds under the name of a declared access.

    Raises: AccessError when the cell belongs to another app.
    """
    entries = activation.host.cells.get(access.cell.name)
    if entries is None or not entries.cell.same_as(access.cell):  # a later version of an app declares its cells anew
        raise AccessError(
            f"{access.cell.kind} {access.cell.name!r} belongs to app {access.cell.app!r}, not to "
            f"{activation.host.app.name!r}: declare it on the app whose streams use it",
            cell=access.cell.name,
        )
    plain = activation.worker is None
    kind, how = access.cell.kind, access.how
    if how == "snapshot":
        return SNAPSHOTS.get(kind, SnapshotRows)(activation, entries, access)
    if how == "merged":
        return MERGED[kind](activation, entries, access)
    if kind == "value":
        return ExclusiveValue(activation, entries, access)
    if how == "owned":
        return PlainRows(activation, entries, access) if plain else OwnedRows(activation, entries, access)
    return LockedRows(activation, entries, access)


class Handle:
    """The ground of all handles: one activation, one cell, one access."""

    __slots__ = ("_access", "_activation", "_entries")

    def __init__(self, activation: Activation, entries: Entries, access: Access) -> None:
        self._activation = activation
        self._entries = entries
        self._access = access

    def is_of(self, entries: Entries) -> bool:
        """Return whether this is a handle of a cell."""
        return self._entries is entries

    def _where(self) -> str:
        replica = self._activation.replica
        return f"{replica.stream.name}/{replica.name}" if replica is not None else "a start or stop hook"

    def _refuse(self, why: str, way: str) -> NoReturn:
        cell, access = self._entries.cell, self._access
        raise AccessError(
            f"{self._where()} {why} of {cell.kind} {cell.name!r}, which it declares as "
            f"{access.name} = {cell.name}.{access}: {way}",
            cell=cell.name,
        )

    def _check_write(self) -> None:
        if self._access.read_only:
            how = "exclusive" if self._entries.cell.kind in {"table", "value"} else "merged"
            self._refuse("writes an entry", f"to write, declare {self._entries.name}.{how}()")

    def __repr__(self) -> str:
        return f"<{self._access} access to {self._entries.cell.kind} {self._entries.name!r}>"


# -- rows of tables


class _Rows(Handle):
    """The part of a dict of rows that follows from reading and writing one."""

    __slots__ = ()

    def _get(self, key: Any) -> Any:
        raise NotImplementedError

    def _set(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def get(self, key: Any, default: Any = None) -> Any:
        value = self._get(key)
        return default if value is ABSENT else value

    def __getitem__(self, key: Any) -> Any:
        value = self._get(key)
        if value is ABSENT:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self._get(key) is not ABSENT

    def __setitem__(self, key: Any, value: Any) -> None:
        self._set(key, self._entries.check(value))

    def __delitem__(self, key: Any) -> None:
        if self._get(key) is ABSENT:
            raise KeyError(key)
        self._set(key, ABSENT)

    def pop(self, key: Any, default: Any = UNSET) -> Any:
        """Take a row out and return it."""
        value = self._get(key)
        if value is not ABSENT:
            self._set(key, ABSENT)
        elif default is UNSET:
            raise KeyError(key)
        return default if value is ABSENT else value

    def setdefault(self, key: Any, default: Any) -> Any:
        """Return the row, put there first where it is missing."""
        value = self._get(key)
        if value is ABSENT:
            self[key] = default
            return self._get(key)
        return value

    def update(self, rows: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Set several rows."""
        for key, value in rows.items() if isinstance(rows, Mapping) else rows:
            self[key] = value

    @contextlib.contextmanager
    def edit(self, key: Any) -> Iterator[Any]:
        """Give a copy of the row to be changed, and write it back."""
        value = self._get(key)
        if value is ABSENT:
            raise KeyError(key)
        row = value if self._entries.copies else self._entries.copy(value)
        yield row
        self[key] = row


class PlainRows(_Rows):
    """Rows that a plain activation owns: read and written in place. The path of most state: few operations each."""

    __slots__ = ("_data", "_effects", "_exact", "_read_only", "_undo")

    def __init__(self, activation: Activation, entries: Entries, access: Access) -> None:
        super().__init__(activation, entries, access)
        self._data = entries.data
        self._undo = activation.undo
        self._effects = activation.effects
        self._read_only = access.read_only
        self._exact = entries.exact

    def get(self, key: Any, default: Any = None) -> Any:
        if key != self._activation.key:
            self._check_in_hand(key)
        if not self._entries.special:
            return self._data.get(key, default)
        value = self._entries.read(key)
        return default if value is ABSENT else self._entries.out(value)

    def _get(self, key: Any) -> Any:
        if key != self._activation.key:
            self._check_in_hand(key)
        entries = self._entries
        if not entries.special:
            return self._data.get(key, ABSENT)
        value = entries.read(key)
        return value if value is ABSENT else entries.out(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        if key != self._activation.key:
            self._check_in_hand(key)
        if type(value) is not self._exact:
            value = self._entries.check(value)
        undo = self._undo
        if not undo or (last := undo[-1])[1] != key or last[0] is not self._entries:
            self._keep_old(key)
        self._data[key] = value

    def _keep_old(self, key: Any) -> None:
        """Keep what was there, before it is overwritten for the first time in a row."""
        if self._read_only:
            self._check_write()
        entries, undo = self._entries, self._undo
        old = self._data.get(key, ABSENT)
        if old is ABSENT:
            entries.check_new_key(key)
            entries.size += 1
            entries.order = None
        if not undo:
            self._effects.append(_IN_PLACE)
        undo.append((entries, key, old))

    def _set(self, key: Any, value: Any) -> None:
        if value is not ABSENT:
            self[key] = value
            return
        if self._read_only:
            self._check_write()
        write_in_place(self._activation, self._entries, key, ABSENT)

    def _check_in_hand(self, key: Any) -> None:
        activation = self._activation
        if activation.keys is not None and key in activation.keys:
            return
        hand = "no key is in hand here" if activation.key is NO_KEY else f"the key in hand is {summary(activation.key)}"
        self._refuse(
            f"touches key {summary(key)}",
            f"{hand}; key the edge to it by what it touches, or declare {self._entries.name}.exclusive() and lock it",
        )

    def keys(self) -> Iterator[Any]:
        """Iterate over the keys of the shard of the key in hand, in their order."""
        return iter(_shard(self._entries, self._activation.key))

    def values(self) -> Iterator[Any]:
        """Iterate over the rows of this shard, in order of their keys."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over keys and rows of this shard, in order of the keys."""
        entries = self._entries
        for key in self.keys():
            if (value := entries.read(key)) is not ABSENT:
                yield key, entries.out(value)


class _OverlayRows(_Rows):
    """Rows of an activation that may be suspended: it must have locked them, and writes to itself until it commits."""

    __slots__ = ("_data", "_held", "_overlay", "_read_only")

    def __init__(self, activation: Activation, entries: Entries, access: Access) -> None:
        super().__init__(activation, entries, access)
        self._data = entries.data
        self._held = entries.locks.held
        self._overlay = activation.overlay
        self._read_only = access.read_only

    def get(self, key: Any, default: Any = None) -> Any:
        value = self._get(key)
        return default if value is ABSENT else value

    def _get(self, key: Any) -> Any:
        entries = self._entries
        if self._held.get(key) is not self._activation:
            self._check_shared(key)
        if self._overlay and (pending := self._overlay.get(entries)) is not None and key in pending:
            value = pending[key]
        elif not entries.special:
            return self._data.get(key, ABSENT)
        else:
            value = entries.read(key)
        return value if value is ABSENT else entries.out(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        entries = self._entries
        if type(value) is not entries.exact:
            value = entries.check(value)
        if self._held.get(key) is not self._activation or self._read_only or key not in self._data:
            self._set(key, value)
            return
        pending = self._overlay.get(entries) if self._overlay else None
        if pending is None:
            pending = self._activation.pending(entries)
        pending[key] = value

    def _set(self, key: Any, value: Any) -> None:
        activation, entries = self._activation, self._entries
        if self._held.get(key) is not activation:
            self._check_shared(key)
            self._refuse(f"writes key {summary(key)}", "its lock is shared; lock it without shared=True")
        self._check_write()
        pending = activation.pending(entries)
        if value is not ABSENT:
            pending.add(key)
        pending[key] = value

    def _check_shared(self, key: Any) -> None:
        if self._activation not in self._entries.locks.holders(key):
            self._not_locked(key)

    def _not_locked(self, key: Any) -> NoReturn:
        self._refuse(
            f"touches key {summary(key)}",
            f"it has not locked this key: await self.{self._access.name}.lock({summary(key)}) first",
        )


class OwnedRows(_OverlayRows):
    """Rows of the key in hand of an activation that may be suspended: locked when it began."""

    __slots__ = ()

    def _not_locked(self, key: Any) -> NoReturn:
        hand = self._activation.key
        self._refuse(
            f"touches key {summary(key)}",
            ("no key is in hand here" if hand is NO_KEY else f"the key in hand is {summary(hand)}")
            + f"; key the edge to it by what it touches, or declare {self._entries.name}.exclusive() and lock it",
        )

    def keys(self) -> Iterator[Any]:
        """Iterate over the keys of the shard of the key in hand, in their order."""
        return (key for key, _ in self.items())

    def values(self) -> Iterator[Any]:
        """Iterate over the rows of this shard, in order of their keys."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over keys and rows of this shard: its own as written here, the others as they are committed."""
        entries, activation = self._entries, self._activation
        pending: Mapping[Any, Any] = activation.overlay.get(entries) or {}
        own = [key for key in pending if key not in entries.data and _same_shard(entries, key, activation.key)]
        for key in ordered([*_shard(entries, activation.key), *own]):
            value = pending[key] if key in pending else entries.read(key)
            if value is not ABSENT:
                yield key, entries.out(value)


class LockedRows(_OverlayRows):
    """Rows of any key, to be locked first."""

    __slots__ = ()

    async def lock(self, *keys: Any, shared: bool = False) -> _OverlayRows:
        """Wait until no other activation works on these keys, and keep them until this activation ends."""
        activation, entries = self._activation, self._entries
        if activation.worker is None:
            self._check_can_wait("lock")
        shared = shared or self._read_only
        if left := activation.lock_now(entries, keys, shared=shared):
            await activation.lock(entries, left, shared=shared)
        return self

    async def transact(self, keys: Iterable[Any], function: Callable[[Any], Any]) -> Any:
        """Call `function(rows)` with keys locked, as a transaction of its own."""
        self._check_can_wait("transact")
        keys = tuple(keys)

        async def work(activation: Activation) -> Any:
            rows = LockedRows(activation, self._entries, self._access)
            await activation.lock(self._entries, keys, shared=self._access.read_only)
            result = function(rows)
            return await result if inspect.isawaitable(result) else result

        return await self._activation.child_transaction(f"transact:{self._entries.name}", keys, work)

    def _check_can_wait(self, verb: str) -> None:
        if self._activation.worker is None:
            raise TypeError(f"{verb}() is awaited, and a plain method cannot wait: make it async def")


class ExclusiveValue(Handle):
    """A single value, to be locked first."""

    __slots__ = ()

    async def lock(self, *, shared: bool = False) -> Any:
        """Wait until no other activation works on the value, keep it, and return it."""
        if self._activation.worker is None:
            raise TypeError("lock() is awaited, and a plain method cannot wait: make it async def")
        await self._activation.lock(self._entries, (None,), shared=shared or self._access.read_only)
        return self.get()

    def get(self, default: Any = None) -> Any:
        activation, entries = self._activation, self._entries
        if activation not in entries.locks.holders(None):
            self._refuse("reads it without its lock", f"await self.{self._access.name}.lock() first")
        pending = activation.overlay.get(entries)
        value = pending.get(None, UNSET) if pending is not None else UNSET
        if value is UNSET:
            value = entries.read(None)
        return default if value is ABSENT else entries.out(value)

    def set(self, value: Any) -> None:
        """Replace the value."""
        self._check_write()
        if not self._entries.locks.is_exclusive(self._activation, None):
            self._refuse("writes it without its lock", f"await self.{self._access.name}.lock() first")
        self._activation.pending(self._entries)[None] = self._entries.check(value)


def _shard(entries: Entries, key: Any) -> list[Any]:
    space = entries.cell.space
    assert space is not None
    if key is NO_KEY:
        return []
    shard = space.shard_of(key)
    return [each for each in entries.in_order() if space.shard_of(each) == shard]


def _same_shard(entries: Entries, one: Any, other: Any) -> bool:
    space = entries.cell.space
    assert space is not None
    return space.shard_of(one) == space.shard_of(other)


def write_in_place(activation: Activation, entries: Entries, key: Any, entry: Any) -> None:
    """Write an entry at once, keeping what was there in case the activation fails."""
    old = entries.read(key)
    if not activation.undo:
        activation.effects.append(_IN_PLACE)
    if old is ABSENT and entry is not ABSENT:
        entries.check_new_key(key)
    activation.undo.append((entries, key, old))
    entries.put(key, entry)


_IN_PLACE = (commit_in_place, None)
OVERLAY = (commit_overlay, None)


# -- cells whose changes commute


class _Merged(Handle):
    """A cell, or what it has under one key, changed by operations that commute."""

    __slots__ = ("_key",)

    def __init__(self, activation: Activation, entries: Entries, access: Access, key: Any = UNSET) -> None:
        super().__init__(activation, entries, access)
        self._key = key

    def __getitem__(self, key: Any) -> Any:
        if self._entries.cell.space is None or self._key is not UNSET:
            raise TypeError(
                f"{self._entries.cell.kind} {self._entries.name!r} has no keys: declare key= to have one each"
            )
        return type(self)(self._activation, self._entries, self._access, key)

    def _own_key(self) -> Any:
        if self._key is not UNSET:
            return self._key
        if self._entries.cell.space is not None:
            name = self._access.name
            raise TypeError(f"{self._entries.cell.kind} {self._entries.name!r} has one per key: use self.{name}[key]")
        return None

    def _merge(self, key: Any, delta: Any) -> None:
        """Merge a change into an entry: in place, or into what the activation keeps to itself."""
        self._check_write()
        activation, entries = self._activation, self._entries
        merge = entries.merge
        assert merge is not None
        if activation.worker is None:
            write_in_place(activation, entries, key, entries.merged(key, delta))
            return
        pending = activation.pending(entries)
        if key in pending:
            pending[key] = merge(pending[key], delta)
        else:
            pending.add(key)
            pending[key] = delta

    def _entry(self, key: Any) -> Any:
        """Return an entry as it is with what this activation has done to it."""
        entries = self._entries
        if self._access.how == "snapshot":
            return committed(entries, self._activation, key)
        entry = entries.read(key)
        pending = self._activation.overlay.get(entries) if self._activation.overlay else None
        if pending is not None and key in pending:
            assert entries.merge is not None
            entry = entries.merge(entry, pending[key])
        return entry

    def _value(self, key: Any) -> Any:
        entry = self._entry(key)
        if entry is ABSENT:
            return ABSENT
        value = self._entries.value_of(entry)
        return value if value is ABSENT else self._entries.out(value)

    def _parts(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over the parts of a collection, with their values."""
        own, entries = self._own_key(), self._entries
        parts = list(entries.data.get(own, ()))
        if self._access.how == "snapshot":
            parts += [key[1] for key in _gone(entries, self._activation) if key[0] == own]
        if self._activation.overlay and self._access.how != "snapshot":
            known = set(parts)
            pending: Mapping[Any, Any] = self._activation.overlay.get(entries) or {}
            parts += [key[1] for key in pending if key[0] == own and key[1] not in known]
        for part in parts:
            if (value := self._value((own, part))) is not ABSENT:
                yield part, value

    def _stamp(self) -> tuple[int, str, int]:
        host = self._activation.host
        return host.stamp()


class CounterHandle(_Merged):
    """A number that everybody may add to."""

    __slots__ = ()

    def add(self, count: int = 1) -> None:
        """Add a whole number, which may be negative."""
        if type(count) is not int:
            raise CellTypeError(
                f"counter {self._entries.name!r} adds whole numbers, not {summary(count)}: sums of fractions depend on "
                "their order",
                cell=self._entries.name,
            )
        self._merge(self._own_key(), count)

    def value(self) -> int:
        """Return the sum of all that was added, 0 when nothing was."""
        value = self._value(self._own_key())
        return 0 if value is ABSENT else int(value)


class ExtremeHandle(_Merged):
    """The greatest, or smallest, of all that was put in."""

    __slots__ = ()

    def put(self, value: Any) -> None:
        """Put a value in; it stays when it is beyond all others."""
        if type(value) is float and math.isnan(value):
            raise CellTypeError(f"{self._entries.name!r} cannot order nan", cell=self._entries.name)
        self._merge(self._own_key(), self._entries.check(value))

    def value(self, default: Any = None) -> Any:
        """Return the greatest, or smallest."""
        value = self._value(self._own_key())
        return default if value is ABSENT else value


class RegisterHandle(_Merged):
    """A value of which the last one put in stays."""

    __slots__ = ()

    def put(self, value: Any) -> None:
        """Put a value in; it stays until a later one comes."""
        self._merge(self._own_key(), (self._stamp(), self._entries.check(value)))

    def value(self, default: Any = None) -> Any:
        """Return the last value."""
        value = self._value(self._own_key())
        return default if value is ABSENT else value


class SetHandle(_Merged):
    """A set that everybody may add to."""

    __slots__ = ()

    def add(self, element: Any) -> None:
        """Add an element."""
        element = self._entries.check(element)
        if self._entries.cell.kind == "grow_set":
            if self._value((self._own_key(), element)) is ABSENT:
                self._merge((self._own_key(), element), True)
            return
        key = (self._own_key(), element)
        seen = self._tags(key)
        self._merge(key, (frozenset({self._stamp()}), seen))  # one tag stands for all that were seen

    def discard(self, element: Any) -> None:
        """Remove an element if it is there: those additions of it that have been seen here."""
        if self._entries.cell.kind == "grow_set":
            raise TypeError(f"set {self._entries.name!r} only grows: declare it without grow_only=True to remove")
        key = (self._own_key(), element)
        if seen := self._tags(key):
            self._merge(key, (frozenset(), seen))

    def _tags(self, key: Any) -> frozenset[Any]:
        entry = self._entry(key)
        tags: frozenset[Any] = frozenset() if entry is ABSENT else entry[0]
        return tags

    def __contains__(self, element: object) -> bool:
        return self._value((self._own_key(), element)) is not ABSENT

    def __iter__(self) -> Iterator[Any]:
        return (part for part, _ in self._parts())

    def __len__(self) -> int:
        return sum(1 for _ in self._parts())


class MapHandle(_Merged):
    """Fields of which each keeps the last value put in."""

    __slots__ = ()

    def put(self, field: Any, value: Any) -> None:
        """Put a value into a field; it stays until a later one comes."""
        self._merge((self._own_key(), field), (self._stamp(), self._entries.check(value)))

    def discard(self, field: Any) -> None:
        """Remove a field; it stays away until a value is put in later."""
        if self._entry((self._own_key(), field)) is not ABSENT:
            self._merge((self._own_key(), field), (self._stamp(), ABSENT))

    def get(self, field: Any, default: Any = None) -> Any:
        value = self._value((self._own_key(), field))
        return default if value is ABSENT else value

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over fields and values."""
        return self._parts()

    def __contains__(self, field: object) -> bool:
        return self._value((self._own_key(), field)) is not ABSENT

    def __len__(self) -> int:
        return sum(1 for _ in self._parts())


class LogHandle(_Merged):
    """Entries in the order of their time."""

    __slots__ = ()

    def append(self, entry: Any) -> None:
        """Append an entry."""
        stamp = self._stamp()
        self._merge((self._own_key(), stamp), (stamp, self._entries.check(entry)))

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in sorted(self._parts(), key=_first))

    def __len__(self) -> int:
        return sum(1 for _ in self._parts())


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


MERGED: dict[str, type[_Merged]] = {
    "counter": CounterHandle,
    "max": ExtremeHandle,
    "min": ExtremeHandle,
    "register": RegisterHandle,
    "set": SetHandle,
    "grow_set": SetHandle,
    "map": MapHandle,
    "log": LogHandle,
}


# -- what is committed


class SnapshotRows(Handle):
    """What is committed of a table, to be read."""

    __slots__ = ()

    def get(self, key: Any, default: Any = None) -> Any:
        value = self._read(key)
        return default if value is ABSENT else value

    def __getitem__(self, key: Any) -> Any:
        value = self._read(key)
        if value is ABSENT:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self._read(key) is not ABSENT

    def __len__(self) -> int:
        entries, activation = self._entries, self._activation
        if not activation.undo:
            return entries.size
        return sum(1 for _ in self.items())

    def _read(self, key: Any) -> Any:
        value = committed(self._entries, self._activation, key)
        return value if value is ABSENT else self._entries.out(value)

    def items(self, start: Any = UNSET, end: Any = UNSET, limit: int | None = None) -> Iterator[tuple[Any, Any]]:
        """Iterate in order of the keys from `start` up to, not including, `end`; at most `limit`."""
        taken = 0
        gone = _gone(self._entries, self._activation)
        keys = ordered([*self._entries.in_order(), *gone]) if gone else self._entries.in_order()
        for key in within(keys, start, end):
            if limit is not None and taken >= limit:
                return
            if (value := self._read(key)) is not ABSENT:
                taken += 1
                yield key, value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check_write()

    def __delitem__(self, key: Any) -> None:
        self._check_write()


class SnapshotValue(Handle):
    """What is committed of a single value."""

    __slots__ = ()

    def get(self, default: Any = None) -> Any:
        value = self._entries.read(None)
        return default if value is ABSENT else self._entries.out(value)

    def set(self, value: Any) -> None:
        """Refuse: a snapshot is read."""
        self._check_write()


def committed(entries: Entries, activation: Activation, key: Any) -> Any:
    """Return an entry without what the activation itself has written in place, which is not committed yet."""
    for other, changed, old in activation.undo:
        if other is entries and changed == key:
            return old
    return entries.read(key)


def _gone(entries: Entries, activation: Activation) -> list[Any]:
    """Return the keys of entries that the activation itself has removed in place."""
    if not activation.undo:
        return []
    changed = {key for other, key, old in activation.undo if other is entries and old is not ABSENT}
    return [key for key in changed if entries.read(key) is ABSENT]


SNAPSHOTS: dict[str, type[Handle]] = {"value": SnapshotValue, **MERGED}


def within(keys: list[Any], start: Any = UNSET, end: Any = UNSET) -> list[Any]:
    """Return the ordered keys from `start` up to, not including, `end`."""
    try:
        low = 0 if start is UNSET else bisect_left(keys, start)
        high = len(keys) if end is UNSET else bisect_left(keys, end)
    except TypeError:
        raise CellTypeError(
            f"a range from {summary(start)} to {summary(end)} cannot be compared with the keys"
        ) from None
    return keys[low:high]
