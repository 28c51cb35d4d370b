"""The cells of a host: what is committed, by key. Only activations write, through the handles of `runtime.access`.

A plain activation writes in place and keeps what was there, to put it back when it fails: nothing else runs meanwhile,
so nobody sees it. One that may be suspended keeps what it writes to itself until it commits.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow import codec
from actorflow.core.locks import Locks
from actorflow.core.merges import ABSENT, MERGES, settle_tags
from actorflow.errors import CellFullError, CellTypeError, summary
from actorflow.plan.cells import Cell

if TYPE_CHECKING:
    from actorflow.runtime.activation import Activation
    from actorflow.runtime.host import Host

Owner: typing.TypeAlias = Any
"""Who locks a key: an activation, or an item that waits for its key."""

SWEEP_MAX = 1000
"""How many entries one sweep removes at most."""

_SCALARS = frozenset({int, float, bool, type(None), bytes})


class Entries:
    """What one cell holds on this host.

    data: entries by key; of a collection (`parted`) by key and part.   order: the keys in their order, as long as none
    comes or goes.   locks: of its key space, shared with all cells of it.   copies: some value is mutable, so that all
    are copied on their way out.   expires: when entries vanish, in seconds of the host's clock, the next one first
    (None without time-to-live).   changed: keys written since the journal has last looked (None without a store).
    size: number of entries.   reserved: those that activations under way are going to add.
    """

    __slots__ = (
        "cell", "changed", "check_key", "check_value", "copies", "copy", "data", "exact", "expires", "host", "locks",
        "merge", "name", "order", "parted", "reserved", "size", "special", "tracked", "value_of",
    )  # fmt: skip

    def __init__(self, host: Host, cell: Cell, locks: Locks[Owner]) -> None:
        self.host = host
        self.cell = cell
        self.name = cell.name
        self.locks = locks
        merge = MERGES.get(cell.kind)
        self.merge: Callable[[Any, Any], Any] | None = merge.merge if merge is not None else None
        self.value_of: Callable[[Any], Any] = merge.value if merge is not None else _itself
        self.parted = merge is not None and merge.parted
        self.data: dict[Any, Any] = {}
        self.size = self.reserved = 0
        self.copies = host.strict
        self.copy: Callable[[Any], Any] = codec.handed_over if host.strict else codec.copy_if_mutable
        self.expires: dict[Any, float] | None = {} if cell.ttl_s is not None else None
        self.changed: dict[Any, None] | None = None
        self.order: list[Any] | None = None
        self.check_key = _checker(cell, cell.key_type, "key")
        self.check_value = _checker(cell, cell.value_type, "value")
        self.exact = cell.value_type if cell.value_type in {int, float, bool, bytes} else None
        """The type of values that need no check, where there is one."""
        self.special = self.copies or self.expires is not None
        """Whether a value needs more than to be looked up."""
        self.tracked = self.expires is not None
        """Whether somebody wants to know what was written."""

    def track(self) -> None:
        """Keep note of what is written, for the journal."""
        self.changed = {}
        self.tracked = True

    # -- reading

    def read(self, key: Any) -> Any:
        """Return an entry as it is kept, or ABSENT."""
        if self.expires is not None and self.is_gone(key):
            return ABSENT
        if self.parted:
            parts = self.data.get(key[0])
            return ABSENT if parts is None else parts.get(key[1], ABSENT)
        return self.data.get(key, ABSENT)

    def is_gone(self, key: Any) -> bool:
        """Return whether an entry has outlived its time, and is only not swept away yet."""
        assert self.expires is not None
        expires_s = self.expires.get(key)
        return expires_s is not None and expires_s <= self.host.now_s()

    def out(self, value: Any) -> Any:
        """Return a value as it is given to user code: copied when it could be changed."""
        return self.copy(value) if self.copies else value

    def keys(self) -> Iterator[Any]:
        """Iterate over the keys of all entries: pairs (key, part) of a collection."""
        if self.parted:
            return ((key, part) for key, parts in self.data.items() for part in parts)
        return iter(self.data)

    def in_order(self) -> list[Any]:
        """Return the keys in order (not of entries: a collection has one key for all its parts)."""
        if self.order is None:
            self.order = ordered(self.data)
        return self.order

    # -- writing

    def merged(self, key: Any, delta: Any) -> Any:
        """Return an entry with a change merged into it."""
        assert self.merge is not None
        entry = self.merge(self.read(key), delta)
        # all additions to a set are made here, so that of each removal they have arrived
        return settle_tags(entry, lambda _: True) if self.cell.kind == "set" else entry

    def check(self, value: Any) -> Any:
        """Return a value as it is kept: of the declared type, and out of the reach of whoever gave it.

        Raises: CellTypeError; CodecError where there is a store that cannot keep it.
        """
        if self.check_value is not None:
            self.check_value(value)
        if type(value) in _SCALARS or (type(value) is str and value.isascii()):
            return value
        if self.changed is not None:
            codec.encode(value)
        kept = self.copy(value)
        if kept is not value and not self.copies:
            self.copies = self.special = True
        return kept

    def check_new_key(self, key: Any) -> None:
        """Refuse a key that is not of the declared type, or for which there is no room.

        Raises: CellTypeError; CellFullError; CodecError where there is a store that cannot keep it.
        """
        if self.check_key is not None:
            self.check_key(key[0] if self.parted else key)
        if self.changed is not None:
            codec.encode(key)
        if self.size + self.reserved >= self.cell.entries_max:
            raise CellFullError(
                f"{self.cell.kind} {self.name!r} has {self.size} entries, its limit; delete some, declare ttl_s=, or "
                "raise entries_max=",
                cell=self.name,
            )

    def put(self, key: Any, entry: Any) -> None:
        """Keep an entry, or remove it (ABSENT), without further ado."""
        if self.parted:
            whole, part = key
            parts = self.data.get(whole)
            if entry is ABSENT:
                if parts is not None and part in parts:
                    del parts[part]
                    self.size -= 1
                    if not parts:
                        del self.data[whole]
                        self.order = None
                return
            if parts is None:
                parts = self.data[whole] = {}
                self.order = None
            if part not in parts:
                self.size += 1
            parts[part] = entry
        elif entry is ABSENT:
            if self.data.pop(key, ABSENT) is not ABSENT:
                self.size -= 1
                self.order = None
        else:
            if key not in self.data:
                self.size += 1
                self.order = None
            self.data[key] = entry

    def note(self, key: Any) -> None:
        """Take note that an entry was written, and that this is committed."""
        if self.changed is not None:
            self.changed[key] = None
        if self.expires is not None:
            self.expires.pop(key, None)
            if self.read(key) is not ABSENT:
                assert self.cell.ttl_s is not None
                self.expires[key] = self.host.now_s() + self.cell.ttl_s
                self.host.sweep_cells()

    def sweep(self, now_s: float) -> None:
        """Remove what has outlived its time, at most `SWEEP_MAX` entries: others want their turn, too."""
        assert self.expires is not None
        for key, expires_s in list(islice(self.expires.items(), SWEEP_MAX)):
            if expires_s > now_s:
                return
            del self.expires[key]
            self.put(key, ABSENT)
            if self.changed is not None:
                self.changed[key] = None
                self.host.dirty()


_NOTHING: dict[Any, None] = {}


class Pending(dict[Any, Any]):
    """What an activation is going to write into a cell, by key. Room for new keys is kept free until it does."""

    __slots__ = ("_entries", "added")

    def __init__(self, entries: Entries) -> None:
        super().__init__()
        self._entries = entries
        self.added: dict[Any, None] = _NOTHING

    def add(self, key: Any) -> None:
        """Take note of a key that may be new. Raises: CellFullError, CellTypeError."""
        if key not in self and key not in self.added and self._entries.read(key) is ABSENT:
            self._entries.check_new_key(key)
            self._entries.reserved += 1
            if self.added is _NOTHING:
                self.added = {}
            self.added[key] = None

    def give_up(self) -> None:
        """Need the room no more."""
        self._entries.reserved -= len(self.added)
        self.added = _NOTHING


def forget_overlay(activation: Activation) -> None:
    """Forget what an activation has kept to itself."""
    for pending in activation.overlay.values():
        pending.give_up()
    activation.overlay.clear()


def commit_in_place(activation: Activation, argument: None) -> None:
    """Let what a plain activation has written stay (an effect)."""
    for entries, key, _ in activation.undo:
        if entries.tracked:
            entries.note(key)
    activation.undo.clear()
    journal = activation.host.journal
    if journal is not None:
        journal.mark_written(activation.request)


def commit_overlay(activation: Activation, argument: None) -> None:
    """Write what an activation has kept to itself (an effect)."""
    for entries, pending in activation.overlay.items():
        merge = entries.merge
        data = entries.data
        if pending.added:
            pending.give_up()
        for key, value in pending.items():
            if merge is not None:
                entries.put(key, entries.merged(key, value))
            elif value is not ABSENT and key in data:
                data[key] = value
            else:
                entries.put(key, value)
            if entries.tracked:
                if entries.expires is None and entries.changed is not None:  # `note`, of most cells
                    entries.changed[key] = None
                else:
                    entries.note(key)
    activation.overlay.clear()
    activation.wrote()


def undo_in_place(activation: Activation) -> None:
    """Put back what a plain activation has overwritten."""
    for entries, key, old in reversed(activation.undo):
        entries.put(key, old)
    activation.undo.clear()


def cells_of(host: Host) -> tuple[dict[str, Entries], dict[str, Locks[Owner]]]:
    """Return the cells of a host's app by name, and the locks of its key spaces."""
    spaces: dict[str, Locks[Owner]] = {}
    cells: dict[str, Entries] = {}
    for cell in host.app.cells.values():
        space = cell.space.name if cell.space is not None else ""
        cells[cell.name] = Entries(host, cell, spaces.setdefault(space, Locks()))
    return cells, spaces


def ordered(keys: Any) -> list[Any]:
    """Return keys in their order; those of several types that cannot be compared, by type first."""
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=lambda key: (type(key).__name__, repr(key)))


def _itself(entry: Any) -> Any:
    return entry


def _checker(cell: Cell, kind: Any, what: str) -> Callable[[Any], None] | None:
    """Return what refuses values that are not of a declared type; None when anything goes."""
    if kind is Any or kind is object:
        return None
    exact = kind if isinstance(kind, type) and not typing.is_typeddict(kind) else None

    def check(value: Any) -> None:
        if type(value) is exact:
            return
        try:
            if exact is not None and exact.__module__ != "builtins" and isinstance(value, exact):
                return
            if exact is not None and not (exact is float and type(value) is int):
                raise TypeError(f"it is a {type(value).__name__}")
            if exact is None:
                msgspec.convert(value, kind, strict=True)
        except (msgspec.ValidationError, TypeError) as error:
            name = getattr(kind, "__name__", str(kind))
            raise CellTypeError(
                f"{cell.kind} {cell.name!r} takes a {what} of type {name}, not {summary(value)}: {error}",
                cell=cell.name,
            ) from None

    return check
