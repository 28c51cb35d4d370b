"""Filling a form from data: every fault with its place, not only the first."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from actorflow.plan.spec.faults import Faults, Path, kind_of, meant
from actorflow.plan.spec.forms import VERBS

FormT = TypeVar("FormT")


def fill(form: type[FormT], data: Any, path: Path, faults: Faults, *, besides: Collection[str] = ()) -> FormT | None:
    """Return a form with what a mapping says, or None when a part of it is wrong; the faults say which.

    besides: keys that somebody else looks at.
    """
    kind: Any = form
    fields, needed = _fields(kind), _needed(kind)
    if not isinstance(data, dict):
        faults.add(path, f"this is {kind_of(data)}, and must be a mapping with {', '.join(fields)}")
        return None
    values: dict[str, Any] = {}
    sound = True
    for key, value in data.items():
        if key in fields:
            good, values[key] = _fitting(fields[key], value, (*path, key), faults)
            sound = sound and good
        elif key not in besides:
            faults.add((*path, key), f"there is no such option here{meant(key, fields)}")
            sound = False
    for key in needed - data.keys():
        faults.add(path, f"{key}: is missing")
        sound = False
    if not sound:
        return None
    try:
        return form(**values)
    except (ValueError, TypeError) as error:
        faults.add(path, str(error))
        return None


def verb_of(data: Any, path: Path, faults: Faults) -> str | None:
    """Return the verb of a step, or None where there is not exactly one."""
    if not isinstance(data, dict):
        faults.add(path, f"a step is a mapping with a verb, such as map: …, and no {kind_of(data).split()[-1]}")
        return None
    found: list[str] = [key for key in data if key in VERBS]
    if "then" in found:  # it has an option that is called as another verb is
        found = [key for key in found if key != "feedback"]
    if len(found) == 1:
        return found[0]
    if found:
        faults.add(path, f"a step has one verb, and this has {' and '.join(found)}: make a step of each")
    else:
        near = next((hint for key in data if (hint := meant(key, VERBS))), "")
        said = f"{', '.join(data) or 'nothing'} {'is' if len(data) < 2 else 'are'} no verb"
        faults.add(path, f"{said}{near or f' (the verbs are {chr(44).join(VERBS)})'}")
    return None


@functools.cache
def _fields(form: Any) -> dict[str, Any]:
    return typing.get_type_hints(form, include_extras=True)


@functools.cache
def _needed(form: Any) -> frozenset[str]:
    if dataclasses.is_dataclass(form):
        return frozenset()
    return frozenset(each.name for each in msgspec.structs.fields(form) if each.required)


def _fitting(kind: Any, value: Any, path: Path, faults: Faults) -> tuple[bool, Any]:
    """Return whether a value is of a kind, and what it is then."""
    inner = _form_in(kind)
    if inner is not None and isinstance(value, dict):
        filled = fill(inner, value, path, faults)
        return filled is not None, filled
    try:
        return True, msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        parts = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", where)
        place = tuple(int(index) if index else name for name, index in parts)
        faults.add((*path, *place), _choice(kind, value) or f"{message[:1].lower()}{message[1:]}")
    except (OverflowError, RecursionError):
        faults.add(path, "this number is too large")
    return False, None


def _choice(kind: Any, value: Any) -> str:
    """Return what is to be said of a text that is none of those there are; nothing where that is not the fault."""
    choices = [each for part in (kind, *typing.get_args(kind)) for each in _literals(part)]
    if not choices or not isinstance(value, str):
        return ""
    return f"{value[:40]!r} is none of {', '.join(map(str, choices))}{meant(value, list(map(str, choices)))}"


def _literals(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


@functools.cache
def _form_in(kind: Any) -> type | None:
    """Return the form that a kind of value may be written as."""
    if isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind)):
        return kind
    if typing.get_origin(kind) in {list, dict}:
        return None
    return next((form for part in typing.get_args(kind) if (form := _form_in(part)) is not None), None)
