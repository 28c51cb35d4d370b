"""Loops of a topology: found by their feedback edges, nested by their structure, and checked before anything starts."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow import App, Operator, Rounds, Stream, TopologyError
from actorflow.plan.check import faults_of
from actorflow.plan.draw import to_json, to_mermaid, to_svg
from actorflow.plan.loops import loops_of, names_used
from tests.sim.loop_programs import draw, stream_of


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class Back(Operator):
    def process(self, item: Any) -> Any:
        self.feedback(item)


class Told(Operator):
    def process(self, item: Any) -> Any:
        return self.round


class Ends(Operator):
    def process(self, item: Any) -> Any:
        return item

    def on_round_end(self, number: int) -> None:
        pass


def names(stream: Stream[Any, Any]) -> list[tuple[str, list[str]]]:
    topology = stream.topology
    return [(loop.name, sorted(topology.steps[n].name for n in loop.steps)) for loop in loops_of(topology)]


def faults(app: App) -> list[str]:
    return list(faults_of(app))


# -- what the loops are


def test_a_stream_without_feedback_has_no_loop() -> None:
    assert loops_of(App("a").stream("s").then(Echo).topology) == ()


def test_a_loop_is_what_lies_between_a_step_and_where_items_turn_back_to_it() -> None:
    stream = App("a").stream("s").map(str)
    stream.then(Echo).feedback(when=bool).then(Echo)

    assert names(stream) == [("feedback", ["Echo", "feedback"])]


def test_a_loop_within_a_loop_comes_after_it_and_knows_it() -> None:
    head = App("a").stream("s").merge()
    head.then(Echo).feedback(when=bool).map(str).feedback(head, when=bool)
    outer, inner = loops_of(head.topology)

    assert (outer.parent, inner.parent) == (None, 0)
    assert inner.steps < outer.steps
    assert outer.inner == inner.steps


def test_edges_back_that_cross_are_one_mutually_recursive_loop() -> None:
    first = App("a").stream("s").then(Echo)
    second = first.then(Echo)
    back = second.feedback(first, when=bool)
    back.feedback(second, when=bool)
    (outer, *inner) = loops_of(first.topology)

    assert len(outer.back) + sum(len(loop.back) for loop in inner) == 2


def test_what_flows_in_from_the_side_is_not_in_the_loop() -> None:
    app = App("a")
    entry = app.stream("s")
    side = entry.map(str, name="side")
    entry.merge(name="head").iterate(lambda items: items.join(side, key=hash).map(str, name="body"), rounds_max=3)
    ((_, inside),) = names(entry)

    assert "side" not in inside
    assert {"join", "body", "iterate"} <= set(inside)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_loops_are_disjoint_or_nested_and_every_edge_back_closes_exactly_one(seed: int) -> None:
    topology = stream_of(draw(random.Random(seed)), random.Random(seed))["program"].topology
    loops = loops_of(topology)

    for one in loops:
        for other in loops[one.number + 1 :]:
            assert not one.steps & other.steps or other.steps < one.steps
        assert one.parent is None or one.steps < loops[one.parent].steps
    closing = [edge for loop in loops for edge in loop.back]
    assert sorted(map(repr, closing)) == sorted(repr(edge) for edge in topology.edges if edge.back)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_random_programs_have_no_fault(seed: int) -> None:
    assert not faults(stream_of(draw(random.Random(seed)), random.Random(seed)))


def test_rounds_are_told_and_kept_only_where_somebody_asks() -> None:
    def loop(operator: type[Operator], **options: Any) -> Any:
        stream = App("a").stream("s").then(operator)
        stream.feedback(when=bool, **options)
        return loops_of(stream.topology)[0]

    plain, told, ends = loop(Echo), loop(Told), loop(Ends)
    assert (plain.told, plain.gate, plain.synchronous) == (False, None, False)
    assert (told.told, told.gate) == (True, None)
    assert ends.synchronous
    assert ends.gate is not None
    assert loop(Echo, trips_max=3).told
    assert loop(Echo, rounds=Rounds()).synchronous


def test_names_are_found_in_methods_their_inner_functions_and_bases() -> None:
    class Inner(Told):
        def process(self, item: Any) -> Any:
            return [self.vote(part) for part in item]

    assert {"vote", "round"} & names_used(Inner) == {"vote"} | ({"round"} & names_used(Told))


# -- what is refused


def test_a_feedback_edge_that_leads_forward_is_refused() -> None:
    app = App("a")
    one, other = app.stream("s").split(bool)
    late = other.map(str, name="late")
    one.map(str, name="early").feedback(late, when=bool)

    assert any("s/feedback: feeds back to late, from which no path leads here again" in fault for fault in faults(app))


def test_a_cycle_by_into_is_still_refused() -> None:
    app = App("a")
    head = app.stream("s").merge(name="head")
    head.then(Echo).into(head)

    assert any("form a cycle without a feedback edge" in fault for fault in faults(app))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda s: s.merge().feedback(when=bool).then(Ends), "Ends has on_round_end, but is in no loop"),
        (lambda s: s.then(Back), "Back calls self.feedback, so declare .then(…, feedback=True)"),
        (lambda s: s.with_loop_state(), "there is no synchronous loop around it"),
        (lambda s: s.map(str).loop_end, ".loop_end is for the point that iterate"),
        (lambda s: s.map(str).feedback(when=bool).loop_end, ".loop_end needs rounds=Rounds"),
        (lambda s: s.merge().count().feedback(when=bool), "in a loop without rounds a count never sees the end"),
        (lambda s: _around(s, lambda p: p.sort()), "in a loop without rounds a sort never sees the end"),
        (
            lambda s: _around(s, lambda p: p.iterate(lambda q: q.map(str))),
            "waits for the end of its input, which never",
        ),
        (lambda s: _around(s, lambda p: p.delta(lambda q: q.map(str))), "waits for the end of its input, which never"),
        (lambda s: s.replay(lambda p: p, fold=max), "a replay ends by until= or rounds_max="),
        (lambda s: s.iterate(lambda p: p, until=bool), "until= looks at the state, which never changes"),
        (lambda s: s.iterate(lambda p: p, vote=bool), "vote= makes votes of items, so declare with fold="),
        (lambda s: s.iterate(lambda p: p, rounds_max=0), "rounds_max=0, but it is a whole number of rounds"),
        (lambda s: s.iterate(lambda p: p, fold=3), "fold=3, but it is a function"),
        (lambda s: s.map(str).feedback(when=bool, trips_max=0), "trips_max=0, but it is a whole number of trips"),
        (lambda s: s.then(Ends).feedback(when=bool, trips_max=5), "trips_max is for loops without rounds"),
        (lambda s: s.delta(lambda p: p, ahead=0), "at least one pair goes round at a time"),
        (lambda s: s.delta(lambda p: p, priority=1), "priority=1, but it is a function"),
        (lambda s: s.then(Echo, priority=1), "priority=1, but it is a function of the item"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(build: Any, said: str) -> None:
    app = App("a")
    build(app.stream("s", replies="many"))

    assert any(said in fault for fault in faults(app)), faults(app)


def _around(stream: Stream[Any, Any], body: Any) -> Stream[Any, Any]:
    head = stream.merge()
    return body(head).feedback(head, when=bool)  # type: ignore[no-any-return]


def test_an_operator_with_a_priority_may_do_nothing_whose_order_others_see() -> None:
    class Tells(Operator):
        def process(self, item: Any) -> None:
            self.send("other", item)

    class Waits(Operator):
        async def process(self, item: Any) -> None:
            pass

    app = App("a")
    app.stream("tells").then(Tells, priority=abs)
    app.stream("waits").then(Waits, priority=abs)

    assert any("Tells may only emit and feed back, and it calls send" in fault for fault in faults(app))
    assert any("priority= needs a plain process(self, item)" in fault for fault in faults(app))


def test_on_reply_is_refused_in_a_loop() -> None:
    class Sees(Operator):
        def process(self, item: Any) -> Any:
            return item

        def on_reply(self, outcome: Any, item: Any) -> Any:
            return outcome.result()

    app = App("a")
    app.stream("s").then(Sees).feedback(when=bool)

    assert any("Sees has on_reply and is in a loop" in fault for fault in faults(app))


def test_two_declarations_of_rounds_for_one_loop_are_refused() -> None:
    app = App("a")
    head = app.stream("s", replies="many").merge()
    one, other = head.split(bool)
    one.feedback(head, rounds=Rounds(rounds_max=2))
    other.feedback(head, rounds=Rounds(rounds_max=3))

    assert any("are one loop, and both declare rounds: keep one" in fault for fault in faults(app))


def test_what_comes_back_must_be_of_the_type_that_the_step_takes() -> None:
    class Number(Operator):
        def process(self, item: int) -> str:
            return str(item)

    app = App("a")
    app.stream("s", int).then(Number).feedback(when=bool)

    assert "s/Number: takes int, but feedback feeds back str" in faults(app)


def test_a_body_that_returns_no_point_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="the body of a loop takes a point of the stream and returns one, not None"):
        App("a").stream("s").iterate(lambda point: None)  # type: ignore[arg-type,return-value]


def test_a_point_of_another_stream_is_refused_at_once() -> None:
    app = App("a")
    other = app.stream("other")

    with pytest.raises(ValueError, match="a point of another stream"):
        app.stream("s").map(str).feedback(other)
    with pytest.raises(ValueError, match="a point of another stream"):
        app.stream("t").then(Echo, feedback=other)


async def test_a_host_does_not_start_with_such_faults() -> None:
    app = App("a")
    app.stream("s").map(str).count().feedback(when=bool)

    with pytest.raises(TopologyError, match="never sees the end of its input"):
        async with app.local():
            pass


# -- how they are drawn


def test_feedback_edges_are_drawn_as_such() -> None:
    stream = App("a").stream("s").then(Echo).feedback(when=bool)
    topology = stream.topology

    assert [edge["feedback"] for edge in to_json(topology)["edges"]].count(True) == 1
    assert '-. "again" .->' in to_mermaid(topology)
    assert to_svg(topology).count("stroke-dasharray") == 1


def test_names_are_those_of_self_and_not_of_other_things() -> None:
    class Review(Operator):
        @staticmethod
        def rated(review: Any) -> Any:
            return review.feedback

        def process(self, review: Any) -> Any:
            return review.feedback, review.call, [part.vote for part in review]

        def start(self) -> None:
            self.send("log", 1)

    assert names_used(Review) == {"send"}
    assert names_used(Review, besides=("start",)) == frozenset()


def test_names_are_found_through_decorators_and_inner_functions() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def inner(self: Any, item: Any) -> Any:
            return function(self, item)

        return inner

    class Decorated(Operator):
        @logged
        def process(self, item: Any) -> Any:
            return [self.feedback(part) for part in (lambda: self.round, item)]

    assert names_used(Decorated) == {"feedback", "round"}


def test_a_name_of_the_library_is_not_for_something_else() -> None:
    class Mine(Operator):
        round = 3

        def process(self, item: Any) -> Any:
            return item

    class Off(Ends):
        on_round_end = None  # type: ignore[assignment]

    app = App("a")
    app.stream("mine").then(Mine)
    app.stream("off").then(Off)

    assert faults(app) == ["mine/Mine: Mine defines round, which every operator has: choose another name"]
