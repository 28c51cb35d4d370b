"""The checker: every fault of a program, found before anything starts, each with its place and the way out."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any, cast

import msgspec

from actorflow.errors import TopologyError
from actorflow.limits import is_count
from actorflow.plan.app import AppPlan, OpenPlan, unknown_stream
from actorflow.plan.check_cells import cell_faults, spaces_of_cells
from actorflow.plan.check_loops import loop_faults
from actorflow.plan.folds import Batch, Fold, Top
from actorflow.plan.operator import ItemFailure, OnError, Operator
from actorflow.plan.rounds import LoopEnd
from actorflow.plan.topology import (
    AGAIN,
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
    Replay,
    Reply,
    Route,
    Source,
    Step,
    Then,
    Topology,
)

UNKNOWN = Any


def check(app: AppPlan) -> None:
    """Check every stream of an app.

    Raises: TopologyError listing all faults at once.
    """
    faults = list(faults_of(app))
    if faults:
        raise TopologyError(faults)


def faults_of(app: AppPlan) -> Iterator[str]:
    """Yield every fault of an app as a sentence that begins with its place."""
    streams = app.streams
    if not streams and not isinstance(app, OpenPlan):
        yield f"app {app.name!r} has no stream: declare one with app.stream(name, …)"
    for topology in streams.values():
        yield from _shape(topology)
        yield from loop_faults(topology)
        for step in topology.steps:
            place = f"{topology.stream}/{step.name}"
            if isinstance(step, CallStream) and step.stream not in streams:
                yield f"{place}: {unknown_stream(step.stream, streams)}"
            if isinstance(step, CallStream) and not is_count(step.concurrency):
                yield f"{place}: concurrency={step.concurrency}, but at least one call must be open at a time"
            if isinstance(step, Then):
                yield from _operator(place, step, keyed=bool(topology.keys_before(step.number)))
            if isinstance(step, Function) and not callable(given := cast("Any", step.call)):
                yield f"{place}: a {step.shape} takes a function, not {given!r}"
            if isinstance(step, Function) and step.shape != "map" and inspect.iscoroutinefunction(step.call):
                yield f"{place}: a {step.shape} takes a plain function; make it an Operator with an async process"
            if isinstance(step, Gather):
                yield from _gathering(place, step.fold)
            if isinstance(step, Join) and step.how not in typing.get_args(Gathering):
                yield f"{place}: how={step.how!r}, but a join is one of {_listed(Gathering)}"
            if isinstance(step, KeyBy) and not is_count(step.space.shards):
                yield f"{place}: shards={step.space.shards}, but a key space has at least one shard"
            if isinstance(step, KeyBy) and not _is_used(topology, step):
                yield f"{place}: no step uses this key: an operator or a fold must follow it, with only filters between"
        yield from _types(topology)
    yield from cell_faults(app)
    for schedule in app.schedules.values():
        if schedule.stream not in streams:
            yield f"schedule {schedule.name!r}: {unknown_stream(schedule.stream, streams)}"
            continue
        wanted = _bare(streams[schedule.stream].request_type)
        anything = wanted is UNKNOWN or wanted is object or not isinstance(wanted, type)
        if not anything and (typing.is_typeddict(wanted) or not isinstance(schedule.item, wanted)):
            try:
                msgspec.convert(schedule.item, wanted)
            except (msgspec.ValidationError, TypeError) as error:
                yield f"schedule {schedule.name!r}: stream {schedule.stream} takes {_name(wanted)}: {error}"
    yield from _spaces(app)


def _shape(topology: Topology) -> Iterator[str]:
    cycle = topology.cycle()
    if cycle is not None:
        path = " → ".join(step.name for step in (*cycle, cycle[0]))
        yield f"{topology.stream}: the steps {path} form a cycle without a feedback edge"
    reached = topology.reached()
    for step in topology.steps:
        if step.number not in reached and not isinstance(step, Reply):
            yield f"{topology.stream}/{step.name}: no item can reach it, since no path leads there from the entry"
        if isinstance(step, Route) and not step.outputs:
            yield f"{topology.stream}/{step.name}: a route needs at least one output"
        if isinstance(step, Discard) and topology.outputs_of(step.number):
            yield f"{topology.stream}/{step.name}: items end here, so nothing can follow"
        if isinstance(step, Join) and {edge.input for edge in topology.inputs_of(step.number)} != {"left", "right"}:
            yield f"{topology.stream}/{step.name}: a join has exactly the inputs left and right"
        if isinstance(step, Source) and topology.inputs_of(step.number):
            yield f"{topology.stream}/{step.name}: a source makes its items itself: merge it with what leads here"
        errors = any(_is_error_edge(step, edge) for edge in topology.outputs_of(step.number))
        if errors and not isinstance(step, Then):
            yield f"{topology.stream}/{step.name}: only an operator has an error edge"
        if errors and isinstance(step, Then) and _on_error(step) != "edge":
            yield f"{topology.stream}/{step.name}: its error edge is used, so declare on_error='edge'"
        if isinstance(step, Then) and _on_error(step) == "edge" and not errors:
            yield f"{topology.stream}/{step.name}: on_error='edge', but nothing follows its .errors"
    if topology.replies == "one" and not topology.inputs_of(topology.steps[-1].number):
        yield (
            f"{topology.stream}: declared to answer once, but every path is discarded: "
            "leave one path open, or declare replies='none'"
        )
    for limit in ("timeout_s", "in_flight"):
        value = getattr(topology, limit)
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            yield f"{topology.stream}: {limit}={value}, but a limit is a positive number"
    if topology.on_error not in ("fail", "set_aside"):
        yield (
            f"{topology.stream}: on_error={topology.on_error!r}, but what a stream does by default is 'fail' or "
            "'set_aside'; 'edge' is declared at the operator whose .errors are used"
        )


def _is_error_edge(source: Step, edge: Edge) -> bool:
    """Return whether an edge is a step's error edge, and not an output that a route happens to call so."""
    return edge.output == ERRORS and not (isinstance(source, Route) and ERRORS in source.outputs)


def _on_error(step: Then) -> Any:
    return step.on_error or getattr(step.operator, "on_error", None)


def _listed(words: Any) -> str:
    return ", ".join(map(repr, typing.get_args(words)))


def _gathering(place: str, fold: Fold) -> Iterator[str]:
    if isinstance(fold, Batch) and not is_count(fold.count):
        yield f"{place}: count={fold.count!r}, but a batch has at least one item"
    if isinstance(fold, Top) and not is_count(fold.count, 0):
        yield f"{place}: count={fold.count!r}, but a top has a number of items"


def _operator(place: str, step: Then, *, keyed: bool) -> Iterator[str]:
    kind: Any = step.operator  # whatever the program gave
    if not (isinstance(kind, type) and issubclass(kind, Operator)):
        yield f"{place}: .then() takes a subclass of Operator, not {kind!r}; use .map() for a function"
        return
    process, batch = getattr(kind, "process", None), getattr(kind, "process_batch", None)
    if process is None and batch is None:
        yield f"{place}: {kind.__name__} has neither process(self, item) nor process_batch(self, items)"
        return
    if process is not None and batch is not None:
        yield f"{place}: {kind.__name__} has both process and process_batch: keep one"
    for method in filter(None, (process, batch)):
        try:
            inspect.signature(method).bind(None, None)
        except TypeError as error:
            yield f"{place}: {kind.__name__}.{method.__name__} must take (self, item): {error}"
    try:
        inspect.signature(kind).bind(*step.args, **step.kwargs)
    except TypeError as error:
        yield f"{place}: {kind.__name__} cannot be made with these arguments: {error}"
    except ValueError:
        pass  # a class without a signature: its constructor will say
    yield from _numbers(place, step, kind, keyed=keyed)
    if _on_error(step) not in typing.get_args(OnError):
        yield f"{place}: on_error is one of {_listed(OnError)}, not {_on_error(step)!r}"


def _numbers(place: str, step: Then, kind: type[Operator], *, keyed: bool) -> Iterator[str]:
    """Yield what is wrong with how often and how wide an operator runs."""
    work = getattr(kind, "process", None) or getattr(kind, "process_batch", None)
    asynchronous = inspect.iscoroutinefunction(work) or inspect.isasyncgenfunction(work)
    concurrency = kind.concurrency if step.concurrency is None else step.concurrency
    if not is_count(concurrency) or not is_count(step.replicas):
        yield f"{place}: replicas and concurrency are at least 1"
    elif concurrency > 1 and not asynchronous:
        yield f"{place}: concurrency={concurrency} needs an async process; a plain one runs one item at a time anyway"
    if step.mailbox_envelopes is not None and not is_count(step.mailbox_envelopes):
        yield f"{place}: mailbox_envelopes={step.mailbox_envelopes!r}, but a mailbox holds at least one envelope"
    if keyed and is_count(step.replicas, 2):
        yield f"{place}: replicas={step.replicas}, but a keyed operator runs once per host; use concurrency= instead"


def _is_used(topology: Topology, key: KeyBy) -> bool:
    """Return whether an operator or a fold works by a key; any other step but a filter forgets it."""
    ahead = [topology.steps[edge.target] for edge in topology.outputs_of(key.number)]
    while ahead:
        step = ahead.pop()
        if isinstance(step, (Then, Gather)):
            return True
        if isinstance(step, Function) and step.shape == "filter":
            ahead.extend(topology.steps[edge.target] for edge in topology.outputs_of(step.number))
    return False


def _spaces(app: AppPlan) -> Iterator[str]:
    shards: dict[str, tuple[int, str]] = {}
    for name, wanted, cell in spaces_of_cells(app):
        if not is_count(wanted):
            yield f"{cell}: shards={wanted}, but a key space has at least one shard"
        known, where = shards.setdefault(name, (wanted, cell))
        if known != wanted:
            yield f"{cell}: key space {name!r} has {known} shards at {where}, but {wanted} here"
    for topology in app.streams.values():
        for step in topology.steps:
            if isinstance(step, KeyBy):
                place = f"{topology.stream}/{step.name}"
                count, first = shards.setdefault(step.space.name, (step.space.shards, place))
                if count != step.space.shards:
                    here = step.space.shards
                    yield f"{place}: key space {step.space.name!r} has {count} shards at {first}, but {here} here"


# -- declared types, followed along the edges


def _types(topology: Topology) -> Iterator[str]:
    given: dict[int, Any] = {}
    takes: dict[int, Any] = {}
    reached = topology.reached()
    order = [step for step in topology.steps if step.number in reached]
    for step in order:  # steps are numbered as they were written, so inputs come first in a graph without cycles
        inputs = topology.inputs_of(step.number)
        seen = _carried(topology, inputs[0], given) if len(inputs) == 1 else UNKNOWN
        taken, made = _signature(topology, step, seen)
        if not _fits(seen, taken):
            yield f"{topology.stream}/{step.name}: takes {_name(taken)}, but receives {_name(seen)}"
        given[step.number] = made
        takes[step.number] = taken
        if isinstance(step, KeyBy) and step.field is not None and not _has_field(seen, step.field):
            yield f"{topology.stream}/{step.name}: {_name(seen)} has no field {step.field!r}"
        if isinstance(step, Reply) and topology.replies != "none":
            for edge in inputs:
                carried = _carried(topology, edge, given)
                if not _fits(carried, _bare(topology.reply_type)):
                    source = topology.steps[edge.source].name
                    yield (
                        f"{topology.stream}/{source}: makes {_name(carried)}, "
                        f"but the stream declares replies of type {_name(topology.reply_type)}"
                    )

    for edge in topology.edges:  # what comes back must fit, too
        if edge.back and edge.source in given:
            carried, taken = _carried(topology, edge, given), takes.get(edge.target, UNKNOWN)
            if not _fits(carried, taken):
                source, target = topology.steps[edge.source].name, topology.steps[edge.target].name
                yield f"{topology.stream}/{target}: takes {_name(taken)}, but {source} feeds back {_name(carried)}"


def _carried(topology: Topology, edge: Edge, given: dict[int, Any]) -> Any:
    """Return the type of what travels along an edge."""
    source = topology.steps[edge.source]
    if _is_error_edge(source, edge):
        return ItemFailure
    if isinstance(source, (Feedback, Replay, Delta)):
        if edge.output == END:
            return LoopEnd
        if isinstance(source, Replay) and edge.output != AGAIN:
            return UNKNOWN
    return UNKNOWN if edge.output == FEEDBACK else given.get(edge.source, UNKNOWN)


def _bare(kind: Any) -> Any:
    """Return a type without its annotations, as `typing.get_type_hints` does for those of functions."""
    return _bare(kind.__origin__) if typing.get_origin(kind) is typing.Annotated else kind


def _signature(topology: Topology, step: Step, seen: Any) -> tuple[Any, Any]:
    """Return what type a step takes and makes, as far as it is declared."""
    if isinstance(step, Entry):
        return UNKNOWN, _bare(topology.request_type)
    if isinstance(step, (KeyBy, Route)):
        return UNKNOWN, seen
    if isinstance(step, Function):
        # a class says nothing of what it takes, and makes instances of itself
        taken, made = (UNKNOWN, step.call) if isinstance(step.call, type) else _annotations(step.call, 0)
        if step.shape == "filter":
            return taken, seen
        return taken, _element(made) if step.shape == "flat_map" else made
    if isinstance(step, Then):
        kind: Any = step.operator
        if not (isinstance(kind, type) and issubclass(kind, Operator)):
            return UNKNOWN, UNKNOWN
        process = getattr(kind, "process", None)
        if process is None:
            return UNKNOWN, UNKNOWN
        taken, made = _annotations(process, 1)
        generator = inspect.isgeneratorfunction(process) or inspect.isasyncgenfunction(process)
        return taken, _element(made) if generator else _without_none(made)
    if isinstance(step, (Feedback, Replay)) or (isinstance(step, Gather) and step.fold.name in _PASSING):
        return UNKNOWN, seen
    return UNKNOWN, UNKNOWN


_PASSING = {"sort", "top", "distinct"}


def _annotations(call: Any, position: int) -> tuple[Any, Any]:
    try:
        hints = typing.get_type_hints(call)
        parameters = list(inspect.signature(call).parameters)
    except Exception:  # annotations are any code at all; what cannot be read is not declared
        return UNKNOWN, UNKNOWN
    taken = hints.get(parameters[position], UNKNOWN) if len(parameters) > position else UNKNOWN
    return taken, hints.get("return", UNKNOWN)


def _element(made: Any) -> Any:
    """Return the type of what an iterable of a declared type yields."""
    origin, arguments = typing.get_origin(made), typing.get_args(made)
    known = isinstance(origin, type) and origin is not tuple and origin.__module__ in {"builtins", "collections.abc"}
    return arguments[0] if known and arguments and issubclass(origin, (Iterable, AsyncIterable)) else UNKNOWN


def _without_none(made: Any) -> Any:
    if made is None or made is type(None):
        return UNKNOWN  # emits instead of returning
    if typing.get_origin(made) in {typing.Union, types.UnionType}:
        rest = [part for part in typing.get_args(made) if part is not type(None)]
        return rest[0] if len(rest) == 1 else UNKNOWN
    return made


def _fits(given: Any, taken: Any) -> bool:
    """Return False only when values of type `given` can never be of type `taken`."""
    if given is taken or given is Any or taken is Any or isinstance(given, typing.TypeVar):
        return True  # compared by identity, since an annotation need not be hashable
    if typing.get_origin(taken) in {typing.Union, types.UnionType}:
        return any(_fits(given, part) for part in typing.get_args(taken))
    if typing.get_origin(given) in {typing.Union, types.UnionType}:
        return any(_fits(part, taken) for part in typing.get_args(given))
    given, taken = typing.get_origin(given) or given, typing.get_origin(taken) or taken
    if not (isinstance(given, type) and isinstance(taken, type)) or taken is object:
        return True
    if taken is float and given is int:
        return True
    if _is_abstract(given) and _is_abstract(taken):
        return True  # one class can be both
    try:
        return issubclass(given, taken) or issubclass(taken, given)
    except TypeError:
        return True


def _is_abstract(kind: type) -> bool:
    return inspect.isabstract(kind) or getattr(kind, "_is_protocol", False)


def _has_field(kind: Any, field: str) -> bool:
    if dataclasses.is_dataclass(kind):
        return hasattr(kind, field) or field in {each.name for each in dataclasses.fields(kind)}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return field in kind.__struct_fields__ or hasattr(kind, field)
    return True


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
