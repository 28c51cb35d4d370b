"""The checker: what must be refused is refused with its place, what is right passes, and check itself never breaks."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sized
from typing import Annotated, Any

import pytest

from actorflow import App, Operator, TopologyError
from actorflow.plan.check import check, faults_of
from actorflow.plan.operator import ItemFailure
from actorflow.plan.stream import Stream
from actorflow.plan.topology import Discard, Edge, Entry, Reply, Topology


@dataclasses.dataclass
class Order:
    sku: str
    quantity: int = 1


class Receipt:
    pass


class Sync(Operator):
    def process(self, item: Any) -> Any:
        return item


class Async(Operator):
    async def process(self, item: Any) -> Any:
        return item


class Batches(Operator):
    def process_batch(self, items: list[Any]) -> list[Any]:
        return items


class Reserve(Operator):
    async def process(self, order: Order) -> Receipt | None:
        return Receipt()


class Split(Operator):
    def process(self, order: Order) -> Iterator[int]:
        yield order.quantity


class AsyncSplit(Operator):
    async def process(self, order: Order) -> AsyncIterator[int]:
        yield order.quantity


class Nothing(Operator):
    pass


class Both(Operator):
    def process(self, item: Any) -> Any: ...
    def process_batch(self, items: Any) -> Any: ...


class NoItem(Operator):
    def process(self) -> Any: ...


class TwoItems(Operator):
    def process(self, one: Any, two: Any) -> Any: ...


class Needy(Operator):
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def process(self, item: Any) -> Any:
        return item


class Edgy(Sync):
    on_error = "edge"


class Wrong(Sync):
    on_error = "explode"  # type: ignore[assignment]


def takes_text(item: str) -> str:
    return item


def takes_number(item: int) -> int:
    return item


def makes_orders(item: Any) -> list[Order]:
    return [Order("tea")]


def makes_iterable(item: Any) -> Iterable[int]:
    return [1]


def takes_sized(item: Sized) -> int:
    return len(item)


def makes_orders_or_none(item: Any) -> list[Order] | None:
    return None


def describe(failure: ItemFailure) -> str:
    return str(failure.error)


async def asynchronous(item: Any) -> Any:
    return item


def faults(build: Callable[[Stream[Any, Any]], Any], **declared: Any) -> list[str]:
    """The faults of an app with one stream "s", to which `build` adds the steps."""
    app = App("shop")
    build(app.stream("s", **declared))
    return list(faults_of(app))


class HandMade(App):
    """An app with topologies that the builder cannot make."""

    def __init__(self, *topologies: Topology) -> None:
        super().__init__("shop")
        self._made = {topology.stream: topology for topology in topologies}

    @property
    def streams(self) -> Any:
        return self._made


def loops(stream: Stream[Any, Any]) -> None:
    start = stream.merge(name="start")
    start.map(takes_number, name="step").into(start)


def leads_back(stream: Stream[Any, Any]) -> None:
    merged = stream.map(repr).merge()
    stream.map(str, name="late").into(merged)


REFUSED: dict[str, tuple[Callable[[Stream[Any, Any]], Any], dict[str, Any], str, str]] = {
    "a cycle": (loops, {}, "s", "start → step → start form a cycle"),
    "an unreachable step": (lambda s: s.merge(Stream(s._plan, s._plan.add(Discard, "lonely"))), {}, "s/lonely",
                            "no item can reach it"),
    "a route without outputs": (lambda s: s.route(str), {}, "s/route", "at least one output"),
    "half a join": (lambda s: s.map(str).into(s.join(s, "a")), {}, "s/join", "exactly the inputs left and right"),
    "an error edge of a function": (lambda s: s.map(str).errors.map(repr), {}, "s/str", "only an operator"),
    "an undeclared error edge": (lambda s: s.then(Sync).errors.map(repr), {}, "s/Sync", "declare on_error='edge'"),
    "an unused error edge": (lambda s: s.then(Edgy), {}, "s/Edgy", "nothing follows its .errors"),
    "an unused error edge of a step": (lambda s: s.then(Sync, on_error="edge"), {}, "s/Sync", "nothing follows"),
    "no path to an answer": (lambda s: s.discard(), {}, "s", "every path is discarded"),
    "no time": (lambda s: s, {"timeout_s": 0}, "s", "timeout_s=0"),
    "negative time": (lambda s: s, {"timeout_s": -1.0}, "s", "timeout_s=-1.0"),
    "time that is no number": (lambda s: s, {"timeout_s": float("nan")}, "s", "timeout_s=nan"),
    "no room": (lambda s: s, {"in_flight": 0}, "s", "in_flight=0"),
    "an unknown stream": (lambda s: s.call("ss"), {}, "s/call_ss", "did you mean 's'?"),
    "no call at a time": (lambda s: s.call("s", concurrency=0), {}, "s/call_s", "concurrency=0"),
    "an async filter": (lambda s: s.filter(asynchronous), {}, "s/asynchronous", "a filter takes a plain function"),
    "an async flat_map": (lambda s: s.flat_map(asynchronous), {}, "s/asynchronous", "a flat_map takes a plain"),
    "no shards": (lambda s: s.key_by("a", shards=0).count(), {}, "s/key_by", "shards=0"),
    "an operator that does nothing": (lambda s: s.then(Nothing), {}, "s/Nothing", "neither process"),
    "an operator of two minds": (lambda s: s.then(Both), {}, "s/Both", "both process and process_batch"),
    "a process without an item": (lambda s: s.then(NoItem), {}, "s/NoItem", "must take (self, item)"),
    "a process of two items": (lambda s: s.then(TwoItems), {}, "s/TwoItems", "must take (self, item)"),
    "a missing argument": (lambda s: s.then(Needy), {}, "s/Needy", "missing a required argument: 'limit'"),
    "a wrong argument": (lambda s: s.then(Sync, 1), {}, "s/Sync", "too many positional arguments"),
    "a wrong keyword": (lambda s: s.then(Needy, limit=1, other=2), {}, "s/Needy", "'other'"),
    "no replica": (lambda s: s.then(Sync, replicas=0), {}, "s/Sync", "at least 1"),
    "negative concurrency": (lambda s: s.then(Async, concurrency=-1), {}, "s/Async", "at least 1"),
    "concurrency of a plain process": (lambda s: s.then(Sync, concurrency=2), {}, "s/Sync", "needs an async process"),
    "concurrency of a plain batch": (lambda s: s.then(Batches, concurrency=2), {}, "s/Batches", "needs an async"),
    "replicas with a key": (lambda s: s.key_by("a").then(Sync, replicas=2), {}, "s/Sync", "runs once per host"),
    "replicas with a key, filtered": (lambda s: s.key_by("a").filter(bool).then(Sync, replicas=2), {}, "s/Sync",
                                      "runs once per host"),
    "an unknown on_error": (lambda s: s.then(Sync, on_error="explode"), {}, "s/Sync", "'explode'"),
    "an unknown on_error of a class": (lambda s: s.then(Wrong), {}, "s/Wrong", "'explode'"),
    "two numbers of shards": (lambda s: (s.key_by("a", shards=4).count(), s.key_by("a", shards=5).count()), {},
                              "s/key_by_2", "has 4 shards at s/key_by, but 5 here"),
    "a wrong item": (lambda s: s.then(Reserve), {"request_type": str}, "s/Reserve", "takes Order, but receives str"),
    "a wrong item of a function": (lambda s: s.map(takes_number).map(takes_text), {}, "s/takes_text",
                                   "takes str, but receives int"),
    "a wrong item after a filter": (lambda s: s.map(takes_number).filter(lambda item: item).map(takes_text), {},
                                    "s/takes_text",
                                    "takes str, but receives int"),
    "a wrong item after a sort": (lambda s: s.map(takes_number).sort().map(takes_text), {}, "s/takes_text",
                                  "takes str, but receives int"),
    "a wrong item of a generator": (lambda s: s.then(Split).map(takes_text), {}, "s/takes_text", "receives int"),
    "a wrong item of an async generator": (lambda s: s.then(AsyncSplit).map(takes_text), {}, "s/takes_text",
                                           "receives int"),
    "a wrong element": (lambda s: s.flat_map(makes_orders).map(takes_text), {}, "s/takes_text", "receives Order"),
    "a wrong reply": (lambda s: s.map(takes_number), {"reply_type": str}, "s/takes_number",
                      "the stream declares replies of type str"),
    "a wrong optional reply": (lambda s: s.then(Reserve), {"reply_type": str}, "s/Reserve", "makes Receipt"),
    "an unknown field": (lambda s: s.key_by("colour").count(), {"request_type": Order}, "s/key_by",
                         "Order has no field 'colour'"),
}  # fmt: skip
ACCEPTED: dict[str, tuple[Callable[[Stream[Any, Any]], Any], dict[str, Any]]] = {
    "nothing but an entry": (lambda s: s, {}),
    "functions": (lambda s: s.map(str).filter(bool).flat_map(list), {}),
    "elements that are not declared alone": (lambda s: s.flat_map(makes_orders_or_none).map(takes_text), {}),
    "an async map": (lambda s: s.map(asynchronous), {}),
    "an operator": (lambda s: s.then(Reserve), {"request_type": Order, "reply_type": Receipt}),
    "an operator of batches": (lambda s: s.then(Batches, replicas=3), {}),
    "arguments": (lambda s: s.then(Needy, 3).then(Needy, limit=3), {}),
    "concurrency of an async process": (lambda s: s.then(Async, concurrency=9), {}),
    "an error edge": (lambda s: s.then(Edgy).errors.map(repr), {}),
    "an error edge of a step": (lambda s: s.then(Sync, on_error="edge").errors.discard(), {}),
    "a call of itself": (lambda s: s.call("s"), {}),
    "all discarded and no answer due": (lambda s: s.discard(), {"replies": "none"}),
    "one path of two discarded": (lambda s: (s.discard(), s.map(str)), {}),
    "a join": (lambda s: s.map(str).join(s.map(repr), str), {}),
    "a merge of two types": (lambda s: s.map(takes_number).merge(s.map(str)).map(takes_text), {}),
    "a whole number for a fraction": (lambda s: s.map(takes_number).map(abs), {"reply_type": float}),
    "a subclass": (lambda s: s.map(takes_number), {"request_type": bool, "reply_type": object}),
    "a union": (lambda s: s.map(takes_number), {"request_type": int | str}),
    "a key that is a field": (lambda s: s.key_by("sku").then(Sync), {"request_type": Order}),
    "the same space twice": (lambda s: (s.key_by("a", shards=4).count(), s.key_by("a", shards=4).count()), {}),
    "replicas after the key is used": (lambda s: s.key_by("a").then(Sync).then(Sync, replicas=2), {}),
    "a further source": (lambda s: s.source(lambda _: [1]).discard(), {}),
    "later into earlier": (leads_back, {}),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.replace(" ", "-"))
def test_a_wrong_program_is_refused_with_its_place_and_its_fault(case: str) -> None:
    build, declared, place, words = REFUSED[case]

    found = faults(build, **declared)

    matching = [fault for fault in found if words in fault]
    assert len(matching) == 1, found
    assert matching[0].startswith(f"{place}: ")


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.replace(" ", "-"))
def test_a_right_program_passes(case: str) -> None:
    build, declared = ACCEPTED[case]

    assert faults(build, **declared) == []


def test_a_single_fault_is_the_only_one_reported() -> None:
    alone = ["an undeclared error edge", "no room", "a wrong item", "an unknown stream", "two numbers of shards"]

    for case in alone:
        build, declared, _, _ = REFUSED[case]
        assert len(faults(build, **declared)) == 1, case


def test_all_faults_of_all_streams_are_named_at_once() -> None:
    app = App("shop")
    app.stream("a", timeout_s=-1).then(Nothing)
    app.stream("b", Order).key_by("colour").then(Needy).call("nowhere")

    with pytest.raises(TopologyError) as refused:
        check(app)

    assert [fault.split(":")[0] for fault in refused.value.faults] == [
        "a", "a/Nothing", "b/Needy", "b/call_nowhere", "b/key_by",
    ]  # fmt: skip
    assert "5 faults" in refused.value.message
    assert all(fault in refused.value.message for fault in refused.value.faults)


def test_an_app_without_streams_is_refused() -> None:
    with pytest.raises(TopologyError, match="app 'empty' has no stream"):
        check(App("empty"))


def test_a_right_app_is_checked_in_silence() -> None:
    app = App("shop")
    app.stream("a").call("b")
    app.stream("b").then(Sync)

    check(app)


def test_what_follows_a_discard_is_refused() -> None:
    steps = (Entry(number=0, name="entry"), Discard(number=1, name="end"), Reply(number=2, name="reply"))
    app = HandMade(Topology(stream="s", steps=steps, edges=(Edge(0, 1), Edge(1, 2))))

    assert list(faults_of(app)) == ["s/end: items end here, so nothing can follow"]


def test_key_spaces_are_compared_between_streams() -> None:
    app = App("shop")
    app.stream("a").key_by("sku", shards=4).count()
    app.stream("b").key_by("sku", shards=8).count()

    assert list(faults_of(app)) == ["b/key_by: key space 'sku' has 4 shards at a/key_by, but 8 here"]


# Found wanting


@pytest.mark.parametrize("operator", [takes_number, 5, None], ids=repr)
def test_what_is_no_operator_is_refused_by_name(operator: Any) -> None:
    found = faults(lambda s: s.then(operator))

    assert len(found) == 1
    assert "takes a subclass of Operator" in found[0]


def test_a_route_may_have_an_output_named_errors() -> None:
    assert faults(lambda s: s.route(str, "good", "errors")) == []
    assert len(faults(lambda s: s.route(str, "good")["good"].errors.map(repr))) == 1


def test_what_follows_an_error_edge_receives_failures() -> None:
    def build(stream: Stream[Any, Any]) -> None:
        stream.map(takes_number).then(AddOne, on_error="edge").errors.map(describe)

    class AddOne(Operator):
        def process(self, item: int) -> int:
            return item + 1

    assert faults(build) == []


def test_a_filter_by_a_type_keeps_the_declared_type_of_the_items() -> None:
    assert len(faults(lambda s: s.map(takes_number).filter(bool).map(takes_text))) == 1


def test_a_value_may_be_of_two_abstract_types_at_once() -> None:
    assert faults(lambda s: s.map(makes_iterable).map(takes_sized)) == []


def test_an_annotation_that_cannot_be_hashed_does_not_break_the_check() -> None:
    assert faults(lambda s: s.map(takes_number), request_type=Annotated[int, {"unit": "m"}]) == []


@pytest.mark.parametrize(
    "build",
    [
        lambda s: s.then(Async, concurrency=0),
        lambda s: s.then(Async, mailbox_envelopes=0),
        lambda s: s.then(Async, replicas="two"),
        lambda s: s.call("s", concurrency=True),
        lambda s: s.batch("3"),
        lambda s: s.batch(0),
        lambda s: s.top(-1),
        lambda s: s.join(s.map(str), str, how="sideways"),
        lambda s: s.into(s.source(lambda _: [1])),
    ],
    ids=["concurrency", "mailbox_envelopes", "text", "truth", "batch-of-text", "batch", "top", "join", "into-source"],
)
def test_numbers_and_words_out_of_range_are_refused(build: Any) -> None:
    assert len(faults(build)) == 1


@pytest.mark.parametrize("word", ["explode", "edge"])
def test_the_on_error_of_a_stream_is_checked_like_that_of_an_operator(word: Any) -> None:
    assert faults(lambda s: s.then(Sync), on_error=word) != []


def test_a_key_that_no_step_works_by_is_refused() -> None:
    lost, used = App("lost"), App("used")
    lost.stream("s", str).key_by().map(str.upper).count()
    used.stream("s", str).key_by().filter(str.isalpha).count()

    assert [fault for fault in faults_of(lost) if "no step uses this key" in fault]
    assert not list(faults_of(used))
