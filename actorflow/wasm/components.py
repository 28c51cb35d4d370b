"""Components: the same contract by types instead of pointers, for languages that are compiled to nothing else.

A component exports `process: func(batch: list<u8>) -> list<u8>` (by any name) and may import `actorflow:function/host`:
see `examples/wasm/component/wit`. It has the sandbox of a module. Of WASI it has nothing: with the grant "wasi" a
component that imports it may begin, and a call of any of it is a trap, since most is imported by language runtimes and
never called. A call takes longer than that of a module: a byte goes as a value of 32 bytes.
"""

from __future__ import annotations

import ctypes
import hashlib
import weakref
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi
from wasmtime import component as wit

from actorflow.errors import ModuleError
from actorflow.wasm.engine import MAGIC, TICK_S, Engine, engine, new_error, one_line
from actorflow.wasm.guest import failure, limit_time, words_of
from actorflow.wasm.hosting import FUNCTIONS, NOBODY, OURS, Work, change_cell, forget, guest_of, know, value_in
from actorflow.wasm.program import Program, Sandbox, Signature

VERSION = b"\x0d\0\x01\0"
BYTES_MAX = 64 << 20
"""A larger component is refused: those of Python have 18 MB, and take half a minute to compile, once."""
INTERFACE = "actorflow:function/host"
WASI_PREFIX = "wasi:"
INSTANCES_MAX, TABLES_MAX, MEMORIES_MAX = 64, 64, 4
"""Of one component: it is made of several modules. Each memory may have `memory_bytes`."""


def is_component(code: bytes) -> bool:
    """Return whether bytes say that they are a component."""
    return code[:4] == MAGIC and code[4:8] == VERSION


class Component(Program):
    """A compiled component, in the place of a module."""

    def __init__(self, code: bytes, *, where: str) -> None:
        if len(code) > BYTES_MAX:
            said = f"{where} has {len(code):,} bytes, and a component may have {BYTES_MAX:,}"
            raise ModuleError(said, module=where)
        self.code = code
        self.where = where
        self.digest = hashlib.sha256(code).hexdigest()
        self.engine: Engine = engine()
        self.component = self.engine.compiled(wit.Component, code, self.digest, where=where)
        kind = self.component.type
        self.exports = {name: each.ty for name, each in kind.exports(self.engine.wasmtime).items()}
        self.imports = []
        for name, each in kind.imports(self.engine.wasmtime).items():
            if name == INTERFACE and isinstance(interface := each.ty, wit.ComponentInstanceType):
                self.imports += [(OURS, part.replace("-", "_")) for part in interface.exports(self.engine.wasmtime)]
            else:
                self.imports.append((name, ""))
        self._linkers: dict[frozenset[str], wit.Linker] = {}

    @property
    def speaks_contract(self) -> bool:
        return True

    @property
    def functions(self) -> tuple[str, ...]:
        return tuple(name for name, kind in self.exports.items() if isinstance(kind, wit.FuncType))

    def signature(self, export: str) -> Signature:
        kind = self.exports.get(export)
        if not isinstance(kind, wit.FuncType):
            shown = ", ".join(self.functions) or "none"
            raise ModuleError(f"{self.where} has no function {export!r} (functions: {shown})", module=self.where)
        kinds = [each for _, each in kind.params] + [kind.result]
        if len(kinds) != 2 or not all(isinstance(each, wit.ListType) and each._is_bytes() for each in kinds):
            raise ModuleError(
                f"{self.where}#{export} is of another type: a function of a component is "
                "func(batch: list<u8>) -> list<u8>",
                module=self.where,
            )
        return Signature(("bytes",), "bytes", contract=True)

    def guest(self, sandbox: Sandbox) -> Any:
        return ComponentGuest(self, sandbox)

    def linked(self, sandbox: Sandbox) -> Any:
        """Return the linker that knows what it imports. Raises: ModuleError for what is not granted."""
        grants = frozenset(sandbox.grants)
        if grants not in self._linkers:
            wrong = []
            for name, part in self.imports:
                if name == OURS and part in _FUNCTIONS:
                    continue
                if not name.startswith(WASI_PREFIX):
                    wrong.append(f"{name} {part}".strip() + ", which no host offers")
                elif "wasi" not in grants:
                    wrong.append(f"{name}, which grants=('wasi',) would allow")
            if wrong:
                raise ModuleError(f"{self.where} wants {'; '.join(wrong[:5])}", module=self.where)
            self._linkers[grants] = _linker(self)
        return self._linkers[grants]


class ComponentGuest:
    """An instance of a component: what `Guest` is to a module."""

    def __init__(self, program: Component, sandbox: Sandbox) -> None:
        self.program = program
        self.sandbox = sandbox
        self.work: Work = NOBODY
        self.ticks = int(sandbox.batch_s / TICK_S) + 1  # its start has as long as a batch
        self.stopped = self.timed_out = self.spent = False
        self.error: BaseException | None = None
        self._engine = engine()
        self._store = store = wasmtime.Store(self._engine.wasmtime)
        store.set_limits(sandbox.memory_bytes, sandbox.table_elements, INSTANCES_MAX, TABLES_MAX, MEMORIES_MAX)
        limit_time(self, store)
        context = ctypes.cast(store._context(), ctypes.c_void_p).value
        assert context is not None
        know(context, self)
        self._finalizer = weakref.finalize(self, forget, context)
        self._functions: dict[str, wit.Func] = {}
        self._engine.awaken()
        try:
            self._instance = program.linked(sandbox).instantiate(store, program.component)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            if self.error is not None or self.timed_out:
                raise failure(self, str(error)) from None
            raise ModuleError(f"{program.where} cannot begin: {one_line(error)}", module=program.where) from None

    def batch(self, export: str, data: bytes) -> bytes:
        """Give a function a batch and return its outcomes, both as bytes. Raises: as `Guest.call`."""
        function = self._functions.get(export)
        if function is None:
            found = self._instance.get_func(self._store, export)
            assert found is not None  # the component has been asked for its signature before
            function = self._functions[export] = found
        self._engine.awaken()
        argument, result = ffi.wasmtime_component_val_t(), ffi.wasmtime_component_val_t()
        _put_bytes(argument, data)
        context = self._store._context()
        try:
            error: Any = ffi.wasmtime_component_func_call(
                ctypes.byref(function._func), context, ctypes.byref(argument), 1, ctypes.byref(result), 1
            )
        finally:
            ffi.wasmtime_component_val_delete(ctypes.byref(argument))
        if error:
            self.spent = True
            raise failure(self, words_of(ctypes.cast(error, ctypes.c_void_p).value or 0))
        try:
            return _bytes_of(ctypes.addressof(result))
        finally:
            ffi.wasmtime_component_val_delete(ctypes.byref(result))


# -- values: what the Python bindings would convert one byte at a time

_VALUE = ctypes.sizeof(ffi.wasmtime_component_val_t)
_OF = ffi.wasmtime_component_val_t.of.offset
_BYTE = bytes((ffi.WASMTIME_COMPONENT_U8.value,)).ljust(_VALUE, b"\0")
Value = Any


def _put_bytes(into: Value, data: bytes) -> None:
    """Make a value a list of bytes, which is the value's from then on."""
    made = ffi.wasmtime_component_vallist_t()
    ffi.wasmtime_component_vallist_new_uninit(ctypes.byref(made), len(data))
    if data:
        block = bytearray(_BYTE * len(data))
        block[_OF::_VALUE] = data
        ctypes.memmove(made.data, (ctypes.c_char * len(block)).from_buffer(block), len(block))
    into.kind = ffi.WASMTIME_COMPONENT_LIST.value
    into.of.list = made


def _sized(at: int) -> tuple[int, int]:
    """Return how many there are of what a value holds, and where."""
    return ctypes.c_size_t.from_address(at + _OF).value, ctypes.c_size_t.from_address(at + _OF + 8).value


def _bytes_of(at: int) -> bytes:
    """Return the bytes of a list of them."""
    count, data = _sized(at)
    return ctypes.string_at(data, count * _VALUE)[_OF::_VALUE] if count else b""


def _text_of(at: int) -> str:
    count, data = _sized(at)
    return ctypes.string_at(data, count).decode() if count else ""


def _put_optional(into: Value, data: bytes | None) -> None:
    into.kind = ffi.WASMTIME_COMPONENT_OPTION.value
    into.of.option = None
    if data is not None:
        held = ffi.wasmtime_component_val_t()
        _put_bytes(held, data)
        into.of.option = ffi.wasmtime_component_val_new(ctypes.byref(held))


def _put_text(into: Value, text: str) -> None:
    into.kind = ffi.WASMTIME_COMPONENT_STRING.value
    into.of.string = ffi.str_to_capi(text)


def _put_float(into: Value, value: float) -> None:
    into.kind = ffi.WASMTIME_COMPONENT_F64.value
    into.of.f64 = value


def _put_s32(into: Value, value: int) -> None:
    into.kind = ffi.WASMTIME_COMPONENT_S32.value
    into.of.s32 = value


# -- what the host offers


def _change(verb: str) -> Callable[..., None]:
    def change(work: Work, cell: str, key: bytes, value: bytes | None = None) -> None:
        change_cell(work, verb, cell, key, value)

    return change


_CELL_KEY, _CELL_KEY_VALUE = (_text_of, _bytes_of), (_text_of, _bytes_of, _bytes_of)

_FUNCTIONS: dict[str, tuple[tuple[Callable[[int], Any], ...], Callable[..., None] | None, Callable[..., Any]]] = {
    "get": (_CELL_KEY, _put_optional, value_in),
    "put": (_CELL_KEY_VALUE, None, _change("put")),
    "delete": (_CELL_KEY, None, _change("delete")),
    "add": (_CELL_KEY_VALUE, None, _change("add")),
    "remove": (_CELL_KEY_VALUE, None, _change("remove")),
    "clock_s": ((), _put_float, lambda work: work.clock_s()),
    "deadline_s": ((), _put_float, lambda work: work.deadline_s()),
    "round": ((), _put_s32, lambda work: work.round()),
    "request_id": ((), _put_text, lambda work: work.request_id()),
    "log": ((_text_of,), None, lambda work, line: work.log(line)),
}
"""As `FUNCTIONS` of modules: how each argument is read, how the result is written, and what is done."""
assert _FUNCTIONS.keys() == FUNCTIONS.keys(), "modules and components are offered the same"


def _callback(take: tuple[Callable[[int], Any], ...], give: Callable[..., None] | None, do: Callable[..., Any]) -> Any:
    def call(_: int, context: Any, kind: Any, arguments: Any, count: int, results: Any, result_count: int) -> int:
        guest = None
        try:
            guest = guest_of(ctypes.cast(context, ctypes.c_void_p).value or 0)
            at = ctypes.cast(arguments, ctypes.c_void_p).value or 0
            value = do(guest.work, *(each(at + _VALUE * index) for index, each in enumerate(take)))
            if give is not None:
                give(results[0], value)
        except BaseException as error:
            if guest is not None:
                guest.error = error
            return new_error(b"its host refused")
        return 0

    return ffi.wasmtime_component_func_callback_t(call)


_CALLBACKS = {name.replace("_", "-"): _callback(*about) for name, about in _FUNCTIONS.items()}
_NO_FINALIZER = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))


def _linker(program: Component) -> wit.Linker:
    """Return a linker with what the host offers; all else that the component imports is a trap when it is called."""
    linker = wit.Linker(program.engine.wasmtime)
    with linker.root() as root, root.add_instance(INTERFACE) as interface:
        for name, callback in _CALLBACKS.items():
            data = name.encode()
            error: Any = ffi.wasmtime_component_linker_instance_add_func(
                interface.ptr(), ctypes.create_string_buffer(data), len(data), callback, None, _NO_FINALIZER
            )
            assert not error, "these names are ours, and each is defined once"
    linker.define_unknown_imports_as_traps(program.component)
    return linker
