"""`wasm`: how a program names a WASM function."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from actorflow.errors import ModuleError
from actorflow.wasm.compiled import CompiledFunction
from actorflow.wasm.function import WasmFunction, program_at, program_of
from actorflow.wasm.program import Sandbox

P = ParamSpec("P")
R = TypeVar("R")


OWN_OPTIONS = ("cells", "threads", "unsigned")
"""Options of a function, besides those of its sandbox."""


def check_options(sandbox: Mapping[str, Any]) -> None:
    """Refuse options that there are not. Raises: ValueError."""
    if unknown := sorted(sandbox.keys() - Sandbox.__dataclass_fields__.keys()):
        known = ", ".join((*OWN_OPTIONS, *Sandbox.__dataclass_fields__))
        raise ValueError(f"a WASM function has no option {', '.join(unknown)} (options: {known})")


def function_of(reference: str, options: Mapping[str, Any], code: bytes) -> WasmFunction:
    """Return a function of a module by its reference, `wasm:file#export`, as a specification names it.

    Raises: ModuleError; ValueError for options that there are not.
    """
    file, _, export = reference.removeprefix("wasm:").rpartition("#")
    if not file:
        file, export = export, "process"
    given = dict(options)
    own = {name: given.pop(name) for name in OWN_OPTIONS if name in given}
    check_options(given)
    if "grants" in given:
        given["grants"] = tuple(given["grants"])
    return WasmFunction(
        program_of(code, where=Path(file).name), export, reference=reference, sandbox=Sandbox(**given), **own
    )


def function_in(reference: str, options: Mapping[str, Any], folder: Path) -> WasmFunction:
    """Return a function of a module in a file, as a specification in the same folder names it.

    Raises: ModuleError; ValueError.
    """
    file = reference.removeprefix("wasm:").partition("#")[0]
    try:
        code = (folder / file).read_bytes()
    except OSError as error:
        raise ModuleError(f"{folder / file} cannot be read: {error.strerror}", module=reference) from None
    return function_of(reference, options, code)


def named(reference: str, options: Mapping[str, Any] | None = None) -> WasmFunction:
    """Return a function by its reference, `wasm:file#export`; the file is looked for as by `wasm`.

    Raises: ModuleError; ValueError.
    """
    folder = Path(sys._getframe(1).f_globals.get("__file__") or ".").parent
    file = reference.removeprefix("wasm:").partition("#")[0]
    return function_in(reference, options or {}, folder if (folder / file).exists() else Path())


@overload
def wasm(
    module: str | Path | bytes | bytearray,
    export: str = ...,
    *,
    cells: Mapping[str, Any] | None = ...,
    threads: int = ...,
    unsigned: bool = ...,
    **sandbox: Any,
) -> WasmFunction: ...
@overload
def wasm(module: Callable[P, R], /) -> CompiledFunction[P, R]: ...
@overload
def wasm(*, threads: int = ..., **sandbox: Any) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
def wasm(
    module: str | Path | bytes | bytearray | Callable[..., Any] | None = None,
    export: str = "process",
    *,
    cells: Mapping[str, Any] | None = None,
    threads: int = 0,
    unsigned: bool = False,
    **sandbox: Any,
) -> Any:
    """Return a function of a WASM module, to stand where a Python function or an operator may stand.

    As a decorator, `@wasm` or `@wasm(threads=2)`, it compiles a typed Python function (see `docs/compiled.md`), which
    is called as before and is WASM in a stream.

    module: a file (looked for beside the file that names it, then in the working folder), or its bytes.   cells: by
    the names under which the function asks for them, such as `{"stock": stock.owned()}`.   threads: batches that run
    beside the event loop at once, with order kept.   unsigned: i64 are numbers from 0 on.   sandbox: `memory_bytes`,
    `table_elements`, `slice_s`, `batch_s` and `grants`, as in `Sandbox`.

    Raises: ModuleError for what is no module, or has no such export; ValueError; CompileError.
    """
    check_options(sandbox)
    if module is None:
        return lambda function: CompiledFunction(function, threads=threads, sandbox=Sandbox(**sandbox))
    if not isinstance(module, (str, Path, bytes, bytearray)):
        return CompiledFunction(module)
    options: dict[str, Any] = {"cells": cells, "threads": threads, "unsigned": unsigned, "sandbox": Sandbox(**sandbox)}
    if isinstance(module, (bytes, bytearray)):
        program = program_of(bytes(module), where="a module of bytes")
        return WasmFunction(program, export, reference=f"wasm:sha256:{program.digest}#{export}", **options)
    path = Path(module)
    beside = Path(sys._getframe(1).f_globals.get("__file__") or ".").parent / path
    return WasmFunction(
        program_at(beside if beside.exists() else path), export, reference=f"wasm:{module}#{export}", **options
    )
