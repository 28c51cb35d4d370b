"""Where something stands in a spec, and all that is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from actorflow.errors import SpecError, summary

Path: TypeAlias = tuple[str | int, ...]
"""Where something stands in a document: keys and indices from its top."""

FAULTS_MAX: Final = 100
"""More are not looked for."""
NAMES_MAX, NAME_CHARACTERS_MAX = 300, 80
"""What is compared to find out what was meant: a spec from elsewhere may have as many, and as long, as it likes."""


def shown(path: Path) -> str:
    """Return a path as one writes it: `streams.words.steps[2].then`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.replace("-", "_").isidentifier()
            text += f".{part}" if text and plain else part if plain else f"[{summary(part)}]"
    return text


def meant(name: str, known: Iterable[str]) -> str:
    """Return what was probably meant, to be put behind a message, and what there is where that is not much."""
    listed = sorted(known)
    short = [each for each in listed if len(each) <= NAME_CHARACTERS_MAX]
    near = difflib.get_close_matches(name[:NAME_CHARACTERS_MAX], short, 1) if len(listed) <= NAMES_MAX else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return hint or (f" (there is {', '.join(listed)})" if 0 < len(listed) <= 20 else "")


class Faults:
    """All that is wrong with one document, in the order of its lines."""

    def __init__(self, file: str = "", lines: Mapping[Path, int] | None = None) -> None:
        self.file = file
        self.lines: Mapping[Path, int] = {} if lines is None else lines
        self._found: dict[str, int] = {}

    def add(self, path: Path, message: str, *, line: int | None = None) -> None:
        """Note a fault at a place. Raises: SpecError when there are too many to go on."""
        at = self._line(path) if line is None else line
        place = ", ".join(filter(None, (self.file, f"line {at}" if at else "")))
        self._found.setdefault(": ".join(filter(None, (place, shown(path), message))), at)
        if len(self._found) >= FAULTS_MAX:
            self.raise_any()

    def _line(self, path: Path) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Take what is raised in here as a fault at a place."""
        try:
            yield
        except (ValueError, TypeError) as error:
            self.add(path, str(error) or type(error).__name__)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raise what was found. Raises: SpecError."""
        if self._found:
            raise SpecError(sorted(self._found, key=lambda fault: self._found[fault]))


def kind_of(value: Any) -> str:
    """Return what a value of a document is called."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")
