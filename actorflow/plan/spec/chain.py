"""The steps of a stream, from data: each is a call of the builder, in the order in which they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from actorflow.errors import ActorflowError
from actorflow.plan.cells import Access, Cell, How
from actorflow.plan.foreign import Foreign
from actorflow.plan.operator import Operator
from actorflow.plan.rounds import Rounds
from actorflow.plan.spec import forms
from actorflow.plan.spec.faults import Faults, Path, meant
from actorflow.plan.spec.filling import fill, verb_of
from actorflow.plan.spec.naming import found
from actorflow.plan.spec.references import References
from actorflow.plan.spec.values import Values
from actorflow.plan.stream import Stream
from actorflow.plan.topology import AGAIN, Route, Step

LOOPS_DEEP_MAX: Final = 32
STEPS_MAX: Final = 2_000


class Chain:
    """The steps of one stream while they are read; a step that is wrong is left out, and the others are looked at."""

    def __init__(
        self,
        entry: Stream[Any, Any],
        *,
        cells: dict[str, Cell],
        references: References,
        faults: Faults,
        path: Path,
    ) -> None:
        self._plan = entry._plan
        self._cells = cells
        self._faults = faults
        self._values = Values(references, faults, path)
        self._path = path
        self._items: list[Any] = []
        self._next = 0
        self._now: Stream[Any, Any] | None = entry
        self._missing = ""
        self._open: list[str] = []
        self._left_out: set[str] = set()

    def read(self, items: list[Any]) -> None:
        """Add the steps that a list says."""
        if len(items) > STEPS_MAX:
            self._faults.add(self._path, f"{len(items)} steps are more than the {STEPS_MAX} that a stream may have")
            return
        self._items = items
        self._follow(None)

    def _follow(self, loop: str | None) -> Stream[Any, Any] | None:
        """Add steps up to the one that leads back to a loop; return the point from which it does."""
        while self._next < len(self._items):
            data, at = self._items[self._next], (*self._path, self._next)
            self._next += 1
            self._values.at = at
            verb = verb_of(data, at, self._faults)
            form = fill(forms.VERBS[verb], self._bare(data, verb), at, self._faults) if verb is not None else None
            if form is None:
                self._leave_out(data, verb)
            elif isinstance(form, forms.BackStep):
                if form.back == loop:
                    return self._after(form.after)
                self._not_here(form.back, loop)
            else:
                try:
                    self._add(form)
                except ValueError as error:
                    if str(error):  # else it has been said
                        self._faults.add(at, str(error))
                    self._leave_out(data, verb)
        if loop is not None:
            self._faults.add(
                self._values.at, f"the body of {loop} does not end: lead back to it by a step back: {loop}"
            )
        return None

    def _bare(self, data: Any, verb: str) -> Any:
        """Return a step whose verb has nothing where it was said to have nothing: in TOML that is true."""
        if data[verb] is False:
            self._faults.add((*self._values.at, verb), "false says nothing here: leave the step out")
        return {**data, verb: None} if data[verb] is True else data

    def _leave_out(self, data: Any, verb: str | None) -> None:
        """Remember how a step that is wrong would have been called, so that others may follow it."""
        if isinstance(data, dict) and verb is not None:
            value = data[verb]
            last = str(value).replace("#", ":").rpartition(":")[2].rpartition(".")[2]
            self._left_out.add(
                str(data.get("name") or (last if verb in {"map", "filter", "flat_map", "then"} else verb))
            )

    def _not_here(self, back: str, loop: str | None) -> None:
        if back in self._left_out:
            return
        inner = f": {loop} is the innermost, which ends first" if loop else ", since no loop is open here"
        self._faults.add((*self._values.at, "back"), f"nothing can lead back to {back!r} here{inner}")

    # -- points

    def _after(self, named: Any, key: str = "after") -> Stream[Any, Any]:
        """Return a point by its name, or that of the step before. Raises: ValueError, empty where it was said."""
        if named is None:
            if self._now is None:
                raise ValueError(f"{self._missing}: write {key}: with the name of the step that this follows")
            return self._now
        step, output = self._found(named, key)
        if output == "" and step.name in self._open:
            return self._values.wrong(
                (key,), f"{step.name} has not ended here: write {step.name}.{AGAIN} for what goes round"
            )
        return Stream(self._plan, step, output)

    def _found(self, named: str | forms.Point, key: str) -> tuple[Step, str]:
        try:
            return found(self._plan.steps, named)
        except ValueError as error:
            name = named if isinstance(named, str) else named.step
            if name in self._left_out or name.rpartition(".")[0] in self._left_out:
                raise ValueError from None
            return self._values.wrong((key,), str(error))

    def _step_named(self, name: str, key: str) -> Stream[Any, Any]:
        """Return a point of a step, whichever, that items are led to."""
        for step in self._plan.steps:
            if step.name == name:
                return self._point_of(step) or Stream(self._plan, step)
        if name in self._left_out:
            raise ValueError
        return self._values.wrong((key,), f"no step before this is called {name!r}{meant(name, self._names())}")

    def _names(self) -> list[str]:
        return [step.name for step in self._plan.steps]

    def _point_of(self, step: Step) -> Stream[Any, Any] | None:
        """Return the point that follows a step by default; None where it has several."""
        if isinstance(step, Route):
            return None
        return Stream(self._plan, step, AGAIN if step.name in self._open else "")

    # -- steps

    def _add(self, form: Any) -> None:
        """Add a step. Raises: ValueError, without a message where the fault was said."""
        name = getattr(form, "name", None)
        if name is not None and name in self._names():
            self._values.wrong(("name",), f"there is a step {name!r} already: names are unique in a stream")
        if isinstance(form, forms.JoinStep):
            left, right = self._after(form.left, "left"), self._after(form.right, "right")
            key, other = self._values.key(form.join, "join"), self._values.key(form.other_key, "other_key")
            self._now = left.join(right, key, other, how=form.how, name=name)
        elif isinstance(form, forms.SourceStep):
            begin: Stream[Any, Any] = Stream(self._plan, self._plan.steps[0])
            self._now = begin.source(self._values.function(form.source, "source"), name=name)
        else:
            named = form.after if isinstance(form.after, list) else [form.after]
            if not named:
                self._values.wrong(("after",), "this names no step")
            points = [self._after(each) for each in named]
            self._now = self._added(form, points[0], points[1:])

    def _added(self, form: Any, point: Stream[Any, Any], others: list[Stream[Any, Any]]) -> Stream[Any, Any] | None:
        """Add a step that follows a point, and to which others lead too; return the point after it."""
        if isinstance(form, (forms.ReplayStep, forms.DeltaStep)):
            return self._loop(form, point, others)
        if isinstance(form, forms.MergeStep):
            return point.merge(*others, name=form.name)
        made = _ADD[type(form)](self, form, point)
        for other in others:
            other.into(made)
        return self._point_of(made._step) if isinstance(made, Stream) else None

    def _loop(
        self, form: forms.ReplayStep | forms.DeltaStep, point: Stream[Any, Any], others: list[Stream[Any, Any]]
    ) -> Stream[Any, Any]:
        if len(self._open) >= LOOPS_DEEP_MAX:
            self._values.wrong((), f"loops nest deeper than {LOOPS_DEEP_MAX}")
        rounds = self._values.rounds(form.rounds)

        def body(head: Stream[Any, Any]) -> Stream[Any, Any]:
            for other in others:
                other.into(head)
            self._open.append(head._step.name)
            self._now = head
            end = self._follow(head._step.name)
            self._open.pop()
            return head if end is None else end

        if isinstance(form, forms.DeltaStep):
            combine = {} if form.delta is None else {"combine": self._values.function(_given(form.delta), "delta")}
            priority = self._values.function(form.priority, "priority")
            return point.delta(body, priority=priority, ahead=form.ahead, rounds=rounds, name=form.name, **combine)
        asked = {name: getattr(rounds, name) for name in Rounds.__slots__ if name != "vote"}
        if asked["fold"] is None or (rounds is not None and rounds.vote is not None):
            self._values.wrong(("rounds",), "a replay has a fold, and no vote: what comes back are the votes")
        return point.replay(body, name=form.name, **asked)

    def _map(self, form: Any, point: Stream[Any, Any]) -> Stream[Any, Any]:
        verb = next(each for each in ("map", "filter", "flat_map") if hasattr(form, each))
        given = getattr(form, verb)
        if isinstance(given, forms.FunctionForm) and given.field is not None:
            function = self._values.function(given, verb)
        else:
            function = self._values.referred(given, (verb,), self._options(form))
        if not callable(function):
            self._values.wrong((verb,), f"{function!r} is no function")
        call: Callable[..., Stream[Any, Any]] = getattr(point, verb)
        return call(function, name=form.name)

    def _options(self, form: Any) -> dict[str, Any]:
        return {**form.options, **({} if form.threads is None else {"threads": form.threads})}

    def _then(self, form: forms.ThenStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        options = self._options(form)
        accesses = {name: self._access(name, given) for name, given in form.cells.items()}
        if accesses:
            options["cells"] = accesses
        operator = self._values.referred(form.then, ("then",), options)
        if not isinstance(operator, Foreign) and not (isinstance(operator, type) and issubclass(operator, Operator)):
            self._values.wrong(("then",), f"{operator!r} is no operator: write a class of one; for a function use map")
        if clash := sorted(_OF_THEN & form.kwargs.keys()):
            self._values.wrong(
                ("kwargs",), f"{', '.join(clash)} cannot be given here, since that is an option of then itself"
            )
        feedback = form.feedback if isinstance(form.feedback, bool) else self._step_named(form.feedback, "feedback")
        return point.then(
            operator,
            *form.args,
            name=form.name,
            replicas=form.replicas,
            concurrency=form.concurrency,
            on_error=form.on_error,
            restart=form.restart,
            mailbox_envelopes=form.mailbox_envelopes,
            priority=self._values.function(form.priority, "priority"),
            feedback=feedback,
            **form.kwargs,
        )

    def _access(self, name: str, given: Any) -> Access:
        form = forms.AccessForm(access=cast("How", given)) if isinstance(given, str) else given
        cell = self._cells.get(form.cell or name)
        if cell is None:
            return self._values.wrong(
                ("cells", name), f"there is no cell {form.cell or name!r}{meant(form.cell or name, self._cells)}"
            )
        try:
            return Access(cell, form.access, read_only=form.read_only, max_age_s=form.max_age_s)
        except (ActorflowError, ValueError) as error:
            return self._values.wrong(("cells", name), str(error))

    def _route(self, form: forms.RouteStep, point: Stream[Any, Any]) -> Any:
        if not form.outputs or len(set(form.outputs)) < len(form.outputs) or "" in form.outputs:
            self._values.wrong(("outputs",), "a route has outputs, each with a name of its own")
        points = point.route(self._values.function(form.route, "route"), *form.outputs, name=form.name)
        return self._several(points[form.outputs[0]])

    def _split(self, form: forms.SplitStep, point: Stream[Any, Any]) -> Any:
        return self._several(point.split(self._values.function(form.split, "split"), name=form.name)[0])

    def _several(self, point: Stream[Any, Any]) -> Stream[Any, Any]:
        self._missing = f"{point._step.name} has several outputs"
        return point

    def _broadcast(self, form: forms.BroadcastStep, point: Stream[Any, Any]) -> None:
        if not 1 <= form.broadcast <= len(self._items) + 100:
            self._values.wrong(("broadcast",), f"{form.broadcast} points are none, or more than such a stream can use")
        point.broadcast(form.broadcast)
        self._missing = "a broadcast makes several points"

    def _discard(self, form: forms.DiscardStep, point: Stream[Any, Any]) -> None:
        point.discard()
        self._missing = "nothing comes out of a discard"

    def _feedback(self, form: forms.FeedbackStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        return point.feedback(
            None if form.to is None else self._step_named(form.to, "to"),
            when=self._values.function(_given(form.feedback), "feedback"),
            trips_max=form.trips_max,
            rounds=self._values.rounds(form.rounds),
            name=form.name,
        )

    def _into(self, form: forms.IntoStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        return self._several(point.into(self._step_named(form.into, "into")))

    def _fold(self, form: forms.FoldStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        return point.fold(
            self._values.value(form.initial, "initial"), self._values.function(form.fold, "fold"), name=form.name
        )

    def _sort(self, form: forms.SortStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        sort = form.sort if isinstance(form.sort, forms.SortForm) else forms.SortForm()
        return point.sort(self._values.function(sort.by, "sort", "by"), reverse=sort.reverse, name=form.name)

    def _top(self, form: forms.TopStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        top = form.top if isinstance(form.top, forms.TopForm) else forms.TopForm(count=form.top)
        return point.top(top.count, self._values.function(top.by, "top", "by"), reverse=top.reverse, name=form.name)

    def _key_by(self, form: forms.KeyByStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        return point.key_by(
            self._values.key(_given(form.key_by), "key_by"), space=form.space, shards=form.shards, name=form.name
        )

    def _call(self, form: forms.CallStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        return point.call(form.call, concurrency=form.concurrency, ordered=form.ordered, name=form.name)

    def _reduce(self, form: forms.ReduceStep, point: Stream[Any, Any]) -> Stream[Any, Any]:
        return point.reduce(self._values.function(form.reduce, "reduce"), name=form.name)


def _given(function: Any) -> Any:
    """Return the function of a verb that may have none."""
    return None if isinstance(function, bool) else function


_OF_THEN: Final = frozenset(
    {
        "operator", "self", "name", "replicas", "concurrency", "on_error", "restart", "mailbox_envelopes", "priority",
        "feedback",
    }
)  # fmt: skip
_ADD: Final[dict[type, Callable[[Chain, Any, Stream[Any, Any]], Any]]] = {
    forms.MapStep: Chain._map,
    forms.FilterStep: Chain._map,
    forms.FlatMapStep: Chain._map,
    forms.KeyByStep: Chain._key_by,
    forms.ThenStep: Chain._then,
    forms.CallStep: Chain._call,
    forms.CountStep: lambda _, form, point: point.count(name=form.name),
    forms.FoldStep: Chain._fold,
    forms.ReduceStep: Chain._reduce,
    forms.SortStep: Chain._sort,
    forms.TopStep: Chain._top,
    forms.DistinctStep: lambda _, form, point: point.distinct(name=form.name),
    forms.CollectStep: lambda _, form, point: point.collect(name=form.name),
    forms.BatchStep: lambda _, form, point: point.batch(form.batch, name=form.name),
    forms.SplitStep: Chain._split,
    forms.RouteStep: Chain._route,
    forms.BroadcastStep: Chain._broadcast,
    forms.DiscardStep: Chain._discard,
    forms.FeedbackStep: Chain._feedback,
    forms.IntoStep: Chain._into,
    forms.LoopEndStep: lambda _, _form, point: point.loop_end,
    forms.LoopStateStep: lambda _, form, point: point.with_loop_state(name=form.name),
}
