"""The builder: a chain of steps becomes exactly the graph that was written."""

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow import App, Operator, Rounds
from actorflow.plan import folds
from actorflow.plan.foreign import Foreign, ForeignOperator
from actorflow.plan.stream import Stream, field_getter
from actorflow.plan.topology import (
    Discard,
    Edge,
    Entry,
    Function,
    Gather,
    Join,
    KeyBy,
    Merge,
    Reply,
    Source,
    Step,
    Then,
    Topology,
)


class Work(Operator):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def process(self, item: Any) -> Any:
        return item


def stream(**declared: Any) -> Stream[Any, Any]:
    return App("shop").stream("s", **declared)


def named_edges(topology: Topology) -> set[tuple[str, str, str, str]]:
    """Edges as (source, target, output, input), by the names of the steps."""
    names = {step.number: step.name for step in topology.steps}
    assert len(topology.edges) == len(set(topology.edges))
    return {(names[edge.source], names[edge.target], edge.output, edge.input) for edge in topology.edges}


def step(point: Stream[Any, Any], name: str) -> Any:
    return next(each for each in point.topology.steps if each.name == name)


# Chains, branches, merges


def test_a_stream_without_steps_answers_with_what_it_is_sent() -> None:
    assert named_edges(stream().topology) == {("entry", "reply", "", "")}


def test_a_chain_is_a_chain_from_the_entry_to_the_reply() -> None:
    topology = stream().map(str).filter(bool).then(Work).topology

    assert named_edges(topology) == {
        ("entry", "str", "", ""), ("str", "bool", "", ""), ("bool", "Work", "", ""), ("Work", "reply", "", ""),
    }  # fmt: skip
    assert [type(each) for each in topology.steps] == [Entry, Function, Function, Then, Reply]


def test_a_point_used_twice_sends_both_ways_and_both_ends_are_replies() -> None:
    start = stream()
    start.map(str)
    start.map(int)

    assert named_edges(start.topology) == {
        ("entry", "str", "", ""), ("entry", "int", "", ""), ("str", "reply", "", ""), ("int", "reply", "", ""),
    }  # fmt: skip


def test_a_merge_brings_several_points_together() -> None:
    start = stream()
    merged = start.map(str).merge(start.map(int), start, name="all")

    assert named_edges(merged.topology) >= {
        ("str", "all", "", ""), ("int", "all", "", ""), ("entry", "all", "", ""), ("all", "reply", "", ""),
    }  # fmt: skip
    assert isinstance(step(merged, "all"), Merge)


def test_split_has_an_output_for_each_answer() -> None:
    yes, no = stream().split(lambda item: item > 2)
    yes.map(str)
    no.discard()

    assert named_edges(yes.topology) == {
        ("entry", "split", "", ""), ("split", "str", "true", ""), ("split", "discard", "false", ""),
        ("str", "reply", "", ""),
    }  # fmt: skip
    choose = step(yes, "split").choose
    assert (choose(3), choose(2)) == ("true", "false")


def test_outputs_of_a_route_that_nothing_follows_are_replies() -> None:
    points = stream().route(str, "a", "b", "c", name="by")
    points["b"].map(int)

    assert list(points) == ["a", "b", "c"]
    assert named_edges(points["a"].topology) == {
        ("entry", "by", "", ""), ("by", "int", "b", ""), ("int", "reply", "", ""), ("by", "reply", "a", ""),
        ("by", "reply", "c", ""),
    }  # fmt: skip


def test_broadcast_gives_points_that_all_receive_every_item() -> None:
    points = stream().broadcast(3)

    assert len(points) == 3
    names = {"broadcast", "broadcast_2", "broadcast_3"}
    assert named_edges(points[0].topology) == {("entry", name, "", "") for name in names} | {
        (name, "reply", "", "") for name in names
    }


def test_a_join_knows_its_left_and_its_right_input() -> None:
    start = stream()
    joined = start.map(str).join(start.map(int), "sku", "item", how="outer")

    assert named_edges(joined.topology) >= {("str", "join", "", "left"), ("int", "join", "", "right")}
    join = step(joined, "join")
    assert isinstance(join, Join)
    assert (join.left_key({"sku": 1}), join.right_key({"item": 2}), join.how) == (1, 2, "outer")


def test_a_join_uses_one_key_for_both_sides_when_only_one_is_given() -> None:
    start = stream()
    join = step(start.map(str).join(start.map(int), len), "join")

    assert join.left_key is join.right_key is len


def test_into_leads_back_to_an_earlier_point() -> None:
    start = stream()
    merged = start.map(str).merge()

    assert start.map(int).into(merged) is merged
    assert ("int", "merge", "", "") in named_edges(merged.topology)


def test_a_source_begins_a_second_path() -> None:
    further = stream().source(lambda _: [1], name="ticks").map(str)

    assert isinstance(step(further, "ticks"), Source)
    assert [each.name for each in further.topology.entries()] == ["entry", "ticks"]


def test_an_error_edge_is_an_output_of_its_operator() -> None:
    work = stream().then(Work, on_error="edge")
    work.errors.map(str)

    assert named_edges(work.topology) == {
        ("entry", "Work", "", ""), ("Work", "str", "errors", ""), ("Work", "reply", "", ""), ("str", "reply", "", ""),
    }  # fmt: skip


def test_what_ends_in_a_discard_is_no_reply() -> None:
    start = stream(replies="none")
    start.discard()

    assert isinstance(start.topology.steps[1], Discard)
    assert named_edges(start.topology) == {("entry", "discard", "", "")}


def test_an_operator_keeps_its_arguments_and_numbers() -> None:
    made = step(stream().then(Work, 1, b=2, replicas=3, name="w"), "w")

    assert (made.operator, made.args, dict(made.kwargs), made.replicas) == (Work, (1,), {"b": 2}, 3)


@pytest.mark.parametrize("bridge", [Stream.merge, Stream.into, lambda one, other: one.join(other, str)])
def test_two_streams_cannot_share_a_step(bridge: Callable[[Any, Any], Any]) -> None:
    app = App("shop")
    one, other = app.stream("a").map(str), app.stream("b").map(str)

    before = one.topology, other.topology

    with pytest.raises(ValueError, match="of another stream"):
        bridge(one, other)

    assert (one.topology, other.topology) == before, "a step that was refused is left behind"


# Keys and folds

GATHERINGS: list[tuple[Callable[[Any], Any], type, type]] = [
    (lambda s: s.fold(0, max), folds.FoldTotal, folds.FoldKeyed),
    (lambda s: s.reduce(max), folds.ReduceTotal, folds.ReduceKeyed),
    (lambda s: s.count(), folds.CountTotal, folds.CountKeyed),
    (lambda s: s.collect(), folds.Collect, folds.CollectKeyed),
    (lambda s: s.distinct(), folds.Distinct, folds.Distinct),
    (lambda s: s.sort(), folds.Sort, folds.Sort),
    (lambda s: s.top(2), folds.Top, folds.Top),
    (lambda s: s.batch(2), folds.Batch, folds.Batch),
]


@pytest.mark.parametrize(("build", "total", "keyed"), GATHERINGS)
def test_a_gathering_is_keyed_after_key_by_filters_aside(build: Any, total: type, keyed: type) -> None:
    kinds = [
        build(stream()), build(stream().key_by(str)), build(stream().key_by(str).filter(bool).filter(len)),
        build(stream().key_by(str).map(len)), build(stream().key_by(str).then(Work)),
    ]  # fmt: skip

    assert [type(gather(point).fold) for point in kinds] == [total, keyed, keyed, total, total]


def gather(point: Stream[Any, Any]) -> Gather:
    return next(each for each in point.topology.steps if isinstance(each, Gather))


def test_the_initial_value_of_a_fold_may_be_a_value_or_a_function() -> None:
    from_value: Any = gather(stream().fold(7, max)).fold
    from_function: Any = gather(stream().fold(list, max)).fold

    assert from_value.begin() == [7]
    assert from_function.begin() == [[]]
    assert from_function.begin()[0] is not from_function.begin()[0]


def test_a_key_is_a_function_a_field_or_the_item_itself() -> None:
    by_field, by_function, by_item = (
        step(stream().key_by(key), "key_by") for key in ("sku", len, None)
    )  # fmt: skip

    assert isinstance(by_field, KeyBy)
    assert (by_field.field, by_field.key({"sku": 3}), by_field.space.name) == ("sku", 3, "sku")
    assert (by_function.field, by_function.key, by_function.space.name) == (None, len, "len")
    assert (by_item.key, by_item.space.name, by_item.space.shards) == (None, "s.key", 256)


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(), min_size=2))
def test_a_field_is_read_from_mappings_and_objects(fields: dict[str, int]) -> None:
    record = dataclasses.make_dataclass("Record", ["a", "b"])(**fields)

    assert field_getter("a")(fields) == field_getter("a")(record) == fields["a"]


# Names and immutability


@given(st.lists(st.sampled_from(["entry", "map", "map_2", "x", "x_2", "x_2_2"]), max_size=12))
def test_names_are_unique_and_numbers_count_the_steps(names: list[str]) -> None:
    point = stream()
    for name in names:
        point = point.map(str, name=name)

    steps = point.topology.steps
    assert len({each.name for each in steps}) == len(steps)
    assert [each.number for each in steps] == list(range(len(steps)))
    for each, name in zip(steps[1:], names, strict=False):
        assert each.name.startswith(name)


def test_a_function_named_reply_does_not_share_the_name_of_the_reply() -> None:
    steps = stream().map(str, name="reply").topology.steps

    assert len({each.name for each in steps}) == len(steps)


def test_a_topology_is_immutable() -> None:
    topology = stream().map(str).topology

    for value, field in ((topology, "stream"), (topology.steps[0], "name"), (topology.edges[0], "source")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, "x")
    assert isinstance(topology.steps, tuple)
    assert isinstance(topology.edges, tuple)


def test_a_topology_does_not_change_when_the_stream_grows() -> None:
    start = stream()
    before = start.topology

    start.map(str)

    assert len(before.steps) == 2
    assert len(start.topology.steps) == 3


def test_every_point_of_a_stream_names_the_stream() -> None:
    end = stream(reply_type=int).map(str).filter(bool)

    assert (end.name, end.reply_type, repr(end)) == ("s", int, "<stream 's' at bool>")


# Cycles and what can be reached, against brute force


def topology_of(size: int, pairs: list[tuple[int, int]]) -> Topology:
    steps: list[Step] = [Entry(number=0, name="s0"), *(Merge(number=n, name=f"s{n}") for n in range(1, size))]
    return Topology(stream="s", steps=tuple(steps), edges=tuple(Edge(*pair) for pair in pairs))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    size = draw(st.integers(1, 7))
    number = st.integers(0, size - 1)
    return size, draw(st.lists(st.tuples(number, number), max_size=10))


def reachable(start: int, pairs: list[tuple[int, int]]) -> set[int]:
    """What can be reached from a step by one edge or more."""
    found: set[int] = set()
    for _ in range(8):
        found |= {target for source, target in pairs if source == start or source in found}
    return found


@given(graphs())
def test_a_cycle_is_found_if_and_only_if_there_is_one(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, pairs = graph

    cycle = topology_of(size, pairs).cycle()

    assert (cycle is not None) == any(n in reachable(n, pairs) for n in range(size))
    if cycle is not None:
        numbers = [each.number for each in cycle]
        assert len(set(numbers)) == len(numbers) > 0
        assert set(zip(numbers, [*numbers[1:], numbers[0]], strict=True)) <= set(pairs)


@given(graphs())
def test_reached_is_what_a_path_leads_to(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, pairs = graph

    assert topology_of(size, pairs).reached() == {0} | reachable(0, pairs)


def test_a_long_chain_has_no_cycle_and_needs_no_deep_stack() -> None:
    assert topology_of(3000, [(n, n + 1) for n in range(2999)]).cycle() is None


# Equal streams, and functions of other languages


def written_twice(build: Callable[[Stream[Any, Any]], Any]) -> tuple[Topology, Topology]:
    """Return the topology of the same steps in two apps."""
    points = (stream(), stream())
    for point in points:
        build(point)
    return points[0].topology, points[1].topology


@pytest.mark.parametrize(
    "build",
    [
        lambda point: point.key_by("sku").count(),
        lambda point: point.join(point, "sku", "article"),
        lambda point: point.split(bool),
        lambda point: point.fold(0, max).sort(abs).top(3, abs).batch(2).reduce(min).collect().distinct(),
        lambda point: point.fold([], max),
    ],
)
def test_streams_that_are_written_alike_are_equal(build: Callable[[Stream[Any, Any]], Any]) -> None:
    one, other = written_twice(build)

    assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda point: point.key_by("sku").count(), lambda point: point.key_by("name").count()),
        (lambda point: point.split(bool), lambda point: point.split(all)),
        (lambda point: point.fold(0, max), lambda point: point.fold(False, max)),
        (lambda point: point.top(3), lambda point: point.top(4)),
        (lambda point: point.sort(), lambda point: point.collect()),
    ],
)
def test_streams_that_differ_are_not_equal(
    one: Callable[[Stream[Any, Any]], Any], other: Callable[[Stream[Any, Any]], Any]
) -> None:
    points = (stream(), stream())

    one(points[0])
    other(points[1])

    assert points[0].topology != points[1].topology


def test_a_list_that_a_fold_begins_with_is_each_request_s_own() -> None:
    (fold,) = (each.fold for each in stream().fold([], list.__iadd__).topology.steps if isinstance(each, Gather))
    state = fold.begin()

    fold.add(state, [["a"]])

    assert fold.begin() == [[]]


class Elsewhere(Foreign):
    reference = "else:where#there"
    __name__ = "there"
    options: Any = MappingProxyType({})

    def __call__(self, *values: Any) -> Any:
        return values[0]

    def operator(self, shape: Any) -> Any:
        return ElsewhereOperator


class ElsewhereOperator(ForeignOperator):
    foreign = Elsewhere()

    def process(self, item: Any) -> Any:
        return item


class Compiled:
    """A Python function that was compiled to something else."""

    __name__ = "python"

    def __in_stream__(self) -> Any:
        return ElsewhereOperator.foreign

    def __call__(self, *values: Any) -> Any:
        raise AssertionError("what it was compiled to is called")


@pytest.mark.parametrize("foreign", [ElsewhereOperator.foreign, Compiled()])
def test_a_function_of_another_language_stands_where_one_of_python_may(foreign: Any) -> None:
    one = ElsewhereOperator.foreign
    point = stream().map(foreign).filter(foreign).key_by(foreign).fold(foreign, foreign)
    point = point.sort(foreign).then(foreign, priority=foreign).feedback(when=foreign, rounds=Rounds(until=foreign))
    yes, _ = point.split(foreign)
    yes.join(point, foreign).delta(lambda point: point, combine=foreign, priority=foreign)

    assert [step(point, name).call for name in ("there", "there_2")] == [one, one]
    assert step(point, "key_by").key is one
    assert (step(point, "fold").fold.initial, step(point, "sort").fold.by) == (one, one)
    assert (step(point, "there_3").operator, step(point, "there_3").priority) == (ElsewhereOperator, one)
    assert (step(point, "feedback").when, step(point, "feedback").rounds.until) == (one, one)
    assert step(point, "split").choose.predicate is one
    assert (step(point, "join").left_key, step(point, "delta").combine) == (one, one)
