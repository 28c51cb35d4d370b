"""What a guest works for: the activation of an operator, and the cells that the operator declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow.errors import AccessError, CellTypeError, ContractError, summary
from actorflow.plan.foreign import ForeignOperator
from actorflow.wasm.hosting import CONTROLS, log
from actorflow.wasm.values import hashable

if TYPE_CHECKING:
    from actorflow.wasm.function import WasmFunction

ABSENT: Any = object()
LINES_MAX = 1_000
"""Lines that one batch may log."""
LOG_CHARACTERS_MAX = 256 << 10


class Activated:
    """What a guest works for: the activation of an operator, with the cells that it declares."""

    __slots__ = ("_function", "_lines", "_operator", "_room")

    def __init__(self, operator: ForeignOperator, function: WasmFunction) -> None:
        self._operator = operator
        self._function = function
        self._lines: list[str] = []  # kept until it is known that what logs them will not begin again
        self._room = LOG_CHARACTERS_MAX

    def check_declared(self, cell: str) -> None:
        if cell not in self._function.cells:
            known = ", ".join(self._function.cells) or "none"
            said = f"{self._function.reference} touches cell {cell[:64]!r}, which it does not declare ({known})"
            raise AccessError(said, cell=cell[:64])

    def get(self, cell: str, key: Any) -> tuple[Any, ...]:
        access, handle = self._handle(cell, key)
        if access.cell.kind == "table":
            found = handle.get(_typed(key, access.cell.key_type, cell), ABSENT)
        else:
            found = _READ[access.cell.kind](handle)
        return () if found is ABSENT else (found,)

    def change(self, verb: str, cell: str, key: Any, value: Any) -> None:
        access, handle = self._handle(cell, key)
        kind = access.cell.kind
        if (kind, verb) == ("map", "add"):
            if type(value) is not list or len(value) != 2:
                said = f"add to map {cell!r} is given a field and a value in an array, not {summary(value)}"
                raise ContractError(said, module=self._function.reference)
            typed = [value[0], _typed(value[1], access.cell.value_type, cell)]
        else:
            typed = _typed(value, access.cell.value_type, cell, verb)
        if kind == "table" and verb in {"put", "delete"}:
            row = _typed(key, access.cell.key_type, cell)
            if verb == "put":
                handle[row] = typed
            else:
                handle.pop(row, None)
            return
        do = _CHANGE.get((kind, verb))
        if do is None:
            known = "put, delete" if kind == "table" else ", ".join(each for of, each in _CHANGE if of == kind)
            where = self._function.reference
            raise AccessError(f"{where}: {kind} {cell!r} has {known or 'nothing to change'}, no {verb}", cell=cell)
        do(handle, typed)

    def _handle(self, cell: str, key: Any) -> tuple[Any, Any]:
        function = self._function
        self.check_declared(cell)
        access = function.cells[cell]
        handle = getattr(self._operator, cell)
        keyed = access.cell.kind != "table" and access.cell.space is not None and access.cell.kind != "value"
        return access, handle[key] if keyed else handle

    def clock_s(self) -> float:
        return self._operator.now_s

    def deadline_s(self) -> float:
        request = self._operator._activation.request
        return float(request.deadline_s - request.host.now_s())

    def request_id(self) -> str:
        return self._operator.request.id

    def round(self) -> int:
        return self._operator.round

    def log(self, line: str) -> None:
        if len(self._lines) < LINES_MAX and len(line) <= self._room:
            self._room -= len(line)
            self._lines.append(line.translate(CONTROLS))
        elif self._room >= 0:
            self._room = -1
            most = f"{LINES_MAX:,} lines, or {LOG_CHARACTERS_MAX:,} characters,"
            self._lines.append(f"… more than {most} from one batch are left out")

    def end(self) -> None:
        """Write what was logged."""
        if self._lines:
            request = self._operator._activation.request
            more = {"request_id": request.id, "stream": request.stream.name, "operator": self._function.export}
            for line in self._lines:
                log.info("%s", line, extra=more)
            self._lines.clear()


def _typed(value: Any, kind: Any, cell: str, verb: str = "") -> Any:
    """Return a plain value as what a cell declares. Raises: CellTypeError."""
    if kind is Any or verb in {"delete", "remove"} or isinstance(value, kind if isinstance(kind, type) else ()):
        return value
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise CellTypeError(f"{summary(value)} is nothing for cell {cell!r}: {error}", cell=cell) from None


_READ: dict[str, Callable[[Any], Any]] = {
    "value": lambda value: value.get(ABSENT),
    "counter": lambda counter: counter.value(),
    "max": lambda extreme: extreme.value(ABSENT),
    "min": lambda extreme: extreme.value(ABSENT),
    "register": lambda register: register.value(ABSENT),
    "set": list,
    "grow_set": list,
    "map": lambda fields: dict(fields.items()),
    "log": list,
}


_CHANGE: dict[tuple[str, str], Callable[[Any, Any], None]] = {
    ("counter", "add"): lambda counter, value: counter.add(value),
    ("max", "add"): lambda extreme, value: extreme.put(value),
    ("min", "add"): lambda extreme, value: extreme.put(value),
    ("register", "add"): lambda register, value: register.put(value),
    ("set", "add"): lambda members, value: members.add(hashable(value)),
    ("set", "remove"): lambda members, value: members.discard(hashable(value)),
    ("grow_set", "add"): lambda members, value: members.add(hashable(value)),
    ("map", "add"): lambda fields, value: fields.put(hashable(value[0]), value[1]),
    ("map", "remove"): lambda fields, value: fields.discard(hashable(value)),
    ("log", "add"): lambda entries, value: entries.append(value),
}
"""By kind of cell and verb; which access allows it the handle knows."""
