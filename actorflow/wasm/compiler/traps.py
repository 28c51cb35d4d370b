"""How a compiled function says what went wrong: one number in a global of its module.

Before it stops, a module writes `line << 8 | kind` into its exported global `actorflow_trap`; `line` is that in the
source file. The exported function sets the global to 0 when it is entered, so that a host need not. A 0 after a
trap is none of these: the host's own limits (stack, fuel, time) have stopped it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TRAP_GLOBAL = "actorflow_trap"

TRAPS: Mapping[int, type[Exception]] = MappingProxyType(
    {1: OverflowError, 2: ZeroDivisionError, 3: ValueError, 4: IndexError, 5: RecursionError}
)
"""The exception that each kind stands for."""

MESSAGES: Mapping[int, str] = MappingProxyType(
    {
        1: "int result does not fit 64 bits",
        2: "division by zero",
        3: "negative shift count or exponent, step 0 of a range, root of a negative number, or int of a nan",
        4: "index out of range",
        5: "maximum recursion depth exceeded",
    }
)
"""What to tell a reader about each kind."""

KINDS: Mapping[type[Exception], int] = MappingProxyType({kind: number for number, kind in TRAPS.items()})


def trap_value(kind: type[Exception], line: int) -> int:
    """Return what a module writes for an exception that is raised on a line."""
    return line << 8 | KINDS[kind]


def trap_of(value: int) -> tuple[type[Exception], int] | None:
    """Return the exception and the line that the global of a module speaks of, or None where it speaks of none."""
    kind = TRAPS.get(value & 0xFF)
    return (kind, value >> 8) if kind is not None and value > 0 else None
