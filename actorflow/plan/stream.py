"""The builder: a stream is written as a chain of steps and is a value all the while."""

from __future__ import annotations

import dataclasses
import operator as operators
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Final, Generic, Literal, TypeVar, cast
from weakref import WeakValueDictionary

from actorflow.plan import folds
from actorflow.plan.foreign import Foreign, in_stream
from actorflow.plan.operator import ItemFailure, OnError, Operator, Restart
from actorflow.plan.rounds import UNSET, LoopEnd, Rounds
from actorflow.plan.topology import (
    AGAIN,
    BACK,
    END,
    ERRORS,
    FEEDBACK,
    CallStream,
    Delta,
    Discard,
    Edge,
    Entry,
    Feedback,
    Function,
    Gather,
    Gathering,
    Join,
    KeyBy,
    KeySpace,
    Merge,
    Replay,
    Replies,
    Reply,
    Route,
    Source,
    Step,
    Then,
    Topology,
    WithLoopState,
)

Q = TypeVar("Q")
T = TypeVar("T")
U = TypeVar("U")
StepT = TypeVar("StepT", bound=Step)


class StreamPlan:
    """The steps of one stream while the program writes them down."""

    def __init__(self, name: str, **declared: Any) -> None:
        self.name = name
        self.declared = declared
        self.steps: list[Step] = []
        self.edges: list[Edge] = []

    def add(self, kind: type[StepT], name: str | None, **fields: Any) -> StepT:
        """Append a step under a name that is unique in the stream ("map", "map_2", …)."""
        step = kind(number=len(self.steps), name=self._unique(name or kind.kind), **fields)
        self.steps.append(step)
        return step

    def _unique(self, wanted: str) -> str:
        return unique_name(wanted, {step.name for step in self.steps})

    def topology(self) -> Topology:
        """Return the stream as an immutable value; what leads nowhere else is a reply."""
        steps, edges = list(self.steps), list(self.edges)
        reply = Reply(number=len(steps), name=self._unique(Reply.kind))
        followed = {(edge.source, edge.output) for edge in self.edges}
        for step in self.steps:
            ends = [output for output in _outputs(step) if (step.number, output) not in followed]
            edges += [Edge(step.number, reply.number, output) for output in ends]
        steps.append(reply)
        return Topology(stream=self.name, steps=tuple(steps), edges=tuple(edges), **self.declared)


def unique_name(wanted: str, taken: Container[str]) -> str:
    """Return a name that is not taken: the one that is wanted, or with a number behind it."""
    unique, count = wanted, 2
    while unique in taken:
        unique, count = f"{wanted}_{count}", count + 1
    return unique


def _outputs(step: Step) -> tuple[str, ...]:
    """Return the outputs of a step that are replies when nothing is connected to them."""
    if isinstance(step, Discard) or (isinstance(step, Feedback) and step.when is None and step.rounds is None):
        return ()
    return step.outputs if isinstance(step, Route) else ("",)


class Stream(Generic[Q, T]):
    """A point in a stream's topology: `Q` is what requests carry, `T` what the items are at this point.

    Every method adds a step and returns the point after it. Using one point twice sends every item both ways. Points
    that nothing follows are the stream's replies. Any point of a stream names the stream in `client.request(...)`.
    """

    __slots__ = ("_output", "_plan", "_step")

    def __init__(self, plan: StreamPlan, step: Step, output: str = "") -> None:
        self._plan = plan
        self._step = step
        self._output = output

    @property
    def name(self) -> str:
        """Return the stream's name."""
        return self._plan.name

    @property
    def replies(self) -> Replies:
        """Return how the stream answers: "one", "many" or "none"."""
        replies: Replies = self._plan.declared.get("replies", "one")
        return replies

    @property
    def reply_type(self) -> Any:
        """Return the declared type of the replies (`Any` when none was declared)."""
        return self._plan.declared.get("reply_type", Any)

    @property
    def topology(self) -> Topology:
        """Return the whole stream as an immutable value."""
        return self._plan.topology()

    def __repr__(self) -> str:
        return f"<stream {self.name!r} at {self._step.name}{':' + self._output if self._output else ''}>"

    # -- stateless functions

    def map(self, function: Callable[[T], U], *, name: str | None = None) -> Stream[Q, U]:
        """Replace each item by `function(item)`."""
        return self._function("map", function, name)

    def filter(self, predicate: Callable[[T], Any], *, name: str | None = None) -> Stream[Q, T]:
        """Keep the items for which `predicate(item)` is true."""
        return self._function("filter", predicate, name)

    def flat_map(self, function: Callable[[T], Iterable[U]], *, name: str | None = None) -> Stream[Q, U]:
        """Replace each item by all that `function(item)` returns or yields."""
        return self._function("flat_map", function, name)

    def _function(
        self, shape: Literal["map", "filter", "flat_map"], call: Callable[..., Any], name: str | None
    ) -> Stream[Q, Any]:
        call = in_stream(call)
        own = getattr(call, "__name__", "")
        return self._then(Function, name or (own if own.isidentifier() else shape), shape=shape, call=call)

    # -- keys

    def key_by(
        self,
        key: Callable[[T], Any] | str | None = None,
        *,
        space: str | None = None,
        shards: int = 256,
        name: str | None = None,
    ) -> Stream[Q, T]:
        """Give what follows a key: a function, a field's name, or nothing when the item is its own key.

        The key belongs to the step that follows (filters in between keep it). `space` names the key space, whose
        shards are the unit of ownership: operators keyed by the same space meet the same key on the same host.
        """
        field = key if isinstance(key, str) else field_of(key)
        function = field_getter(field) if field is not None else cast("Callable[[Any], Any] | None", in_stream(key))
        own = getattr(key, "__name__", "")
        label = space or field or (own if own.isidentifier() else f"{self.name}.key")
        return self._then(KeyBy, name or "key_by", key=function, field=field, space=KeySpace(label, shards))

    # -- operators and other streams

    def then(
        self,
        operator: type[Operator] | Foreign,
        *args: Any,
        name: str | None = None,
        replicas: int = 1,
        concurrency: int | None = None,
        on_error: OnError | None = None,
        restart: Restart | None = None,
        mailbox_envelopes: int | None = None,
        priority: Callable[[T], Any] | None = None,
        feedback: Stream[Q, Any] | bool = False,
        **kwargs: Any,
    ) -> Stream[Q, Any]:
        """Hand each item to an operator, or to a function of another language; further arguments go to its constructor.

        A keyed operator (after `key_by`) runs once per host; `replicas` is for those without a key.

        feedback: where items go that the operator gives to `self.feedback`: an earlier point, whose step receives them,
        or True for this operator itself.   priority: of those that wait, the item whose `priority(item)` is smallest is
        processed first, instead of the one that came first; the operator must be a plain one.

        Raises: ValueError when `feedback` is a point of another stream.
        """
        if isinstance(feedback, Stream):
            self._check_same_stream(feedback)
        stands = in_stream(operator)
        kind = stands.operator("then") if isinstance(stands, Foreign) else stands
        step = self._plan.add(
            Then,
            name or getattr(stands, "__name__", None) or getattr(kind, "__name__", "operator"),
            operator=kind,
            args=args,
            kwargs=kwargs,
            replicas=replicas,
            concurrency=concurrency,
            on_error=on_error,
            restart=restart,
            mailbox_envelopes=mailbox_envelopes,
            priority=in_stream(priority),
        )
        after = self._connect(step)
        if feedback is not False:
            turn = self._plan.add(Feedback, f"{step.name}_feedback")
            self._plan.edges.append(Edge(step.number, turn.number, FEEDBACK))
            target = feedback._step if isinstance(feedback, Stream) else step
            self._plan.edges.append(Edge(turn.number, target.number, AGAIN, back=True))
        return after

    def call(
        self,
        stream: Stream[Any, U] | str,
        *,
        concurrency: int = 64,
        ordered: bool = True,
        name: str | None = None,
    ) -> Stream[Q, U]:
        """Make a child request of each item and go on with its replies.

        Up to `concurrency` are open at once per request; `ordered` keeps the replies in the order of the items.
        """
        target = stream if isinstance(stream, str) else stream.name
        return self._then(CallStream, name or f"call_{target}", stream=target, concurrency=concurrency, ordered=ordered)

    @property
    def errors(self) -> Stream[Q, ItemFailure]:
        """Return the error edge of the operator at this point: `ItemFailure(item, error)` of each failed item."""
        return Stream(self._plan, self._step, ERRORS)

    # -- one to many, many to one

    def split(self, predicate: Callable[[T], Any], *, name: str | None = None) -> tuple[Stream[Q, T], Stream[Q, T]]:
        """Return two points: items for which `predicate(item)` is true, and the others."""
        step = self._connect(
            self._plan.add(
                Route,
                name or "split",
                choose=chooser(in_stream(predicate)),
                outputs=("true", "false"),
            )
        )._step
        return Stream(self._plan, step, "true"), Stream(self._plan, step, "false")

    def route(self, choose: Callable[[T], Any], *outputs: str, name: str | None = None) -> dict[str, Stream[Q, T]]:
        """Return one point per output; each item leaves by the output that `choose(item)` names."""
        step = self._connect(self._plan.add(Route, name or "route", choose=in_stream(choose), outputs=outputs))._step
        return {output: Stream(self._plan, step, output) for output in outputs}

    def broadcast(self, count: int) -> tuple[Stream[Q, T], ...]:
        """Return `count` points that each receive every item (copies, where items are mutable)."""
        return tuple(self._then(Merge, "broadcast") for _ in range(count))

    def merge(self, *others: Stream[Q, Any], name: str | None = None) -> Stream[Q, Any]:
        """Bring several points together, in order of arrival.

        Raises: ValueError when one is a point of another stream.
        """
        self._check_same_stream(*others)
        step = self._plan.add(Merge, name or "merge")
        for point in (self, *others):
            point._connect(step)
        return Stream(self._plan, step)

    def into(self, point: Stream[Any, Any]) -> Stream[Q, Any]:
        """Hand the items also to the step at another point (one that takes several inputs, such as a merge).

        Raises: ValueError when it is a point of another stream.
        """
        self._check_same_stream(point)
        self._connect(point._step)
        return point

    def source(self, make: Callable[..., Iterable[U]], *, name: str | None = None) -> Stream[Q, U]:
        """Return a further source: each request starts `make(request)` and sends what it yields."""
        make = in_stream(make)
        own = getattr(make, "__name__", "")
        step = self._plan.add(Source, name or (own if own.isidentifier() else "source"), make=make)
        return Stream(self._plan, step)

    def discard(self) -> None:
        """End here: what arrives is no reply."""
        self._then(Discard, "discard")

    # -- round again

    def feedback(
        self,
        to: Stream[Q, Any] | None = None,
        *,
        when: Callable[[T], Any] | None = None,
        trips_max: int | None = None,
        rounds: Rounds | None = None,
        name: str | None = None,
    ) -> Stream[Q, T]:
        """Send items back to the step at an earlier point (by default at this one) and return the point of the others.

        `when(item)` says which go back; without it all do. Items go round one by one, as they come, each as often as it
        needs; the loop of a request is over when none of its items is left in it, and then what follows sees the end of
        its input. With `rounds` they go round together: see `Rounds`.

        trips_max: an item that goes round more often fails its request with RoundLimitError.

        Raises: ValueError when `to` is a point of another stream.
        """
        if to is not None:
            self._check_same_stream(to)
        rounds = _checked_rounds(rounds)
        step = self._plan.add(Feedback, name or "feedback", when=in_stream(when), trips_max=trips_max, rounds=rounds)
        self._connect(step)
        target = self._step if to is None else to._step
        self._plan.edges.append(Edge(step.number, target.number, AGAIN, back=True))
        return Stream(self._plan, step)

    def iterate(
        self,
        body: Callable[[Stream[Q, Any]], Stream[Q, Any]],
        *,
        until: Callable[..., Any] | None = None,
        rounds_max: int | Callable[[Any], int] | None = None,
        fold: Callable[[Any, Any], Any] | None = None,
        initial: Any = UNSET,
        state: Any = UNSET,
        update: Callable[[Any, Any], Any] | None = None,
        vote: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> Stream[Q, Any]:
        """Let items go through `body` in synchronous rounds: what comes out of a round goes into the next.

        What comes out of the last round goes on. Folds within the body are folds over one round. `until`, `rounds_max`,
        `fold`, `initial`, `state`, `update` and `vote` are those of `Rounds`; `.loop_end` is the point of the end.
        """
        head = self._then(Merge, f"{name or 'iterate'}_head")
        rounds = _rounds(until, rounds_max, fold, initial, state, update, vote)
        return self._body_of(body, head).feedback(head, rounds=rounds, name=name or "iterate")

    def replay(
        self,
        body: Callable[[Stream[Q, T]], Stream[Q, Any]],
        *,
        fold: Callable[[Any, Any], Any],
        until: Callable[..., Any] | None = None,
        rounds_max: int | Callable[[Any], int] | None = None,
        initial: Any = UNSET,
        state: Any = UNSET,
        update: Callable[[Any, Any], Any] | None = None,
        name: str | None = None,
    ) -> Stream[Q, Any]:
        """Let the same items go through `body` in every round; all that comes out are votes, folded into the state.

        The last state goes on, once per request. `until` or `rounds_max` is needed: the loop has no other end. They and
        the others are those of `Rounds`; `.loop_end` is the point of the end.
        """
        rounds = _checked_rounds(_rounds(until, rounds_max, fold, initial, state, update, None))
        step = self._connect(self._plan.add(Replay, name or "replay", rounds=rounds))._step
        self._body_of(body, Stream(self._plan, step, AGAIN))._connect(step, side=BACK, back=True)
        return Stream(self._plan, step)

    def delta(
        self,
        body: Callable[[Stream[Q, Any]], Stream[Q, Any]],
        *,
        combine: Callable[[Any, Any], Any] = min,
        priority: Callable[[Any], Any] | None = None,
        ahead: int = 64,
        rounds: Rounds | None = None,
        name: str | None = None,
    ) -> Stream[Q, Any]:
        """Improve the values of keys until none changes any more: items are pairs `(key, value)`.

        The stream keeps one value per key and request, `combine(old, new)` of all that has come for it. A pair whose
        value that changes goes through `body`, and what comes out of it comes back, as proposals. When nothing changes
        any more all pairs go on. Pairs of one key that wait are combined into one.

        combine: must give the same in any order, and stop changing (min, max, a union of sets).   priority: pairs go
        into the body smallest first, up to `ahead` at a time, so that less is done twice (shortest paths).   rounds:
        changes go round together instead, in synchronous rounds (`Rounds()` asks for nothing else).
        """
        step = self._connect(
            self._plan.add(
                Delta,
                name or "delta",
                combine=in_stream(combine),
                priority=in_stream(priority),
                ahead=ahead,
                rounds=_checked_rounds(rounds),
            )
        )._step
        self._body_of(body, Stream(self._plan, step, AGAIN))._connect(step, side=BACK, back=True)
        return Stream(self._plan, step)

    @property
    def loop_end(self) -> Stream[Q, LoopEnd]:
        """Return the point of the `LoopEnd(rounds, state)` of the loop that ends at this point.

        One per request, and in a loop within a loop one per round of that.
        """
        return Stream(self._plan, self._step, END)._then(Merge, "loop_end")

    def with_loop_state(self, *, name: str | None = None) -> Stream[Q, Any]:
        """Replace each item by `(item, state)` with the state of the synchronous loop around this point."""
        return self._then(WithLoopState, name or "loop_state")

    def _body_of(self, body: Callable[[Stream[Q, Any]], Stream[Q, Any]], head: Stream[Q, Any]) -> Stream[Q, Any]:
        if isinstance(body, type) or not callable(body):
            raise TypeError(
                f"the body of a loop is a function of a point, such as lambda items: items.then({_name(body)})"
            )
        made: Any = body(head)
        if not isinstance(made, Stream):
            raise TypeError(f"the body of a loop takes a point of the stream and returns one, not {made!r}")
        self._check_same_stream(made)
        return made

    # -- over the items of one request

    def fold(
        self,
        initial: Callable[[], U] | U,
        step: Callable[[Any, T], Any],
        *,
        name: str | None = None,
    ) -> Stream[Q, Any]:
        """Fold the items of a request, per key where keyed, and emit at the end of input.

        `initial` is a value, or a function that makes one (needed where the value is mutable). Without a key one value
        comes out, also when there was no item; with a key, pairs of key and value.
        """
        initial, step = in_stream(initial), in_stream(step)
        begin: Callable[[], Any] = initial if callable(initial) else folds.Constant(initial)
        fold = folds.FoldKeyed(begin, step) if self._keyed() else folds.FoldTotal(begin, step)
        return self._gather(fold, name)

    def reduce(self, step: Callable[[T, T], T], *, name: str | None = None) -> Stream[Q, Any]:
        """Combine the items of a request two by two, per key where keyed; nothing comes of no items."""
        step = in_stream(step)
        return self._gather(folds.ReduceKeyed(step) if self._keyed() else folds.ReduceTotal(step), name)

    def count(self, *, name: str | None = None) -> Stream[Q, Any]:
        """Count the items of a request: one number, or pairs of key and number where keyed."""
        return self._gather(folds.CountKeyed() if self._keyed() else folds.CountTotal(), name)

    def sort(
        self, by: Callable[[T], Any] | None = None, *, reverse: bool = False, name: str | None = None
    ) -> Stream[Q, T]:
        """Emit the items of a request in order, at the end of input."""
        return self._gather(folds.Sort(in_stream(by), reverse=reverse), name)

    def top(
        self, count: int, by: Callable[[T], Any] | None = None, *, reverse: bool = True, name: str | None = None
    ) -> Stream[Q, T]:
        """Emit the first `count` items of `sort(by, reverse)`: by default the largest, largest first."""
        return self._gather(folds.Top(count, in_stream(by), reverse=reverse), name)

    def distinct(self, *, name: str | None = None) -> Stream[Q, T]:
        """Let each item (or the first of each key, where keyed) pass once."""
        return self._gather(folds.Distinct(), name)

    def collect(self, *, name: str | None = None) -> Stream[Q, Any]:
        """Emit one list of all items, or pairs of key and list where keyed, at the end of input."""
        return self._gather(folds.CollectKeyed() if self._keyed() else folds.Collect(), name)

    def batch(self, count: int, *, name: str | None = None) -> Stream[Q, list[T]]:
        """Emit lists of `count` items in order of arrival; the last may be shorter."""
        return self._gather(folds.Batch(count), name)

    def join(
        self,
        other: Stream[Q, U],
        key: Callable[[Any], Any] | str,
        other_key: Callable[[Any], Any] | str | None = None,
        *,
        how: Gathering = "inner",
        name: str | None = None,
    ) -> Stream[Q, Any]:
        """Emit a pair `(item, other item)` for each two items of a request with the same key.

        "left" also emits `(item, None)` for items without a partner, at the end of input; "outer" both sides' loners.

        Raises: ValueError when `other` is a point of another stream.
        """
        self._check_same_stream(other)
        wanted = key if other_key is None else other_key
        left, right = (field_getter(each) if isinstance(each, str) else in_stream(each) for each in (key, wanted))
        step = self._plan.add(Join, name or "join", left_key=left, right_key=right, how=how)
        other._connect(step, side="right")
        return self._connect(step, side="left")

    # -- plumbing

    def _gather(self, fold: folds.Fold, name: str | None) -> Stream[Q, Any]:
        return self._then(Gather, name or fold.name, fold=fold)

    def _keyed(self) -> bool:
        """Return whether the item at this point has a key: `key_by` came last, filters aside."""
        step = self._step
        while isinstance(step, Function) and step.shape == "filter":
            step = self._plan.steps[
                next(edge.source for edge in self._plan.edges if edge.target == step.number and not edge.back)
            ]
        return isinstance(step, KeyBy)

    def _then(self, kind: type[Step], name: str | None, **fields: Any) -> Stream[Q, Any]:
        return self._connect(self._plan.add(kind, name, **fields))

    def _connect(self, step: Step, side: str = "", *, back: bool = False) -> Stream[Q, Any]:
        self._plan.edges.append(Edge(self._step.number, step.number, self._output, side, back))
        return Stream(self._plan, step)

    def _check_same_stream(self, *points: Stream[Any, Any]) -> None:
        """Refuse points of other streams before anything is added to this one."""
        for point in points:
            if point._plan is not self._plan:
                raise ValueError(
                    f"{self!r} and {point!r}: the second is a point of another stream; use .call(stream) to reach it"
                )


def _rounds(
    until: Callable[..., Any] | None,
    rounds_max: int | Callable[[Any], int] | None,
    fold: Callable[[Any, Any], Any] | None,
    initial: Any,
    state: Any,
    update: Callable[[Any, Any], Any] | None,
    vote: Callable[[Any], Any] | None,
) -> Rounds:
    return Rounds(until=until, rounds_max=rounds_max, fold=fold, initial=initial, state=state, update=update, vote=vote)


def _checked_rounds(rounds: Any) -> Rounds | None:
    """Return rounds with what stands in a stream for their functions. Raises: TypeError when they are none."""
    if rounds is None:
        return None
    if not isinstance(rounds, Rounds):
        raise TypeError(f"rounds= takes Rounds(…), with its brackets, or None, not {rounds!r}")
    return dataclasses.replace(rounds, **{name: in_stream(getattr(rounds, name)) for name in Rounds.__slots__})


def _name(thing: Any) -> str:
    return getattr(thing, "__name__", None) or repr(thing)


_made: Final[WeakValueDictionary[Any, Callable[[Any], Any]]] = WeakValueDictionary()
"""What `field_getter` and `chooser` made: the same for the same, so that topologies are equal and can be written down.

A plain function is called faster than an instance with `__call__`: of these there is one call per item.
"""


def field_getter(field: str) -> Callable[[Any], Any]:
    """Return the function that reads a field of a mapping or an attribute of an object; its `field` is the name."""
    made = _made.get(("field", field))
    if made is not None:
        return made
    from_attribute, from_mapping = operators.attrgetter(field), operators.itemgetter(field)

    def get(item: Any) -> Any:
        return from_mapping(item) if isinstance(item, Mapping) else from_attribute(item)

    get.__name__ = field if field.isidentifier() else "field"
    get.field = field  # type: ignore[attr-defined]
    return _made.setdefault(("field", field), get)


def field_of(function: Any) -> str | None:
    """Return which field a function reads, if it is one that `field_getter` made."""
    field = getattr(function, "field", None)
    return field if isinstance(field, str) and _made.get(("field", field)) is function else None


def chooser(predicate: Callable[[Any], Any]) -> Callable[[Any], str]:
    """Return the function that names the output of a split; its `predicate` is what decides."""
    try:
        made = _made.get(("split", predicate))
    except TypeError:  # a predicate without a hash is the same as no other
        return _chooser(predicate)
    return made or _made.setdefault(("split", predicate), _chooser(predicate))


def _chooser(predicate: Callable[[Any], Any]) -> Callable[[Any], str]:
    def choose(item: Any) -> str:
        return "true" if predicate(item) else "false"

    choose.predicate = predicate  # type: ignore[attr-defined]
    return choose


def declare(
    name: str,
    request_type: type[Q],
    reply_type: Any,
    *,
    replies: Replies,
    early: bool,
    timeout_s: float | None,
    in_flight: int | None,
    on_error: OnError,
    restart: Restart,
) -> Stream[Q, Q]:
    """Begin a stream: its plan with the entry step."""
    plan = StreamPlan(
        name,
        request_type=request_type,
        reply_type=reply_type,
        replies=replies,
        early=early,
        timeout_s=timeout_s,
        in_flight=in_flight,
        on_error=on_error,
        restart=restart,
    )
    return Stream(plan, plan.add(Entry, "entry"))


__all__ = ["Stream", "StreamPlan", "chooser", "declare", "field_getter", "field_of", "unique_name"]
