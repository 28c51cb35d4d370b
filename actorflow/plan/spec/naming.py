"""Points of a stream by name: `step`, or `step.output` where a step has several outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from actorflow.plan.spec.faults import meant
from actorflow.plan.spec.forms import Point
from actorflow.plan.topology import AGAIN, END, ERRORS, FEEDBACK, Delta, Replay, Route, Step

_INSTEAD = {
    FEEDBACK: "what an operator feeds back is led by feedback: of its then",
    END: "what a loop amounted to is told by a step loop_end:",
}


def outputs_of(step: Step) -> tuple[str, ...]:
    """Return the outputs of a step that have a name in a spec; "" is the one without."""
    if isinstance(step, Route):
        return (*step.outputs, ERRORS)
    return ("", AGAIN, ERRORS) if isinstance(step, (Replay, Delta)) else ("", ERRORS)


def found(steps: Sequence[Step], named: str | Point) -> tuple[Step, str]:
    """Return the step and the output that a name means. Raises: ValueError, which says what there is."""
    by_name = {step.name: step for step in steps}
    if isinstance(named, str):
        step, output = next(_readings(by_name, named), (None, ""))
        if step is None:
            raise ValueError(_unknown(by_name, named))
    else:
        step, output = by_name.get(named.step), named.output
        if step is None:
            raise ValueError(_unknown(by_name, named.step))
    if output not in outputs_of(step):
        if output:
            raise ValueError(_no_output(step, output))
        first = outputs_of(step)[0]
        raise ValueError(f"{step.name} has several outputs: write which, for example {step.name}.{first}")
    return step, output


def spelt(steps: Sequence[Step], step: Step, output: str) -> Any:
    """Return how a point is written among the steps that are there: text, or a mapping where that means another."""
    text = f"{step.name}.{output}" if output else step.name
    try:
        if found(steps, text) == (step, output):
            return text
    except ValueError:
        pass
    return {"step": step.name, "output": output} if output else {"step": step.name}


def _readings(by_name: dict[str, Step], text: str) -> Iterator[tuple[Step, str]]:
    """Yield what text can mean, the best first: a whole name, or a name as long as it can be, and an output."""
    if text in by_name:
        yield by_name[text], ""
    parts = text.split(".")
    splits = [(".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(len(parts) - 1, 0, -1)]
    known = [(by_name[name], output) for name, output in splits if name in by_name]
    yield from (pair for pair in known if pair[1] in outputs_of(pair[0]))
    yield from known


def _unknown(by_name: dict[str, Step], name: str) -> str:
    return f"no step before this is called {name!r}{meant(name, by_name)}"


def _no_output(step: Step, output: str) -> str:
    if output in _INSTEAD:
        return f"{step.name}.{output} cannot be followed: {_INSTEAD[output]}"
    listed = [each for each in outputs_of(step) if each]
    return f"{step.name} has no output {output!r}{meant(output, listed)}"
