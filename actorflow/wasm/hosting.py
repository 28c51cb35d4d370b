"""What a host offers to its guests: the functions that a module may import.

Each is given numbers and looks into the guest's memory itself. What one raises ends the guest's call with that error.
Only what a program imports is there for it, and of WASI only what is granted; a guest touches only declared cells.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import struct
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import wasmtime

from actorflow.errors import TrapError, WasmError
from actorflow.wasm.engine import VALUE_BYTES, caller_context, define_function, new_trap
from actorflow.wasm.values import from_guest, key_from_guest, to_guest

if TYPE_CHECKING:
    from actorflow.wasm.guest import Guest

OURS, WASI, ENVIRONMENT = "actorflow", "wasi_snapshot_preview1", "env"
ALLOC = "actorflow_alloc"
"""What a module exports that takes batches: `(bytes: i32) → pointer: i32`."""
NONE = -1
"""What `get` answers where there is nothing."""
LINE_BYTES_MAX = 64 << 10
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0xA0))}
"""What would move a reader's cursor, or hide a line, is written in words."""

log = logging.getLogger("actorflow.wasm")

I32, I64, F64 = "i32", "i64", "f64"
_TYPES = {I32: wasmtime.ValType.i32, I64: wasmtime.ValType.i64, F64: wasmtime.ValType.f64}


class Work(Protocol):
    """What a guest works for, as host functions see it: the activation of an operator, or nobody."""

    def check_declared(self, cell: str) -> None:
        """Refuse a cell that is not declared, before anything is done for it."""

    def get(self, cell: str, key: Any) -> tuple[Any, ...]:
        """Return what a cell has under a key, as the only element; nothing where it has nothing."""

    def change(self, verb: str, cell: str, key: Any, value: Any) -> None:
        """Put, delete, add to, or remove from, a cell."""

    def clock_s(self) -> float:
        """Return the wall clock in seconds since 1970."""

    def deadline_s(self) -> float:
        """Return how many seconds are left for the request."""

    def request_id(self) -> str:
        """Return the id of the request."""

    def round(self) -> int:
        """Return how often the item has been round the innermost loop."""

    def log(self, line: str) -> None:
        """Write a line into the log."""


class _Nobody:
    """A function that is called beside any activation: a key, a fold, a choice."""

    def __getattr__(self, name: str) -> Any:
        raise WasmError(
            f"{name}() is for operators: this function is called for its value only, outside any activation"
        )

    def log(self, line: str) -> None:
        log.info("%s", line.translate(CONTROLS))


NOBODY: Work = _Nobody()

_by_context: dict[int, weakref.ref[Any]] = {}


def guest_of(context: int) -> Any:
    """Return who lives in a store."""
    return _by_context[context]()


def know(context: int, guest: Any) -> None:
    """Note who lives in a store."""
    _by_context[context] = weakref.ref(guest)


def forget(context: int) -> None:
    """Note that a store is gone."""
    _by_context.pop(context, None)


Handler = Callable[..., Any]
_Callback = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _callback(handler: Handler, params: tuple[str, ...], results: tuple[str, ...]) -> Any:
    """Return a C function that calls a handler: arguments and result are raw slots of 16 bytes."""
    formats = "".join({I32: "I12x", I64: "q8x", F64: "d8x"}[each] for each in params)
    unpack = struct.Struct(f"<{formats}").unpack
    size = len(params) * VALUE_BYTES
    slot: Any = {I32: ctypes.c_int32, I64: ctypes.c_int64, F64: ctypes.c_double}[results[0]] if results else None

    def call(_: int, caller: int, slots: int, count: int) -> int:
        guest = None
        try:
            guest = _by_context[caller_context(caller)]()
            value = handler(guest, *unpack(ctypes.string_at(slots, size)))
            if slot is not None:
                slot.from_address(slots).value = value
        except BaseException as error:
            if guest is not None:
                guest.error = error
            return new_trap(b"its host refused", 16)
        return 0

    return _Callback(call)


# -- ours


def _text(guest: Guest, pointer: int, length: int) -> str:
    return guest.read(pointer, min(length, LINE_BYTES_MAX)).decode("utf-8", "replace")


def value_in(work: Work, cell: str, key: bytes) -> bytes | None:
    """Return what a cell has under a key, encoded, if it has anything. A cell that is not declared costs nothing."""
    work.check_declared(cell)
    found = work.get(cell, key_from_guest(key))
    return to_guest(found[0]) if found else None


def change_cell(work: Work, verb: str, cell: str, key: bytes, value: bytes | None) -> None:
    """Change a cell; nothing is decoded for one that is not declared."""
    work.check_declared(cell)
    what = from_guest(value) if value is not None else None
    work.change(verb, cell, key_from_guest(key), what)


def _give(guest: Guest, data: bytes, into: int, room: int) -> int:
    """Put bytes where a guest wants them, if they fit; it is told how many there are."""
    if len(data) <= room:
        guest.write(into, data)
    return len(data)


def _get(guest: Guest, cell: int, cell_length: int, key: int, key_length: int, into: int, room: int) -> int:
    found = value_in(guest.work, _text(guest, cell, cell_length), guest.read(key, key_length))
    return _give(guest, found, into, room) if found is not None else NONE


def _change(verb: str) -> Handler:
    def change(
        guest: Guest, cell: int, cell_length: int, key: int, key_length: int, value: int = 0, value_length: int = 0
    ) -> None:
        given = guest.read(value, value_length) if verb != "delete" else None
        change_cell(guest.work, verb, _text(guest, cell, cell_length), guest.read(key, key_length), given)

    return change


_CELL_KEY, _CELL_KEY_VALUE = (I32,) * 4, (I32,) * 6

FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Handler]] = {
    "get": (_CELL_KEY_VALUE, (I32,), _get),
    "put": (_CELL_KEY_VALUE, (), _change("put")),
    "delete": (_CELL_KEY, (), _change("delete")),
    "add": (_CELL_KEY_VALUE, (), _change("add")),
    "remove": (_CELL_KEY_VALUE, (), _change("remove")),
    "clock_s": ((), (F64,), lambda guest: guest.work.clock_s()),
    "deadline_s": ((), (F64,), lambda guest: guest.work.deadline_s()),
    "round": ((), (I32,), lambda guest: guest.work.round()),
    "request_id": (
        (I32, I32),
        (I32,),
        lambda guest, into, room: _give(guest, guest.work.request_id().encode(), into, room),
    ),
    "log": ((I32, I32), (), lambda guest, pointer, length: guest.work.log(_text(guest, pointer, length))),
}
"""Of the namespace "actorflow": parameters, results, and what is done."""

# -- WASI: what language runtimes ask for at their start is empty, what is granted is small

_OK, _BAD_DESCRIPTOR, _INVALID = 0, 8, 28
RANDOM_BYTES_MAX = 64 << 10
_STDOUT = frozenset({1, 2})


def _fd_write(guest: Guest, descriptor: int, vectors: int, count: int, written: int) -> int:
    if descriptor not in _STDOUT:
        return _BAD_DESCRIPTOR
    total, parts = 0, []
    for index in range(min(count, 1_024)):
        pointer, length = struct.unpack("<II", guest.read(vectors + 8 * index, 8))
        length = min(length, LINE_BYTES_MAX - total)  # what is left out is written by the next call
        parts.append(guest.read(pointer, length))
        total += length
    for line in b"".join(parts).decode("utf-8", "replace").splitlines():
        if line:
            guest.work.log(line)
    guest.write(written, struct.pack("<I", total))
    return _OK


def _clock(guest: Guest, which: int, precision: int, into: int) -> int:
    # at its start a guest works for nobody: no time has passed, but runtimes do not take zero for a time
    seconds = 1.0 if guest.work is NOBODY else guest.work.clock_s()
    guest.write(into, struct.pack("<Q", int(seconds * 1e9)))
    return _OK


def _random(guest: Guest, into: int, length: int) -> int:
    # what seeds the hashes of language runtimes: the same in each run, so that a simulation can be repeated
    if length > RANDOM_BYTES_MAX:
        return _INVALID
    guest.write(into, hashlib.shake_128(guest.program.digest.encode()).digest(length))
    return _OK


def _poll(guest: Guest, subscriptions: int, events: int, count: int, happened: int) -> int:
    # nothing ever happens: who sleeps looks again, and its time runs out
    guest.write(happened, b"\0\0\0\0")
    return _OK


def _nothing_there(guest: Guest, count: int, size: int) -> int:
    guest.write(count, b"\0\0\0\0")
    guest.write(size, b"\0\0\0\0")
    return _OK


def _exit(guest: Guest, code: int) -> None:
    where = guest.program.where
    raise TrapError(f"{where} called exit({code})", module=where, trap="exit")


_BAD: Handler = lambda *_: _BAD_DESCRIPTOR  # noqa: E731 - one answer to several questions
_FINE: Handler = lambda *_: _OK  # noqa: E731

WASI_FUNCTIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], Handler]] = {
    "fd_write": ("stdout", (I32, I32, I32, I32), (I32,), _fd_write),
    "clock_time_get": ("clock", (I32, I64, I32), (I32,), _clock),
    "random_get": ("wasi", (I32, I32), (I32,), _random),
    "poll_oneoff": ("wasi", (I32, I32, I32, I32), (I32,), _poll),
    "args_sizes_get": ("wasi", (I32, I32), (I32,), _nothing_there),
    "args_get": ("wasi", (I32, I32), (I32,), _FINE),
    "environ_sizes_get": ("wasi", (I32, I32), (I32,), _nothing_there),
    "environ_get": ("wasi", (I32, I32), (I32,), _FINE),
    "proc_exit": ("wasi", (I32,), (), _exit),
    "fd_close": ("wasi", (I32,), (I32,), _BAD),
    "fd_fdstat_get": ("wasi", (I32, I32), (I32,), _BAD),
    "fd_prestat_get": ("wasi", (I32, I32), (I32,), _BAD),
    "fd_prestat_dir_name": ("wasi", (I32, I32, I32), (I32,), _BAD),
    "fd_read": ("wasi", (I32, I32, I32, I32), (I32,), _BAD),
    "fd_seek": ("wasi", (I32, I64, I32, I32), (I32,), _BAD),
    "sched_yield": ("wasi", (), (I32,), _FINE),
}
"""Of WASI: what grants it, parameters, results, and what is done."""


def _abort(guest: Guest, message: int, file: int, line: int, column: int) -> None:
    """End as AssemblyScript does: text is UTF-16, its length in bytes stands before it."""

    def text(pointer: int) -> str:
        if not pointer:
            return ""
        (length,) = struct.unpack("<I", guest.read(pointer - 4, 4))
        return guest.read(pointer, min(length, 2_000)).decode("utf-16-le", "replace")

    where = guest.program.where
    said = text(message) or "aborted"
    raise TrapError(f"{where}: {said} ({text(file)}:{line}:{column})", module=where, trap="abort")


_linkers: dict[int, tuple[wasmtime.Linker, list[Any]]] = {}


def linker_for(engine: wasmtime.Engine) -> wasmtime.Linker:
    """Return the linker that knows all host functions; `missing_of` says which a program may have."""
    kept = _linkers.get(id(engine))
    if kept is None:
        linker, alive = wasmtime.Linker(engine), []
        for name, (params, results, handler) in FUNCTIONS.items():
            alive.append(_define(linker, OURS, name, params, results, handler))
        for name, (_, params, results, handler) in WASI_FUNCTIONS.items():
            alive.append(_define(linker, WASI, name, params, results, handler))
        alive.append(_define(linker, ENVIRONMENT, "abort", (I32,) * 4, (), _abort))
        kept = _linkers[id(engine)] = linker, [engine, *alive]  # C keeps no Python object alive
    return kept[0]


def _define(
    linker: wasmtime.Linker, module: str, name: str, params: tuple[str, ...], results: tuple[str, ...], do: Handler
) -> Any:
    kind = wasmtime.FuncType([_TYPES[each]() for each in params], [_TYPES[each]() for each in results])
    callback = _callback(do, params, results)
    spaces, names = module.encode(), name.encode()
    error = define_function(linker.ptr(), spaces, len(spaces), names, len(names), kind.ptr(), callback, None, None)
    assert not error, "these names are ours, and each is defined once"
    return callback


def missing_of(imports: Iterable[tuple[str, str]], grants: frozenset[str]) -> str:
    """Return what a program imports and may not have, in words; nothing where it may have all."""
    wrong = []
    for module, name in imports:
        if (module == OURS and name in FUNCTIONS) or (module, name) == (ENVIRONMENT, "abort"):
            continue
        if module == WASI and name in WASI_FUNCTIONS:
            if (grant := WASI_FUNCTIONS[name][0]) in grants:
                continue
            wrong.append(f"{module}.{name}, which grants=({grant!r},) would allow")
        else:
            wrong.append(f"{module}.{name}, which no host offers")
    return "; ".join(wrong[:5])
