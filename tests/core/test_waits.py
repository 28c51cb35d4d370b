"""Waiting in a circle: found if and only if it is there, and never one that could dissolve."""

import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow.core.waits import TooManyWaitersError, find_circle, find_circles

Graph = dict[int, list[list[int]]]
"""Per waiter its needs, and per need its providers (at least one)."""


def waits(size: int) -> st.SearchStrategy[Graph]:
    waiter = st.integers(0, size - 1)
    needs = st.lists(st.lists(waiter, min_size=1, max_size=3), max_size=3)
    return st.lists(needs, min_size=size, max_size=size).map(lambda each: dict(enumerate(each)))


def stuck_by_definition(graph: Graph) -> set[int]:
    """The greatest set in which each has a need with only members of the set, by trying every set."""
    greatest: set[int] = set()
    for size in range(len(graph) + 1):
        for chosen in map(set, itertools.combinations(graph, size)):
            if all(any(set(need) <= chosen for need in graph[waiter]) for waiter in chosen):
                greatest |= chosen
    return greatest


@settings(max_examples=250)
@given(waits(6))
def test_a_circle_is_found_if_and_only_if_the_waiter_is_stuck(graph: Graph) -> None:
    stuck = stuck_by_definition(graph)

    found = {start for start in graph if find_circle(start, graph.__getitem__) is not None}

    assert found == stuck


@settings(max_examples=250)
@given(waits(6), st.integers(0, 5))
def test_a_reported_circle_is_a_circle_of_stuck_waiters(graph: Graph, start: int) -> None:
    circle = find_circle(start, graph.__getitem__)

    if circle is not None:
        stuck = stuck_by_definition(graph)
        assert circle
        assert len(set(circle)) == len(circle)
        assert set(circle) <= stuck
        for waiter, following in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert any(following in need and set(need) <= stuck for need in graph[waiter])


@settings(max_examples=250)
@given(waits(6), st.integers(0, 5))
def test_a_reported_circle_can_be_reached_from_the_waiter(graph: Graph, start: int) -> None:
    circle = find_circle(start, graph.__getitem__)

    if circle is not None:
        reached, todo = {start}, [start]
        while todo:
            ahead = {provider for need in graph[todo.pop()] for provider in need} - reached
            reached |= ahead
            todo += ahead
        assert set(circle) <= reached


@given(waits(6), st.integers(0, 5))
def test_each_waiter_is_asked_once_and_only_if_the_start_depends_on_it(graph: Graph, start: int) -> None:
    asked: list[int] = []

    def needs_of(waiter: int) -> list[list[int]]:
        asked.append(waiter)
        return graph[waiter]

    find_circle(start, needs_of)

    assert len(asked) == len(set(asked))
    reachable = {start}
    for _ in graph:
        reachable |= {provider for waiter in reachable for need in graph[waiter] for provider in need}
    assert set(asked) <= reachable


def test_two_that_wait_for_each_other_are_a_circle() -> None:
    graph = {"a": [["b"]], "b": [["a"]]}

    assert find_circle("a", graph.__getitem__) == ["a", "b"]


def test_one_that_waits_for_itself_is_a_circle() -> None:
    assert find_circle("a", lambda _: [["a"]]) == ["a"]


def test_a_second_provider_that_can_go_on_frees_the_waiter() -> None:
    graph = {"a": [["b", "c"]], "b": [["a"]], "c": []}

    assert find_circle("a", graph.__getitem__) is None
    assert find_circle("b", graph.__getitem__) is None


def test_a_second_need_that_can_be_met_does_not_free_the_waiter() -> None:
    graph = {"a": [["c"], ["b"]], "b": [["a"]], "c": []}

    assert find_circle("a", graph.__getitem__) == ["a", "b"]


def test_one_that_waits_behind_a_circle_is_told_of_the_circle_alone() -> None:
    graph = {"a": [["b"]], "b": [["c"]], "c": [["b"]]}

    assert find_circle("a", graph.__getitem__) == ["b", "c"]


def test_what_can_go_on_waits_for_nobody() -> None:
    assert find_circle("a", lambda _: []) is None


def test_a_ring_of_a_thousand_is_found_in_order() -> None:
    ring = find_circle(0, lambda waiter: [[(waiter + 1) % 1000]])

    assert ring == list(range(1000))


def test_a_long_chain_of_waiters_is_answered_in_linear_time() -> None:
    begun_s = time.process_time()

    assert find_circle(0, lambda waiter: [[waiter + 1]] if waiter < 10_000 else []) is None

    assert time.process_time() - begun_s < 1


def test_a_need_that_nobody_can_meet_is_not_a_circle() -> None:
    assert find_circle("a", lambda _: [[]]) is None


@settings(max_examples=250)
@given(waits(6), st.sets(st.integers(0, 5)))
def test_one_look_for_many_finds_what_a_look_for_each_does(graph: Graph, starts: set[int]) -> None:
    found = find_circles(starts, graph.__getitem__)

    each = {start: find_circle(start, graph.__getitem__) for start in starts}
    assert found == {start: circle for start, circle in each.items() if circle is not None}


@given(waits(6), st.integers(0, 5), st.integers(1, 8))
def test_a_look_takes_in_no_more_waiters_than_it_was_told(graph: Graph, start: int, waiters_max: int) -> None:
    asked: list[int] = []

    def needs_of(waiter: int) -> list[list[int]]:
        asked.append(waiter)
        return graph[waiter]

    try:
        found = find_circle(start, needs_of, waiters_max=waiters_max)
    except TooManyWaitersError:
        assert len(asked) == waiters_max
    else:
        assert found == find_circle(start, graph.__getitem__)
        assert len(asked) <= waiters_max
