"""The loops of a topology: which steps each feedback edge closes a loop around, and how loops nest.

A loop is found as a strongly connected part of the graph. Its feedback edges are those that lead to its first steps;
with those taken away, what is still connected is a loop within it (Steensgaard's loop nesting forest, 1993). Edges that
lead to different steps and close no loop of their own belong to one loop: it is mutually recursive.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from actorflow.plan.operator import Operator
from actorflow.plan.rounds import Rounds
from actorflow.plan.topology import AGAIN, Delta, Edge, Feedback, Replay, Step, Then, Topology


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of a topology.

    number: among the loops of the stream; an outer one comes before those within it.   name: of its first closing step.
    back: its feedback edges.   steps: all steps in it, those of loops within it too.   inner: only those.
    parent: the loop around it.   gate: the step at which its rounds end, or its delta is kept; else None.
    synchronous: items go round together.   told: an operator in it asks for the round, or its trips are limited.
    """

    number: int
    name: str
    back: tuple[Edge, ...]
    steps: frozenset[int]
    inner: frozenset[int]
    parent: int | None
    gate: int | None
    rounds: Rounds | None
    synchronous: bool
    told: bool


def loops_of(topology: Topology) -> tuple[Loop, ...]:
    """Return the loops of a topology, outer ones first. An edge back that closes no loop belongs to none."""
    back = [edge for edge in topology.edges if edge.back]
    if not back:
        return ()
    loops: list[Loop] = []
    forward = [edge for edge in topology.edges if not edge.back]
    _nest(topology, forward, frozenset(step.number for step in topology.steps), back, None, loops)
    return tuple(loops)


def around(loops: Iterable[Loop], number: int) -> list[Loop]:
    """Return the loops that a step is in, the outermost first."""
    return [loop for loop in loops if number in loop.steps]


def _nest(
    topology: Topology,
    forward: list[Edge],
    steps: frozenset[int],
    back: list[Edge],
    parent: int | None,
    loops: list[Loop],
) -> list[Edge]:
    """Append the loops among some steps, and those within them; return the edges back that close none."""
    unused = list(back)
    for part in _parts(steps, [*forward, *back]):
        own = [edge for edge in back if edge.source in part and edge.target in part]
        if not own:
            continue  # a cycle without a feedback edge: the checker says so
        heads = {edge.target for edge in own}
        reached = {head: _reach(forward, part, head) - {head} for head in heads}
        first = {head for head in heads if not any(head in reached[other] for other in heads - {head})} or heads
        outer = [edge for edge in own if edge.target in first]
        rest = [edge for edge in own if edge.target not in first]
        number = len(loops)
        loops.append(_loop(topology, number, outer, part, parent))  # its place, before those within it
        outer += _nest(topology, forward, part, rest, number, loops)
        inner = frozenset[int]().union(*(loop.steps for loop in loops[number + 1 :]))
        loops[number] = _loop(topology, number, outer, part, parent, inner)
        unused = [edge for edge in unused if edge not in own]
    return unused


def _loop(
    topology: Topology,
    number: int,
    back: list[Edge],
    steps: frozenset[int],
    parent: int | None,
    inner: frozenset[int] = frozenset(),
) -> Loop:
    closing = [topology.steps[edge.source] for edge in back]
    heads = [topology.steps[edge.target] for edge in back]
    keeping = next((step for step in heads if isinstance(step, (Replay, Delta))), None)
    turns = closing_feedbacks(topology, back)
    operators = [topology.steps[each] for each in sorted(steps) if isinstance(topology.steps[each], Then)]
    direct = [step for step in operators if step.number not in inner]
    if keeping is not None:
        rounds: Rounds | None = keeping.rounds
        synchronous = rounds is not None
        gate: int | None = keeping.number
    else:
        rounds = next((step.rounds for step in turns if step.rounds is not None), None)
        synchronous = rounds is not None or any(watches_rounds(step) for step in direct)
        gate = (
            next((s.number for s in turns if s.rounds is not None), turns[0].number) if synchronous and turns else None
        )
    told = any(asks_round(step) for step in operators) or any(step.trips_max is not None for step in turns)
    first = keeping or (turns[0] if turns else closing[0])
    return Loop(number, first.name, tuple(back), steps, inner, parent, gate, rounds, synchronous, told)


def closing_feedbacks(topology: Topology, back: Iterable[Edge]) -> list[Feedback]:
    """Return the feedback steps whose own edges back these are; another loop's may lead to a replay or a delta."""
    sources = [topology.steps[edge.source] for edge in back if edge.output == AGAIN]
    return [step for step in sources if isinstance(step, Feedback)]


def watches_rounds(step: Step) -> bool:
    """Return whether a step is an operator that defines `on_round_end`."""
    return isinstance(step, Then) and callable(getattr(step.operator, "on_round_end", None))


def asks_round(step: Step) -> bool:
    """Return whether a step is an operator that says, or whose code shows, that it reads `self.round`."""
    if not isinstance(step, Then) or not isinstance(step.operator, type):
        return False
    return bool(getattr(step.operator, "tells_round", False)) or bool({"round", "rounds"} & names_used(step.operator))


def names_used(operator: type, *, besides: Container[str] = ()) -> frozenset[str]:
    """Return the attributes of `self` that the methods of an operator class read, as far as its code shows them.

    besides: methods that are not looked at.
    """
    found: set[str] = set()
    for kind in operator.__mro__:
        if kind is Operator or not issubclass(kind, Operator):
            continue
        for name, value in vars(kind).items():
            if name in besides:
                continue
            function = value.fget if isinstance(value, property) else value
            while isinstance(function, types.FunctionType):
                if function.__code__.co_argcount:
                    found.update(_attributes_of(function.__code__.co_varnames[0], function.__code__))
                function = getattr(function, "__wrapped__", None)
    return frozenset(found)


def _attributes_of(name: str, code: types.CodeType) -> Iterator[str]:
    """Yield the attributes of a variable that a function, or a function in it, mentions."""
    last: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"} and last in {name, (name,)}:
            yield instruction.argval
        loads = instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE"))
        loaded = instruction.argval if loads else None
        last = loaded[-1] if isinstance(loaded, tuple) and loaded else loaded
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and name in constant.co_freevars:
            yield from _attributes_of(name, constant)


def _parts(steps: frozenset[int], edges: list[Edge]) -> list[frozenset[int]]:
    """Return the strongly connected parts among some steps (Tarjan, 1972), a lone one if an edge leads to itself."""
    ahead = _ahead(edges, steps)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: dict[int, None] = {}
    parts: list[frozenset[int]] = []
    for start in sorted(steps):
        walk = [(start, iter(ahead.get(start, ())))] if start not in index else []
        while walk:
            step, targets = walk[-1]
            if step not in index:
                index[step] = low[step] = len(index)
                stack[step] = None
            for target in targets:
                if target not in index:
                    walk.append((target, iter(ahead.get(target, ()))))
                    break
                if target in stack:
                    low[step] = min(low[step], index[target])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[step])
                if low[step] == index[step]:
                    part: set[int] = set()
                    while step not in part:
                        part.add(stack.popitem()[0])
                    if len(part) > 1 or step in ahead.get(step, ()):
                        parts.append(frozenset(part))
    return sorted(parts, key=min)


def _reach(edges: list[Edge], steps: frozenset[int], start: int) -> set[int]:
    """Return the steps that can be reached from one along at least one edge, without leaving some steps."""
    ahead = _ahead(edges, steps)
    seen: set[int] = set()
    todo = [start]
    while todo:
        for target in ahead.get(todo.pop(), ()):
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def _ahead(edges: Iterable[Edge], steps: frozenset[int]) -> dict[int, list[int]]:
    ahead: dict[int, list[int]] = {}
    for edge in edges:
        if edge.source in steps and edge.target in steps:
            ahead.setdefault(edge.source, []).append(edge.target)
    return ahead
