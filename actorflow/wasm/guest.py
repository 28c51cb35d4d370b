"""A guest: one instance of a module in its sandbox. The hot room of WASM: few C calls for each batch.

One thread at a time is in a guest. After a trap, or a call that was ended, nothing is known of its memory: it is spent,
and the next call needs a new one.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import wasmtime
from wasmtime import _ffi as ffi

from actorflow.errors import ContractError, ModuleError, TrapError, WasmError, WasmTimeoutError
from actorflow.wasm.engine import (
    TICK_S,
    VALUE_BYTES,
    at_each_tick,
    call_function,
    engine,
    memory_data,
    memory_size,
    new_error,
    one_line,
)
from actorflow.wasm.hosting import ALLOC, NOBODY, Work, forget, know

if TYPE_CHECKING:
    from actorflow.wasm.program import Program, Sandbox

VALUES_MAX = 64
"""Parameters of one function at the most."""
PAGE = 65_536

_numbers = itertools.count(1)
_guests: weakref.WeakValueDictionary[int, Limited] = weakref.WeakValueDictionary()


class Limited(Protocol):
    """What the clock ends: see `Guest`."""

    program: Any
    sandbox: Sandbox
    ticks: int
    stopped: bool
    timed_out: bool
    error: BaseException | None


def limit_time(guest: Limited, store: wasmtime.Store) -> None:
    """Let the clock end what runs in a store when its guest has no ticks left, or was stopped."""
    number = next(_numbers)
    _guests[number] = guest
    store.set_epoch_deadline(1)
    at_each_tick(store.ptr(), _tick, number, None)


def _at_tick(context: int, number: int, ahead: Any, kind: Any) -> int:
    """Let a guest go on until the next tick, or end it. Called in the middle of WASM: it must not raise."""
    guest = _guests.get(number)
    engine().active = True
    if guest is not None and guest.ticks > 0 and not guest.stopped:
        guest.ticks -= 1
        ahead[0] = 1
        kind[0] = 0
        return 0
    if guest is not None:
        guest.timed_out = True
    return new_error(b"ended by its host")


_tick = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint8)
)(_at_tick)


class Guest:
    """An instance of a program.

    values: arguments of a call, then its results, as raw 16-byte slots (`integers` and `floats` look at the same).
    work: what it works for, which host functions ask.   ticks: how many it may still run.   stopped: by whoever waited
    for it.   error: what a host function raised, which ended it.   spent: it must not be called again.
    """

    def __init__(self, program: Program, sandbox: Sandbox) -> None:
        self.program = program
        self.sandbox = sandbox
        self.work: Work = NOBODY
        self.ticks = 1 << 30
        self.stopped = self.timed_out = self.spent = False
        self.error: BaseException | None = None
        self._engine = engine()
        self._store = store = wasmtime.Store(self._engine.wasmtime)
        store.set_limits(sandbox.memory_bytes, sandbox.table_elements, 8, 8, 2)
        limit_time(self, store)
        context = ctypes.cast(store._context(), ctypes.c_void_p).value
        assert context is not None
        self.context: int = context
        self._raw = (ctypes.c_uint8 * (VALUE_BYTES * VALUES_MAX))()
        self._values = ctypes.addressof(self._raw)
        self.integers = memoryview(self._raw).cast("B").cast("q")
        self.floats = memoryview(self._raw).cast("B").cast("d")
        self._trap = ctypes.c_void_p()
        self._trap_at = ctypes.addressof(self._trap)
        self._functions: dict[str, Any] = {}
        self._addresses: dict[str, int] = {}
        self._memory: Any = None
        self.heap: int | None = None  # from where on nobody uses its memory
        self.drivers: dict[str, Any] = {}
        know(context, self)
        self._finalizer = weakref.finalize(self, forget, context)
        self._begin()

    def _begin(self) -> None:
        """Instantiate; the module's own start function, if it has one, has as long as a batch."""
        self.ticks = int(self.sandbox.batch_s / TICK_S) + 1
        self._engine.awaken()
        try:
            self._instance = self.program.linked(self.sandbox).instantiate(self._store)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            where = self.program.where
            if self.error is not None or self.timed_out:
                raise failure(self, str(error)) from None
            raise ModuleError(f"{where} cannot begin: {one_line(error)}", module=where) from None
        if (memory := self._export("memory")) is not None and memory.kind == ffi.WASMTIME_EXTERN_MEMORY.value:
            self._memory = memory.of.memory
            self._memory_at = ctypes.addressof(self._memory)
        if (name := self.program.initializer) is not None:
            self.call(self.function(name), 0)

    def _export(self, name: str) -> Any:
        found = ffi.wasmtime_extern_t()
        data = name.encode()
        there = ffi.wasmtime_instance_export_get(
            self._store._context(), ctypes.byref(self._instance._instance), data, len(data), ctypes.byref(found)
        )
        return found if there else None

    def function(self, name: str) -> int:
        """Return where a function is; the program has been asked for its signature before."""
        address = self._addresses.get(name)
        if address is None:
            export = self._export(name)
            assert export is not None
            self._functions[name] = export.of.func  # to be kept where it is
            address = self._addresses[name] = ctypes.addressof(self._functions[name])
        return address

    def global_value(self, name: str) -> int | None:
        """Return the value of an exported global; None where there is none, or no whole number."""
        export = self._export(name)
        if export is None or export.kind != ffi.WASMTIME_EXTERN_GLOBAL.value:
            return None
        value: Any = ffi.wasmtime_val_t()
        ffi.wasmtime_global_get(self._store._context(), ctypes.byref(export.of.global_), ctypes.byref(value))
        if value.kind == ffi.WASMTIME_I32.value:
            return int(value.of.i32)
        return int(value.of.i64) if value.kind == ffi.WASMTIME_I64.value else None

    def export_of(self, name: str) -> Any:
        """Return an export as the engine's own, to be given to another instance of the same store."""
        return self._instance.exports(self._store)[name]

    @property
    def store(self) -> wasmtime.Store:
        """Return the store that everything of this guest lives in."""
        return self._store

    # -- calls

    def call(self, function: int, count: int) -> None:
        """Call a function with `count` slots of `values`.

        Raises: TrapError; WasmTimeoutError; what a host function raised.
        """
        running = self._engine
        running.active = True  # as `awaken`, without a call: this is done for each batch
        if running.asleep:
            running.wake()
        error = call_function(self.context, function, self._values, count, self._trap_at)
        if error or self._trap.value:
            self._failed(error)

    def batch(self, export: str, data: bytes) -> bytes:
        """Give a function a batch and return its outcomes, both as bytes. Raises: as `call`; ContractError."""
        values = self.integers
        values[0] = len(data)
        self.call(self.function(ALLOC), 1)
        pointer = values[0] & 0xFFFFFFFF
        self.write(pointer, data)
        values[0], values[2] = pointer, len(data)
        self.call(self.function(export), 2)
        packed = values[0]
        return self.read(packed >> 32, packed & 0xFFFFFFFF)

    def _failed(self, error: int) -> NoReturn:
        self.spent = True
        said = words_of(error, self._trap.value)
        self._trap.value = None
        hint = ""
        if self._memory is not None and "unreachable" in said:  # which is also how many say that memory is full
            hint = f" (its memory has {self.memory_bytes():,} of {self.sandbox.memory_bytes:,} bytes)"
        if self._memory is not None and self.memory_bytes() > self.sandbox.memory_bytes - 4 * PAGE:
            hint = f"; its memory is at its limit, memory_bytes={self.sandbox.memory_bytes:,}"
        raise failure(self, said, hint)

    # -- memory

    def memory_bytes(self) -> int:
        """Return how large its memory is now. Raises: ContractError where it has none, or none yet."""
        if self._memory is None:
            where = self.program.where
            raise ContractError(
                f"{where} speaks of its memory, and exports none, or speaks of it in its start function, which is too "
                "early: export what is to be done first as _initialize",
                module=where,
            )
        return memory_size(self.context, self._memory_at)

    def read(self, pointer: int, length: int) -> bytes:
        """Return bytes of its memory. Raises: ContractError for those that it does not have."""
        pointer &= 0xFFFFFFFF
        if not 0 <= length <= self.memory_bytes() - pointer:
            raise self.out_of_memory(pointer, length)
        return ctypes.string_at(memory_data(self.context, self._memory_at) + pointer, length)

    def write(self, pointer: int, data: bytes) -> None:
        """Put bytes into its memory. Raises: ContractError where there is no room."""
        pointer &= 0xFFFFFFFF
        if len(data) > self.memory_bytes() - pointer:
            raise self.out_of_memory(pointer, len(data))
        ctypes.memmove(memory_data(self.context, self._memory_at) + pointer, data, len(data))

    def grow_to(self, size: int) -> None:
        """Make its memory at least so large. Raises: ContractError at its limit."""
        if (short := size - self.memory_bytes()) > 0:
            before = ctypes.c_uint64()
            pages = -(-short // PAGE)
            memory = ctypes.byref(self._memory)
            error: Any = ffi.wasmtime_memory_grow(self._store._context(), memory, pages, ctypes.byref(before))
            if error:
                wasmtime.WasmtimeError._from_ptr(error)
                where = self.program.where
                raise ContractError(
                    f"{where}: {size:,} bytes do not fit into its memory (memory_bytes={self.sandbox.memory_bytes:,})",
                    module=where,
                )

    def out_of_memory(self, pointer: int, length: int) -> WasmError:
        """Return the error of bytes that are not in its memory."""
        self.spent = True
        where = self.program.where
        return ContractError(
            f"{where} speaks of {length:,} bytes at {pointer:,}, and its memory has {self.memory_bytes():,}",
            module=where,
        )


def failure(guest: Limited, said: str, hint: str = "") -> BaseException:
    """Return what ended a call: what a host function raised, its time, or a trap that the engine names."""
    where = guest.program.where
    if guest.error is not None:
        raised, guest.error = guest.error, None
        return raised
    if guest.timed_out:
        limits = guest.sandbox
        return WasmTimeoutError(
            f"{where} was ended: it ran longer than it may (batch_s={limits.batch_s:g} as an operator, or what is left "
            f"until the deadline; slice_s={limits.slice_s:g} where it is called for its value)",
            module=where,
        )
    trap = _short(said)
    return TrapError(f"{where} came to a trap: {trap}{hint}", module=where, trap=trap)


def words_of(error: int, trap: int | None = None) -> str:
    """Return what an error, or a trap, of the engine says, and free it."""
    if error:
        return str(wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t))))
    return wasmtime.Trap._from_ptr(ctypes.cast(trap or 0, ctypes.POINTER(ffi.wasm_trap_t))).message


def _short(said: str) -> str:
    """Return the last sentence of what the engine says: what the trap was, below its trace."""
    said = said.strip().rpartition("Caused by:")[2]
    words = " ".join(said.split()).removeprefix("0: ").removeprefix("wasm trap: ")
    return words if len(words) <= 200 else words[:199] + "…"
