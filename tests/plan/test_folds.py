"""Folds: whatever the batches, the result is what plain Python makes of the items; a raising item is left out."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow.plan import folds
from actorflow.plan.folds import Fold, Partial

ITEMS = st.lists(st.integers(-5, 5), max_size=40)
KEYS: list[Callable[[Any], Any] | None] = [None, lambda item: item % 3, str, lambda item: (item > 0, "k")]


@st.composite
def batched(draw: st.DrawFn) -> list[list[int]]:
    """Items split into batches (none empty, as the runtime hands them on)."""
    items = draw(ITEMS)
    cuts = sorted(draw(st.sets(st.integers(1, max(len(items) - 1, 1)), max_size=6)))
    parts = [items[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(items)], strict=True)]
    return [part for part in parts if part]


def gathered(fold: Fold, batches: list[list[Any]]) -> tuple[list[Any], list[Any]]:
    """Run a fold as the runtime does: return (what came out, the items that failed)."""
    state, out, failed = fold.begin(), [], []
    for items in batches:
        while True:
            try:
                out += fold.add(state, list(items)) or ()
                break
            except Partial as stopped:
                assert stopped.__cause__ is not None  # noqa: PT017
                failed.append(items[stopped.index])
                items = items[stopped.index + 1 :]
    return [*out, *fold.end(state)], failed


def keyed(fold: Fold, key: Callable[[Any], Any] | None) -> Fold:
    fold.key = key
    return fold


def by_key(items: list[Any], key: Callable[[Any], Any] | None) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(item if key is None else key(item), []).append(item)
    return groups


def folded(items: list[Any], start: Any, step: Callable[[Any, Any], Any]) -> Any:
    for item in items:
        start = step(start, item)
    return start


def left(value: Any, item: Any) -> Any:
    """A step that is neither associative nor commutative, so that order and grouping show."""
    return 3 * value - item


def total(batches: list[list[int]]) -> list[int]:
    return [item for batch in batches for item in batch]


# Each fold and its meaning


@given(batched())
def test_fold_is_a_left_fold_from_the_initial_value(batches: list[list[int]]) -> None:
    out, _ = gathered(folds.FoldTotal(lambda: 1, left), batches)

    assert out == [folded(total(batches), 1, left)]


@given(batched(), st.sampled_from(KEYS))
def test_a_keyed_fold_is_a_left_fold_per_key(batches: list[list[int]], key: Any) -> None:
    out, _ = gathered(keyed(folds.FoldKeyed(lambda: 1, left), key), batches)

    assert out == [(k, folded(items, 1, left)) for k, items in by_key(total(batches), key).items()]


@given(batched())
def test_a_mutable_accumulator_begins_anew_each_time(batches: list[list[int]]) -> None:
    fold = folds.FoldTotal(list, lambda seen, item: [*seen, item])

    assert gathered(fold, batches) == gathered(fold, batches)


@given(batched())
def test_reduce_combines_two_by_two_in_order(batches: list[list[int]]) -> None:
    out, _ = gathered(folds.ReduceTotal(left), batches)

    items = total(batches)
    assert out == ([folded(items[1:], items[0], left)] if items else [])


@given(batched(), st.sampled_from(KEYS))
def test_a_keyed_reduce_combines_two_by_two_per_key(batches: list[list[int]], key: Any) -> None:
    out, _ = gathered(keyed(folds.ReduceKeyed(left), key), batches)

    assert out == [(k, folded(items[1:], items[0], left)) for k, items in by_key(total(batches), key).items()]


@given(batched())
def test_count_is_how_many_came(batches: list[list[int]]) -> None:
    assert gathered(folds.CountTotal(), batches)[0] == [len(total(batches))]


@given(batched(), st.sampled_from(KEYS))
def test_a_keyed_count_is_how_many_came_per_key(batches: list[list[int]], key: Any) -> None:
    out, _ = gathered(keyed(folds.CountKeyed(), key), batches)

    assert out == [(k, len(items)) for k, items in by_key(total(batches), key).items()]


@given(batched(), st.booleans(), st.sampled_from([None, abs, lambda item: item // 2]))
def test_sort_is_a_stable_sort(batches: list[list[int]], reverse: bool, by: Any) -> None:
    assert gathered(folds.Sort(by, reverse=reverse), batches)[0] == sorted(total(batches), key=by, reverse=reverse)


@given(batched(), st.integers(0, 8), st.booleans(), st.sampled_from([None, abs, lambda item: item // 2]))
def test_top_is_the_beginning_of_the_sort(batches: list[list[int]], count: int, reverse: bool, by: Any) -> None:
    out, _ = gathered(folds.Top(count, by, reverse=reverse), batches)

    assert out == sorted(total(batches), key=by, reverse=reverse)[:count]


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 9), st.booleans())
def test_top_is_the_beginning_of_the_sort_for_more_items_than_it_keeps(seed: int, count: int, reverse: bool) -> None:
    chance = random.Random(seed)
    batches = [[(chance.randrange(20), n) for n in range(chance.choice([1, 200, 900]))] for _ in range(12)]
    fold = folds.Top(count, lambda pair: pair[0], reverse=reverse)
    state = fold.begin()

    for items in batches:
        fold.add(state, items)
        assert len(state) <= 4 * count + 1024

    expected = sorted((pair for items in batches for pair in items), key=lambda pair: pair[0], reverse=reverse)[:count]
    assert fold.end(state) == expected


@given(batched())
def test_collect_is_one_list_in_order_of_arrival(batches: list[list[int]]) -> None:
    assert gathered(folds.Collect(), batches)[0] == [total(batches)]


@given(batched(), st.sampled_from(KEYS))
def test_a_keyed_collect_is_one_list_per_key(batches: list[list[int]], key: Any) -> None:
    out, _ = gathered(keyed(folds.CollectKeyed(), key), batches)

    assert out == list(by_key(total(batches), key).items())


@given(batched(), st.sampled_from(KEYS))
def test_distinct_lets_the_first_of_each_key_pass(batches: list[list[int]], key: Any) -> None:
    out, _ = gathered(keyed(folds.Distinct(), key), batches)

    assert out == [items[0] for items in by_key(total(batches), key).values()]


def test_distinct_emits_at_once() -> None:
    fold = folds.Distinct()
    state = fold.begin()

    assert fold.add(state, [1, 2, 1]) == [1, 2]
    assert fold.add(state, [2, 3]) == [3]
    assert list(fold.end(state)) == []


@given(batched(), st.integers(1, 7))
def test_batch_cuts_the_items_into_lists(batches: list[list[int]], count: int) -> None:
    out, _ = gathered(folds.Batch(count), batches)

    items = total(batches)
    assert out == [items[start : start + count] for start in range(0, len(items), count)]


@given(batched(), st.integers(1, 7))
def test_batch_emits_a_full_list_at_once(batches: list[list[int]], count: int) -> None:
    fold = folds.Batch(count)
    state, arrived, emitted = fold.begin(), 0, 0

    for items in batches:
        arrived += len(items)
        emitted += len(fold.add(state, items))
        assert emitted == arrived // count


EVERY: list[Fold] = [
    folds.FoldTotal(lambda: 0, left), folds.FoldKeyed(lambda: 0, left), folds.ReduceTotal(left),
    folds.ReduceKeyed(left), folds.CountTotal(), folds.CountKeyed(), folds.Sort(None, reverse=False),
    folds.Top(3, None, reverse=True), folds.Collect(), folds.CollectKeyed(), folds.Distinct(), folds.Batch(3),
]  # fmt: skip


@pytest.mark.parametrize("fold", EVERY, ids=lambda fold: type(fold).__name__)
def test_every_fold_without_items_has_a_result_exactly_if_it_says_so(fold: Fold) -> None:
    out, _ = gathered(fold, [])

    assert bool(out) == fold.always


@pytest.mark.parametrize("fold", EVERY, ids=lambda fold: type(fold).__name__)
def test_the_state_of_one_request_is_not_that_of_another(fold: Fold) -> None:
    first, second = fold.begin(), fold.begin()
    before = copy.deepcopy(second)

    fold.add(first, [1, 2, 3])

    assert second == before


@pytest.mark.parametrize("fold", EVERY, ids=lambda fold: type(fold).__name__)
def test_a_fold_leaves_the_batch_as_it_was(fold: Fold) -> None:
    items = [3, 1, 2, 3, 1]

    state = fold.begin()
    fold.add(state, items)
    fold.end(state)

    assert items == [3, 1, 2, 3, 1]


# Items that raise


def failing_at(bad: set[int]) -> Callable[..., Any]:
    """A function that raises at the numbered items (an item is here a pair of number and value)."""

    def fail(*arguments: Any) -> Any:
        number, value = arguments[-1]
        if number in bad:
            raise ValueError(number)
        return value if len(arguments) == 1 else left(arguments[0], value)

    return fail


@st.composite
def batched_pairs(draw: st.DrawFn) -> tuple[list[list[tuple[int, int]]], set[int]]:
    numbers = iter(range(1000))
    pairs = [[(next(numbers), item) for item in batch] for batch in draw(batched())]
    return pairs, draw(st.sets(st.integers(0, 40)))


def sound(pairs: list[list[Any]], bad: set[int]) -> list[Any]:
    return [pair for batch in pairs for pair in batch if pair[0] not in bad]


@given(batched_pairs())
def test_a_step_that_raises_leaves_exactly_that_item_out_of_a_fold(case: Any) -> None:
    pairs, bad = case

    out, failed = gathered(folds.FoldTotal(lambda: 1, failing_at(bad)), pairs)

    assert out == [folded(sound(pairs, bad), 1, failing_at(set()))]
    assert [number for number, _ in failed] == [n for n, _ in total(pairs) if n in bad]


@given(batched_pairs())
def test_a_step_that_raises_leaves_exactly_that_item_out_of_a_keyed_fold(case: Any) -> None:
    pairs, bad = case
    key = lambda pair: pair[1] % 3  # noqa: E731

    out, failed = gathered(keyed(folds.FoldKeyed(lambda: 1, failing_at(bad)), key), pairs)

    groups = by_key(sound(pairs, bad), key)
    assert dict(out) == {k: folded(items, 1, failing_at(set())) for k, items in groups.items()}
    assert [number for number, _ in failed] == [n for n, _ in total(pairs) if n in bad]


def step_on_pairs(bad: set[int]) -> Callable[..., Any]:
    def step(value: Any, item: Any) -> Any:
        if item[0] in bad:
            raise ValueError(item)
        return (value[0], left(value[1], item[1]))

    return step


@given(batched_pairs())
def test_a_step_that_raises_leaves_exactly_that_item_out_of_a_reduce(case: Any) -> None:
    pairs, bad = case
    bad -= {0}  # the first item is no argument of the step

    out, failed = gathered(folds.ReduceTotal(step_on_pairs(bad)), pairs)

    items = sound(pairs, bad)
    assert out == ([folded(items[1:], items[0], step_on_pairs(set()))] if items else [])
    assert [number for number, _ in failed] == [n for n, _ in total(pairs) if n in bad]


KEYED: list[tuple[Callable[[], Fold], Callable[[list[Any]], Any]]] = [
    (lambda: folds.FoldKeyed(int, lambda value, item: value + item[0]), lambda items: sum(n for n, _ in items)),
    (lambda: folds.ReduceKeyed(max), max),
    (folds.CountKeyed, len),
    (folds.CollectKeyed, list),
]


@pytest.mark.parametrize(("make", "meaning"), KEYED, ids=lambda each: getattr(each, "__name__", ""))
@given(case=batched_pairs())
def test_a_key_function_that_raises_leaves_exactly_that_item_out(make: Any, meaning: Any, case: Any) -> None:
    pairs, bad = case

    out, failed = gathered(keyed(make(), failing_at(bad)), pairs)

    assert dict(out) == {k: meaning(items) for k, items in by_key(sound(pairs, bad), failing_at(set())).items()}
    assert [number for number, _ in failed] == [n for n, _ in total(pairs) if n in bad]


@given(batched_pairs())
def test_a_key_function_that_raises_leaves_exactly_that_item_out_of_distinct(case: Any) -> None:
    pairs, bad = case

    out, failed = gathered(keyed(folds.Distinct(), failing_at(bad)), pairs)

    assert out == [items[0] for items in by_key(sound(pairs, bad), failing_at(set())).values()]
    assert [number for number, _ in failed] == [n for n, _ in total(pairs) if n in bad]


@pytest.mark.parametrize("fold", [folds.CountKeyed(), folds.CollectKeyed(), folds.Distinct(), folds.ReduceKeyed(max)])
def test_an_item_that_cannot_be_a_key_is_left_out(fold: Fold) -> None:
    _, failed = gathered(fold, [[1, [2], 1], [[3]]])

    assert failed == [[2], [3]]


@given(st.lists(st.integers(), min_size=1, max_size=20), st.data())
def test_partial_names_the_item_that_raised_and_those_after_it_were_not_seen(items: list[int], data: Any) -> None:
    place = data.draw(st.integers(0, len(items) - 1))
    seen: list[int] = []

    def step(value: int, item: int) -> int:
        seen.append(item)
        if len(seen) == place + 1:
            raise KeyError(item)
        return value + item

    fold = folds.FoldTotal(int, step)
    state = fold.begin()

    with pytest.raises(Partial) as stopped:
        fold.add(state, items)

    assert stopped.value.index == place
    assert isinstance(stopped.value.__cause__, KeyError)
    assert seen == items[: place + 1]
    assert state == [sum(items[:place])]


# Found wanting


def stops_at_one(item: int) -> int:
    if item == 1:
        raise StopIteration
    return item


def test_a_key_function_that_raises_stop_iteration_loses_no_item_of_a_count() -> None:
    out, failed = gathered(keyed(folds.CountKeyed(), stops_at_one), [[0, 1, 2]])

    assert failed == [1]
    assert dict(out) == {0: 1, 2: 1}


@pytest.mark.parametrize("fold", [folds.FoldKeyed(int, left), folds.CollectKeyed(), folds.Distinct()])
def test_a_key_function_that_raises_stop_iteration_is_an_error_of_that_item(fold: Fold) -> None:
    _, failed = gathered(keyed(copy.copy(fold), stops_at_one), [[0, 1, 2]])

    assert failed == [1]


def test_a_key_of_top_that_raises_is_a_partial() -> None:
    fold = folds.Top(1, lambda item: 1 // item, reverse=True)

    with pytest.raises(Partial):
        fold.add(fold.begin(), [0] * 2000)


def test_an_empty_batch_changes_nothing_of_a_reduce() -> None:
    fold = folds.ReduceTotal(left)
    state = fold.begin()

    fold.add(state, [])

    assert list(fold.end(state)) == []
