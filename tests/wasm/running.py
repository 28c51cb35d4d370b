"""Functions from text, their modules in an engine, and the same functions in Python with ints of 64 bits."""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from actorflow.wasm.compiler import Compiled, compile_function
from actorflow.wasm.compiler.traps import TRAP_GLOBAL, trap_of

Outcome = tuple[str, Any]
"""("value", the value's type and bits) or ("raises", the exception's class and line)."""

_numbers = itertools.count()


class wasm:
    """What a decorated function is: something that is called, with the function in `__wrapped__`."""

    def __init__(self, function: FunctionType) -> None:
        self.__wrapped__ = function
        self.__name__ = function.__name__

    def __call__(self, *values: Any) -> Any:
        return self.__wrapped__(*values)


def define(text: str, /, **names: Any) -> dict[str, Any]:
    """Run a module that is written down here; its source can be read as that of any file."""
    file = f"made_{next(_numbers)}.py"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": "made", "wasm": wasm, "math": math, **names}
    exec(compile(text, file, "exec", dont_inherit=True), space)
    return space


@functools.cache
def wasmtime() -> Any:
    """Return the engine's package; a test that runs modules is skipped where there is none, and says so."""
    return pytest.importorskip("wasmtime", reason="no engine for WebAssembly is installed (pip install wasmtime)")


@functools.cache
def engine() -> Any:
    return wasmtime().Engine()


@dataclass
class Running:
    """A compiled function in an engine."""

    compiled: Compiled

    def __post_init__(self) -> None:
        self.store = wasmtime().Store(engine())
        self.instance = wasmtime().Instance(self.store, wasmtime().Module(engine(), self.compiled.module), [])
        self.exports = self.instance.exports(self.store)

    def raw(self, *values: Any) -> Any:
        """Call with Python's values; a trap is what the engine makes of it."""
        given: list[Any] = []
        at = 0
        for value, kind in zip(values, self.compiled.params, strict=True):
            if kind is bytes:
                self.exports["memory"].write(self.store, value, at)
                given += [at, len(value)]
                at += len(value)
            else:
                given.append(int(value) if kind is bool else value)
        return self.compiled.result(self.exports[self.compiled.export](self.store, *given))

    def outcome(self, *values: Any) -> Outcome:
        """Return what a call gives, or the trap by its name."""
        try:
            return value_of(self.raw(*values))
        except (wasmtime().Trap, wasmtime().WasmtimeError) as error:
            trap = trap_of(self.exports[TRAP_GLOBAL].value(self.store))
            if trap is None:
                raise AssertionError("the engine stopped the function, and not a trap of ours") from error
            return "raises", trap


def run(function: Callable[..., Any], *values: Any) -> Outcome:
    """Compile a function and call it once."""
    return Running(compile_function(getattr(function, "__wrapped__", function))).outcome(*values)


def value_of(value: Any) -> Outcome:
    if type(value) is float:
        return "value", (float, "nan" if math.isnan(value) else struct.pack("<d", value))
    return "value", (type(value), value)


# -- Python with ints of 64 bits


def fits(value: Any) -> Any:
    """Return what an operation gave, unless it is an int that has more than 64 bits."""
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        raise OverflowError("int result does not fit 64 bits")
    return value


def shifted(value: int, by: int) -> int:
    if by < 0:
        raise ValueError("negative shift count")
    if value and by > 63:
        raise OverflowError("int result does not fit 64 bits")
    return value << by if value else 0


def power(base: int, exponent: int) -> int:
    if exponent < 0:
        raise ValueError("negative exponent") if base else ZeroDivisionError("0 to a negative power")
    if abs(base) > 1 and exponent > 63:
        raise OverflowError("int result does not fit 64 bits")
    return base ** (exponent if abs(base) > 1 else exponent % 2 if exponent and base else min(exponent, 1))


class _Checked(ast.NodeTransformer):
    """Has every operation that may leave 64 bits looked at."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        special = {ast.LShift: "shifted", ast.Pow: "power"}.get(type(node.op))
        if special:
            return ast.copy_location(_call("fits", _call(special, node.left, node.right)), node)
        return ast.copy_location(_call("fits", node), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return ast.copy_location(_call("fits", node), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            return node
        return ast.copy_location(_call("fits", node), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        assert isinstance(node.target, ast.Name)
        value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        made = ast.Assign([node.target], self.visit_BinOp(ast.copy_location(value, node)))
        return ast.copy_location(made, node)


def _call(name: str, *values: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(values), [])


def checked(text: str, /, **names: Any) -> dict[str, Any]:
    """Run a module as Python, with ints that raise OverflowError where they have more than 64 bits."""
    tree = ast.fix_missing_locations(_Checked().visit(ast.parse(text)))
    space: dict[str, Any] = {"__name__": "checked", "wasm": lambda function: function, "math": math, **names}
    space |= {"fits": fits, "shifted": shifted, "power": power}
    exec(compile(tree, "<checked>", "exec", dont_inherit=True), space)
    return space


def python_outcome(function: Callable[..., Any], *values: Any) -> Outcome:
    """Return what a function of `checked` gives, or what it raises on which line."""
    try:
        return value_of(function(*values))
    except (ArithmeticError, ValueError, IndexError) as error:
        line = 0
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<checked>":
                line = trace.tb_lineno
            trace = trace.tb_next
        return "raises", (type(error), line)


def compared(text: str, name: str, *inputs: tuple[Any, ...]) -> None:
    """Assert that a function of a module does the same in an engine and in Python, for each of the inputs."""
    running = Running(compile_function(define(text)[name].__wrapped__))
    function = checked(text)[name]
    for values in inputs:
        expected, found = python_outcome(function, *values), running.outcome(*values)
        assert found == expected, f"{name}{values!r}: {found}, and Python says {expected}, in\n{text}"
