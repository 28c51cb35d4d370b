"""How far a request is: what doors tell those who wait for it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LoopReport:
    """How far a request is in one loop of its stream.

    loop: the name of the step that closes it.   items: items and holds under way in that part of the stream, those that
    wait for the next round included.   round: the one that is under way (None where nobody counts).
    value: the state that the last round was folded to: itself when it is a scalar, else a short text of it.
    """

    loop: str
    items: int
    round: int | None = None
    value: Any = None

    def __str__(self) -> str:
        """Return one line: `ranks: round 7, 1,200 items in the loop, value 0.01`."""
        number = "" if self.round is None else f"round {self.round:,}, "
        value = "" if self.value is None else f", value {_told(self.value)}"
        return f"{self.loop}: {number}{self.items:,} items in the loop{value}"

    def to_wire(self) -> dict[str, Any]:
        """Return plain values, without those that are unknown."""
        known = {"round": self.round, "value": _plain(self.value)}
        return {"loop": self.loop, "items": self.items} | {
            key: value for key, value in known.items() if value is not None
        }


@dataclass(frozen=True, slots=True)
class RequestReport:
    """How far a request is.

    outstanding: items and holds that are not finished.   elapsed_s: seconds since it was sent.   loops: those in which
    something of it is.   request_id: by which it can be looked at and cancelled.
    """

    outstanding: int
    elapsed_s: float
    loops: tuple[LoopReport, ...] = ()
    request_id: str = ""

    def __str__(self) -> str:
        """Return one line: the loop that has come furthest, or the number of items."""
        counted = [loop for loop in self.loops if loop.round is not None]
        if not counted:
            return f"{self.outstanding:,} items under way"
        return str(max(counted, key=lambda each: each.round or 0))


def reports_from_wire(loops: Sequence[Any]) -> tuple[LoopReport, ...]:
    """Rebuild what `to_wire` made, leaving out what is none."""
    return tuple(
        LoopReport(str(each["loop"]), int(each["items"]), each.get("round"), each.get("value"))
        for each in loops
        if isinstance(each, Mapping) and isinstance(each.get("items"), int) and "loop" in each
    )


def _plain(value: Any) -> Any:
    """Return a scalar that any peer and any format can take as it is, and a short text of anything else."""
    kind = type(value)
    if value is None or kind is bool or kind is float or (kind is int and -(1 << 63) <= value < 1 << 63):
        return value
    if kind is str and len(value) <= TEXT_MAX and value.isprintable():
        return value
    return _short.repr(value)


def _told(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(_plain(value))


class _Short(reprlib.Repr):
    """A short text of any value, in short time: of a million elements the first few are looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxdict = self.maxdeque = self.maxarray = 4
        self.maxstring = self.maxother = self.maxlong = 60
        self.maxlevel = 3

    def repr_float(self, value: float, level: int) -> str:
        return f"{value:.6g}"

    def repr_instance(self, value: Any, level: int) -> str:
        kind = type(value)
        names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", None)
        if not names or level <= 0:
            return f"<{kind.__name__}>"
        fields = ", ".join(f"{name}={self.repr1(getattr(value, name, None), level - 1)}" for name in list(names)[:6])
        return f"{kind.__name__}({fields})"


_short = _Short()
TEXT_MAX = 200
