"""A compiler from a subset of typed Python to WebAssembly: a function in, a module out.

The module needs nothing (it has no imports), and the same source makes the same bytes. What it exports:

- the function, by its name: an int is an i64, a float an f64, a bool an i32 (0 or 1), and bytes are two i32, where they
  begin in the memory and how many they are;
- `actorflow_trap`, a global that says why it stopped (see `traps`);
- where a parameter is of bytes, `memory` and `__heap_base`, the first byte in it that a host may write to.

Its custom section `actorflow.types` holds the Python types as JSON, since an i64 does not say that it is an int.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from actorflow.errors import CompileError
from actorflow.wasm.binary import FUNCTION_KIND, Module, assemble
from actorflow.wasm.compiler.body import DEPTH_INDEX, TRAP_INDEX
from actorflow.wasm.compiler.emit import KINDS, Numbers, params_of
from actorflow.wasm.compiler.routines import add_routine
from actorflow.wasm.compiler.source import source_of
from actorflow.wasm.compiler.statements import emit
from actorflow.wasm.compiler.subset import function_of
from actorflow.wasm.compiler.traps import TRAP_GLOBAL
from actorflow.wasm.compiler.tree import Function

TYPES_SECTION = "actorflow.types"
MEMORY, HEAP_BASE = "memory", "__heap_base"
EXPORTS = frozenset({TRAP_GLOBAL, MEMORY, HEAP_BASE})
FUNCTIONS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Compiled:
    """A module of WebAssembly, and the one function of it that a host calls."""

    module: bytes
    export: str
    params: tuple[type, ...]
    result: type


def compile_function(function: Any) -> Compiled:
    """Compile a plain Python function, and those that it calls, to a module.

    The module does what Python does, bit for bit, or stops with the exception that `actorflow_trap` names.

    Raises: CompileError, where the function has anything that is outside the subset; the message and the attributes
    `file` and `line` say what and where.
    """
    try:
        functions = _reached(function)
        module = _module_of(functions)
    except RecursionError:
        code = getattr(function, "__code__", None)
        file, line = getattr(code, "co_filename", None), getattr(code, "co_firstlineno", None)
        what = "what is written here is nested too deeply (give parts of an expression a name)"
        raise CompileError(f"{file}, line {line}: {what}", file=file, line=line) from None
    root = functions[function]
    return Compiled(module, root.name, tuple(root.signature.params.values()), root.signature.result)


def _reached(function: Any) -> dict[FunctionType, Function]:
    """Return all functions that may be called, in the order in which they are found."""
    first = source_of(function)
    if first.tree.name in EXPORTS:
        raise first.refusal(
            first.tree.lineno, f"'{first.tree.name}' is the name of what every module exports", "any other"
        )
    functions = {function: function_of(first)}
    ahead = list(functions[function].calls)
    for each in ahead:  # grows
        if each not in functions:
            source = source_of(each)
            if len(functions) >= FUNCTIONS_MAX:
                raise source.refusal(
                    source.tree.lineno, "too many functions are called", f"{FUNCTIONS_MAX} in one module"
                )
            functions[each] = function_of(source)
            ahead += functions[each].calls
    return functions


def _reach(functions: dict[FunctionType, Function], start: FunctionType) -> set[FunctionType]:
    """Return the functions that a function calls, and those that they call."""
    found: set[FunctionType] = set()
    ahead = [start]
    while ahead:
        for each in functions[ahead.pop()].calls:
            if each not in found:
                found.add(each)
                ahead.append(each)
    return found


def _module_of(functions: dict[FunctionType, Function]) -> bytes:
    """Return the module; the first function is the one that it exports."""
    module = Module()
    numbers = {each: number for number, each in enumerate(functions)}
    reach = {each: _reach(functions, each) for each in functions}
    entry = next(iter(functions))
    root = functions[entry]
    wrapped = entry in reach[entry]  # it begins anew only where the host calls it, not where it calls itself
    routines: dict[str, int] = {}
    with_depth = any(each in reach[each] for each in functions)

    def number_of_routine(name: str) -> int:
        return routines.setdefault(name, len(functions) + wrapped + len(routines))

    for each, tree in functions.items():
        back = frozenset(other for other in functions if each in reach[other])
        called = Numbers(numbers, number_of_routine, back)
        kinds, text = emit(tree, called, entry=each is entry and not wrapped)
        params = params_of(tree)
        module.add_function(params, KINDS[tree.signature.result], kinds[len(params) :], assemble(text))
    if wrapped:
        _add_wrapper(module, root)
    for name in _growing(routines):
        add_routine(module, name, number_of_routine)

    module.add_export(root.name, FUNCTION_KIND, len(functions) if wrapped else 0)
    module.add_global("i64", 0, mutable=True, export=TRAP_GLOBAL)
    if with_depth:
        module.add_global("i64", 0, mutable=True)
    if bytes in root.signature.params.values():
        module.add_memory(1, export=MEMORY)
        module.add_global("i32", 0, mutable=False, export=HEAP_BASE)
    module.customs.append((TYPES_SECTION, _types_of(root)))
    return module.encoded()


def _growing(routines: dict[str, int]) -> Iterator[str]:
    """Yield the routines that are needed, those too that are found to be while the first are added."""
    done = 0
    while done < len(routines):
        yield list(routines)[done]
        done += 1


def _add_wrapper(module: Module, root: Function) -> None:
    params = params_of(root)
    given = " ".join(f"local.get {number}" for number in range(len(params)))
    begin = f"i64.const 0 global.set {TRAP_INDEX} i64.const 0 global.set {DEPTH_INDEX}"
    module.add_function(params, KINDS[root.signature.result], [], assemble(f"{begin} {given} call 0"))


def _types_of(root: Function) -> bytes:
    params = [kind.__name__ for kind in root.signature.params.values()]
    return json.dumps({root.name: {"params": params, "result": root.signature.result.__name__}}).encode()
