"""What a step, a cell or a type is called as in Python: the text of one expression."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from actorflow.errors import SpecError
from actorflow.plan.spec.references import PYTHON, is_reference, scheme_of
from actorflow.plan.spec.types import data_of, text_of
from actorflow.plan.stream import unique_name

TAKEN = frozenset({*keyword.kwlist, *dir(builtins), "app", "App", "Any", "Limits", "Restart", "Rounds"})


class Names:
    """The names of a module, each given once; and what it imports."""

    def __init__(self, foreign: str | None) -> None:
        self._taken = set(TAKEN)
        self._modules: dict[str, str] = {}
        self._imports: set[str] = set()
        self._needed: set[tuple[str, str]] = set()
        self._foreign = foreign
        self.cells: dict[str, str] = {}

    def fresh(self, wanted: str) -> str:
        """Return a name like this that nothing else has."""
        name = re.sub(r"\W", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", wanted).lower())
        name = name if name.isidentifier() else f"_{name}"
        unique = unique_name(name, self._taken)
        self._taken.add(unique)
        return unique

    def need(self, module: str, name: str) -> str:
        """Import a name from a module of ours, and return it."""
        self._taken.add(name)
        self._needed.add((module, name))
        return name

    def imports(self) -> list[str]:
        """Return the lines that import."""
        modules: dict[str, list[str]] = {}
        for module, name in sorted(self._needed):
            modules.setdefault(module, []).append(name)
        ours = [f"from {module} import {', '.join(named)}" for module, named in modules.items()]
        standard = [line for line in ours if line.startswith("from typing")]
        others = sorted(self._imports, key=lambda line: (line.startswith("from"), line))
        groups = (standard, others, [line for line in ours if line not in standard])
        return "\n\n".join("\n".join(group) for group in groups if group).splitlines()

    def claim(self, data: Any) -> None:
        """Name the modules that some data may refer to, before anything else has their names."""
        for text in _texts(data):
            for module in re.findall(rf"{PYTHON}:([\w.]+):", text):
                self._module(module)

    def _module(self, module: str) -> str:
        """Return the name under which a module is imported."""
        if module not in self._modules:
            last = module.rpartition(".")[2]
            self._modules[module] = self.fresh(f"{last}_module" if last in TAKEN else last)
        return self._modules[module]

    def _imported(self, module: str) -> str:
        package, _, last = module.rpartition(".")
        name = self._module(module)
        renamed = "" if name == last else f" as {name}"
        self._imports.add(f"from {package} import {last}{renamed}" if package else f"import {last}{renamed}")
        return name

    def function(self, data: Any) -> str:
        """Return the expression of a function, or of a value, that is data."""
        if isinstance(data, dict) and "field" in data:
            return f"{self.need('actorflow.plan.stream', 'field_getter')}({literal(data['field'])})"
        if isinstance(data, dict) and "value" in data:
            return literal(data["value"])
        reference, options = (data["function"], data["options"]) if isinstance(data, dict) else (data, {})
        if not (isinstance(reference, str) and is_reference(reference)):
            return literal(reference)
        if scheme_of(reference) == PYTHON:
            _, module, name = reference.split(":")
            return name if module == "builtins" else f"{self._imported(module)}.{name}"
        if self._foreign is None:
            raise SpecError(f"{reference} is no Python, and nothing here says how a program of Python finds it")
        finder = self.need(*self._foreign.split(":"))
        return f"{finder}({', '.join([literal(reference), *([literal(options)] if options else [])])})"

    def type(self, kind: Any) -> str:
        """Return the expression of a type."""
        if "{" in str(data_of(kind)):
            return f"{self.need('actorflow.plan.spec', 'door_type')}({literal(data_of(kind))})"
        text = text_of(kind)
        if "any" in re.findall(r"\w+", text):
            self.need("typing", "Any")
        parts = re.split(rf"({PYTHON}:[\w.]+:[\w.]+|\b\w+\b)", text)
        plain = {"any": "Any", "none": "None"}
        return "".join(self.function(p) if p.startswith(f"{PYTHON}:") else plain.get(p, p) for p in parts)

    def rounds(self, data: Mapping[str, Any]) -> str:
        """Return the arguments of `Rounds`."""
        return ", ".join(f"{name}={self.function(value)}" for name, value in data.items())

    def restart(self, data: Mapping[str, Any]) -> str:
        """Return the expression of a `Restart`."""
        return f"{self.need('actorflow', 'Restart')}({keywords(data)})"


@dataclass(frozen=True, slots=True)
class Source:
    """An expression among plain values."""

    text: str


def literal(value: Any) -> str:
    """Return the source of a plain value, text in double quotes."""
    if isinstance(value, str):
        text = repr(value)
        return text if '"' in text else f'"{text[1:-1]}"'
    if isinstance(value, Source):
        return value.text
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{literal(key)}: {literal(each)}' for key, each in value.items())}}}"
    return repr(value)


def keywords(options: Mapping[Any, Any]) -> str:
    """Return plain options as keyword arguments."""
    return ", ".join(f"{name}={literal(value)}" for name, value in options.items())


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for each in data.values():
            yield from _texts(each)
    elif isinstance(data, list):
        for each in data:
            yield from _texts(each)


def call_of(verb: str, item: Mapping[str, Any], names: Names, *, points: list[str], target: str | None) -> str:
    """Return the call of the builder that a step is, with its brackets.

    points: the other points that it takes: those of a merge, the right side of a join, the body of a loop.
    target: where items are led back to.
    """
    value = item[verb]
    if verb == "loop_end":
        return "loop_end"
    positional = [*points]
    options: dict[str, str] = {}
    plain = {each: literal(item[each]) for each in _PLAIN if each in item}
    if verb in {"map", "filter", "flat_map", "split", "reduce", "route", "source"}:
        positional.append(names.function(_foreign(verb, item, names)))
        positional += [literal(output) for output in item.get("outputs", ())]
    elif verb == "key_by":
        positional += [] if value is None else [_key(value, names)]
    elif verb == "join":
        positional += [_key(value, names), *([_key(item["other_key"], names)] if "other_key" in item else [])]
    elif verb == "then":
        positional += [names.function(_foreign(verb, item, names)), *map(literal, item.get("args", ()))]
        options |= {"restart": names.restart(item["restart"])} if "restart" in item else {}
        options |= {} if target is None else {"feedback": target}
    elif verb == "fold":
        positional += [names.function(item["initial"]), names.function(value)]
    elif verb in {"sort", "top"}:
        order = value if isinstance(value, dict) else {} if value is None else {"count": value}
        positional += [repr(order["count"])] if "count" in order else []
        options |= {"by": names.function(order["by"])} if "by" in order else {}
        options |= {"reverse": repr(order["reverse"])} if "reverse" in order else {}
    elif verb in {"call", "batch", "broadcast"}:
        positional.append(repr(value))
    elif verb == "feedback":
        positional += [] if target is None else [target]
        options |= {} if value is None else {"when": names.function(value)}
    elif verb == "delta":
        options |= {} if value is None else {"combine": names.function(value)}
    if "priority" in item:
        options["priority"] = names.function(item["priority"])
    options |= plain
    if "rounds" in item and verb != "replay":
        options["rounds"] = f"{names.need('actorflow', 'Rounds')}({names.rounds(item['rounds'])})"
    arguments = [*positional, *(f"{name}={text}" for name, text in options.items())]
    if verb == "replay":
        arguments.append(names.rounds(item["rounds"]))
    if item.get("kwargs"):
        arguments.append(f"**{literal(item['kwargs'])}")
    return f"{verb}({', '.join(arguments)})"


_PLAIN = (
    "space", "shards", "how", "replicas", "concurrency", "ordered", "on_error", "mailbox_envelopes", "trips_max",
    "ahead", "name",
)  # fmt: skip


def _key(value: Any, names: Names) -> str:
    return literal(value) if isinstance(value, str) and not is_reference(value) else names.function(value)


def _access(name: str, data: Any, names: Names) -> Source:
    """Return the expression that declares how a cell is touched."""
    form = {"access": data} if isinstance(data, str) else data
    options = {key: form[key] for key in ("read_only", "max_age_s") if key in form}
    return Source(f"{names.cells[form.get('cell', name)]}.{form['access']}({keywords(options)})")


def _foreign(verb: str, item: Mapping[str, Any], names: Names) -> Any:
    """Return a function with the options that stand beside it."""
    more = {name: item[name] for name in ("cells", "options", "threads") if name in item}
    if not more or isinstance(item[verb], dict):
        return item[verb]
    if "cells" in more:
        more["cells"] = {name: _access(name, data, names) for name, data in more["cells"].items()}
    options = {**more.pop("options", {}), **more}
    return {"function": item[verb], "options": options}
