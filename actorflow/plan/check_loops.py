"""The part of the checker that looks at loops: what closes them, and what cannot stand in them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from actorflow.limits import is_count
from actorflow.plan.cells import accesses_of
from actorflow.plan.loops import Loop, around, closing_feedbacks, loops_of, names_used, watches_rounds
from actorflow.plan.operator import Operator
from actorflow.plan.rounds import Rounds
from actorflow.plan.topology import (
    END,
    FEEDBACK,
    Delta,
    Feedback,
    Gather,
    Join,
    Replay,
    Then,
    Topology,
    WithLoopState,
)


def loop_faults(topology: Topology) -> Iterator[str]:
    """Yield what is wrong with feedback edges, and with what stands in loops or needs one."""
    loops = loops_of(topology)
    closing = {edge for loop in loops for edge in loop.back}
    for edge in topology.edges:
        if edge.back and edge not in closing:
            source, target = topology.steps[edge.source].name, topology.steps[edge.target].name
            yield (
                f"{topology.stream}/{source}: feeds back to {target}, from which no path leads here again: "
                "that is no loop; use .into(point) to lead forward"
            )
    for loop in loops:
        yield from _loop(topology, loop, loops)
    for step in topology.steps:
        place = f"{topology.stream}/{step.name}"
        inside = around(loops, step.number)
        if isinstance(step, Then) and isinstance(step.operator, type):
            feeds = any(edge.output == FEEDBACK for edge in topology.outputs_of(step.number))
            yield from _hooks(place, step.operator)
            if watches_rounds(step) and not inside:
                yield f"{place}: {step.operator.__name__} has on_round_end, but is in no loop"
            if watches_rounds(step) and inside and not inside[-1].synchronous:
                yield (
                    f"{place}: {step.operator.__name__} has on_round_end, and the loop {inside[-1].name} has no "
                    "rounds: declare rounds=Rounds() there"
                )
            if "feedback" in names_used(step.operator) and not feeds:
                yield f"{place}: {step.operator.__name__} calls self.feedback, so declare .then(…, feedback=True)"
            if inside and hasattr(step.operator, "on_reply"):
                yield f"{place}: {step.operator.__name__} has on_reply and is in a loop, where no way leads back"
            if step.priority is not None:
                yield from _priority(place, step)
        if isinstance(step, WithLoopState) and not any(loop.synchronous for loop in inside):
            yield f"{place}: there is no synchronous loop around it whose state it could tell"
        ended = any(edge.output == END for edge in topology.outputs_of(step.number))
        if ended and not isinstance(step, (Feedback, Replay, Delta)):
            yield f"{place}: .loop_end is for the point that iterate, replay, delta or feedback(rounds=…) returned"
        if ended and isinstance(step, Feedback) and not any(loop.gate == step.number for loop in loops):
            yield f"{place}: .loop_end needs rounds=Rounds(…), since this loop has no rounds of its own"


def _loop(topology: Topology, loop: Loop, loops: tuple[Loop, ...]) -> Iterator[str]:
    steps = topology.steps
    place = f"{topology.stream}/{loop.name}"
    declared = closing_feedbacks(topology, loop.back)
    several = [step.name for step in declared if step.rounds is not None]
    if len(several) > 1:
        yield f"{place}: {' and '.join(several)} are one loop, and both declare rounds: keep one"
    keeping = {edge.target for edge in loop.back if isinstance(steps[edge.target], (Replay, Delta))}
    if keeping and len(loop.back) > 1:
        keeper = steps[min(keeping)].name
        yield f"{place}: another feedback edge leads into the loop of {keeper}; give it a loop of its own"
    for number in sorted(loop.steps - loop.inner - {loop.gate}):
        step = steps[number]
        if isinstance(step, Join) and step.how != "inner":
            yield f"{topology.stream}/{step.name}: a {step.how} join in a loop never sees its end; use an inner one"
        elif isinstance(step, Gather) and step.fold.name != "distinct" and not loop.synchronous:
            yield (
                f"{topology.stream}/{step.name}: in a loop without rounds a {step.fold.name} never sees the end of its "
                "input; put it behind the loop, or declare rounds=Rounds() (or iterate) to have one per round"
            )
    for inner in (other for other in loops if other.parent == loop.number):
        if inner.gate is not None and not loop.synchronous:
            yield (
                f"{place}: the loop {inner.name} within it waits for the end of its input, which never comes in a loop "
                "without rounds: declare rounds=Rounds() here"
            )
    yield from _rounds(place, loop.rounds)
    for step in declared:
        if step.trips_max is not None and not is_count(step.trips_max):
            yield f"{place}: trips_max={step.trips_max!r}, but it is a whole number of trips, at least 1"
        if step.when is not None and (not callable(step.when) or inspect.iscoroutinefunction(step.when)):
            yield f"{place}: when={step.when!r}, but it is a plain function of the item"
        if step.trips_max is not None and loop.synchronous:
            yield f"{place}: trips_max is for loops without rounds; use Rounds(rounds_max=…)"
    gate = steps[loop.gate] if loop.gate is not None else None
    if isinstance(gate, Replay) and gate.rounds.until is None and gate.rounds.rounds_max is None:
        yield f"{place}: a replay ends by until= or rounds_max=, and neither is declared"
    if isinstance(gate, Delta) and not is_count(gate.ahead):
        yield f"{place}: ahead={gate.ahead!r}, but at least one pair goes round at a time"
    for name in ("combine", "priority") if isinstance(gate, Delta) else ():
        value = getattr(gate, name)
        if not callable(value) and (name == "combine" or value is not None):
            yield f"{place}: {name}={value!r}, but it is a function"


def _hooks(place: str, kind: type) -> Iterator[str]:
    """Yield what is wrong with `on_round_end`, and which names of the library an operator takes for something else."""
    hook = getattr(kind, "on_round_end", None)
    if callable(hook):
        if inspect.isgeneratorfunction(hook) or inspect.isasyncgenfunction(hook):
            yield f"{place}: {kind.__name__}.on_round_end is no generator: use self.emit(item)"
        try:
            static = isinstance(inspect.getattr_static(kind, "on_round_end"), staticmethod)
            inspect.signature(hook).bind(*(None,) * (1 if static else 2))
        except TypeError as error:
            yield f"{place}: {kind.__name__}.on_round_end must take (self, round): {error}"
    for base in kind.__mro__:
        if base is Operator or not issubclass(base, Operator):
            continue
        for name in sorted(_VERBS & vars(base).keys()):
            yield f"{place}: {base.__name__} defines {name}, which every operator has: choose another name"


_VERBS = {name for name in vars(Operator) if not name.startswith("_")} - {
    "on_error", "concurrency", "restart", "escalate", "tells_round", "in_order",
}  # fmt: skip


def _rounds(place: str, rounds: Rounds | None) -> Iterator[str]:
    if rounds is None:
        return
    if rounds.rounds_max is not None and not callable(rounds.rounds_max) and not is_count(rounds.rounds_max):
        yield f"{place}: rounds_max={rounds.rounds_max!r}, but it is a whole number of rounds, at least 1"
    if rounds.until is not None and rounds.fold is None and rounds.update is None:
        yield f"{place}: until= looks at the state, which never changes: declare fold= (and vote=), or update="
    if rounds.vote is not None and rounds.fold is None:
        yield f"{place}: vote= makes votes of items, so declare with fold= how they are folded"
    for name in ("until", "fold", "update", "vote"):
        value = getattr(rounds, name)
        if value is not None and not callable(value):
            yield f"{place}: {name}={value!r}, but it is a function"
        if inspect.iscoroutinefunction(value):
            yield f"{place}: {name} is a plain function, which the end of a round does not wait for"


_ORDER_MATTERS = {
    "tell", "ask", "call", "send", "spawn", "spawn_detached", "stop_actor", "reply", "defer", "after",
}  # fmt: skip


def _priority(place: str, step: Then) -> Iterator[str]:
    kind = step.operator
    process = getattr(kind, "process", None)
    if process is None or inspect.iscoroutinefunction(process) or inspect.isasyncgenfunction(process):
        yield f"{place}: priority= needs a plain process(self, item)"
    elif inspect.isgeneratorfunction(process):
        yield f"{place}: priority= needs a process that is no generator: use self.emit"
    if effects := sorted(_ORDER_MATTERS & names_used(kind, besides=("start", "stop"))):
        yield (
            f"{place}: priority= changes the order in which items are processed, so {kind.__name__} may only emit and "
            f"feed back, and it calls {', '.join(effects)}"
        )
    if written := sorted(access.cell.name for access in accesses_of(kind).values() if access.writes):
        yield (
            f"{place}: priority= changes the order in which items are processed, so {kind.__name__} may only read "
            f"cells, and it writes {', '.join(written)}"
        )
    if not callable(step.priority):
        yield f"{place}: priority={step.priority!r}, but it is a function of the item"
    if hasattr(kind, "on_reply"):
        yield f"{place}: {kind.__name__} has on_reply, which does not go with priority="
