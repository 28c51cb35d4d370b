"""Streams drawn at random: whatever the builder can be asked for by functions with names."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from actorflow import App, Operator, Restart, Rounds
from actorflow.plan.spec.types import type_of
from actorflow.plan.stream import Stream, field_getter


class Work(Operator):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def process(self, item: Any) -> Any:
        return item


class Named(Work):
    on_error = "set_aside"


def keep(item: Any) -> Any:
    return item


def make() -> list[Any]:
    return []


def begin(request: Any) -> list[Any]:
    return []


FUNCTIONS = st.sampled_from([keep, str.split, len, operator.neg, field_getter("sku"), str])
PAIRS = st.sampled_from([min, max, operator.add])
NAMES = st.none() | st.sampled_from(["a", "b", "a.b", "a.errors", "errors", "merge", "delta", "broadcast", "true", "ü"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT | st.sampled_from(["python:x:y", "no", "1e3", "~"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
OUTPUTS = st.sampled_from([("a",), ("a", "b.c"), ("errors", "x y")])
BEGINNINGS = st.sampled_from([make, 0, 0.5, "x", "python:x:y", [1], {"a": 1}, None, True])
ROUNDS = st.builds(
    lambda most, fold, more: Rounds(rounds_max=most, fold=fold, **more),
    st.sampled_from([1, 5, len]),
    PAIRS,
    st.fixed_dictionaries(
        {}, optional={"initial": BEGINNINGS, "state": BEGINNINGS, "until": FUNCTIONS, "update": PAIRS}
    ),
)
TYPES = st.sampled_from(
    ["any", "int", "str", "list[int]", "int | none", "tuple[int, ...]", "python:collections:Counter", "none",
     {"sku": "str", "note?": {"a": "list[int]"}}, "list[{a: int, b?: none}]"]
)  # fmt: skip


class Program:
    """Draws the steps of one stream: points that there are, and what can be done with them."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.points: list[Stream[Any, Any]] = []

    def point(self) -> Stream[Any, Any]:
        return self.draw(st.sampled_from(self.points[-6:] + self.points[:1]))

    def chain(self, length: int, depth: int) -> None:
        for _ in range(length):
            point = self.points[-1] if self.draw(st.booleans()) else self.point()
            verb = self.draw(st.sampled_from(sorted(STEPS)))
            made = STEPS[verb](self, point, self.draw(NAMES), depth)
            self.points += made if isinstance(made, list) else [made]
            if self.draw(st.integers(0, 9)) == 0:
                self.points.append(self.points[-1].errors)

    def body(self, depth: int) -> Callable[[Stream[Any, Any]], Stream[Any, Any]]:
        def body(head: Stream[Any, Any]) -> Stream[Any, Any]:
            self.points.append(head)
            self.chain(self.draw(st.integers(0, 3)) if depth < 3 else 0, depth + 1)
            return self.point()

        return body


def then(program: Program, point: Stream[Any, Any], name: Any, depth: int) -> Stream[Any, Any]:
    options = program.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "replicas": st.integers(1, 3),
                "concurrency": st.integers(1, 3),
                "on_error": st.sampled_from(["fail", "edge"]),
                "restart": st.builds(Restart, restarts=st.integers(1, 9)),
                "mailbox_envelopes": st.integers(1, 9),
                "priority": FUNCTIONS,
                "feedback": st.just(True) | st.sampled_from(program.points),
                "value": PLAIN,
            },
        )
    )
    return point.then(
        program.draw(st.sampled_from([Work, Named])), *program.draw(st.lists(PLAIN, max_size=2)), name=name, **options
    )


def into(program: Program, point: Stream[Any, Any], name: Any, depth: int) -> Stream[Any, Any]:
    return point.into(program.point())


def discard(program: Program, point: Stream[Any, Any], name: Any, depth: int) -> list[Any]:
    point.discard()
    return []


STEPS: dict[str, Callable[[Program, Stream[Any, Any], Any, int], Any]] = {
    "map": lambda p, at, name, _: at.map(p.draw(FUNCTIONS), name=name),
    "filter": lambda p, at, name, _: at.filter(p.draw(FUNCTIONS), name=name),
    "flat_map": lambda p, at, name, _: at.flat_map(p.draw(FUNCTIONS), name=name),
    "key_by": lambda p, at, name, _: at.key_by(
        p.draw(st.none() | st.sampled_from(["sku", "a b", "x:y"]) | FUNCTIONS),
        space=p.draw(st.none() | st.just("word")), shards=p.draw(st.sampled_from([256, 8])), name=name),
    "then": then,
    "call": lambda p, at, name, _: at.call(
        "s", concurrency=p.draw(st.sampled_from([64, 2])), ordered=p.draw(st.booleans()), name=name),
    "count": lambda p, at, name, _: at.count(name=name),
    "fold": lambda p, at, name, _: at.fold(p.draw(BEGINNINGS), p.draw(PAIRS), name=name),
    "reduce": lambda p, at, name, _: at.reduce(p.draw(PAIRS), name=name),
    "sort": lambda p, at, name, _: at.sort(p.draw(st.none() | FUNCTIONS), reverse=p.draw(st.booleans()), name=name),
    "top": lambda p, at, name, _: at.top(3, p.draw(st.none() | FUNCTIONS), reverse=p.draw(st.booleans()), name=name),
    "distinct": lambda p, at, name, _: at.distinct(name=name),
    "collect": lambda p, at, name, _: at.collect(name=name),
    "batch": lambda p, at, name, _: at.batch(p.draw(st.integers(1, 9)), name=name),
    "join": lambda p, at, name, _: at.join(
        p.point(), p.draw(st.just("sku") | FUNCTIONS), p.draw(st.none() | st.just("id") | FUNCTIONS),
        how=p.draw(st.sampled_from(["inner", "left", "outer"])), name=name),
    "merge": lambda p, at, name, _: at.merge(*p.draw(st.lists(st.sampled_from(p.points), max_size=2)), name=name),
    "split": lambda p, at, name, _: list(at.split(p.draw(FUNCTIONS), name=name)),
    "route": lambda p, at, name, _: list(
        at.route(p.draw(FUNCTIONS), *p.draw(OUTPUTS), name=name).values()
    ),
    "broadcast": lambda p, at, name, _: list(at.broadcast(p.draw(st.integers(1, 3)))),
    "source": lambda p, at, name, _: at.source(p.draw(FUNCTIONS), name=name),
    "into": into,
    "discard": discard,
    "feedback": lambda p, at, name, _: at.feedback(
        p.draw(st.none() | st.sampled_from(p.points)), when=p.draw(st.none() | FUNCTIONS),
        trips_max=p.draw(st.none() | st.just(3)), rounds=p.draw(st.none() | ROUNDS | st.just(Rounds())), name=name),
    "iterate": lambda p, at, name, depth: at.iterate(p.body(depth), rounds_max=3, vote=keep, fold=max, name=name),
    "replay": lambda p, at, name, depth: at.replay(
        p.body(depth), fold=max, initial=p.draw(BEGINNINGS), rounds_max=3, name=name),
    "delta": lambda p, at, name, depth: at.delta(
        p.body(depth), combine=p.draw(st.sampled_from([min, max])), priority=p.draw(st.none() | FUNCTIONS),
        ahead=p.draw(st.sampled_from([64, 1])), rounds=p.draw(st.none() | st.just(Rounds())), name=name),
    "loop_end": lambda p, at, name, _: at.loop_end,
    "with_loop_state": lambda p, at, name, _: at.with_loop_state(name=name),
}  # fmt: skip


@st.composite
def apps(draw: Callable[[st.SearchStrategy[Any]], Any], length: int = 8) -> App:
    """An app with two streams of random steps, cells and a schedule."""
    app = App("drawn")
    for name in ("s", "t-2"):
        kinds = [type_of(draw(TYPES), _named) for _ in range(2)]
        program = Program(draw)
        program.points = [
            app.stream(
                name, *kinds,
                replies=draw(st.sampled_from(["one", "many", "none"])), early=draw(st.booleans()),
                timeout_s=draw(st.none() | st.just(2.5)), in_flight=draw(st.none() | st.just(3)),
                restart=draw(st.none() | st.just(Restart(strategy="one_for_all"))),
            )
        ]  # fmt: skip
        program.chain(draw(st.integers(0, length)), 0)
    app.schedule("often", "s", draw(PLAIN), every_s=3)
    return app


def _named(reference: str) -> Any:
    from actorflow.plan.spec.references import python_named

    return python_named(reference)
