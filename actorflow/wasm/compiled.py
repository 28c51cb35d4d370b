"""A Python function that was compiled to WASM: called it is what it was, in a stream it is what it became."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from actorflow.wasm.compiler import Compiled, compile_function
from actorflow.wasm.function import WasmFunction, program_of

P = ParamSpec("P")
R = TypeVar("R")


class CompiledFunction(Generic[P, R]):
    """A plain Python function, and the module that it was compiled to.

    Calling it calls the Python function. In a stream the module stands in its place; `wasm` is that, to be called here
    and now. compiled: the module, as bytes, and how its function is called.
    """

    def __init__(self, function: Callable[P, R], **options: Any) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.compiled: Compiled = compile_function(function)
        self._options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    @functools.cached_property
    def wasm(self) -> WasmFunction:
        """Return the compiled function."""
        function = self.__wrapped__
        name = f"{function.__module__}:{function.__qualname__}"
        program = program_of(self.compiled.module, where=name)
        return _FromPython(program, self.compiled.export, reference=f"python:{name}", **self._options)

    def __in_stream__(self) -> WasmFunction:
        return self.wasm

    def __repr__(self) -> str:
        return f"<{self.__wrapped__.__qualname__}, compiled to WASM>"


class _FromPython(WasmFunction):
    """A function that is known by where it was written."""

    @property
    def options(self) -> Mapping[str, Any]:
        return {}  # they are written where it is
