"""`wasm`: how a program names a WASM function."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actorflow.wasm.function import WasmFunction, program_at, program_of
from actorflow.wasm.operator import operator_of
from actorflow.wasm.program import Sandbox

WasmFunction.make_operator = staticmethod(operator_of)


def wasm(
    module: str | Path | bytes | bytearray,
    export: str = "process",
    *,
    cells: Mapping[str, Any] | None = None,
    threads: int = 0,
    unsigned: bool = False,
    **sandbox: Any,
) -> WasmFunction:
    """Return a function of a WASM module, to stand where a Python function or an operator may stand.

    module: a file (looked for beside the file that names it, then in the working folder), or its bytes.   cells: by
    the names under which the function asks for them, such as `{"stock": stock.owned()}`.   threads: batches that run
    beside the event loop at once, with order kept.   unsigned: i64 are numbers from 0 on.   sandbox: `memory_bytes`,
    `table_elements`, `slice_s`, `batch_s` and `grants`, as in `Sandbox`.

    Raises: ModuleError for what is no module, or has no such export; ValueError.
    """
    options: dict[str, Any] = {"cells": cells, "threads": threads, "unsigned": unsigned, "sandbox": Sandbox(**sandbox)}
    if isinstance(module, (bytes, bytearray)):
        program = program_of(bytes(module), where="a module of bytes")
        return WasmFunction(program, export, reference=f"wasm:sha256:{program.digest}#{export}", **options)
    path = Path(module)
    beside = Path(sys._getframe(1).f_globals.get("__file__") or ".").parent / path
    return WasmFunction(
        program_at(beside if beside.exists() else path), export, reference=f"wasm:{module}#{export}", **options
    )
