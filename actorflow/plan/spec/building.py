"""An app from data: its cells, its streams, its schedules; every fault with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path as File
from typing import Any, TypeVar

import msgspec

from actorflow.errors import SpecError
from actorflow.limits import Limits
from actorflow.plan.app import AppPlan
from actorflow.plan.spec import forms
from actorflow.plan.spec.chain import Chain
from actorflow.plan.spec.faults import Faults, Path, meant
from actorflow.plan.spec.filling import fill
from actorflow.plan.spec.reading import Form, form_of, read
from actorflow.plan.spec.references import Functions, References, is_reference
from actorflow.plan.spec.types import type_of
from actorflow.plan.topology import Then

AppT = TypeVar("AppT", bound=AppPlan)


def app_from_file(
    path: File | str,
    *,
    make: Callable[..., AppT],
    python: bool = False,
    functions: Functions | None = None,
) -> AppT:
    """Return the app that a file in YAML, JSON or TOML says. Parameters as of `app_from_text`.

    Raises: SpecError.
    """
    file = File(path)
    form = form_of(file.name)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror or error}") from None
    return app_from_text(
        text, form, make=make, file=str(path), folder=file.parent, python=python, functions=functions
    )  # fmt: skip


def app_from_text(
    text: str | bytes,
    form: Form,
    *,
    make: Callable[..., AppT],
    file: str = "",
    folder: File | None = None,
    python: bool = False,
    functions: Functions | None = None,
) -> AppT:
    """Return the app that a document says.

    make: the class of the app.   file: its name in messages.   folder: from which names of files are meant.
    python: whether it may name Python, which is any code.   functions: finds the functions of other languages.

    Raises: SpecError with every fault.
    """
    data, lines = read(text, form, file=file)
    faults = Faults(file, lines)
    references = References(python=python, functions=functions, folder=File(".") if folder is None else folder)
    return app_from_data(data, make=make, references=references, faults=faults)


def app_from_data(
    data: Any, *, make: Callable[..., AppT], references: References, faults: Faults | None = None
) -> AppT:
    """Return the app that plain values say. Raises: SpecError with every fault."""
    faults = Faults() if faults is None else faults
    form = fill(forms.AppForm, data, (), faults, besides=("$schema",))
    given = form or forms.AppForm(app="app")
    if form is None and isinstance(data, dict):  # what is wrong at the top does not hide what is wrong below
        for part in ("cells", "streams", "schedules"):
            setattr(given, part, each if isinstance(each := data.get(part), dict) else {})
    try:
        app = make(given.app, limits=given.limits or Limits())
    except ValueError as error:
        faults.add(("app",), str(error))
        app = make("app")
    building = _Building(app, references, faults)
    for name, each in given.cells.items():
        building.cell(name, each, ("cells", name))
    for name, each in given.streams.items():
        building.stream(name, each, ("streams", name))
    for name, each in given.schedules.items():
        building.schedule(name, each, ("schedules", name), given.streams)
    faults.raise_any()
    for topology in app.streams.values():
        for step in topology.steps:
            if isinstance(step, Then):
                with faults.at(("streams", topology.stream)):
                    app.adopt(step.operator)
    faults.raise_any()
    return app


class _Building:
    """An app while it is built."""

    def __init__(self, app: AppPlan, references: References, faults: Faults) -> None:
        self.app = app
        self.references = references
        self.faults = faults

    def cell(self, name: str, data: Any, path: Path) -> None:
        """Declare a cell."""
        form = fill(forms.CellForm, data, path, self.faults)
        if form is None:
            return
        given = {each: value for each in form.__struct_fields__ if (value := getattr(form, each)) != _DEFAULTS[each]}
        kind = given.pop("kind")
        for each in ("value", "key_type"):
            if each in given:
                given[each] = self.type(given[each], (*path, each))
        if "migrate" in given:
            given["migrate"] = self.function(given["migrate"], (*path, "migrate"))
        unfit = set(given) - _OPTIONS.get(kind, _MERGED) - ({"grow_only"} if kind == "set" else set())
        if kind not in {"table", "value"} and "key" not in given:
            unfit |= set(given) & {"shards", "key_type"}
        for each in sorted(unfit):
            why = "without key:, it has one entry" if each in _MERGED else f"it is no option of a {kind}"
            self.faults.add((*path, each), f"{each} cannot be given here: {why}")
        if kind == "table" and "key" not in given:
            self.faults.add(path, "key: is missing: a table has a key space")
        elif not unfit:
            values = (given.pop("value"),) if "value" in given and kind != "table" else ()
            with self.faults.at(path):
                getattr(self.app, kind)(name, *values, **given)

    def stream(self, name: str, data: Any, path: Path) -> None:
        """Declare a stream and its steps."""
        form = fill(forms.StreamForm, data, path, self.faults)
        steps = form.steps if form is not None else data.get("steps") if isinstance(data, dict) else None
        form = form or forms.StreamForm()
        kinds = [self.type(getattr(form, each), (*path, each)) for each in ("request", "reply")]
        try:
            entry = self.app.stream(
                name, *kinds, replies=form.replies, early=form.early, timeout_s=form.timeout_s,
                in_flight=form.in_flight, on_error=form.on_error, restart=form.restart,
            )  # fmt: skip
        except ValueError as error:
            self.faults.add(path, str(error))
            return
        chain = Chain(
            entry, cells=dict(self.app.cells), references=self.references, faults=self.faults, path=(*path, "steps")
        )
        chain.read(steps if isinstance(steps, list) else [])

    def schedule(self, name: str, data: Any, path: Path, streams: Mapping[str, Any]) -> None:
        """Declare a schedule."""
        form = fill(forms.ScheduleForm, data, path, self.faults)
        if form is None:
            return
        if form.stream not in streams:
            self.faults.add((*path, "stream"), f"there is no stream {form.stream!r}{meant(form.stream, streams)}")
        with self.faults.at(path):
            self.app.schedule(name, form.stream, form.item, every_s=form.every_s, cron=form.cron)

    def type(self, data: Any, path: Path) -> Any:
        """Return a type; Any where it is wrong."""
        try:
            return type_of(data, self.references.find)
        except ValueError as error:
            self.faults.add(path, str(error))
            return Any

    def function(self, given: Any, path: Path) -> Any:
        """Return a function; None where it is wrong."""
        reference, options = (given, {}) if isinstance(given, str) else (given.function, given.options)
        try:
            if reference is None or not is_reference(reference):
                raise ValueError(f"{reference!r} names no function: write python:module:name")
            found = self.references.find(reference, options)
            if not callable(found):
                raise ValueError(f"{reference} is no function")
        except ValueError as error:
            self.faults.add(path, str(error))
            return None
        return found


_DEFAULTS = {each.name: each.default for each in msgspec.structs.fields(forms.CellForm)}
_OPTIONS: dict[str, set[str]] = {
    "table": {"key", "value", "key_type", "shards", "ttl_s", "entries_max", "version", "migrate"},
    "value": {"value", "version", "migrate"},
    "counter": {"key", "key_type", "shards", "ttl_s", "entries_max", "version", "migrate"},
}
_MERGED = _OPTIONS["table"]
"""Options of every other kind."""
