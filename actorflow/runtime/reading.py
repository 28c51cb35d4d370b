"""What is committed, for those outside: cells, entries by key, ranges. All of one answer is of one instant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actorflow.core.merges import ABSENT
from actorflow.errors import CellTypeError, InvalidItemError, UnknownStreamError, summary
from actorflow.runtime.access import within
from actorflow.runtime.cells import Entries
from actorflow.runtime.request import UNSET

if TYPE_CHECKING:
    from actorflow.runtime.host import Host

LIMIT, LIMIT_MAX = 100, 10_000
"""Entries of one range, by default and at most."""


def list_cells(host: Host) -> list[dict[str, Any]]:
    """Return what cells there are: name, kind, key space, number of entries, keys in use and waits for them."""
    return [
        {
            "name": entries.name,
            "kind": entries.cell.kind,
            "key": entries.cell.space.name if _is_keyed(entries) and entries.cell.space is not None else None,
            "entries": entries.size,
            "locked": len(entries.locks.held),
            "waiting": sum(1 for _ in entries.locks.wanted()),
        }
        for entries in host.cells.values()
    ]


def list_locks(host: Host) -> list[dict[str, Any]]:
    """Return which keys are in use, by whom, and who waits for them, for how long."""
    return [
        {
            "space": space,
            "key": summary(key),
            "holders": [_owner(owner) for owner in locks.holders(key)],
            "waiting": [_waiting(host, locks, owner, key) for owner in locks.waiting(key)],
        }
        for space, locks in host.spaces.items()
        for key in locks.held
    ]


def _waiting(host: Host, locks: Any, owner: Any, key: Any) -> dict[str, Any]:
    waits = getattr(owner, "lock_waits", {})
    began_s = getattr(waits.get((locks, key), owner), "began_s", None)
    return {"who": _owner(owner), "for_s": round(host.now_s() - began_s, 6) if began_s is not None else None}


def _owner(owner: Any) -> str:
    request = getattr(owner, "request", None) or getattr(owner, "at_work", None)
    replica = getattr(owner, "replica", None)
    where = f"{replica.stream.name}/{replica.name}" if replica is not None else "an activation"
    return f"{where} (request {request.root.id})" if request is not None else where


def read_cell(host: Host, name: str, key: Any = UNSET) -> Any:
    """Return what a cell holds under a key, or, for one without keys, what it holds.

    A set is returned as a list, a map as a dict, a log as a list in its order.

    Raises: UnknownStreamError when there is no such cell, or nothing under the key; InvalidItemError.
    """
    entries = _entries(host, name)
    keyed = _is_keyed(entries)
    if keyed and key is UNSET:
        raise InvalidItemError(f"{entries.cell.kind} {name!r} has keys: name one, or ask for a range")
    if not keyed and key is not UNSET:
        raise InvalidItemError(f"{entries.cell.kind} {name!r} has no keys")
    value = _value(entries, None if key is UNSET else key)
    if value is ABSENT:
        raise UnknownStreamError(f"{entries.cell.kind} {name!r} has nothing under key {summary(key)}")
    return value


def read_range(
    host: Host, name: str, *, start: Any = UNSET, end: Any = UNSET, limit: int = LIMIT
) -> list[tuple[Any, Any]]:
    """Return keys and values in order of the keys, from `start` up to, not including, `end`, at most `limit`.

    Raises: UnknownStreamError; InvalidItemError.
    """
    entries = _entries(host, name)
    if not _is_keyed(entries):
        raise InvalidItemError(f"{entries.cell.kind} {name!r} has no keys, and no range")
    if not 0 < limit <= LIMIT_MAX:
        raise InvalidItemError(f"limit={limit}: a range has 1 to {LIMIT_MAX} entries")
    found: list[tuple[Any, Any]] = []
    try:
        keys = within(entries.in_order(), start, end)
    except CellTypeError as error:
        raise InvalidItemError(str(error)) from None
    for key in keys:
        if len(found) == limit:
            break
        if (value := _value(entries, key)) is not ABSENT:
            found.append((key, value))
    return found


def parse_key(host: Host, name: str, text: str) -> Any:
    """Return a key that was written as text: as the declared type of the cell's keys, else JSON, else the text itself.

    Raises: UnknownStreamError; InvalidItemError.
    """
    import msgspec

    kind = _entries(host, name).cell.key_type
    if kind is str:
        return text
    try:
        plain = msgspec.json.decode(text)
    except msgspec.DecodeError:
        plain = text
    if kind is Any:
        return hashable(plain)
    try:
        return msgspec.convert(plain, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidItemError(f"{text!r} is no key of {name!r}: {error}") from None


def hashable(value: Any) -> Any:
    """Return a key as it was before it became JSON or msgpack: what is a list there was a tuple."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def _entries(host: Host, name: str) -> Entries:
    entries = host.cells.get(name)
    if entries is None:
        raise UnknownStreamError(f"there is no cell {name!r} (cells: {', '.join(host.cells) or 'none'})")
    return entries


def _is_keyed(entries: Entries) -> bool:
    return entries.cell.kind != "value" and entries.cell.space is not None


def _value(entries: Entries, key: Any) -> Any:
    try:
        if not entries.parted:
            return _read(entries, key)
        parts = entries.data.get(key)
    except TypeError:
        raise InvalidItemError(f"{summary(key)} cannot be a key: it is not hashable") from None
    if parts is None:
        return ABSENT if _is_keyed(entries) else _collected(entries.cell.kind, {})
    values = {part: _read(entries, (key, part)) for part in parts}
    return _collected(entries.cell.kind, {part: value for part, value in values.items() if value is not ABSENT})


def _read(entries: Entries, key: Any) -> Any:
    entry = entries.read(key)
    if entry is ABSENT:
        return (0 if entries.cell.kind == "counter" else None) if not _is_keyed(entries) else ABSENT
    value = entries.value_of(entry)
    return value if value is ABSENT else entries.out(value)


def _collected(kind: str, parts: dict[Any, Any]) -> Any:
    if kind == "map":
        return parts
    if kind == "log":
        return [value for _, value in sorted(parts.items())]
    return list(parts)
