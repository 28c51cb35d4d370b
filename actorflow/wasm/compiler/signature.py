"""What the first line of a function says: parameters and result with their types, and which names are functions."""

from __future__ import annotations

import ast
import functools
from types import BuiltinFunctionType, FunctionType
from typing import Any

from actorflow.errors import summary
from actorflow.wasm.compiler.source import MISSING, Source
from actorflow.wasm.compiler.tree import Signature

PARAMETERS = (int, float, bool, bytes)
RESULTS = (int, float, bool)
DECORATOR = "wasm"


def signature_of(source: Source) -> Signature:
    """Return the types that a function declares. Raises: CompileError, for what is no plain typed parameter."""
    tree, line = source.tree, source.tree.lineno
    _check_decorators(source)
    if getattr(tree, "type_params", ()):
        raise source.refusal(line, "a function with type parameters is outside the subset that compiles to WASM")
    arguments = tree.args
    for given, sign in ((arguments.vararg, "*"), (arguments.kwarg, "**")):
        if given is not None:
            raise source.refusal(given.lineno, f"'{sign}{given.arg}' is outside the subset", "plain parameters only")
    if arguments.kwonlyargs:
        raise source.refusal(
            line,
            f"the keyword-only parameter '{arguments.kwonlyargs[0].arg}' is outside the subset",
            "plain parameters only",
        )
    if arguments.defaults:
        raise source.refusal(
            arguments.defaults[0].lineno,
            "a default argument is outside the subset",
            "plain parameters only, and every caller gives all of them",
        )
    params = {}
    for parameter in (*arguments.posonlyargs, *arguments.args):
        if parameter.annotation is None:
            raise source.refusal(
                parameter.lineno, f"the parameter '{parameter.arg}' has no annotation", _of(PARAMETERS)
            )
        params[parameter.arg] = type_named(source, parameter.annotation, PARAMETERS, f"the parameter '{parameter.arg}'")
    if tree.returns is None:
        raise source.refusal(line, f"the result of '{tree.name}' has no annotation", _of(RESULTS))
    return Signature(params, type_named(source, tree.returns, RESULTS, "the result"))


def type_named(source: Source, annotation: ast.expr, allowed: tuple[type, ...], what: str) -> type:
    """Return the type that an annotation names, as text too. Raises: CompileError, for any other."""
    named: Any = annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            named = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            named = annotation
    found = source.meaning(named.id) if isinstance(named, ast.Name) else MISSING
    if isinstance(found, type) and found in allowed:
        return found
    raise source.refusal(annotation.lineno, f"{what} is annotated with '{ast.unparse(annotation)}'", _of(allowed))


def _of(allowed: tuple[type, ...]) -> str:
    return "annotate it with " + " or ".join((", ".join(kind.__name__ for kind in allowed[:-1]), allowed[-1].__name__))


def _check_decorators(source: Source) -> None:
    """Let pass the one decorator that compiles; any other may make something else of the function."""
    for number, decorator in enumerate(source.tree.decorator_list):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        path = ast.unparse(called)
        first = path.partition(".")[0]
        module = getattr(source.meaning(first), "__module__", None) if first.isidentifier() else None
        ours = DECORATOR in path.split(".") or str(module).startswith("actorflow.wasm")
        if not ours or number:
            raise source.refusal(decorator.lineno, f"the decorator '@{path}' is outside the subset", "@wasm alone")


def called_function(source: Source, name: str, line: int) -> FunctionType:
    """Return the plain function behind a name that is called. Raises: CompileError, where there is none.

    A function that wraps another (`functools.wraps`) has `__wrapped__` too, and does something of its own before or
    after: it is not taken for what it wraps, unless it says by `__in_stream__` that it is a compiled one.
    """
    found = source.function if source.names_itself(name) else source.meaning(name)
    if found is source.function:
        return source.function
    plain = getattr(found, "__wrapped__", None) if found is not MISSING else None
    wrapper = isinstance(found, (FunctionType, BuiltinFunctionType, functools._lru_cache_wrapper, type))
    if isinstance(plain, FunctionType) and (not wrapper or hasattr(found, "__in_stream__")):
        return plain
    if found is MISSING:
        raise source.refusal(line, f"the name '{name}' is not known here", "define it before the function that uses it")
    if isinstance(found, FunctionType):
        raise source.refusal(line, f"'{name}' is a plain function of Python", "calls of functions that are @wasm, too")
    raise source.refusal(
        line,
        f"a call of '{name}', which is {summary(found)}, is outside the subset",
        "calls of other @wasm functions, abs, min, max, len, int, float, bool, round and some of math",
    )
