"""The types of doors and cells, as data: `int`, `list[str]`, `int | none`, `python:shop:Order`, `{sku: str}`.

A record in braces, or as a mapping, is a TypedDict: its values are plain dicts, checked where they come in. Two records
that are written alike are one class, so that apps with them are equal.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Final, NotRequired, TypedDict
from weakref import WeakValueDictionary

from actorflow.plan.spec.faults import kind_of, meant
from actorflow.plan.spec.references import PYTHON, python_named, reference_of

PLAIN: Final[dict[str, Any]] = {
    "any": Any, "none": None, "int": int, "str": str, "float": float, "bool": bool, "bytes": bytes,
    "list": list, "dict": dict, "tuple": tuple, "set": set, "frozenset": frozenset,
}  # fmt: skip
"""Types by their names; the last five take arguments in brackets."""

_ARGUMENTS: Final[dict[str, tuple[int, ...]]] = {"list": (1,), "set": (1,), "frozenset": (1,), "dict": (2,)}
_TOKEN: Final = re.compile(rf'\s*({PYTHON}:[\w.]+:[\w.]+|\.\.\.|"(?:[^"\\]|\\.)*"|\w[\w-]*|[\[\]{{}},|:?])')
_DEPTH_MAX: Final = 32

_records: Final[WeakValueDictionary[str, Any]] = WeakValueDictionary()


def type_of(data: Any, find: Callable[[str], Any]) -> Any:
    """Return the type that text, or a record as a mapping, stands for; `find` returns what a reference names.

    Raises: ValueError.
    """
    return _type_of(data, find, 0)


def door_type(data: Any) -> Any:
    """Return the type that data stands for, in a program that builds an app. Raises: ValueError."""
    return type_of(data, python_named)


def _type_of(data: Any, find: Callable[[str], Any], depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise ValueError(f"a type nests deeper than {_DEPTH_MAX} levels")
    if isinstance(data, str):
        return _Parser(data, find).whole()
    if isinstance(data, dict):
        fields = {}
        for name, kind in data.items():
            bare = name.removesuffix("?")
            if bare in fields:
                raise ValueError(f"a record has each field once, and this has {bare!r} twice")
            fields[bare] = (_type_of(kind, find, depth + 1), not name.endswith("?"))
        return record(fields)
    raise ValueError(f"a type is text such as list[int], or a record such as {{sku: str}}, and no {kind_of(data)}")


def record(fields: dict[str, tuple[Any, bool]]) -> Any:
    """Return the TypedDict with these fields, of which each has a type and is required or not."""
    if not fields:
        raise ValueError("a record has at least one field; a mapping with any is called dict")
    if "" in fields:
        raise ValueError("a field of a record has a name")
    said = json.dumps({name: [data_of(kind), required] for name, (kind, required) in fields.items()}, sort_keys=True)
    made: Any = _records.get(said)
    if made is None:
        kinds = {name: kind if required else NotRequired[kind] for name, (kind, required) in fields.items()}
        name = f"Record_{hashlib.blake2s(said.encode(), digest_size=6).hexdigest()}"  # of two types, two in OpenAPI
        made = _records[said] = TypedDict(name, kinds)  # type: ignore[operator] # its fields are known now
    return made


class _Parser:
    """Reads a type in text, from left to right."""

    def __init__(self, text: str, find: Callable[[str], Any]) -> None:
        self.text = text
        self.find = find
        self.tokens: list[str] = []
        self.depth = 0
        place = 0
        while match := _TOKEN.match(text, place):
            self.tokens.append(match.group(1))
            place = match.end()
        if text[place:].strip():
            raise ValueError(f"{text!r} is no type: {text[place:].strip()[:20]!r} cannot stand there")
        self.tokens.reverse()

    def whole(self) -> Any:
        """Return the type that all of the text is. Raises: ValueError."""
        kind = self.union()
        if self.tokens:
            raise ValueError(f"{self.text!r} is no type: {self.tokens[-1]!r} stands behind its end")
        return kind

    def union(self) -> Any:
        """Return the type that begins here, of parts with `|` between."""
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise ValueError(f"a type nests deeper than {_DEPTH_MAX} levels")
        kinds = [self.one()]
        while self.take("|"):
            kinds.append(self.one())
        self.depth -= 1
        if len(kinds) == 1:
            return kinds[0]
        try:
            whole = functools.reduce(operator.or_, (type(None) if kind is None else kind for kind in kinds))
            return None if whole is type(None) else whole
        except TypeError:
            raise ValueError(f"{self.text!r} is no type: these cannot be one of several") from None

    def one(self) -> Any:
        """Return one part of a union."""
        word = self.tokens.pop() if self.tokens else ""
        if word == "{":
            return self.record()
        if word.startswith(f"{PYTHON}:"):
            return self.find(word)
        if word not in PLAIN:
            hint = meant(word, PLAIN) if word.isidentifier() else ""
            raise ValueError(f"{self.text!r} is no type: there is none that is called {word!r}{hint}")
        if not (word in {*_ARGUMENTS, "tuple"} and self.take("[")):
            return PLAIN[word]
        arguments: list[Any] = []
        while not self.take("]"):
            if arguments:
                self.expect(",")
            arguments.append(... if arguments and self.take("...") else self.union())
        open_end = ... in arguments and (len(arguments) != 2 or word != "tuple")
        if open_end or not arguments or len(arguments) not in _ARGUMENTS.get(word, (len(arguments),)):
            wanted = "list[int], set[int], dict[str, int], tuple[int, str] or tuple[int, ...]"
            raise ValueError(f"{self.text!r} is no type: write {wanted}")
        return PLAIN[word][tuple(arguments) if len(arguments) > 1 else arguments[0]]

    def record(self) -> Any:
        """Return the record whose brace is open."""
        fields: dict[str, tuple[Any, bool]] = {}
        while not self.take("}"):
            if fields:
                self.expect(",")
            word = self.tokens.pop() if self.tokens else ""
            try:
                name = str(json.loads(word)) if word.startswith('"') else word
            except ValueError:
                raise ValueError(f"{self.text!r} is no type: {word} is no name of a field") from None
            required = not self.take("?")
            self.expect(":")
            if name in fields:
                raise ValueError(f"a record has each field once, and this has {name!r} twice")
            fields[name] = (self.union(), required)
        return record(fields)

    def take(self, word: str) -> bool:
        """Return whether this comes next, and go behind it."""
        if self.tokens and self.tokens[-1] == word:
            self.tokens.pop()
            return True
        return False

    def expect(self, word: str) -> None:
        """Go behind what must come next. Raises: ValueError."""
        if not self.take(word):
            seen = repr(self.tokens[-1]) if self.tokens else "the end"
            raise ValueError(f"{self.text!r} is no type: {word!r} is missing before {seen}")


# -- the other way


def data_of(kind: Any) -> Any:
    """Return a type as data: text, or a mapping where it is a record. Raises: ValueError for one without a name."""
    if typing.is_typeddict(kind) and reference_of(kind) is None:
        return {_field(name, required): data_of(each) for name, (each, required) in _fields(kind).items()}
    return text_of(kind)


def text_of(kind: Any) -> str:
    """Return a type as text. Raises: ValueError for one that has no name."""
    for name, plain in PLAIN.items():
        if kind is plain:
            return name
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        return " | ".join("none" if part is type(None) else text_of(part) for part in typing.get_args(kind))
    if isinstance(kind, types.GenericAlias) and kind.__origin__ in {list, dict, tuple, set, frozenset}:
        arguments = ["..." if part is ... else text_of(part) for part in typing.get_args(kind)]
        if arguments:
            return f"{kind.__origin__.__name__}[{', '.join(arguments)}]"
    if (reference := reference_of(kind)) is not None:
        return reference
    if typing.is_typeddict(kind):
        fields = (
            f"{_quoted(name)}{'' if must else '?'}: {text_of(each)}" for name, (each, must) in _fields(kind).items()
        )
        return f"{{{', '.join(fields)}}}"
    raise ValueError(f"the type {kind!r} has no name that a spec could write: define a class at the top of a module")


def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the fields of a record that was written as data. Raises: ValueError for any other TypedDict."""
    if not any(kind is each for each in _records.values()):
        raise ValueError(f"the type {kind!r} is local to a function: define it at the top of a module")
    hints = typing.get_type_hints(kind)
    return {
        name: (None if hints[name] is type(None) else hints[name], name in kind.__required_keys__)
        for name in kind.__annotations__
    }


def _field(name: str, required: bool) -> str:
    if name.endswith("?"):
        raise ValueError(f"the field {name!r} of a record ends in '?', which says that a field may be missing")
    return name if required else f"{name}?"


def _quoted(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)
