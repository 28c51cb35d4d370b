"""The steps of a stream, as data: the calls of the builder that make this very topology, in an order that does.

Steps keep their order, and so do edges; a step is written with the edges that led to it when it was added, and those
that were drawn later are steps of their own (`into:`, `back:`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from actorflow.plan import folds
from actorflow.plan.cells import accesses_of
from actorflow.plan.foreign import Foreign, ForeignOperator
from actorflow.plan.operator import Restart
from actorflow.plan.spec.naming import spelt
from actorflow.plan.spec.writing import Writer, changed, without
from actorflow.plan.stream import unique_name
from actorflow.plan.topology import (
    AGAIN,
    BACK,
    END,
    FEEDBACK,
    CallStream,
    Delta,
    Discard,
    Edge,
    Feedback,
    Function,
    Gather,
    Join,
    KeyBy,
    Merge,
    Replay,
    Route,
    Source,
    Step,
    Then,
    Topology,
    WithLoopState,
)  # fmt: skip

StepT = TypeVar("StepT", bound=Step)
Data = dict[str, Any]


def steps_of(topology: Topology, writer: Writer) -> Data:
    """Return the steps of a stream as data, or nothing where it has none; what cannot be written is a fault."""
    items = list(_Unchaining(topology, writer).items())
    return {"steps": items} if items else {}


class _Unchaining:
    def __init__(self, topology: Topology, writer: Writer) -> None:
        self._topology = topology
        self._writer = writer
        self._steps = topology.steps[:-1]  # the last is the reply, to which leads what leads nowhere else
        self._edges = [edge for edge in topology.edges if edge.target != topology.steps[-1].number]
        self._edge = 0
        self._number = 1
        self._now: tuple[int, str] | None = (0, "")
        self._open: list[int] = []

    def items(self) -> Iterator[Data]:
        """Yield the steps, as they are written."""
        while self._number < len(self._steps):
            step = self._steps[self._number]
            yield from self._drawn_before(step)
            yield from self._written(step)
        yield from self._drawn_before(None)

    # -- edges

    def _ahead(self, skip: int = 0) -> Edge | None:
        place = self._edge + skip
        return self._edges[place] if place < len(self._edges) else None

    def _drawn_before(self, step: Step | None) -> Iterator[Data]:
        """Yield the edges between earlier steps that were drawn before a step was added."""
        while (edge := self._ahead()) is not None and (step is None or max(edge.source, edge.target) < step.number):
            self._edge += 1
            target = self._steps[edge.target]
            if edge.back and edge.input == BACK and self._open[-1:] == [edge.target]:
                yield {"back": target.name, **self._after([edge])}
                self._open.pop()
            elif edge.back or edge.input:
                self._writer.fail(f"{self._topology.stream}: an edge to {target.name} that the builder does not draw")
            else:
                yield {"into": target.name, **self._after([edge])}
            self._now = self._following(target)

    def _following(self, step: Step) -> tuple[int, str] | None:
        if isinstance(step, Route):
            return None
        return (step.number, AGAIN if step.number in self._open else "")

    def _inputs(self, step: Step, *, several: bool = True) -> list[Edge]:
        """Take the edges that lead to a step which is added now."""
        taken: list[Edge] = []
        while (edge := self._ahead()) is not None and edge.target == step.number and not edge.back:
            if (taken and not several) or edge.source >= step.number:
                break
            taken.append(edge)
            self._edge += 1
        return taken

    def _point(self, edge: Edge) -> Any:
        return spelt(self._steps[: self._number], self._steps[edge.source], edge.output)

    def _after(self, edges: list[Edge]) -> Data:
        """Return what a step follows, or nothing where that is the step before."""
        if [(edge.source, edge.output) for edge in edges] == [self._now]:
            return {}
        points = [self._point(edge) for edge in edges]
        return {"after": points[0] if len(points) == 1 else points}

    # -- steps

    def _written(self, step: Step) -> Iterator[Data]:
        """Yield a step, and go on behind it and what belongs to it."""
        at = self._writer.at(f"{self._topology.stream}/{step.name}")
        if isinstance(step, Merge) and (count := self._broadcast_count(step)):
            edges = [self._inputs(each, several=False)[0] for each in self._steps[self._number :][:count]]
            yield {"broadcast": count, **self._after(edges[:1])}
            self._number += count
            self._now = None
            return
        if isinstance(step, Source):
            data, wanted = {"source": at.function(step.make)}, _name_of(step.make, "source")
        elif isinstance(step, Join):
            data, wanted = self._join(step, at), "join"
        else:
            ends = (ahead := self._ahead()) is not None and ahead.output == END
            single = ends or isinstance(step, (Feedback, Delta, Replay, Discard))
            edges = self._inputs(step, several=not single)
            if not edges:
                at.fail("no edge leads here, and the builder adds no such step")
            data, wanted = self._following_step(step, edges, at)
        if step.name != self._unique(wanted):
            data = {**data, "name": step.name}
        self._number += 1
        if isinstance(step, (Delta, Replay)):
            self._open.append(step.number)
        if isinstance(step, Then) and (turn := self._turn(step)) is not None:
            target = self._steps[turn.target]
            data["feedback"] = True if target is step else target.name
            self._edge += 2
            self._number += 1
        self._now = None if isinstance(step, Discard) else self._following(step)
        yield data

    def _unique(self, wanted: str) -> str:
        return unique_name(wanted, {step.name for step in self._steps[: self._number]})

    def _broadcast_count(self, first: Step) -> int:
        """Return how many of the next steps are one broadcast: merges by that name of one and the same point."""
        start = self._ahead()
        count, taken = 0, {step.name for step in self._steps[: self._number]}
        for step in self._steps[first.number :]:
            edge, following = self._ahead(count), self._ahead(count + 1)
            if (
                not isinstance(step, Merge)
                or step.name != unique_name("broadcast", taken)
                or edge is None
                or start is None
            ):
                break
            if (edge.source, edge.output, edge.target) != (start.source, start.output, step.number):
                break
            if following is not None and following.source < following.target == step.number and not following.back:
                break  # a merge of several points
            taken.add(step.name)
            count += 1
        return count

    def _turn(self, step: Then) -> Edge | None:
        """Return the edge back of an operator that feeds back, where that was declared with it."""
        turn, gives, leads = self._steps[self._number :][:1], self._ahead(), self._ahead(1)
        if not turn or not isinstance(turn[0], Feedback) or gives is None or leads is None:
            return None
        plain = turn[0] == Feedback(number=step.number + 1, name=self._unique(f"{step.name}_feedback"))
        drawn = gives == Edge(step.number, step.number + 1, FEEDBACK) and leads.source == step.number + 1
        return leads if plain and drawn and leads.back and leads.output == AGAIN else None

    def _join(self, step: Join, at: Writer) -> Data:
        right, left = (self._inputs(step, several=False) for _ in range(2))
        if [edge.input for edge in (*right, *left)] != ["right", "left"]:
            at.fail("a join has a right and a left input, drawn in this order")
            return {}
        keys = at.key(step.left_key), at.key(step.right_key)
        return {
            "join": keys[0],
            **({"other_key": keys[1]} if keys[0] != keys[1] else {}),
            **({"left": self._point(left[0])} if self._after(left) else {}),
            "right": self._point(right[0]),
            **({"how": step.how} if step.how != "inner" else {}),
        }

    def _following_step(self, step: Step, edges: list[Edge], at: Writer) -> tuple[Data, str]:
        """Return a step that follows others, and how it would be called by default."""
        after = self._after(edges)
        if isinstance(step, Merge):
            if [edge.output for edge in edges] == [END]:
                loop = self._steps[edges[0].source]
                if self._now is not None and self._now[0] == loop.number:
                    return {"loop_end": None}, "loop_end"
                output = loop.outputs[0] if isinstance(loop, Route) else AGAIN if loop.number in self._open else ""
                return {"loop_end": None, "after": spelt(self._steps[: self._number], loop, output)}, "loop_end"
            return {"merge": None, **after}, "merge"
        if isinstance(step, Feedback):
            when = None if step.when is None else at.function(step.when)
            return {"feedback": when, **after, **self._feedback(step, edges, at)}, "feedback"
        if isinstance(step, KeyBy):
            return {**self._key_by(step, at), **after}, "key_by"
        data, wanted = _WRITE[type(step)](step, at)
        return {**data, **after}, wanted

    def _feedback(self, step: Feedback, edges: list[Edge], at: Writer) -> Data:
        leads = self._ahead()
        if leads is None or leads.source != step.number or not leads.back or leads.output != AGAIN:
            at.fail("a feedback leads back at once")
            return {}
        self._edge += 1
        here = bool(edges) and leads.target == edges[0].source
        return {
            **({} if here else {"to": self._topology.steps[leads.target].name}),
            **without({"trips_max": step.trips_max}),
            **({} if step.rounds is None else {"rounds": at.rounds(step.rounds)}),
        }

    def _key_by(self, step: KeyBy, at: Writer) -> Data:
        own = getattr(step.key, "__name__", "") if step.field is None else step.field
        usual = own if step.field is not None or own.isidentifier() else f"{self._topology.stream}.key"
        return {
            "key_by": step.key
            if step.key is None
            else at.function(step.key)
            if step.field is None
            else at.key(step.key),
            **({"space": step.space.name} if step.space.name != usual else {}),
            **({"shards": step.space.shards} if step.space.shards != 256 else {}),
        }


def _name_of(function: Any, other: str) -> str:
    own = getattr(function, "__name__", "")
    return own if own.isidentifier() else other


def _function(step: Function, at: Writer) -> tuple[Data, str]:
    call = step.call
    verb: str = step.shape
    data = _foreign(verb, call, at) if isinstance(call, Foreign) else {verb: at.function(call)}
    return data, _name_of(call, step.shape)


def _foreign(verb: str, foreign: Foreign, at: Writer) -> Data:
    """Return a function of another language with its options beside it."""
    options = at.options(foreign.options)
    threads = options.pop("threads", None)
    return {verb: foreign.reference, **without({"threads": threads, "options": options or None})}


def _then(step: Then, at: Writer) -> tuple[Data, str]:
    operator = step.operator
    data: Data = {}
    wanted = getattr(operator, "__name__", "operator")
    if isinstance(operator, type) and issubclass(operator, ForeignOperator):
        foreign = operator.foreign
        wanted = getattr(foreign, "__name__", None) or wanted
        cells = foreign.options.get("cells") or accesses_of(operator)
        data = _foreign("then", foreign, at)
        if cells:
            data["cells"] = {name: at.access(name, access) for name, access in cells.items()}
    else:
        data = {"then": at.function(operator)}
    if step.args:
        data["args"] = at.plain(list(step.args))
    if step.kwargs:
        data["kwargs"] = at.plain(dict(step.kwargs))
    if step.replicas != 1:
        data["replicas"] = step.replicas
    data |= without({name: getattr(step, name) for name in ("concurrency", "on_error", "mailbox_envelopes")})
    if step.restart is not None:
        data["restart"] = changed(step.restart, Restart())
    if step.priority is not None:
        data["priority"] = at.function(step.priority)
    return data, wanted


def _call(step: CallStream, at: Writer) -> tuple[Data, str]:
    more = {"concurrency": step.concurrency} if step.concurrency != 64 else {}
    return {"call": step.stream, **more, **({} if step.ordered else {"ordered": False})}, f"call_{step.stream}"


def _gather(step: Gather, at: Writer) -> tuple[Data, str]:
    fold = step.fold
    if isinstance(fold, (folds.FoldTotal, folds.FoldKeyed)):
        begin = fold.initial
        initial = at.value(begin.value if isinstance(begin, folds.Constant) else begin)
        return {"fold": at.function(fold.step), "initial": initial}, "fold"
    if isinstance(fold, folds.ReduceTotal):
        return {"reduce": at.function(fold.step)}, "reduce"
    if isinstance(fold, folds.Batch):
        return {"batch": fold.count}, "batch"
    if isinstance(fold, folds.Top):
        order = _order(fold, at, reverse=True)
        return {"top": {"count": fold.count, **order} if order else fold.count}, "top"
    if type(fold) is folds.Sort:
        return {"sort": _order(fold, at, reverse=False) or None}, "sort"
    return {fold.name: None}, fold.name


def _order(fold: folds.Sort | folds.Top, at: Writer, *, reverse: bool) -> Data:
    by = {} if fold.by is None else {"by": at.function(fold.by)}
    return {**by, **({} if fold.reverse == reverse else {"reverse": fold.reverse})}


def _route(step: Route, at: Writer) -> tuple[Data, str]:
    predicate = getattr(step.choose, "predicate", None)
    if predicate is not None and step.outputs == ("true", "false"):
        return {"split": at.function(predicate)}, "split"
    return {"route": at.function(step.choose), "outputs": list(step.outputs)}, "route"


def _delta(step: Delta, at: Writer) -> tuple[Data, str]:
    data: Data = {"delta": None if step.combine is min else at.function(step.combine)}
    if step.priority is not None:
        data["priority"] = at.function(step.priority)
    if step.ahead != 64:
        data["ahead"] = step.ahead
    return {**data, **({} if step.rounds is None else {"rounds": at.rounds(step.rounds)})}, "delta"


def _replay(step: Replay, at: Writer) -> tuple[Data, str]:
    return {"replay": None, "rounds": at.rounds(step.rounds)}, "replay"


_WRITE: Final[dict[type[Step], Callable[[Any, Writer], tuple[Data, str]]]] = {
    Function: _function,
    Then: _then,
    CallStream: _call,
    Gather: _gather,
    Route: _route,
    Discard: lambda *_: ({"discard": None}, "discard"),
    Delta: _delta,
    Replay: _replay,
    WithLoopState: lambda *_: ({"with_loop_state": None}, "loop_state"),
}
