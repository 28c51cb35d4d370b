"""A line by priority: the smallest first, equal ones in order of arrival, and nothing lost by what raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow.core.ordering import Ordered

PRIORITIES = st.lists(st.integers(0, 5))
MIXED = st.lists(st.one_of(st.integers(0, 3), st.text("ab", max_size=1), st.tuples(st.integers(0, 1), st.integers())))


def drained(line: Ordered[Any]) -> list[Any]:
    return [line.pop() for _ in range(len(line))]


@given(PRIORITIES)
def test_values_leave_by_priority_and_equal_ones_in_order_of_arrival(priorities: list[int]) -> None:
    line: Ordered[tuple[int, int]] = Ordered()
    for number, priority in enumerate(priorities):
        line.push(priority, (priority, number))

    assert sorted(line) == sorted((priority, number) for number, priority in enumerate(priorities))
    assert drained(line) == sorted((priority, number) for number, priority in enumerate(priorities))


@given(st.lists(st.one_of(st.integers(0, 9), st.none())))
def test_pushes_and_pops_may_alternate(steps: list[int | None]) -> None:
    line: Ordered[int] = Ordered()
    model: list[int] = []
    for step in steps:
        if step is not None:
            line.push(step, step)
            model.append(step)
        elif model:
            model.sort()
            assert line.pop() == model.pop(0)

    assert drained(line) == sorted(model)


@given(MIXED)
def test_what_cannot_be_compared_raises_and_loses_nothing(priorities: list[Any]) -> None:
    line: Ordered[int] = Ordered()
    inside: set[int] = set()
    for number, priority in enumerate(priorities):
        try:
            line.push(priority, number)
        except TypeError:
            assert number not in set(line), "what was refused is not in"
        else:
            inside.add(number)
        assert set(line) == inside

    try:
        while len(line):
            inside.remove(line.pop())
    except TypeError:
        assert set(line) == inside


def test_an_empty_line_has_nothing_to_take() -> None:
    with pytest.raises(IndexError):
        Ordered[int]().pop()
