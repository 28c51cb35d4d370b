"""`App`: where a program begins."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actorflow.local import Local
from actorflow.plan.app import AppPlan
from actorflow.plan.foreign import Foreign, check_scheme
from actorflow.stores.store import Store

if TYPE_CHECKING:
    from actorflow.plan.spec import Functions


class App(AppPlan):
    """A named set of streams, to be run in this process (`local`) or by `actorflow run MODULE:APP`."""

    def local(
        self,
        *,
        strict: bool = False,
        inline: bool = True,
        shuffle: bool = False,
        watch: bool = True,
        chance: random.Random | None = None,
        store: str | Store | None = None,
    ) -> Local:
        """Run the app on this event loop: `async with app.local() as client`.

        strict: send every item through the codec between operators, so that a program which relies on shared objects
        fails here and not on its first second host.   inline, shuffle, chance: for simulations (see
        `actorflow.testing`).   watch: report handlers that hold the event loop.   store: where state and requests are
        kept, such as "sqlite:///shop.db" (None: in memory, a restart forgets).

        Raises: TopologyError, on entering, with every fault of the graph; StoreError; ReplicaFailedError.
        """
        return Local(self, strict=strict, inline=inline, shuffle=shuffle, watch=watch, chance=chance, store=store)


def load_spec(path: str | Path, *, python: bool = False, functions: Functions | None = None) -> App:
    """Return the app that a file says: .yaml, .yml, .json or .toml.

    python: whether the file may name Python (`python:module:name`), which imports modules and so runs any code: for
    files that you trust as you trust programs.   functions: finds the functions of other languages that it names,
    `functions(reference, options, folder)`; by default those in WASM, in modules beside the file.

    Raises: SpecError with every fault, each with its line.
    """
    from actorflow.plan.spec import app_from_file  # late, since most programs read no YAML

    return app_from_file(path, make=App, python=python, functions=functions or _in_wasm)


def _in_wasm(reference: str, options: Mapping[str, Any], folder: Path) -> Foreign:
    """Return a function in WASM, of a module beside the file that names it. Raises: ModuleError; ValueError."""
    check_scheme(reference)
    from actorflow.wasm.declare import function_in

    return function_in(reference, options, folder)


def save_spec(app: AppPlan, path: str | Path) -> None:
    """Write an app to a file: .yaml, .yml, .json or .toml. Read again it is the same app.

    Raises: SpecError with a line for everything that has no name by which it could be found, such as a lambda; OSError.
    """
    from actorflow.plan.spec import data_of_app, form_of, printed

    file = Path(path)
    file.write_text(printed(data_of_app(app), form_of(file.name)), encoding="utf-8")
