"""How functions are called, by their signature: with numbers, with bytes, or with batches as the contract says.

`many` gives an outcome for each item, in order; of an item that failed it is a `Failed`. A tuple has none of these,
and nothing but values. Guests come from where the
caller keeps them: after a trap the next item needs a new one.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

from actorflow.errors import ContractError, TrapError, WasmTimeoutError, summary
from actorflow.wasm.compiler.traps import MESSAGES, TRAP_GLOBAL, trap_of
from actorflow.wasm.driver import SLOT, Driver, items_at_once
from actorflow.wasm.guest import Guest
from actorflow.wasm.program import Program, Signature
from actorflow.wasm.values import from_guest, to_guest

FAILURES = (Exception,)
_MASK = (1 << 64) - 1


class Failed:
    """The outcome of an item that failed."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Guests(Protocol):
    """Where a call has its guest from."""

    def guest(self) -> Guest:
        """Return a guest that is not spent, the same as before where that is one."""


class Caller:
    """How one function of a program is called."""

    def __init__(self, program: Program, export: str, signature: Signature) -> None:
        self.program = program
        self.export = export
        self.signature = signature

    def one(self, guest: Guest, values: Sequence[Any]) -> Any:
        """Call the function with some values."""
        raise NotImplementedError

    def many(self, guests: Guests, items: list[Any]) -> Sequence[Any]:
        """Return the outcome of each item; what takes too long ends all of them. Raises: WasmTimeoutError."""
        return [self._outcome(guests, item) for item in items]

    def _outcome(self, guests: Guests, item: Any) -> Any:
        try:
            return self.one(guests.guest(), self.spread(item))
        except WasmTimeoutError:
            raise
        except FAILURES as error:
            return Failed(error)

    def spread(self, item: Any) -> Sequence[Any]:
        """Return the arguments that an item stands for: itself, or its parts where the function takes several."""
        count = len(self.signature.params)
        if count == 1:
            return (item,)
        if not isinstance(item, (list, tuple)) or len(item) != count:
            raise TypeError(f"{self.program.where}#{self.export} takes {count} values in a list, not {summary(item)}")
        return item

    def _wrong(self, values: Sequence[Any]) -> TypeError:
        taken = ", ".join(map(self.in_words, self.signature.params))
        given = ", ".join(map(summary, values))
        return TypeError(f"{self.program.where}#{self.export} takes ({taken}), not ({given})")

    def in_words(self, kind: str) -> str:
        """Return how Python calls a kind of values."""
        bits = kind[1:]
        return {"i": f"int of {bits} bits", "f": "float"}.get(kind[0], kind)


class Direct(Caller):
    """A function of numbers, and of bytes that it only reads: called with its values as they are."""

    def __init__(self, program: Program, export: str, signature: Signature, *, unsigned: bool = False) -> None:
        super().__init__(program, export, signature)
        self._unsigned = unsigned
        self._reads_bytes = "bytes" in signature.params
        self._plainly = signature.params in {("i64",), ("i64", "i64")} and signature.result == "i64" and not unsigned

    def one(self, guest: Guest, values: Sequence[Any]) -> Any:
        if self._plainly and len(values) == len(self.signature.params):  # most functions of numbers: keys, folds
            slots = guest.integers
            try:
                slots[0] = values[0]
                slots[2] = values[-1]
            except (TypeError, ValueError):
                raise self._wrong(values) from None
            count = 2
        else:
            count = self._put_all(guest, values)
        try:
            guest.call(guest.function(self.export), count)
        except TrapError as error:
            raise named(guest, error) from None
        return guest.integers[0] if self._plainly else self._result(guest)

    def _put_all(self, guest: Guest, values: Sequence[Any]) -> int:
        """Put arguments where the function finds them; return how many slots they take. Raises: TypeError."""
        if len(values) != len(self.signature.params):
            raise self._wrong(values)
        slot, room = 0, _heap_of(guest) if self._reads_bytes else 0
        try:
            for kind, value in zip(self.signature.params, values, strict=True):
                if kind == "bytes":
                    value = value.encode() if isinstance(value, str) else value
                    if not isinstance(value, (bytes, bytearray)):
                        raise self._wrong(values)
                    value = bytes(value)
                    guest.grow_to(room + len(value))
                    guest.write(room, value)
                    guest.integers[2 * slot], guest.integers[2 * slot + 2] = room, len(value)
                    slot, room = slot + 2, room + len(value)
                    continue
                self._put(guest, slot, kind, value)
                slot += 1
        except (TypeError, ValueError, struct.error):
            raise self._wrong(values) from None
        return max(slot, 1)

    def _put(self, guest: Guest, slot: int, kind: str, value: Any) -> None:
        if kind == "f64":
            guest.floats[2 * slot] = value
        elif kind == "f32":
            struct.pack_into("<f", guest.integers.cast("B"), 16 * slot, value)
        elif kind == "i64":
            guest.integers[2 * slot] = value - (1 << 64) if self._unsigned and value >> 63 == 1 else value
        elif kind == "bool":
            guest.integers[2 * slot] = bool(value)
        else:
            if not -(1 << 31) <= value < 1 << 32:
                raise ValueError(value)
            guest.integers[2 * slot] = value & 0xFFFFFFFF

    def _result(self, guest: Guest) -> Any:
        kind = self.signature.result
        if kind == "f64":
            return guest.floats[0]
        if kind == "f32":
            return struct.unpack_from("<f", guest.integers.cast("B"))[0]
        value = guest.integers[0]
        if kind == "i64":
            return value & _MASK if self._unsigned else value
        value &= 0xFFFFFFFF
        return bool(value) if kind == "bool" else value - (value >> 31 << 32)


class Numbers(Direct):
    """A function of numbers: a batch of items is one call of a loop around it."""

    def __init__(self, program: Program, export: str, signature: Signature, *, unsigned: bool = False) -> None:
        super().__init__(program, export, signature, unsigned=unsigned)
        integer = "Q" if unsigned else "q"
        formats = {"i32": "i4x", "i64": integer, "f32": "f4x", "f64": "d", "bool": "?7x"}
        taken, given = "".join(formats[each] for each in signature.params), formats[signature.result]
        self._format = taken, {"i4x": "q", "f4x": "d", "?7x": "q"}.get(given, given)
        self._at_once = items_at_once(signature)

    def many(self, guests: Guests, items: list[Any]) -> Sequence[Any]:
        if len(items) <= self._at_once:
            driver = self._driver(guests.guest())
            with contextlib.suppress(struct.error, TypeError, OverflowError, TrapError):
                return self._unpacked(driver.run(self._packed(items), len(items)), len(items))
        made: list[Any] = []  # there are too many for one call, or one of them is at fault
        at = 0
        while at < len(items):
            guest = guests.guest()
            driver = self._driver(guest)
            some = items[at : at + self._at_once]
            try:
                arguments = self._packed(some)
            except (struct.error, TypeError, OverflowError):
                made += super().many(guests, some)  # one of them is no number: that one only fails
                at += len(some)
                continue
            try:
                made += self._unpacked(driver.run(arguments, len(some)), len(some))
                at += len(some)
            except TrapError as error:
                done, results = driver.done()
                made += self._unpacked(results, done)
                made.append(Failed(named(guest, error)))
                at += done + 1
        return made

    def _driver(self, guest: Guest) -> Driver:
        driver = guest.drivers.get(self.export)
        if driver is None:
            driver = guest.drivers[self.export] = Driver(guest, self.export, self.signature)
        return driver

    def _packed(self, items: list[Any]) -> bytes:
        taken, count = self._format[0], len(self.signature.params)
        if count > 1:
            if set(map(len, items)) != {count}:
                raise TypeError
            return _struct(taken, len(items)).pack(*chain.from_iterable(items))
        return _struct(taken, len(items)).pack(*items)

    def _unpacked(self, results: bytes, count: int) -> Sequence[Any]:
        values = _struct(self._format[1], count).unpack(results)
        return tuple(map(bool, values)) if self.signature.result == "bool" else values


@functools.lru_cache(256)
def _struct(form: str, count: int) -> struct.Struct:
    return struct.Struct("<" + form * count if len(form) > 1 else f"<{count}{form}")


class Bytes(Caller):
    """A function of bytes: put behind all that the module itself uses. Text goes as UTF-8, and comes as text."""

    def one(self, guest: Guest, values: Sequence[Any]) -> Any:
        if len(values) != 1 or not isinstance(values[0], (bytes, bytearray, str)):
            raise self._wrong(values)
        data = values[0].encode() if isinstance(values[0], str) else bytes(values[0])
        room = _heap_of(guest)
        guest.grow_to(room + len(data))
        guest.write(room, data)
        guest.integers[0], guest.integers[2] = room, len(data)
        guest.call(guest.function(self.export), 2)
        made = guest.read(*_where(guest.integers[0]))
        if not isinstance(values[0], str):
            return made
        try:
            return made.decode()
        except UnicodeDecodeError as error:
            said = f"{self.program.where}#{self.export} gave bytes that are no text: {error}"
            raise ContractError(said, module=self.program.where) from None


class Contract(Caller):
    """A function of batches: see `docs/contract.md`. An outcome is what it gave for an item, as plain values."""

    def one(self, guest: Guest, values: Sequence[Any]) -> Any:
        item = values[0] if len(values) == 1 else list(values)
        return self._batch(guest, [item])[0]

    def many(self, guests: Guests, items: list[Any]) -> Sequence[Any]:
        if len(items) > 1:
            try:
                return self._batch(guests.guest(), items)
            except WasmTimeoutError:
                raise
            except FAILURES:
                pass  # one of them is at fault, or what came of it: each by itself
        return [self._alone(guests, item) for item in items]

    def _alone(self, guests: Guests, item: Any) -> Any:
        try:
            return self._batch(guests.guest(), [item])[0]
        except WasmTimeoutError:
            raise
        except FAILURES as error:
            return Failed(error)

    def _batch(self, guest: Guest, items: list[Any]) -> list[Any]:
        given = guest.batch(self.export, to_guest(items))
        try:
            outcomes = from_guest(given)
        except ContractError:
            guest.spent = True
            raise
        if type(outcomes) is not list or len(outcomes) != len(items):
            seen = f"{len(outcomes)} outcomes" if type(outcomes) is list else summary(outcomes)
            guest.spent = True
            said = f"{self.program.where}#{self.export} gave {seen} for {len(items)} items: an array of as many was due"
            raise ContractError(said, module=self.program.where)
        return outcomes


def _where(packed: int) -> tuple[int, int]:
    """Return pointer and length of what a function gives as one number."""
    return packed >> 32 & 0xFFFFFFFF, packed & 0xFFFFFFFF


def _heap_of(guest: Guest) -> int:
    """Return from where on the memory is nobody's."""
    if guest.heap is None:
        declared = guest.global_value("__heap_base")
        guest.heap = guest.memory_bytes() if declared is None else declared & 0xFFFFFFFF
    return guest.heap


Named = Callable[[int], Exception | None]


def named(guest: Guest, error: TrapError) -> Exception:
    """Return what a trap is in Python, where the module says so: those compiled from Python do."""
    code = guest.global_value(TRAP_GLOBAL)
    found = trap_of(code) if code else None
    if code is None or found is None:
        return error
    kind, line = found
    return kind(f"{MESSAGES[code & 0xFF]} ({guest.program.where}, line {line})")


def caller_of(program: Program, export: str, *, unsigned: bool = False) -> Caller:
    """Return how a function is called. Raises: ModuleError."""
    signature = program.signature(export)
    if signature.contract:
        return Contract(program, export, signature)
    if signature == Signature(("bytes",), "bytes"):
        return Bytes(program, export, signature)
    kind = Numbers if signature.scalar else Direct
    return kind(program, export, signature, unsigned=unsigned)


__all__ = ["SLOT", "Caller", "Contract", "Failed", "Guests", "caller_of"]
