"""The body of one function of WebAssembly while it is written: its locals, its traps, and what it calls of ours.

Instructions are text. An `Operand` is one whose text may be written any number of times: a constant, or a local that
nothing changes before its last use. Locals cost nothing: every engine turns them into registers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from actorflow.wasm.compiler.ranges import Bounds
from actorflow.wasm.compiler.traps import trap_value

TRAP_INDEX, DEPTH_INDEX = 0, 1
"""The numbers of the globals: what went wrong, and how deep the recursion is."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A value that can be read again, with its bounds where it is an int."""

    text: str
    bounds: Bounds

    @property
    def low(self) -> int:
        """Return the smallest value that it may have."""
        return self.bounds[0]

    @property
    def high(self) -> int:
        """Return the largest value that it may have."""
        return self.bounds[1]

    @property
    def constant(self) -> int | None:
        """Return its value, where there is but one."""
        return self.low if self.low == self.high else None


class Body:
    """Collects the instructions of a function."""

    def __init__(self, params: list[str], routine: Callable[[str], int]) -> None:
        self.types = list(params)
        self._routine = routine
        self._text: list[str] = []
        self._free: dict[str, list[int]] = {}
        self._taken: list[tuple[str, int]] = []

    @property
    def text(self) -> str:
        """Return what has been written."""
        return " ".join(self._text)

    def put(self, text: str) -> None:
        """Write instructions."""
        self._text.append(text)

    def local(self, kind: str) -> int:
        """Return a new local, for as long as the function."""
        self.types.append(kind)
        return len(self.types) - 1

    def temporary(self, kind: str) -> int:
        """Return a local that is free until `release`."""
        free = self._free.get(kind)
        number = free.pop() if free else self.local(kind)
        self._taken.append((kind, number))
        return number

    def taken(self) -> int:
        """Return a mark for `release`."""
        return len(self._taken)

    def release(self, mark: int) -> None:
        """Give back the temporaries that were taken after a mark."""
        while len(self._taken) > mark:
            kind, number = self._taken.pop()
            self._free.setdefault(kind, []).append(number)

    def keep(self, kind: str) -> str:
        """Move what lies on the stack into a temporary; return the text that reads it."""
        number = self.temporary(kind)
        self.put(f"local.set {number}")
        return f"local.get {number}"

    def trap_if(self, condition: str, kind: type[Exception], line: int) -> None:
        """Stop the function where a condition (of i32) holds."""
        self.put(f"{condition} if void i64.const {trap_value(kind, line)} global.set {TRAP_INDEX} unreachable end")

    def call_routine(self, name: str) -> None:
        """Call a function that every module may have."""
        self.put(f"call {self._routine(name)}")
