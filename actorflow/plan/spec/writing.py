"""Functions, values and types, as data; what cannot be written is a fault at the place that it is written for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

from actorflow.errors import summary
from actorflow.plan.cells import Access
from actorflow.plan.foreign import Foreign
from actorflow.plan.rounds import UNSET, Rounds
from actorflow.plan.spec.faults import Faults
from actorflow.plan.spec.references import is_reference, place_of, reference_of
from actorflow.plan.spec.types import data_of
from actorflow.plan.stream import field_of

_PLAIN: Final = (str, bool, int, float, type(None))


def changed(value: Any, usual: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not as usual."""
    names = [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names if getattr(value, name) != getattr(usual, name)}


def without(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without those that are not given."""
    return {name: value for name, value in options.items() if value is not None}


class Writer:
    """Writes functions, values and types of one place; what it cannot write is a fault there."""

    def __init__(self, faults: Faults, place: str = "") -> None:
        self.faults = faults
        self.place = place

    def at(self, place: str) -> Writer:
        """Return a writer for another place."""
        return Writer(self.faults, place)

    def fail(self, message: str) -> str:
        """Note a fault; return what may stand in place of what cannot be written."""
        self.faults.add((), f"{self.place}: {message}" if self.place else message)
        return ""

    def type(self, kind: Any) -> Any:
        """Return a type as data."""
        try:
            return data_of(kind)
        except ValueError as error:
            return self.fail(str(error))

    def function(self, function: Any) -> Any:
        """Return a function as data: a reference, or a mapping where there is more to say."""
        if isinstance(function, Foreign):
            options = self.options(function.options)
            return {"function": function.reference, "options": options} if options else function.reference
        if (field := field_of(function)) is not None:
            return {"field": field}
        reference = reference_of(function)
        if reference is not None:
            return reference
        return self.fail(
            f"{place_of(function)} is a closure, or has no name of its own: "
            "define it at the top of a module that can be imported"
        )

    def key(self, function: Any) -> Any:
        """Return a key as data: a field by its name."""
        data = None if function is None else self.function(function)
        if isinstance(data, dict) and "field" in data and not is_reference(data["field"]):
            return data["field"]
        return data

    def value(self, value: Any) -> Any:
        """Return a value, or the function that makes one, as data."""
        if callable(value):
            return self.function(value)
        plain = self.plain(value)
        told = isinstance(plain, dict) or (isinstance(plain, str) and is_reference(plain))
        return {"value": plain} if told else plain

    def rounds(self, rounds: Rounds) -> dict[str, Any]:
        """Return the rounds of a loop as data."""
        data: dict[str, Any] = {}
        for name in ("until", "rounds_max", "fold", "initial", "state", "update", "vote"):
            given = getattr(rounds, name)
            if name in {"initial", "state"} and given is not UNSET:
                data[name] = self.value(given)
            elif name not in {"initial", "state"} and given is not None:
                data[name] = self.function(given) if callable(given) else given
        return data

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a function of another language as data; accesses to cells are not among them."""
        return {name: self.plain(value) for name, value in options.items() if name != "cells"}

    def access(self, name: str, access: Any) -> Any:
        """Return how a cell is touched, as data."""
        if not isinstance(access, Access):
            return self.plain(access)
        more = without({"max_age_s": access.max_age_s})
        if access.cell.name != name:
            more["cell"] = access.cell.name
        if access.read_only and access.how != "snapshot":
            more["read_only"] = True
        return {"access": access.how, **more} if more else access.how

    def plain(self, value: Any) -> Any:
        """Return a plain value; anything else is a fault."""
        if type(value) is list:
            return [self.plain(each) for each in value]
        if type(value) is dict and all(type(key) is str for key in value):
            return {key: self.plain(each) for key, each in value.items()}
        if type(value) not in _PLAIN or (type(value) is float and not math.isfinite(value)):
            return self.fail(f"{summary(value)} is no plain value, as a spec can have")
        if type(value) is str and any("\ud800" <= sign <= "\udfff" for sign in value):
            return self.fail(f"{summary(value)} is no text that can be written")
        return value
