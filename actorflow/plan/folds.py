"""Folds: what a stream gathers over the items of one request.

A fold is a value that says how to begin, how to add a batch of items and how to end. The runtime keeps the state, one
per request, so no restart of anything can make a sum wrong. `keyed` folds keep one state per key and end as
`(key, value)` pairs.

When the user's function raises for an item, the items before it are in and that one is not (`Partial.index`): nothing
is added twice and nothing is undone, so accumulators may be mutable.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import itemgetter, length_hint
from typing import Any, ClassVar


class Partial(Exception):  # noqa: N818 - says how far a batch got; `__cause__` is the error
    """The items before `index` were added, the one at `index` raised, those after it were not looked at."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Fold:
    """A gathering of items. `begin` makes the state, `add` puts items in, `end` yields what comes out.

    `streaming` folds also emit while items arrive: `add` returns those items.
    """

    __slots__ = ("key",)
    name: ClassVar[str] = "fold"
    streaming: ClassVar[bool] = False
    always: ClassVar[bool] = False  # has a result even when no item came

    def __init__(self) -> None:
        self.key: Callable[[Any], Any] | None = None  # set by the wiring where the input is keyed

    def declared(self) -> tuple[Any, ...]:
        """Return what the fold was made with: of two of one class that have the same either may stand for the other."""
        return ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Fold) and other.declared() == self.declared()

    def __hash__(self) -> int:
        return hash(type(self))

    def begin(self) -> Any:
        """Return an empty state."""
        raise NotImplementedError

    def add(self, state: Any, items: list[Any]) -> list[Any] | None:
        """Put items into the state; return what can be emitted now (None: nothing).

        Raises: Partial, when an item fails.
        """
        ahead = iter(items)
        try:
            return self.take(state, ahead)
        except BaseException as error:  # a list iterator knows how many are left: no index is counted per item
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise Partial(len(items) - length_hint(ahead) - 1) from error

    def take(self, state: Any, ahead: Iterator[Any]) -> list[Any] | None:
        """Put the items of a list iterator into the state, one after the other."""
        raise NotImplementedError

    def end(self, state: Any) -> Iterable[Any]:
        """Return what the state amounts to at the end of input."""
        raise NotImplementedError


class Constant:
    """Makes the same value again and again; a copy of it where it can be changed."""

    __slots__ = ("_changes", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._changes = isinstance(value, (list, dict, set))

    def __call__(self) -> Any:
        return copy.deepcopy(self.value) if self._changes else self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and type(other.value) is type(self.value) and other.value == self.value

    def __hash__(self) -> int:
        return hash(type(self.value))


class FoldTotal(Fold):
    """One value: `step(value, item)` from `initial`; emitted at the end of input, also when no item came after all."""

    __slots__ = ("initial", "step")
    always = True

    def __init__(self, initial: Callable[[], Any], step: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.initial = initial
        self.step = step

    def declared(self) -> tuple[Any, ...]:
        return self.initial, self.step

    def begin(self) -> list[Any]:
        return [self.initial()]

    def take(self, state: list[Any], ahead: Iterator[Any]) -> None:
        value, step = state[0], self.step
        try:
            for item in ahead:
                value = step(value, item)
        finally:
            state[0] = value

    def end(self, state: list[Any]) -> Iterable[Any]:
        return state


class FoldKeyed(Fold):
    """One value per key: `step(value, item)` from `initial()`; pairs of key and value at the end of input."""

    __slots__ = ("initial", "step")

    def __init__(self, initial: Callable[[], Any], step: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.initial = initial
        self.step = step

    def declared(self) -> tuple[Any, ...]:
        return self.initial, self.step

    def begin(self) -> dict[Any, Any]:
        return {}

    def take(self, state: dict[Any, Any], ahead: Iterator[Any]) -> None:
        step, initial, get, key_of = self.step, self.initial, state.get, self.key
        for item in ahead:
            key = item if key_of is None else key_of(item)
            value = get(key, _NOTHING)
            state[key] = step(initial() if value is _NOTHING else value, item)

    def end(self, state: dict[Any, Any]) -> Iterable[Any]:
        return state.items()


class ReduceTotal(Fold):
    """One value: the items combined two by two in order of arrival; nothing when no item came."""

    __slots__ = ("step",)
    name = "reduce"

    def __init__(self, step: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.step = step

    def declared(self) -> tuple[Any, ...]:
        return (self.step,)

    def begin(self) -> list[Any]:
        return []

    def take(self, state: list[Any], ahead: Iterator[Any]) -> None:
        step = self.step
        if not state:
            state.extend(islice(ahead, 1))
        if not state:
            return
        value = state[0]
        try:
            for item in ahead:
                value = step(value, item)
        finally:
            state[0] = value

    def end(self, state: list[Any]) -> Iterable[Any]:
        return state


class ReduceKeyed(ReduceTotal):
    """One value per key: items combined two by two; pairs of key and value at the end of input."""

    __slots__ = ()

    def begin(self) -> Any:
        return {}

    def take(self, state: Any, ahead: Iterator[Any]) -> None:
        step, get, key_of = self.step, state.get, self.key
        for item in ahead:
            key = item if key_of is None else key_of(item)
            value = get(key, _NOTHING)
            state[key] = item if value is _NOTHING else step(value, item)

    def end(self, state: Any) -> Iterable[Any]:
        pairs: Iterable[Any] = state.items()
        return pairs


class CountTotal(Fold):
    """How many items came."""

    __slots__ = ()
    always = True
    name = "count"

    def begin(self) -> list[int]:
        return [0]

    def add(self, state: list[int], items: list[Any]) -> None:
        state[0] += len(items)

    def end(self, state: list[int]) -> Iterable[int]:
        return state


class CountKeyed(Fold):
    """How many items came per key: pairs of key and count. `Counter.update` does its loop in C."""

    __slots__ = ()
    name = "count"

    def begin(self) -> Counter[Any]:
        return Counter()

    def take(self, state: Counter[Any], ahead: Iterator[Any]) -> None:
        key_of = self.key
        # a generator, since map() would take a StopIteration of the key function for the end of the items
        state.update(ahead if key_of is None else (key_of(item) for item in ahead))

    def end(self, state: Counter[Any]) -> Iterable[Any]:
        return state.items()


class Sort(Fold):
    """All items, in order, at the end of input. Equal keys stay in order of arrival."""

    __slots__ = ("by", "reverse")
    name = "sort"

    def __init__(self, by: Callable[[Any], Any] | None, *, reverse: bool) -> None:
        super().__init__()
        self.by = by
        self.reverse = reverse

    def declared(self) -> tuple[Any, ...]:
        return self.by, self.reverse

    def begin(self) -> list[Any]:
        return []

    def add(self, state: list[Any], items: list[Any]) -> None:
        state.extend(items)

    def end(self, state: list[Any]) -> Iterable[Any]:
        state.sort(key=self.by, reverse=self.reverse)
        return state


class Top(Fold):
    """The first `count` items of `sort(by, reverse)`, keeping few of the others.

    `by` is called once per item, when it arrives, and fails for that item. Keys that cannot be compared fail later.
    """

    __slots__ = ("by", "count", "reverse")
    name = "top"

    def __init__(self, count: int, by: Callable[[Any], Any] | None, *, reverse: bool) -> None:
        super().__init__()
        self.count = count
        self.by = by
        self.reverse = reverse

    def declared(self) -> tuple[Any, ...]:
        return self.count, self.by, self.reverse

    def begin(self) -> list[tuple[Any, Any]]:
        return []

    def take(self, state: list[tuple[Any, Any]], ahead: Iterator[Any]) -> None:
        by = self.by
        state.extend((item if by is None else by(item), item) for item in ahead)
        if len(state) > 4 * self.count + 1024:  # sorting once in a while costs less than a heap, item by item
            self._cut(state)

    def end(self, state: list[tuple[Any, Any]]) -> Iterable[Any]:
        self._cut(state)
        return [item for _, item in state]

    def _cut(self, state: list[tuple[Any, Any]]) -> None:
        state.sort(key=itemgetter(0), reverse=self.reverse)  # a stable sort: of equals the first to come stays first
        del state[self.count :]


class Collect(Sort):
    """One list of all items in order of arrival, at the end of input (an empty list when none came)."""

    __slots__ = ()
    always = True
    name = "collect"

    def __init__(self) -> None:
        super().__init__(None, reverse=False)

    def end(self, state: list[Any]) -> Iterable[Any]:
        return (state,)


class CollectKeyed(Fold):
    """Per key the list of its items in order of arrival: pairs of key and list."""

    __slots__ = ()
    name = "collect"

    def begin(self) -> dict[Any, list[Any]]:
        return {}

    def take(self, state: dict[Any, list[Any]], ahead: Iterator[Any]) -> None:
        key_of = self.key
        for item in ahead:
            state.setdefault(item if key_of is None else key_of(item), []).append(item)

    def end(self, state: dict[Any, list[Any]]) -> Iterable[Any]:
        return state.items()


class Distinct(Fold):
    """Each item (or each key, where keyed) once: the first that comes, at once."""

    __slots__ = ()
    name = "distinct"
    streaming = True

    def begin(self) -> tuple[set[Any], list[Any]]:
        return set(), []

    def take(self, state: tuple[set[Any], list[Any]], ahead: Iterator[Any]) -> list[Any]:
        seen, fresh = state
        key_of = self.key
        for item in ahead:
            key = item if key_of is None else key_of(item)
            if key not in seen:
                seen.add(key)
                fresh.append(item)
        return self.waiting(state)

    def waiting(self, state: tuple[set[Any], list[Any]]) -> list[Any]:
        """Return, and forget, what is fresh and has not been emitted."""
        fresh = state[1][:]
        state[1].clear()
        return fresh

    def end(self, state: tuple[set[Any], list[Any]]) -> Iterable[Any]:
        return self.waiting(state)


class Batch(Fold):
    """Lists of `count` items in order of arrival; the last one may be shorter."""

    __slots__ = ("count",)
    name = "batch"
    streaming = True

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def declared(self) -> tuple[Any, ...]:
        return (self.count,)

    def begin(self) -> list[Any]:
        return []

    def add(self, state: list[Any], items: list[Any]) -> list[Any]:
        count = self.count
        state.extend(items)
        full = len(state) // count * count
        lists = [state[start : start + count] for start in range(0, full, count)]
        del state[:full]
        return lists

    def end(self, state: list[Any]) -> Iterable[Any]:
        return (state,) if state else ()


class _Nothing:
    """A value that no user can have put anywhere."""


_NOTHING = _Nothing()
