"""WASM functions wherever a Python function or an operator may stand: `pip install 'actorflow[wasm]'`.

from actorflow.wasm import wasm

words = app.stream("words", str).flat_map(wasm("tokens.wasm", "tokenise")).count()
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("wasmtime") is None:
    raise ImportError("functions in WASM need wasmtime, which is not here: pip install 'actorflow[wasm]'")

from actorflow.wasm.declare import named, wasm
from actorflow.wasm.function import WasmFunction

__all__ = ["WasmFunction", "named", "wasm"]
