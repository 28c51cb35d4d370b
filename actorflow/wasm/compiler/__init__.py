"""From a subset of typed Python to WebAssembly: a function in, a module out. It needs no engine."""

from __future__ import annotations

from actorflow.wasm.compiler.compiling import Compiled, compile_function

__all__ = ["Compiled", "compile_function"]
