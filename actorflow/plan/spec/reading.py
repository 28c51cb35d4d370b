"""Documents as plain values, each with the line where it stands: YAML, JSON and TOML, from whomever they come.

All three are read as the same data: mappings with text as keys, lists, text, numbers, true, false and null. YAML has no
other scalars here (`no`, `010`, `1:20` and dates are text), no tags, and no anchors: an alias could stand for a
document of any size. What is too large, or nests too deeply, is refused before it is kept.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, Literal, TypeAlias

import yaml

from actorflow.errors import SpecError
from actorflow.plan.spec.faults import Faults, Path, kind_of

Form: TypeAlias = Literal["yaml", "json", "toml"]

BYTES_MAX: Final = 1 << 20
NESTING_MAX: Final = 64
VALUES_MAX: Final = 100_000
DIGITS_MAX: Final = 1_000

FORMS: Final[dict[str, Form]] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
"""How the names of files end, and what is in them."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS: Final = {"": None, "null": None, "true": True, "false": False}


def read(text: str | bytes, form: Form, *, file: str = "") -> tuple[Any, dict[Path, int]]:
    """Return the data of a document, and the line of each part of it.

    Raises: SpecError with every fault that can be told.
    """
    faults = Faults(file)
    if len(text) > BYTES_MAX:
        faults.add((), f"{len(text):,} bytes are more than the {BYTES_MAX:,} that an app may have")
        faults.raise_any()
    lines: dict[Path, int] = {}
    faults.lines = lines
    try:
        whole = text if isinstance(text, str) else text.decode()
        # a byte order mark is no part of the text
        data = _READERS[form](whole.removeprefix("\ufeff"), lines, faults)
    except UnreadableError as wrong:
        faults.add(wrong.path, str(wrong), line=wrong.line)
    except UnicodeError:
        faults.add((), "this is no text in UTF-8")
    except RecursionError:
        faults.add((), f"it nests deeper than the {NESTING_MAX} levels that are allowed")
    faults.raise_any()
    return data, lines


class UnreadableError(ValueError):
    """The document cannot be read any further."""

    def __init__(self, message: str, line: int = 0, path: Path = ()) -> None:
        super().__init__(message)
        self.line = line
        self.path = path


class _Budget:
    """How much of a document has been read."""

    def __init__(self, lines: dict[Path, int]) -> None:
        self.lines = lines
        self.count = 0

    def take(self, path: Path, line: int) -> None:
        """Count one value. Raises: UnreadableError when there are too many, or when it is too deep."""
        self.count += 1
        self.lines.setdefault(path, line)
        if self.count > VALUES_MAX:
            raise UnreadableError(f"there are more than {VALUES_MAX:,} values", line)
        if len(path) > NESTING_MAX:
            raise UnreadableError(f"it nests deeper than the {NESTING_MAX} levels that are allowed", line)


def _scalar(text: str, line: int, path: Path) -> Any:
    """Return what an unquoted scalar stands for: as in JSON, and all else is text."""
    if text in _WORDS:
        return _WORDS[text]
    if not _NUMBER.fullmatch(text):
        return text
    if len(text) > DIGITS_MAX:
        raise UnreadableError(f"a number of more than {DIGITS_MAX} digits", line, path)
    if _INTEGER.fullmatch(text):
        return int(text)
    if math.isinf(number := float(text)):
        raise UnreadableError(f"{text} is too large for a number", line, path)
    return number


def is_word(text: str) -> bool:
    """Return whether unquoted text would be read as something else than text."""
    return text in _WORDS or _NUMBER.fullmatch(text) is not None


# -- YAML


def _read_yaml(text: str, lines: dict[Path, int], faults: Faults) -> Any:
    try:
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        data: Any = None
        count = 0
        budget = _Budget(lines)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                count += 1
                if count > 1:
                    raise UnreadableError("there is a second document, and an app is one", _line(event))
            elif isinstance(event, yaml.NodeEvent):
                data = _yaml_value(event, events, (), budget, faults)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise UnreadableError(f"this is no YAML: {error.problem or error.context}", line) from None
    except UnreadableError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        said = str(error).partition("\n")[0] or "it cannot be read"
        raise UnreadableError(f"this is no YAML: {said}") from None
    return data


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _yaml_value(event: Any, events: Iterator[Any], path: Path, budget: _Budget, faults: Faults) -> Any:
    line = _line(event)
    budget.take(path, line)
    if getattr(event, "anchor", None) is not None:
        raise UnreadableError("anchors and aliases are not read: write the value out where it is used", line, path)
    if isinstance(event, yaml.ScalarEvent):
        if event.tag is not None:
            raise UnreadableError(f"tags such as {event.tag} are not read", line, path)
        return _scalar(event.value, line, path) if event.implicit[0] else event.value
    if event.tag is not None:
        raise UnreadableError(f"tags such as {event.tag} are not read", line, path)
    if isinstance(event, yaml.SequenceStartEvent):
        values: list[Any] = []
        while not isinstance(following := next(events), yaml.SequenceEndEvent):
            values.append(_yaml_value(following, events, (*path, len(values)), budget, faults))
        return values
    found: dict[str, Any] = {}
    while not isinstance(following := next(events), yaml.MappingEndEvent):
        if not isinstance(following, yaml.ScalarEvent) or following.anchor is not None or following.tag is not None:
            raise UnreadableError("a key is plain text", _line(following), path)
        key = following.value
        value = _yaml_value_of_key(next(events), events, (*path, key), _line(following), budget, faults)
        if key in found:
            faults.add((*path, key), "this key is there already", line=_line(following))
        found[key] = value
    return found


def _yaml_value_of_key(
    event: Any, events: Iterator[Any], path: Path, line: int, budget: _Budget, faults: Faults
) -> Any:
    """Return the value of a key, whose line is that of the key."""
    budget.lines.setdefault(path, line)
    return _yaml_value(event, events, path, budget, faults)


# -- JSON

_SPACE = re.compile(r"[ \t\n\r]*")
_WORD = re.compile(r"[A-Za-z0-9+.-]*")
_DECODER = JSONDecoder()


def _read_json(text: str, lines: dict[Path, int], faults: Faults) -> Any:
    reader = _Json(text, _Budget(lines), faults)
    data = reader.value(())
    if reader.place != len(text):
        raise UnreadableError("something stands behind the end of the document", reader.line())
    return data


class _Json:
    """A reader of JSON that knows where it is."""

    def __init__(self, text: str, budget: _Budget, faults: Faults) -> None:
        self.text = text
        self.budget = budget
        self.faults = faults
        self.place = 0
        self._counted = (0, 1)  # a place, and its line

    def line(self) -> int:
        """Return the line that the reader has come to."""
        place, line = self._counted
        self._counted = (self.place, line + self.text.count("\n", place, self.place))
        return self._counted[1]

    def value(self, path: Path) -> Any:
        """Return the value at the present place, and go behind it and the space that follows."""
        first = self._next()
        self.budget.take(path, self.line())
        if first == "{":
            return self._object(path)
        if first == "[":
            return self._array(path)
        if first == '"':
            return self._text()
        word = _WORD.match(self.text, self.place)
        said = word.group() if word is not None else ""
        value = _scalar(said, self.line(), path)
        if not said or isinstance(value, str):
            raise UnreadableError(f"this is no JSON: {first!r} begins no value", self.line(), path)
        self.place += len(said)
        self._next()
        return value

    def _next(self) -> str:
        space = _SPACE.match(self.text, self.place)
        self.place = space.end() if space is not None else self.place
        return self.text[self.place : self.place + 1]

    def _text(self) -> str:
        try:
            value, self.place = _DECODER.raw_decode(self.text, self.place)
        except JSONDecodeError as error:
            raise UnreadableError(f"this is no JSON: {error.msg}", error.lineno) from None
        self._next()
        return str(value)

    def _object(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.place += 1
        while self._next() != "}":
            if found:
                self._expect(",")
            if self._next() != '"':
                raise UnreadableError("this is no JSON: a key in double quotes is missing here", self.line(), path)
            line, key = self.line(), self._text()
            self._expect(":")
            self.budget.lines.setdefault((*path, key), line)
            if key in found:
                self.faults.add((*path, key), "this key is there already", line=line)
            found[key] = self.value((*path, key))
        self.place += 1
        self._next()
        return found

    def _array(self, path: Path) -> list[Any]:
        values: list[Any] = []
        self.place += 1
        while self._next() != "]":
            if values:
                self._expect(",")
            values.append(self.value((*path, len(values))))
        self.place += 1
        self._next()
        return values

    def _expect(self, sign: str) -> None:
        if self._next() != sign:
            raise UnreadableError(f"this is no JSON: {sign!r} is missing here", self.line())
        self.place += 1


# -- TOML

_HEADER = re.compile(r"\s*\[(\[)?(.+?)\]")
_KEY = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_PART = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")


def _read_toml(text: str, lines: dict[Path, int], faults: Faults) -> Any:
    for run in re.findall(r"[\w.\"' \t-]+", text):
        if run.count(".") > NESTING_MAX:  # tomllib takes the square of their number in steps
            raise UnreadableError(f"a key of more than {NESTING_MAX} parts: {run[:40].strip()}…")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = re.search(r"\(at line (\d+), column \d+\)", str(error))
        message = re.sub(r" \(at .*\)$", "", str(error))
        line = int(said.group(1)) if said else text.count("\n") + 1  # at the end of the document
        raise UnreadableError(f"this is no TOML: {message}", line) from None
    except ValueError as error:  # a number of too many digits
        raise UnreadableError(f"this is no TOML: {error}") from None
    _toml_lines(text, lines)
    _check_plain(data, (), _Budget(lines), faults)
    return data


def _toml_lines(text: str, lines: dict[Path, int]) -> None:
    """Note the lines of headers and keys, as far as they can be told without reading values."""
    path: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            path = ()
            parts = [part.strip("\"'") for part in _PART.findall(header.group(2))]
            for place, part in enumerate(parts):
                path = (*path, part)
                if place == len(parts) - 1 and header.group(1):
                    counts[path] = counts.get(path, -1) + 1
                if path in counts:
                    path = (*path, counts[path])
            lines.setdefault(path, number)
        elif key := _KEY.match(line):
            lines.setdefault((*path, *(part.strip("\"'") for part in _PART.findall(key.group(1)))), number)


def _check_plain(value: Any, path: Path, budget: _Budget, faults: Faults) -> None:
    budget.take(path, budget.lines.get(path, budget.lines.get(path[:-1], 0)))
    if isinstance(value, dict):
        for key, each in value.items():
            _check_plain(each, (*path, key), budget, faults)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _check_plain(each, (*path, index), budget, faults)
    elif isinstance(value, float) and not math.isfinite(value):
        faults.add(path, f"{value} is no number that every form of a spec has")
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * DIGITS_MAX:
        faults.add(path, f"a number of more than {DIGITS_MAX} digits")
    elif value is not None and type(value) not in {str, bool, int, float}:
        faults.add(path, f"{kind_of(value)} is no plain value: write it as text, in quotes")


_READERS: Final = {"yaml": _read_yaml, "json": _read_json, "toml": _read_toml}


def form_of(name: str) -> Form:
    """Return what is in a file of this name. Raises: SpecError."""
    for ending, form in FORMS.items():
        if name.lower().endswith(ending):
            return form
    raise SpecError(f"{name}: a spec is a file that ends in {', '.join(FORMS)}")


__all__ = ["FORMS", "Form", "form_of", "is_word", "read"]
