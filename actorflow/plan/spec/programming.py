"""A Python module from an app: code that builds the same app with the builder, and that one would go on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from actorflow.plan.app import AppPlan
from actorflow.plan.cells import accesses_of
from actorflow.plan.spec.calls import Names, call_of, keywords, literal
from actorflow.plan.spec.exporting import data_of_app
from actorflow.plan.spec.forms import VERBS, Point
from actorflow.plan.spec.naming import found
from actorflow.plan.topology import AGAIN, ERRORS, Route, Step, Then, Topology

WIDTH = 110


def program_of(app: AppPlan, *, foreign: str | None = None) -> str:
    """Return the source of a module that builds an app.

    foreign: `module:name` of the function by which such a program finds functions of other languages: it is called
    with a reference and a mapping of options.

    Raises: SpecError, as `data_of_app`, and when a function of another language is named and there is no `foreign`.
    """
    data = data_of_app(app)
    names = Names(foreign)
    names.claim(data)
    limits = f", limits={names.need('actorflow', 'Limits')}({keywords(data['limits'])})" if "limits" in data else ""
    names.need("actorflow", "App")
    body = [f"app = App({literal(app.name)}{limits})"]
    for name, cell in data.get("cells", {}).items():
        body.append(_cell(app, name, dict(cell), names))
    if adopted := _adopting(app, names):
        body.append(adopted)
    for name, topology in app.streams.items():
        body += ["", *_Program(topology, data["streams"][name], names).lines()]
    for name, each in data.get("schedules", {}).items():
        when = {key: each[key] for key in ("every_s", "cron") if key in each}
        body.append(
            f"app.schedule({literal(name)}, {literal(each['stream'])}, {literal(each.get('item'))}, {keywords(when)})"
        )
    title = f'"""The app {app.name}: `actorflow run` takes it as MODULE:app."""'
    return "\n".join([title, "", *names.imports(), "", *body, ""])


def _cell(app: AppPlan, name: str, data: dict[str, Any], names: Names) -> str:
    """Return the line that declares a cell."""
    cell = app.cells[name]
    options = [f"key={literal(data['key'])}"] if "key" in data else []
    if "value" in data:
        options.insert(0, f"value={names.type(cell.value_type)}")
    if data["kind"] in {"set", "log"}:  # which call it otherwise
        options = [each.removeprefix("value=") for each in options]
    if "key_type" in data:
        options.append(f"key_type={names.type(cell.key_type)}")
    if "migrate" in data:
        options.append(f"migrate={names.function(data['migrate'])}")
    rest = {key: data[key] for key in ("shards", "ttl_s", "entries_max", "version", "grow_only") if key in data}
    names.cells[name] = variable = names.fresh(name)
    return f"{variable} = app.{data['kind']}({', '.join([literal(name), *options, *filter(None, [keywords(rest)])])})"


def _adopting(app: AppPlan, names: Names) -> str:
    """Return the line that takes over the cells of operators which are Python."""
    from actorflow.plan.foreign import ForeignOperator
    from actorflow.plan.spec.references import reference_of

    steps = [step for topology in app.streams.values() for step in topology.steps if isinstance(step, Then)]
    kinds = [step.operator for step in steps if not issubclass(step.operator, ForeignOperator)]
    using = [kind for kind in dict.fromkeys(kinds) if accesses_of(kind)]
    return f"app.adopt({', '.join(names.function(reference_of(kind)) for kind in using)})" if using else ""


@dataclass(slots=True)
class _Call:
    """A step as it is written, with what it follows and what it makes."""

    verb: str
    item: dict[str, Any]
    parents: list[tuple[int, str]] = field(default_factory=list)
    target: int | None = None
    makes: list[int] = field(default_factory=list)
    chained: bool = False


class _Program:
    """The lines that build one stream."""

    def __init__(self, topology: Topology, data: dict[str, Any], names: Names) -> None:
        self._topology = topology
        self._data = data
        self._names = names
        self._points: dict[tuple[int, str], str] = {}
        self._calls = list(self._read(data.get("steps", [])))
        self._next = 0
        self._scopes: list[tuple[int, int]] = []
        self._globals: dict[int, set[str]] = {}
        self._count: Counter[int] = Counter()

    # -- what there is

    def _read(self, items: list[dict[str, Any]]) -> Iterator[_Call]:
        """Yield the calls with the numbers of the steps that they follow, lead to and make."""
        steps, number, now, opened = self._topology.steps, 1, (0, ""), list[int]()
        for item in items:
            verb = "then" if "then" in item else next(key for key in item if key in VERBS)
            call = _Call(verb, item)
            before = steps[:number]
            named = item.get("after")
            if verb == "join":
                call.parents = [
                    self._at(before, item["left"]) if "left" in item else now,
                    self._at(before, item["right"]),
                ]
            elif verb == "source":
                call.parents = [(0, "")]
            elif named is None:
                call.parents = [now]
            else:
                call.parents = [self._at(before, each) for each in (named if isinstance(named, list) else [named])]
            target = (
                item.get("to")
                or item.get("into")
                or item.get("back")
                or (item.get("feedback") if verb == "then" else None)
            )
            if isinstance(target, str):
                call.target = next(step.number for step in before if step.name == target)
            count = {"into": 0, "back": 0, "broadcast": item.get("broadcast", 1)}.get(verb, 1)
            call.makes = list(range(number, number + count))
            number += count + (verb == "then" and bool(item.get("feedback")))
            if verb in {"replay", "delta"}:
                opened.append(call.makes[0])
            elif verb == "back":
                opened.remove(call.target or 0)
            last = call.makes[-1] if call.makes else call.target or 0
            now = (last, AGAIN if last in opened else "")
            yield call

    def _at(self, before: tuple[Step, ...], named: Any) -> tuple[int, str]:
        step, output = found(before, Point(**named) if isinstance(named, dict) else named)
        return step.number, output

    def lines(self) -> list[str]:
        """Return the lines that declare the stream and add its steps."""
        uses = self._uses()
        begin = self._begin()
        chain: list[str] = []
        self._points[0, ""] = variable = self._names.fresh(self._topology.stream)
        first = self._calls[:1]
        if first and first[0].parents[:1] == [(0, "")] and uses[0] == 1 and first[0].verb in _CHAINS:
            first[0].chained = True
            chain = [begin]
        lines = [] if chain else [f"{variable} = {begin}"]
        return [*lines, *self._block(chain, variable if chain else None, "")]

    def _begin(self) -> str:
        declared = [self._topology.request_type, self._topology.reply_type]
        while declared and declared[-1] is Any:
            declared.pop()
        kinds = [self._names.type(kind) for kind in declared]
        options = {name: value for name, value in self._data.items() if name in _OF_STREAM}
        restart = [f"restart={self._names.restart(self._data['restart'])}"] if "restart" in self._data else []
        arguments = [literal(self._topology.stream), *kinds, *filter(None, [keywords(options)]), *restart]
        return f"app.stream({', '.join(arguments)})"

    def _uses(self) -> Counter[int]:
        """Return how often each step is named or followed."""
        uses = Counter(number for call in self._calls for number, _ in call.parents)
        uses.update(call.target for call in self._calls if call.target is not None)
        uses.update(call.makes[0] for call in self._calls if call.verb in _SEVERAL)
        uses.update(
            call.makes[0] for call in self._calls if len(call.parents) > 1 and call.verb not in {"merge", "join"}
        )
        self._count = uses
        return uses

    # -- points, as they are called

    def _point(self, number: int, output: str) -> str:
        if (number, output) in self._points:
            return self._points[number, output]
        base = self._any_point(number)
        if output == ERRORS:
            return f"{base}.errors"
        return f"{self._points[number, '*']}[{literal(output)}]" if (number, "*") in self._points else base

    def _any_point(self, number: int) -> str:
        """Return a point of a step, whichever."""
        step = self._topology.steps[number]
        for output in ("", AGAIN, *(step.outputs if isinstance(step, Route) else ())):
            if (number, output) in self._points:
                return self._points[number, output]
        assert isinstance(step, Route)
        return f"{self._points[number, '*']}[{literal(step.outputs[0])}]"

    # -- statements

    def _block(self, chain: list[str], variable: str | None, indent: str) -> list[str]:
        """Return the statements up to the end of the steps, or of the body of a loop."""
        lines: list[str] = []
        while self._next < len(self._calls):
            call = self._calls[self._next]
            if call.verb == "back":
                lines += self._flush(chain, variable, indent)
                self._next += 1
                return self._returning(lines, self._point(*call.parents[0]), call, indent)
            if not call.chained:
                lines += self._flush(chain, variable, indent)
                chain = [] if call.verb == "into" else [self._parent(call)]
                variable = None
            self._next += 1
            if call.verb == "into":
                lines.append(f"{indent}{self._point(*call.parents[0])}.into({self._any_point(call.target or 0)})")
                continue
            if call.verb in {"replay", "delta"}:
                lines += self._loop(call, chain, indent)
                chain, variable = [], None
                continue
            text = self._call(call)
            chain.append(text)
            following = self._calls[self._next] if self._next < len(self._calls) else None
            if following is not None and self._follows(call, following):
                following.chained = True
                continue
            lines += self._flush(chain, self._variable(call, variable), indent)
            for number, output in call.parents[1:] if call.verb not in {"merge", "join"} else []:
                lines.append(f"{indent}{self._point(number, output)}.into({self._any_point(call.makes[0])})")
            chain, variable = [], None
        return [*lines, *self._flush(chain, variable, indent)]

    def _returning(self, lines: list[str], point: str, call: _Call, indent: str) -> list[str]:
        """Return the end of a body; what is assigned only to be returned is returned at once."""
        begins = f"{indent}{point} = "
        if self._count[call.parents[0][0]] == 1 and lines and lines[-1].startswith(begins):
            return [*lines[:-1], f"{indent}return {lines[-1].removeprefix(begins)}"]
        return [*lines, f"{indent}return {point}"]

    def _parent(self, call: _Call) -> str:
        return self._point(*call.parents[0])

    def _follows(self, call: _Call, following: _Call) -> bool:
        """Return whether a call is written behind the one before it, without a variable between."""
        alone = len(call.makes) == 1 and self._count[call.makes[0]] == 1 and call.verb not in _SEVERAL
        return alone and following.parents[:1] == [(call.makes[0], "")] and following.verb in _CHAINS

    def _variable(self, call: _Call, variable: str | None) -> str | None:
        """Return what the result of a call is assigned to; None where nobody needs it."""
        number = call.makes[0]
        step = self._topology.steps[number]
        if call.verb == "split":
            pair = [self._fresh(number, f"{step.name}_{output}") for output in ("true", "false")]
            self._points |= {(number, output): name for output, name in zip(("true", "false"), pair, strict=True)}
            return ", ".join(pair)
        if call.verb == "route":
            self._points[number, "*"] = name = self._fresh(number, step.name)
            return name
        if call.verb == "broadcast":
            each = [self._fresh(made, self._topology.steps[made].name) for made in call.makes]
            self._points |= {(made, ""): name for made, name in zip(call.makes, each, strict=True)}
            return ", ".join(each) + ("," if len(each) == 1 else "")
        if call.verb == "discard":
            return None
        if self._count[number] or variable is not None:
            self._points[number, ""] = name = variable or self._fresh(number, step.name)
            return name
        return None

    def _fresh(self, number: int, wanted: str) -> str:
        """Return a variable for a step, which is remembered where it is used outside of the body that makes it."""
        name = self._names.fresh(wanted)
        for start, end in self._scopes:
            users = (
                at for at, call in enumerate(self._calls) if number in {*(n for n, _ in call.parents), call.target}
            )
            if any(not start <= at <= end for at in users):
                self._globals[start].add(name)
        return name

    def _flush(self, chain: list[str], variable: str | None, indent: str) -> list[str]:
        """Return the statement that a chain of calls is."""
        if len(chain) < 2:
            return [f"{indent}{variable} = {chain[0]}"] if chain and variable is not None else []
        text = ".".join(chain)
        assigned = f"{variable} = " if variable is not None else ""
        if len(indent) + len(assigned) + len(text) <= WIDTH:
            return [f"{indent}{assigned}{text}"]
        inner = [f"{indent}    {chain[0]}", *(f"{indent}    .{call}" for call in chain[1:])]
        return [f"{indent}{assigned}(", *inner, f"{indent})"]

    def _call(self, call: _Call) -> str:
        points = [self._point(*parent) for parent in call.parents[1:]] if call.verb in {"merge", "join"} else []
        target = None if call.target is None else self._any_point(call.target)
        if call.verb == "then" and call.item.get("feedback") is True:
            target = "True"
        return call_of(call.verb, call.item, self._names, points=points, target=target)

    def _loop(self, call: _Call, chain: list[str], indent: str) -> list[str]:
        """Return the function that is the body of a loop, and the statement that makes the loop."""
        number = call.makes[0]
        name = self._topology.steps[number].name
        start = self._next
        end = next(at for at in range(start, len(self._calls)) if self._ends(at, number))
        body, head = self._names.fresh(f"{name}_body"), self._names.fresh(f"{name}_items")
        self._points[number, AGAIN] = head
        self._globals[start] = set()
        self._scopes.append((start, end))
        again = [at for at, each in enumerate(self._calls) if at > end and (number, AGAIN) in each.parents]
        kept = self._names.fresh(f"{name}_again") if again else None
        inside = self._block([], None, f"{indent}    ")
        self._scopes.pop()
        shared = sorted({*self._globals[start], *([kept] if kept else [])})
        lines = [*([] if indent else ["", ""]), f"{indent}def {body}({head}):"]
        lines += [f"{indent}    global {', '.join(shared)}"] if shared else []
        lines += [f"{indent}    {kept} = {head}"] if kept else []
        if kept:
            self._points[number, AGAIN] = kept
        self._points[number, ""] = variable = self._fresh(number, name)
        text = call_of(call.verb, call.item, self._names, points=[body], target=None)
        return [*lines, *inside, *([] if indent else ["", ""]), *self._flush([*chain, text], variable, indent)]

    def _ends(self, at: int, number: int) -> bool:
        return self._calls[at].verb == "back" and self._calls[at].target == number


_SEVERAL = frozenset({"split", "route", "broadcast", "replay", "delta"})
"""Verbs whose result is no point that the next call could be written behind, or is needed by its name."""
_CHAINS = frozenset(VERBS) - {"into", "back", "source"}
_OF_STREAM = ("replies", "early", "timeout_s", "in_flight", "on_error")
