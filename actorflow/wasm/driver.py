"""A loop around a function of numbers, itself in WASM: a batch costs one call.

The loop is a module of its own, made for a signature, in the guest's store. Arguments lie in its memory item by item,
eight bytes each; a result takes the place of its item's first argument, which has been read by then.
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

import wasmtime

from actorflow.wasm.engine import engine, memory_data

if TYPE_CHECKING:
    from actorflow.wasm.guest import Guest
    from actorflow.wasm.program import Signature

SLOT = 8
MEMORY_BYTES = 65_536
DONE_AT = MEMORY_BYTES - 4
"""Where the loop keeps which item it is at: after a trap, that one was it."""
_TYPE = {"bool": "i32"}
_WIDEN = {"i32": "i64.extend_i32_s", "bool": "i64.extend_i32_u", "f32": "f64.promote_f32"}


def items_at_once(signature: Signature) -> int:
    """Return how many items there is room for."""
    return DONE_AT // SLOT // len(signature.params)


@functools.cache
def _module(signature: Signature) -> wasmtime.Module:
    kinds = [_TYPE.get(each, each) for each in signature.params]
    result = _TYPE.get(signature.result, signature.result)
    loads = " ".join(
        f"({kind}.load offset={SLOT * index} (local.get $from))" for index, kind in enumerate(kinds)
    )  # fmt: skip
    widen = _WIDEN.get(signature.result)
    value = f"(call $f {loads})"
    stored = "f64" if result in {"f32", "f64"} else "i64"
    text = f"""
      (module
        (import "guest" "f" (func $f (param {" ".join(kinds)}) (result {result})))
        (memory (export "memory") 1 1)
        (func (export "run") (param $count i32) (local $from i32) (local $to i32) (local $index i32)
          (loop $next
            (i32.store (i32.const {DONE_AT}) (local.get $index))
            ({stored}.store (local.get $to) {f"({widen} {value})" if widen else value})
            (local.set $to (i32.add (local.get $to) (i32.const {SLOT})))
            (local.set $from (i32.add (local.get $from) (i32.const {SLOT * len(kinds)})))
            (br_if $next (i32.lt_u
              (local.tee $index (i32.add (local.get $index) (i32.const 1))) (local.get $count))))))
    """
    return wasmtime.Module(engine().wasmtime, text)


class Driver:
    """The loop around one function of one guest."""

    __slots__ = ("_base", "_guest", "_instance", "_run", "_run_at")

    def __init__(self, guest: Guest, export: str, signature: Signature) -> None:
        self._guest = guest
        self._instance = wasmtime.Instance(guest.store, _module(signature), [guest.export_of(export)])
        exports = self._instance.exports(guest.store)
        memory, self._run = exports["memory"], exports["run"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(self._run, wasmtime.Func)
        self._base = memory_data(guest.context, ctypes.addressof(memory._memory))  # it never grows, so it stays there
        self._run_at = ctypes.addressof(self._run._func)

    def run(self, arguments: bytes, count: int) -> bytes:
        """Call the function for each of `count` items and return the results. Raises: as `Guest.call`."""
        ctypes.memmove(self._base, arguments, len(arguments))
        guest = self._guest
        guest.integers[0] = count
        guest.call(self._run_at, 1)
        return ctypes.string_at(self._base, SLOT * count)

    def done(self) -> tuple[int, bytes]:
        """Return how many items were done when the call ended, and their results."""
        count = ctypes.c_uint32.from_address(self._base + DONE_AT).value
        return count, ctypes.string_at(self._base, SLOT * count)
