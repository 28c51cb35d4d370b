"""Functions and classes by their references: `python:module:name`, and those of other languages."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from actorflow.errors import ActorflowError
from actorflow.plan.foreign import Foreign
from actorflow.plan.spec.faults import meant

PYTHON: Final = "python"
REFERENCE: Final = re.compile(r"([a-z][a-z0-9_+.-]*):(\S+)")
"""What names a function: a scheme, a colon, and something without space. All other text is a field's name, or text."""

_PYTHON_NAME: Final = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")


class Functions(Protocol):
    """What finds the functions of other languages that a spec names."""

    def __call__(self, reference: str, options: Mapping[str, Any], folder: Path) -> Foreign:
        """Return a function.

        reference: `scheme:file#export`, as it is written.   options: plain values by name; under "cells", where an
        operator declares some, an `Access` by the name under which its code finds it.   folder: where the spec is,
        from which names of files are meant.

        Raises: ValueError, LookupError, OSError or an ActorflowError that says what is wrong: it becomes a fault at
        the place where the function is named.
        """


def is_reference(text: str) -> bool:
    """Return whether a text names a function."""
    return REFERENCE.fullmatch(text) is not None


def scheme_of(reference: str) -> str:
    """Return the language that a reference is of."""
    return reference.partition(":")[0]


class References:
    """Finds what a spec names, as far as it is allowed to."""

    def __init__(self, *, python: bool, functions: Functions | None, folder: Path) -> None:
        self._python = python
        self._functions = functions
        self._folder = folder

    def find(self, reference: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return what a reference names. Raises: ValueError, which says why there is nothing to return."""
        scheme = scheme_of(reference)
        if scheme == PYTHON:
            if not self._python:
                raise ValueError(
                    f"{reference} names Python, which a spec may not by default, since it can be any code: for specs "
                    "that you trust load_spec(…, python=True) allows it, and `actorflow host --allow-python`"
                )
            if options:
                raise ValueError(f"{reference} is Python, which takes no options")
            return python_named(reference)
        if self._functions is None:
            raise ValueError(f"{reference}: nothing here reads {scheme}: functions; load_spec(…, functions=…) gives it")
        try:
            found: Any = self._functions(reference, options or {}, self._folder)
        except (ValueError, TypeError, LookupError, OSError, ActorflowError) as error:
            said = error.args[0] if isinstance(error, KeyError) and error.args else error
            raise ValueError(f"{reference}: {said or type(error).__name__}") from error
        if not isinstance(found, Foreign):
            raise ValueError(f"{reference} is {found!r}, and no function")
        return found


def python_named(reference: str) -> Any:
    """Return what `python:module:name` names; imports the module. Raises: ValueError."""
    name = _PYTHON_NAME.fullmatch(reference.removeprefix(f"{PYTHON}:"))
    if name is None:
        raise ValueError(f"{reference} is no reference: write python:module:name, for example python:shop:Reserve")
    module_name, path = name.groups()
    found: Any = _module(module_name, reference)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            owner = found.__name__ if isinstance(found, (ModuleType, type)) else repr(found)
            known = [each for each in dir(found) if not each.startswith("__")]
            raise ValueError(f"{reference}: there is no {part!r} in {owner}{meant(part, known)}") from None
    return found


def _module(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not name.startswith(error.name):
            raise ValueError(f"{reference}: {name} imports {error.name!r}, which is not installed") from None
        raise ValueError(f"{reference}: there is no module {name!r} here or installed") from None
    except Exception as error:  # a module is any code
        raise ValueError(f"{reference}: importing {name} raised {type(error).__name__}: {error}") from error


# -- the other way


def reference_of(thing: Any) -> str | None:
    """Return the reference that names a function or a class of Python, or None: a closure has none."""
    path = getattr(thing, "__qualname__", None)
    if not isinstance(path, str) or "<" in path:
        return None
    for module in _modules_of(thing):
        found: Any = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, part, None)
        same = found is thing or (inspect.isbuiltin(thing) and found == thing)  # dict.fromkeys is made at each look
        reference = f"{PYTHON}:{module}:{path}"
        if same and _PYTHON_NAME.fullmatch(reference.removeprefix(f"{PYTHON}:")):
            return reference
    return None


def _modules_of(thing: Any) -> Iterator[str]:
    """Yield the names of the modules in which something may be found, the best first."""
    owner = getattr(thing, "__objclass__", None) or getattr(thing, "__self__", None)
    module = getattr(thing, "__module__", None) or getattr(owner, "__module__", None)
    if not isinstance(module, str):
        return
    if module == "__main__":  # `python -m shop`: others import it by its name
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is not None:
            yield spec.name
    if module.startswith("_") and module != "__main__":
        yield module.lstrip("_")  # operator.neg says that it is in _operator
    yield module


def place_of(function: Callable[..., Any]) -> str:
    """Return how one finds a function that has no reference: what it is, and where it was written."""
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(inspect.unwrap(function), "__code__", None)
    where = f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code is not None else ""
    return f"{name}{where}"
