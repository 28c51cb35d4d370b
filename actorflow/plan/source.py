"""What the source of an operator's methods shows: what they assign, write and call. Where there is none, nothing."""

from __future__ import annotations

import ast
import gc
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow.plan.operator import Operator

SETUP = frozenset({"__init__", "start", "stop"})
"""Methods that do not run for an item: they may set attributes."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a method does to an attribute of its operator.

    verb: "assign" for `self.name = …`, "write" for `self.name[…] = …`, or the method that is called on it.
    argument: the first argument of a call of `self.name(…)` itself: a string, or what a name stands for.
    """

    method: str
    name: str
    verb: str
    argument: Any = None
    line: int = 0


def shows_source(operator: type[Operator]) -> bool:
    """Return whether the source of a class can be read."""
    try:
        inspect.getsource(operator)
    except (OSError, TypeError):
        return False
    return True


def deeds_of(operator: type[Operator]) -> Iterator[Deed]:
    """Yield what the methods of a class, and of its bases below `Operator`, do to their own attributes."""
    for kind in operator.__mro__:
        if kind is Operator or not issubclass(kind, Operator):
            continue
        for method, value in vars(kind).items():
            function = value.fget if isinstance(value, property) else inspect.unwrap(value) if callable(value) else None
            if isinstance(function, types.FunctionType) and function.__code__.co_argcount:
                yield from _deeds(method, function)


def _deeds(method: str, function: types.FunctionType) -> Iterator[Deed]:
    try:
        tree = _parsed(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    itself = function.__code__.co_varnames[0]
    first = function.__code__.co_firstlineno
    for node in ast.walk(tree):
        line = first + getattr(node, "lineno", 1) - 1
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            inside = isinstance(node, ast.Subscript)
            target: ast.expr = node.value if isinstance(node, ast.Subscript) else node
            if (name := _attribute(target, itself)) is not None:
                yield Deed(method, name, "write" if inside else "assign", None, line)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if (name := _attribute(node.func, itself)) is not None:
                yield Deed(method, name, "call", _value(node.args[0], function) if node.args else None, line)
            else:
                owner: ast.expr = node.func.value
                while isinstance(owner, ast.Subscript):
                    owner = owner.value
                if (name := _attribute(owner, itself)) is not None:
                    yield Deed(method, name, node.func.attr, None, line)


def _parsed(source: str) -> ast.Module:
    """Parse; once more without the collector where it came in between, which CPython 3.11 cannot bear (gh-106905)."""
    try:
        return ast.parse(source)
    except SystemError:
        collects = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(source)
        finally:
            if collects:
                gc.enable()


def _attribute(node: ast.expr, itself: str) -> str | None:
    """Return the name of an attribute of the operator itself."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == itself:
        return node.attr
    return None


def _value(node: ast.expr, function: types.FunctionType) -> Any:
    """Return what an argument is, where that can be told without running anything."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        if node.id in function.__code__.co_freevars and function.__closure__ is not None:
            cell = function.__closure__[function.__code__.co_freevars.index(node.id)]
            try:
                return cell.cell_contents
            except ValueError:
                return None
        return function.__globals__.get(node.id)
    return None
