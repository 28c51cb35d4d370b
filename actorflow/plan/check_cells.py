"""The part of the checker that looks at shared state: who touches which cell how, and why that is safe, or is not.

It also classifies streams. A *pure* one can be begun again from its input, as if it had never run: no activation that
its requests reach writes a cell, sends, sets a timer or leaves an actor behind. All others *write*.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow.plan.app import AppPlan
from actorflow.plan.cells import ALLOWED, MERGED, Access, Cell, accesses_of
from actorflow.plan.foreign import ForeignOperator
from actorflow.plan.loops import names_used
from actorflow.plan.operator import Operator
from actorflow.plan.source import SETUP, deeds_of, shows_source
from actorflow.plan.stream import Stream
from actorflow.plan.topology import CallStream, Function, KeyBy, Step, Then, Topology


@dataclass(frozen=True, slots=True)
class Use:
    """One operator's access to one cell: a square of the matrix.

    key: the key space of the edge to the operator (None without one).   reason: why it is safe, or why it is not.
    way_out: what to do about it; empty where it is safe.
    """

    stream: str
    operator: str
    key: str | None
    cell: str
    kind: str
    access: str
    reason: str
    way_out: str = ""

    @property
    def safe(self) -> bool:
        """Return whether the program may run so."""
        return not self.way_out

    def __str__(self) -> str:
        return f"{self.stream}/{self.operator}: {self.reason}: {self.way_out}"

    def to_json(self) -> dict[str, Any]:
        """Return the use as plain values."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "safe": self.safe}


@dataclass(frozen=True, slots=True)
class Purity:
    """Whether a stream is pure, what of it is not, and which cells it reads."""

    stream: str
    writes: tuple[str, ...]
    reads: tuple[str, ...]

    @property
    def pure(self) -> bool:
        """Return whether a request of the stream can be begun again as if it had never run."""
        return not self.writes

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain values."""
        return {"stream": self.stream, "pure": self.pure, "writes": list(self.writes), "reads": list(self.reads)}


def uses_of(app: AppPlan) -> list[Use]:
    """Return every declared access of every operator of an app, judged."""
    suspending = _suspending(app)
    uses = []
    for topology in app.streams.values():
        for step in _operators(topology):
            accesses = accesses_of(step.operator).values()
            uses += [_judged(app, topology, step, access, suspending) for access in accesses]
    return uses


def cell_faults(app: AppPlan) -> Iterator[str]:
    """Yield every conflict, and every write by an access that only reads."""
    for use in uses_of(app):
        if not use.safe:
            yield str(use)
    for topology in app.streams.values():
        for step in _operators(topology):
            yield from _assigned_over(f"{topology.stream}/{step.name}", step.operator)


def notes_of(app: AppPlan) -> Iterator[str]:
    """Yield what may run and is probably not meant: attributes that handlers assign, locks that nobody takes."""
    seen: set[tuple[type, str]] = set()
    for topology in app.streams.values():
        for step in _operators(topology):
            accesses = accesses_of(step.operator)
            deeds = list(deeds_of(step.operator))
            for deed in deeds:
                if deed.method in SETUP or deed.verb not in {"assign", "write"} or deed.name in accesses:
                    continue
                if (step.operator, deed.name) not in seen:
                    seen.add((step.operator, deed.name))
                    yield (
                        f"{topology.stream}/{step.name}: {step.operator.__name__}.{deed.method} (line {deed.line}) "
                        f"assigns self.{deed.name}: an attribute is a cache that all requests share; it is not rolled "
                        "back, and forgotten at a restart. What must last belongs in a cell"
                    )
            called = {(deed.name, deed.verb) for deed in deeds}
            for name, access in accesses.items():
                unlocked = not {(name, "lock"), (name, "transact")} & called
                if (
                    access.how == "exclusive"
                    and shows_source(step.operator)
                    and unlocked
                    and (step.operator, name) not in seen
                ):
                    seen.add((step.operator, name))
                    yield (
                        f"{topology.stream}/{step.name}: {step.operator.__name__} declares {access.cell.name} as "
                        f"{access}, and never calls self.{name}.lock(…)"
                    )


def purity_of(app: AppPlan) -> dict[str, Purity]:
    """Return for each stream whether it is pure."""
    direct: dict[str, tuple[list[str], list[str], list[str | None]]] = {}
    for topology in app.streams.values():
        writes: list[str] = []
        reads: list[str] = []
        calls: list[str | None] = []
        for step in topology.steps:
            if isinstance(step, CallStream):
                calls.append(step.stream)
            if isinstance(step, Then) and isinstance(step.operator, type) and issubclass(step.operator, Operator):
                _judge_operator(step, writes, reads, calls)
        direct[topology.stream] = (writes, reads, calls)
    verdicts: dict[str, Purity] = {}
    for name in direct:
        writes, reads, todo, seen = [], [], [name], {name}
        while todo:
            stream = todo.pop()
            if stream not in direct:
                continue
            of_stream, read, called = direct[stream]
            writes += of_stream if stream == name else [f"{stream}: {each}" for each in of_stream]
            reads += read
            for target in called:
                if target is None:
                    writes.append(f"{stream}: calls a stream that the source does not name")
                elif target not in seen:
                    seen.add(target)
                    todo.append(target)
        verdicts[name] = Purity(name, tuple(dict.fromkeys(writes)), tuple(dict.fromkeys(reads)))
    return verdicts


def matrix(app: AppPlan) -> dict[str, Any]:
    """Return all that is known of an app's shared state as plain values: cells, uses, streams, faults and notes."""
    return {
        "app": app.name,
        "cells": [
            {
                "name": cell.name,
                "kind": cell.kind,
                "key": cell.space.name if cell.kind != "value" and cell.space is not None else None,
            }
            for cell in app.cells.values()
        ],
        "uses": [use.to_json() for use in uses_of(app)],
        "streams": [purity.to_json() for purity in purity_of(app).values()],
        "faults": list(cell_faults(app)),
        "notes": list(notes_of(app)),
    }


def spaces_of_cells(app: AppPlan) -> Iterator[tuple[str, int, str]]:
    """Yield name, shards and place of the key space of every cell that has one."""
    for cell in app.cells.values():
        if cell.space is not None and cell.kind != "value":
            yield cell.space.name, cell.space.shards, f"{cell.kind} {cell.name!r}"


# -- judging one access


def _operators(topology: Topology) -> Iterator[Then]:
    for step in topology.steps:
        if isinstance(step, Then) and isinstance(step.operator, type) and issubclass(step.operator, Operator):
            yield step


def _is_async(operator: type[Operator]) -> bool:
    work = getattr(operator, "process", None) or getattr(operator, "process_batch", None)
    return inspect.iscoroutinefunction(work) or inspect.isasyncgenfunction(work)


def _suspending(app: AppPlan) -> dict[str, list[str]]:
    """Return, by key space, the operators that may be suspended while they have a key of it."""
    found: dict[str, list[str]] = {}
    for topology in app.streams.values():
        for step in _operators(topology):
            if _is_async(step.operator):
                for access in accesses_of(step.operator).values():
                    if access.how in {"owned", "exclusive"} and access.cell.space is not None:
                        found.setdefault(access.cell.space.name, []).append(f"{topology.stream}/{step.name}")
    return found


def _judged(app: AppPlan, topology: Topology, step: Then, access: Access, suspending: dict[str, list[str]]) -> Use:
    cell = access.cell
    spaces = key_spaces(topology, step)
    key = spaces[0] if len(set(spaces)) == 1 else None
    if app.cells.get(cell.name) is not cell:
        reason, way = (
            f"{cell.kind} {cell.name!r} belongs to app {cell.app!r}, not to {app.name!r}",
            "declare it on the app whose streams use it",
        )
    elif access.how == "owned":
        fed_back = any(edge.back for edge in topology.edges if edge.target == step.number)
        reason, way = _owned(step, cell, spaces, key, suspending, fed_back=fed_back)
    elif access.how == "exclusive":
        reason, way = _exclusive(step, cell, access)
    elif access.how == "merged":
        reason, way = f"changes of a {cell.kind} commute: any order, on any host, gives the same value", ""
    else:
        reason, way = "reads what is committed, and writes nothing", ""
    if not way and (written := next(_writes_though_read(step.operator, access), None)):
        reason, way = written
    return Use(topology.stream, step.name, key, cell.name, cell.kind, str(access), reason, way)


def _owned(
    step: Then,
    cell: Cell,
    spaces: list[str | None],
    key: str | None,
    suspending: dict[str, list[str]],
    *,
    fed_back: bool,
) -> tuple[str, str]:
    assert cell.space is not None
    space = cell.space.name
    name = step.operator.__name__
    if key is None or key != space:
        keyed = sorted({each for each in spaces if each is not None})
        how = f"is keyed by {' and by '.join(keyed)}" if keyed else "is not keyed"
        if keyed and None in spaces:
            how += " on one edge and not keyed on another"
        by = f".key_by({space!r})" if space.isidentifier() else f".key_by(…, space={space!r})"
        way = f"key the edge by {space} ({by})"
        if fed_back and set(spaces) == {space, None}:
            how = f"is keyed by {space}, and what it feeds back to itself is not"
            way = f"feed back to a point before the key_by (.then({name}, feedback=point))"
        return (
            f"{name} {how} and owns {cell.name}, keyed by {space}: two of its activations could touch one key at once",
            way
            if issubclass(step.operator, ForeignOperator)  # which cannot wait for locks
            else f"{way}, or declare {cell.name}.exclusive() and lock what it touches",
        )
    others = list(dict.fromkeys(suspending.get(space, ())))
    if not others:
        return (
            f"{name} and {cell.name} are keyed by {space}, so all work on a key is done in one place, one item at a "
            "time; nobody who touches it can be suspended, so no lock is needed",
            "",
        )
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return (
        f"{name} and {cell.name} are keyed by {space}, so all work on a key is done in one place; the key in hand is "
        f"locked while {listed} may be suspended",
        "",
    )


def _exclusive(step: Then, cell: Cell, access: Access) -> tuple[str, str]:
    name = step.operator.__name__
    if not _is_async(step.operator):
        return (
            f"{name} declares {cell.name}.{access}, and a plain process cannot wait for a lock",
            "make it async def process, or key the edge to it and declare owned()"
            if "owned" in ALLOWED.get(cell.kind, MERGED)
            else "make it async def process",
        )
    return (
        "what it touches is locked until its activation ends (strict two-phase locking), against owners of its keys",
        "",
    )


def key_spaces(topology: Topology, step: Step) -> list[str | None]:
    """Return the key space of each edge to a step, filters passed over; None for an edge without a key."""
    spaces: list[str | None] = []
    todo = [topology.steps[edge.source] for edge in topology.edges if edge.target == step.number]
    while todo:
        source = todo.pop()
        if isinstance(source, KeyBy):
            spaces.append(source.space.name)
        elif isinstance(source, Function) and source.shape == "filter":
            todo += [topology.steps[edge.source] for edge in topology.edges if edge.target == source.number]
        else:
            spaces.append(None)
    return spaces


_WRITING = frozenset({"write", "set", "add", "put", "discard", "append", "pop", "setdefault", "update", "edit"})


def _writes_though_read(operator: type[Operator], access: Access) -> Iterator[tuple[str, str]]:
    """Yield where an operator writes by an access that only reads, and the way out."""
    cell = access.cell
    names = {name for name, each in accesses_of(operator).items() if each is access}
    for deed in deeds_of(operator) if access.read_only else ():
        if deed.name in names and deed.verb in _WRITING:
            ways = " or ".join(f"{way}()" for way in ALLOWED.get(cell.kind, MERGED) if way != "snapshot")
            where = f"{operator.__name__}.{deed.method} (line {deed.line})"
            yield f"{where} writes {cell.name}, which it declares as {access}", f"declare {ways}"


def _assigned_over(place: str, operator: type[Operator]) -> Iterator[str]:
    accesses = accesses_of(operator)
    for deed in deeds_of(operator) if accesses else ():
        access = accesses.get(deed.name)
        if access is not None and deed.verb == "assign":
            yield (
                f"{place}: {operator.__name__}.{deed.method} (line {deed.line}) assigns self.{deed.name}, which is its "
                f"access to {access.cell.name}: set a row with self.{deed.name}[key] = …, or choose another name"
            )


# -- pure or writing


def _judge_operator(step: Then, writes: list[str], reads: list[str], calls: list[str | None]) -> None:
    name = step.operator.__name__
    for access in accesses_of(step.operator).values():
        if access.writes or next(_writes_though_read(step.operator, access), None):
            writes.append(f"{step.name} writes {access.cell.name} ({access})")
        else:
            reads.append(access.cell.name)
    used = names_used(step.operator, besides=("start", "stop"))
    writes += [f"{step.name} calls self.{verb}" for verb in sorted(_LEAVES_TRACES & used)]
    if "call" in used:
        known = 0
        for deed in deeds_of(step.operator):
            if deed.name == "call" and deed.verb == "call":
                known += 1
                calls.append(
                    deed.argument.name if isinstance(deed.argument, Stream)
                    else deed.argument if isinstance(deed.argument, str) else None
                )  # fmt: skip
        if not known:
            calls.append(None)
    if "spawn" in used:
        writes.append(f"{step.name} spawns actors, and what {name} gives them to do is not known before")


_LEAVES_TRACES = frozenset({"send", "cancel_send", "after", "spawn_detached", "defer"})
