"""The languages of the conformance tests: the same commands (`examples/wasm/conformance.md`) in each.

A language gives an operator for a stream, and works on a batch as bytes. Python does both without WASM: its operator is
a plain one, and its outcomes, written as the contract says, are what those of the guests are held against.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actorflow import Operator
from actorflow.plan.cells import Access
from actorflow.wasm import WasmFunction, wasm
from actorflow.wasm.function import Guests
from actorflow.wasm.hosting import NOBODY

BUILT = Path(__file__).resolve().parent.parent.parent / "examples" / "wasm" / "built"
GENEROUS = {"batch_s": 30.0, "slice_s": 30.0, "memory_bytes": 256 << 20}
"""A busy machine is no fault of a guest: only tests about time have little of it."""


class Language:
    """How a language does what all do."""

    def __init__(self, name: str) -> None:
        self.name = name

    def operator(
        self, cells: Mapping[str, Access] | None = None, *, loops: bool = False, **sandbox: Any
    ) -> type[Operator]:
        """Return an operator; loops: it stands where it may send items round again."""
        raise NotImplementedError

    def begin(self) -> Callable[[bytes], bytes]:
        """Return what works on batches, as bytes."""
        raise NotImplementedError


class Guest(Language):
    """A language whose programs are WASM."""

    def __init__(self, name: str, file: str, **sandbox: Any) -> None:
        super().__init__(name)
        self.file = BUILT / file
        self.sandbox = sandbox

    def function(self, cells: Mapping[str, Access] | None = None, **sandbox: Any) -> WasmFunction:
        if not self.file.exists():
            pytest.skip(f"NOT BUILT: {self.file.name} is not committed; `make wasm` builds it where its toolchain is")
        return wasm(self.file, cells=cells, **{**GENEROUS, **self.sandbox, **sandbox})

    def operator(
        self, cells: Mapping[str, Access] | None = None, *, loops: bool = False, **sandbox: Any
    ) -> type[Operator]:
        return self.function(cells, **sandbox).operator("then")

    def begin(self) -> Callable[[bytes], bytes]:
        function = self.function()
        guests = Guests(function)

        def batch(data: bytes) -> bytes:
            return guests.take(NOBODY, 30.0).batch("process", data)

        return batch


# -- Python


def outcome_of(command: str, argument: Any) -> Any:
    """Return the outcome of a command that asks nothing of its host."""
    match command, argument:
        case "echo", _:
            return [0, [argument]]
        case "bare", _:
            return argument
        case "nothing", _:
            return None
        case "several", count:
            return [0, list(range(count))]
        case "error", _:
            return [0, ["dropped"], 3, argument]
        case "collatz", [1, trips]:
            return [0, [trips]]
        case "collatz", [n, trips]:
            return [2, ["collatz", [3 * n + 1 if n % 2 else n // 2, trips + 1]]]
        case _ if command in VERBS:
            return [VERBS[command], argument]
    return [3, "no such command"]


VERBS = {"reply": 1, "typed_error": 3, "log": 4, "put": 5, "delete": 6, "add": 7, "remove": 8}


class Conforming(Operator):
    """The commands, as a plain Python operator: its cells are declared by who makes a class of it."""

    def process(self, item: list[Any]) -> None:
        command, argument = item
        method = getattr(self, f"_{command}", None)
        if method is not None:
            method(argument)
            return
        outcome = outcome_of(command, argument)
        if type(outcome) is not list:
            if outcome is not None:
                self.emit(outcome)
            return
        (verb, value), *more = zip(outcome[::2], outcome[1::2], strict=True)
        if more or verb == VERBS["typed_error"]:
            raise ValueError(argument[1] if command == "typed_error" else argument)
        if verb == 0:
            for each in value:
                self.emit(each)
        else:
            self.reply(value)

    def _log(self, text: str) -> None:
        logging.getLogger("actorflow.wasm").info("%s", text, extra={"request_id": self.request.id})

    _host_log = _log

    def _clock(self, _: Any) -> None:
        self.emit(self.now_s)

    def _deadline(self, _: Any) -> None:
        self.emit(self.request.deadline_s - self._activation.request.host.now_s())

    def _request_id(self, _: Any) -> None:
        self.emit(self.request.id)

    # -- cells

    def _kind(self, cell: str) -> str:
        """Return which kind of cell the class, or the one that it was traced from, declares."""
        kind: str = inspect.getattr_static(type(self), cell).cell.kind
        return kind

    def _handle(self, cell: str, key: Any) -> Any:
        handle = getattr(self, cell)
        return handle if key is None or self._kind(cell) == "table" else handle[key]

    def _put(self, argument: list[Any]) -> None:
        cell, key, value = argument
        self._handle(cell, key)[key] = value

    def _delete(self, argument: list[Any]) -> None:
        cell, key = argument
        self._handle(cell, key).pop(key, None)

    def _add(self, argument: list[Any]) -> None:
        cell, key, value = argument
        handle = self._handle(cell, key)
        if isinstance(value, list):
            handle.put(*value)
            return
        add = {"counter": "add", "set": "add", "log": "append"}.get(self._kind(cell), "put")
        getattr(handle, add)(value)

    def _remove(self, argument: list[Any]) -> None:
        cell, key, value = argument
        self._handle(cell, key).discard(value)

    _host_put, _host_delete, _host_add, _host_remove = _put, _delete, _add, _remove

    def _found(self, cell: str, key: Any, absent: Any) -> Any:
        handle = self._handle(cell, key)
        kind = self._kind(cell)
        if kind == "table":
            return handle.get(key, absent)
        if kind in {"set", "log"}:
            return list(handle)
        if kind == "map":
            return dict(handle.items())
        return handle.value() if kind == "counter" else handle.value(absent)

    def _get(self, argument: list[Any]) -> None:
        self.emit(self._found(*argument, "absent"))

    def _room(self, argument: list[Any]) -> None:
        cell, key, room = argument
        found = self._found(cell, key, None)
        length = -1 if found is None else len(msgspec.msgpack.encode(found))
        self.emit([length, 0 <= length <= room])

    def _sum(self, argument: list[Any]) -> None:
        cell, key, n = argument
        self._put([cell, key, self._found(cell, key, 0) + n])
        self.emit([key, self._found(cell, key, 0)])

    def _put_then_error(self, argument: list[Any]) -> None:
        self._put(argument)
        raise ValueError("after")


class Looping(Conforming):
    """The commands of loops, too."""

    tells_round = True

    def _trips(self, n: int) -> None:
        if self.round >= n:
            self.emit(self.round)
        else:
            self.feedback(["trips", n])

    def _collatz(self, argument: list[int]) -> None:
        verb, (*items,) = outcome_of("collatz", argument)
        if verb == 0:
            self.emit(*items)
        else:
            self.feedback(items)


class Python(Language):
    """Python, without WASM."""

    def operator(
        self, cells: Mapping[str, Access] | None = None, *, loops: bool = False, **sandbox: Any
    ) -> type[Operator]:
        return type("Conformance", (Looping if loops else Conforming,), dict(cells or {}))

    def begin(self) -> Callable[[bytes], bytes]:
        return python_batch


def python_batch(data: bytes) -> bytes:
    """Work on a batch as a guest does: what an operator in Python is, in bytes."""
    return msgspec.msgpack.encode([outcome_of(command, argument) for command, argument in msgspec.msgpack.decode(data)])


GUESTS = {
    guest.name: guest
    for guest in (
        Guest("c", "c-conformance.wasm"),
        Guest("zig", "zig-conformance.wasm"),
        Guest("assemblyscript", "assemblyscript-conformance.wasm"),
        Guest("component-of-c", "component-of-c-conformance.wasm"),
        Guest("component-of-python", "component-of-python-conformance.wasm"),
    )
}
LANGUAGES: dict[str, Language] = {"python": Python("python"), **GUESTS}
