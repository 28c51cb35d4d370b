"""A version of an app, built: its plan, and the functions in it that can be swapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow.deploy.registry import DeployLimits, Version
from actorflow.errors import DeployError
from actorflow.plan.app import AppPlan
from actorflow.plan.check import check
from actorflow.plan.foreign import Foreign, check_scheme
from actorflow.plan.spec.building import app_from_text
from actorflow.plan.spec.reading import read

if TYPE_CHECKING:
    from actorflow.wasm.function import WasmFunction


@dataclass(frozen=True, slots=True)
class Built:
    """A version of an app. data: the specification as plain values.   functions: in WASM, in the order of the spec."""

    app: AppPlan
    data: Any
    functions: list[WasmFunction]

    def differs_in_modules_only(self, other: Built) -> bool:
        """Return whether another version is the same but for the contents of modules."""
        return bool(self.data == other.data and len(self.functions) == len(other.functions))

    def swap(self, other: Built) -> None:
        """Let the functions of this version be those of another from the next batch on: all, or none.

        Raises: ModuleError where one is called otherwise than before; nothing has changed then.
        """
        pairs = list(zip(self.functions, other.functions, strict=True))
        for mine, new in pairs:
            mine.check_swap(new.program)
        for mine, new in pairs:
            mine.swap(new.program)


def build(
    name: str, version: Version, module: Callable[[str], bytes], *, python: bool, file: str, limits: DeployLimits
) -> Built:
    """Return a version of an app, checked and ready to run.

    module: returns one by its digest.   file: how errors call the specification.

    Raises: SpecError; TopologyError; ModuleError; DeployError.
    """
    made: list[WasmFunction] = []

    def functions(reference: str, options: Mapping[str, Any], folder: Path) -> Foreign:
        check_scheme(reference)
        from actorflow.wasm.declare import function_of

        named = reference.removeprefix("wasm:").partition("#")[0]
        digest = version.modules.get(named)
        if digest is None:
            known = ", ".join(version.modules) or "none"
            raise ValueError(f"module {named} was not sent along (modules: {known})")
        function = function_of(reference, options, module(digest))
        for option in ("memory_bytes", "table_elements", "slice_s", "batch_s"):
            _check_most(option, getattr(function.sandbox, option), limits)
        _check_most("threads", function.threads, limits)
        made.append(function)
        return function

    data, _ = read(version.spec, version.form, file=file)
    said = data.get("app") if isinstance(data, dict) else None
    if isinstance(said, str) and said != name:
        raise DeployError(f"the specification is that of app {said[:64]!r}, and is to be deployed as {name!r}")
    app = app_from_text(version.spec, version.form, make=AppPlan, file=file, python=python, functions=functions)
    _check_size(app, limits)
    check(app)
    return Built(app, _plain(data), made)


def _check_size(app: AppPlan, limits: DeployLimits) -> None:
    """Refuse what is larger than a host lets anybody deploy. Raises: DeployError."""
    steps = [step for topology in app.streams.values() for step in topology.steps]
    try:
        for what in ("streams", "cells", "schedules"):
            _check_most(what, len(getattr(app, what)), limits)
        _check_most("steps", len(steps), limits)
        _check_most("replicas", max((getattr(step, "replicas", 1) for step in steps), default=0), limits)
        spaces = [getattr(each, "space", None) for each in (*app.cells.values(), *steps)]
        _check_most("shards", max((space.shards for space in spaces if space is not None), default=0), limits)
    except ValueError as error:
        raise DeployError(f"app {app.name}: {error}") from None


def _check_most(what: str, value: float, limits: DeployLimits) -> None:
    """Raises: ValueError."""
    most = getattr(limits, what)
    if value > most:
        raise ValueError(f"{what}: {value:,} is more than this host lets be deployed, {most:,}")


def _plain(data: Any) -> Any:
    """Return data that compares by what it says."""
    return msgspec.to_builtins(data)
