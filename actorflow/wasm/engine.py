"""The engine: one wasmtime per process, the modules it has compiled, and the clock that ends what runs too long.

Compiled code is kept on disk, by the hash of the module and of all that it depends on (engine version, settings,
machine): a folder that only its owner may write to, since what is in it is run.

Time is counted in ticks: a thread moves the engine's epoch on every `TICK_S` while WASM runs, and sleeps otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from actorflow.errors import ModuleError
from actorflow.wasm.binary import passes_vectors

try:
    import wasmtime
    from wasmtime import _ffi as ffi
    from wasmtime.component import Component
except ImportError as error:  # pragma: no cover - the extra is installed wherever tests run
    raise ImportError(f"WASM needs wasmtime, which is not here ({error}): pip install 'actorflow[wasm]'") from error

TICK_S = 0.005
"""How exactly time is measured while WASM runs."""
IDLE_TICKS = 200
"""Ticks without a call after which the clock sleeps."""

MODULE_BYTES_MAX = 16 << 20
"""A larger module is refused before it is looked at: compiling takes time and memory in proportion."""
STACK_BYTES = 512 << 10
RESERVATION_BYTES = 1 << 20
"""Address space of a memory at first: what the default takes, 4 GiB, there would be room for a few thousand times."""

LEFT_OUT = ("threads", "memory64", "gc", "function_references", "exceptions", "stack_switching")
"""Proposals that nothing here needs. The types of some make the engine's own words for them end the process."""

Compiled = TypeVar("Compiled", wasmtime.Module, Component)
CHECKSUM_BYTES = hashlib.sha256().digest_size
MAGIC, MODULE_VERSION = b"\0asm", b"\x01\0\0\0"


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES
    config.memory_reservation = RESERVATION_BYTES
    config.memory_guard_size = 0
    config.memory_reservation_for_growth = RESERVATION_BYTES
    config.cranelift_nan_canonicalization = True  # the same result on every machine
    for proposal in LEFT_OUT:
        setattr(config, f"wasm_{proposal}", False)
    return config


class Engine:
    """Compiles modules, keeps the compiled code, and counts time. `ticks`: since it began."""

    def __init__(self) -> None:
        self.wasmtime = wasmtime.Engine(_config())
        self.active = False  # set by whoever calls into WASM, and by each tick in one; the clock forgets it
        self.asleep = True
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._clock: threading.Thread | None = None
        version = importlib.metadata.version("wasmtime")
        settings = (version, platform.machine(), RESERVATION_BYTES, STACK_BYTES, LEFT_OUT, "checksum first")
        self._cache = cache_folder() / hashlib.sha256(repr(settings).encode()).hexdigest()[:16]

    # -- modules

    def compile(self, code: bytes, digest: str, *, where: str) -> wasmtime.Module:
        """Return a module, from the cache where it was compiled before. Raises: ModuleError."""
        check_module(code, where=where)
        return self.compiled(wasmtime.Module, code, digest, where=where)

    def compiled(self, kind: type[Compiled], code: bytes, digest: str, *, where: str) -> Compiled:
        """Return a module, or a component, whose size has been checked. Raises: ModuleError."""
        kept = self._cache / f"{digest}.cwasm"
        if is_private(self._cache) and kept.exists():
            # what is damaged, or of another build of the same version, is compiled anew
            with contextlib.suppress(wasmtime.WasmtimeError, OSError):
                data = kept.read_bytes()
                if hashlib.sha256(data[CHECKSUM_BYTES:]).digest() == data[:CHECKSUM_BYTES]:
                    return kind.deserialize(self.wasmtime, data[CHECKSUM_BYTES:])
        try:
            module = kind(self.wasmtime, code)
        except wasmtime.WasmtimeError as error:
            raise ModuleError(f"{where} is not a valid WASM module: {one_line(error)}", module=where) from None
        with contextlib.suppress(OSError, wasmtime.WasmtimeError):  # a cache is no duty
            self._keep(kept, bytes(module.serialize()))
        return module

    def _keep(self, path: Path, code: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_private(path.parent):
            return
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        Path(name).replace(path)  # whole, or not at all

    # -- time

    def awaken(self) -> None:
        """Let the clock tick: WASM is about to run."""
        self.active = True  # before the look at `asleep`: the clock looks at the two the other way round
        if self.asleep:
            self.wake()

    def wake(self) -> None:
        """Let a clock that sleeps go on, or begin."""
        with self._lock:
            self.asleep = False
            if self._clock is None or not self._clock.is_alive():
                self._clock = threading.Thread(target=self._tick, name="actorflow-wasm-clock", daemon=True)
                self._clock.start()
            self._wake.set()

    def _tick(self) -> None:
        idle = 0
        while True:
            time.sleep(TICK_S)
            self.wasmtime.increment_epoch()
            if self.active:
                self.active = False
                idle = 0
            else:
                idle += 1
            if idle > IDLE_TICKS:
                with self._lock:
                    self._wake.clear()
                    self.asleep = True
                if self.active:  # who came just now may have looked at `asleep` before it was set
                    self.asleep = False
                else:
                    self._wake.wait()
                idle = 0


_LOCK = threading.Lock()
_engine: Engine | None = None


def engine() -> Engine:
    """Return the engine of this process."""
    global _engine  # noqa: PLW0603 - made when it is first needed
    with _LOCK:
        if _engine is None:
            _engine = Engine()
        return _engine


def check_module(code: bytes, *, where: str) -> None:
    """Refuse what is no core module, or too large. Raises: ModuleError."""
    if len(code) > MODULE_BYTES_MAX:
        said = f"{where} has {len(code):,} bytes, and a module may have {MODULE_BYTES_MAX:,}"
        raise ModuleError(said, module=where)
    if code[:4] != MAGIC:
        raise ModuleError(f"{where} is not a WASM module: it begins with {code[:4]!r}", module=where)
    if code[4:8] != MODULE_VERSION:
        raise ModuleError(f"{where} is WASM of version {code[4:8].hex()}, not a core module of version 1", module=where)
    try:
        vectors = passes_vectors(code)
    except ValueError as error:
        raise ModuleError(f"{where} is not a valid WASM module: {error}", module=where) from None
    if vectors:  # the engine's own word for their type ends the process
        said = "a function in it takes or gives v128 (SIMD may be used inside of functions)"
        raise ModuleError(f"{where} cannot be used: {said}", module=where)


def cache_folder() -> Path:
    """Return where compiled code is kept: ACTORFLOW_CACHE, or the user's cache folder."""
    given = os.environ.get("ACTORFLOW_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actorflow"


def is_private(folder: Path) -> bool:
    """Return whether a folder is there and nobody but its owner, who is us, may write into it."""
    try:
        about = folder.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    return folder.is_dir() and not folder.is_symlink() and mine and not about.st_mode & 0o022


def one_line(error: BaseException, most: int = 300) -> str:
    """Return the words of an error of the engine."""
    words = " ".join(str(error).split())
    return words if len(words) <= most else words[: most - 1] + "…"


# -- C entry points: a call by the Python ones takes 20 µs and more, by these one or less

_library = ctypes.CDLL(str(ffi.filename))


def _entry(name: str, result: type | None, *arguments: type) -> Callable[..., int]:
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    entry: Callable[..., int] = function
    return entry


_POINTER = ctypes.c_void_p
call_function = _entry(
    "wasmtime_func_call_unchecked", _POINTER, _POINTER, _POINTER, _POINTER, ctypes.c_size_t, _POINTER
)
"""(context, function, arguments and results, how many, trap) → error."""
memory_data = _entry("wasmtime_memory_data", _POINTER, _POINTER, _POINTER)
memory_size = _entry("wasmtime_memory_data_size", ctypes.c_size_t, _POINTER, _POINTER)
caller_context = _entry("wasmtime_caller_context", _POINTER, _POINTER)
at_each_tick = _entry("wasmtime_store_epoch_deadline_callback", None, _POINTER, _POINTER, _POINTER, _POINTER)
"""(store, function, number, finalizer)."""
define_function = _entry(
    "wasmtime_linker_define_func_unchecked",
    _POINTER, _POINTER, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, *(_POINTER,) * 4,
)  # fmt: skip
"""(linker, module, its length, name, its length, type, function, environment, finalizer) → error."""
new_trap = _entry("wasmtime_trap_new", _POINTER, ctypes.c_char_p, ctypes.c_size_t)
new_error = _entry("wasmtime_error_new", _POINTER, ctypes.c_char_p)

VALUE_BYTES = ctypes.sizeof(ffi.wasmtime_val_raw_t)
