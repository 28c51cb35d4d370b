"""The source of a function, and what the names in it stand for when it is compiled.

What is compiled is what runs: the source that is found is compiled by Python too, and must be the code that the
function has. A file that was edited after its import, or a function that is not that of its source, is refused.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from actorflow.errors import CompileError, summary

ALLOWED = "assignments, if, while, for over range, return, calls of other @wasm functions"
MISSING: Any = object()
"""What a name stands for that stands for nothing."""


@dataclass(frozen=True, slots=True)
class Source:
    """A function and its tree, with the lines of its file."""

    function: FunctionType
    tree: ast.FunctionDef
    file: str

    def refusal(self, line: int, reason: str, allowed: str = ALLOWED) -> CompileError:
        """Return the error that says what is not compiled, on which line."""
        where = f"{os.path.basename(self.file)}, line {line}"
        return CompileError(f"{where}: {reason} ({allowed})", file=self.file, line=line)

    def meaning(self, name: str) -> Any:
        """Return what a name that is no local stands for now: of the functions around, the module, or Python."""
        code = self.function.__code__
        private = name.startswith("__") and not name.endswith("__")  # in a class, Python reads another name
        if private and name not in (*code.co_names, *code.co_freevars):
            return MISSING
        if name in code.co_freevars:
            try:
                return (self.function.__closure__ or ())[code.co_freevars.index(name)].cell_contents
            except ValueError:  # not assigned yet
                return MISSING
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        return getattr(builtins, name, MISSING)

    def names_itself(self, name: str) -> bool:
        """Return whether a name will stand for this function, once its definition is done."""
        code = self.function.__code__
        if name != code.co_name:
            return False
        within = code.co_qualname.rpartition(".")[0]
        if name in code.co_freevars:
            return within.endswith("<locals>")  # a method is not known by its name
        return not within


def source_of(function: Any) -> Source:
    """Return the source of a plain Python function. Raises: CompileError."""
    if not isinstance(function, FunctionType):
        raise CompileError(f"{summary(function)} is no Python function; what compiles is one that `def` has made")
    code = function.__code__
    try:
        lines, _ = inspect.findsource(function)
        text = "".join(lines)
        definitions, codes = _definitions(text)
    except (OSError, TypeError, SyntaxError, ValueError) as error:
        raise CompileError(
            f"{code.co_filename}, line {code.co_firstlineno}: the source of {function.__qualname__} cannot be read "
            f"({error}); a function is compiled from its source, so write it in a file",
            file=code.co_filename, line=code.co_firstlineno,
        ) from error  # fmt: skip
    place = code.co_firstlineno, code.co_name
    tree = definitions.get(place)
    if not isinstance(tree, ast.FunctionDef):
        what = "'async def'" if isinstance(tree, ast.AsyncFunctionDef) else "'lambda', or what no 'def' has made,"
        where = f"{os.path.basename(code.co_filename)}, line {code.co_firstlineno}"
        raise CompileError(
            f"{where}: {what} is outside the subset that compiles to WASM ({ALLOWED})",
            file=code.co_filename, line=code.co_firstlineno,
        )  # fmt: skip
    source = Source(function, tree, code.co_filename)
    if not any(_same(each, code) for each in codes.get(place, ())):
        raise source.refusal(
            code.co_firstlineno,
            f"the source of '{code.co_name}' is not what runs",
            "the file was changed after it was imported, or the function by a program: start again",
        )
    return source


_Place = tuple[int, str]


@functools.lru_cache(maxsize=32)
def _definitions(
    text: str,
) -> tuple[dict[_Place, ast.FunctionDef | ast.AsyncFunctionDef], dict[_Place, list[CodeType]]]:
    """Return all functions of a file, as trees and as code, by first line and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were shown when the file was imported
        whole, compiled = ast.parse(text), compile(text, "<source>", "exec", dont_inherit=True)
    trees = {
        (min([node.lineno, *(each.lineno for each in node.decorator_list)]), node.name): node
        for node in ast.walk(whole)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    codes: dict[_Place, list[CodeType]] = {}
    for code in _codes(compiled):
        codes.setdefault((code.co_firstlineno, code.co_name), []).append(code)
    return trees, codes


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _same(one: CodeType, other: CodeType) -> bool:
    """Return whether two codes do the same; nested ones are not looked at, since what nests them is refused."""
    if (one.co_code, one.co_names, one.co_varnames) != (other.co_code, other.co_names, other.co_varnames):
        return False
    return [_known(each) for each in one.co_consts] == [_known(each) for each in other.co_consts]


def _known(constant: object) -> str:
    return "code" if isinstance(constant, CodeType) else f"{type(constant).__name__} {constant!r}"
