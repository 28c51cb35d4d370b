"""Cells that everybody may change at once, since the order of changes does not matter.

A cell is a set of entries, and a change is a *delta* of one entry. For each kind, `merge` of an entry and deltas is
commutative and associative, so entries that have seen the same deltas are equal, whatever the order and grouping.
Deltas arrive exactly once (the links see to that), so they need not be idempotent; those of max, min, grow-only sets,
registers, maps and logs are.

Stamps are tuples `(time in ns, host incarnation, number)`: unique, and totally ordered. An observed-remove set takes
away the additions that its remover has seen and no other (Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study
of Convergent and Commutative Replicated Data Types", INRIA RR-7506, 2011, section 3.3.5).

ABSENT stands for an entry that is not there: merging leaves it out of the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

Stamp: TypeAlias = tuple[int, str, int]


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final[Any] = _Absent()


class Merge(NamedTuple):
    """How a kind of cell merges: `merge(entry, delta)` is the entry after it (ABSENT for none), `value` what is read.

    parted: an entry is part of a collection, such as an element of a set, and has a key (key, part).
    """

    merge: Callable[[Any, Any], Any]
    value: Callable[[Any], Any]
    parted: bool


def merge_sum(entry: Any, delta: Any) -> Any:
    """Add."""
    return delta if entry is ABSENT else entry + delta


def merge_max(entry: Any, delta: Any) -> Any:
    """Keep the greater."""
    return delta if entry is ABSENT or delta > entry else entry


def merge_min(entry: Any, delta: Any) -> Any:
    """Keep the smaller."""
    return delta if entry is ABSENT or delta < entry else entry


def merge_grow(entry: Any, delta: Any) -> Any:
    """Keep an element that somebody has added."""
    return True


def merge_tags(entry: Any, delta: tuple[frozenset[Stamp], frozenset[Stamp]]) -> Any:
    """Add and take away tags; a tag that is taken away before it has arrived is remembered until it does."""
    if delta is ABSENT:
        return entry  # what was added was taken away again before anybody saw it
    added, removed = delta
    tags, early = (frozenset(), frozenset()) if entry is ABSENT else entry
    tags, gone = tags | added, early | removed
    left, early = tags - gone, gone - tags
    return (left, early) if left or early else ABSENT


def settle_tags(entry: Any, has_arrived: Callable[[Stamp], bool]) -> Any:
    """Forget those removals whose additions have arrived for sure: they were taken away by somebody else, too.

    Without this an element that two have removed at once would be remembered for ever. Who merges knows it from the
    position of the link on which the additions of a host come, in their order; of its own additions it knows them all.
    """
    if entry is ABSENT or not entry[1]:
        return entry
    tags, early = entry[0], frozenset(stamp for stamp in entry[1] if not has_arrived(stamp))
    return (tags, early) if tags or early else ABSENT


def merge_last(entry: Any, delta: tuple[Stamp, Any]) -> Any:
    """Keep the one with the later stamp."""
    return delta if entry is ABSENT or delta[0] > entry[0] else entry


def _itself(entry: Any) -> Any:
    return entry


def _tagged(entry: Any) -> Any:
    return True if entry[0] else ABSENT


def _stamped(entry: Any) -> Any:
    return entry[1]


MERGES: Final[dict[str, Merge]] = {
    "counter": Merge(merge_sum, _itself, parted=False),
    "max": Merge(merge_max, _itself, parted=False),
    "min": Merge(merge_min, _itself, parted=False),
    "grow_set": Merge(merge_grow, _itself, parted=True),
    "set": Merge(merge_tags, _tagged, parted=True),
    "register": Merge(merge_last, _stamped, parted=False),
    "map": Merge(merge_last, _stamped, parted=True),
    "log": Merge(merge_last, _stamped, parted=True),
}
"""The kinds: a log's parts are the stamps of its entries, so that all see the same order."""
