"""The functions and values that a step names, found; what is wrong with them is said at their place."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from actorflow.plan.rounds import UNSET, Rounds
from actorflow.plan.spec import forms
from actorflow.plan.spec.faults import Faults, Path
from actorflow.plan.spec.references import References, is_reference
from actorflow.plan.stream import field_getter


class Values:
    """Finds functions and makes values for the step at `at`. Everything raises ValueError, empty, where it said why."""

    def __init__(self, references: References, faults: Faults, at: Path) -> None:
        self.at = at
        self._references = references
        self._faults = faults

    def wrong(self, place: Path, message: str) -> NoReturn:
        """Say what is wrong at a place in the present step, and leave it. Raises: ValueError without a message."""
        self._faults.add((*self.at, *place), message)
        raise ValueError

    def function(self, given: str | forms.FunctionForm | None, *place: str) -> Any:
        """Return a function that is written in the present step."""
        if given is None:
            return None
        if isinstance(given, forms.FunctionForm) and given.field is not None and given.function is None:
            return field_getter(given.field)
        function = self.referred(given, place)
        return function if callable(function) else self.wrong(place, f"{function!r} is no function")

    def referred(
        self, given: str | forms.FunctionForm | forms.ValueForm, place: Path, more: dict[str, Any] | None = None
    ) -> Any:
        """Return what a reference names, with the options of its language."""
        reference, options = (given, {}) if isinstance(given, str) else (given.function, dict(given.options))
        if reference is None or (isinstance(given, forms.FunctionForm) and given.field is not None):
            return self.wrong(place, "write function: with a reference, or field:, one of the two")
        if not is_reference(reference):
            return self.wrong(
                place, f"{reference!r} names no function: write python:module:name, or file#export of a language"
            )
        try:
            return self._references.find(reference, {**options, **(more or {})})
        except ValueError as error:
            return self.wrong(place, str(error))

    def key(self, given: str | forms.FunctionForm | None, place: str) -> Any:
        """Return a key: the name of a field, or a function."""
        return given if isinstance(given, str) and not is_reference(given) else self.function(given, place)

    def value(self, given: Any, *place: str) -> Any:
        """Return a value, or the function that makes one."""
        if given is msgspec.UNSET:
            return UNSET
        if isinstance(given, forms.ValueForm):
            if (given.value is msgspec.UNSET) == (given.function is None):
                return self.wrong(place, "write value: or function:, one of the two")
            return self.referred(given, place) if given.function is not None else given.value
        return self.function(given, *place) if isinstance(given, str) and is_reference(given) else given

    def rounds(self, form: forms.RoundsForm | None) -> Rounds | None:
        if form is None:
            return None
        most = form.rounds_max
        return Rounds(
            until=self.function(form.until, "rounds", "until"),
            rounds_max=most if most is None or isinstance(most, int) else self.function(most, "rounds", "rounds_max"),
            fold=self.function(form.fold, "rounds", "fold"),
            initial=self.value(form.initial, "rounds", "initial"),
            state=self.value(form.state, "rounds", "state"),
            update=self.function(form.update, "rounds", "update"),
            vote=self.function(form.vote, "rounds", "vote"),
        )
