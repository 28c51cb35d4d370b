"""A WASM function as a value: what stands in a stream, wherever a Python function or operator may stand."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from actorflow.errors import ContractError, ModuleError, WasmError, summary
from actorflow.plan.cells import Access
from actorflow.plan.foreign import Foreign, ForeignOperator, Shape
from actorflow.wasm.calling import Caller, Contract, Failed, caller_of
from actorflow.wasm.components import Component, is_component
from actorflow.wasm.engine import TICK_S
from actorflow.wasm.guest import Guest
from actorflow.wasm.hosting import NOBODY, Work, log
from actorflow.wasm.program import Program, Sandbox

_programs: weakref.WeakValueDictionary[str, Program] = weakref.WeakValueDictionary()
ACCESSES = frozenset({"owned", "merged", "snapshot"})


def program_of(code: bytes, *, where: str) -> Program:
    """Return a compiled module; the same one for the same bytes. Raises: ModuleError."""
    import hashlib

    digest = hashlib.sha256(code).hexdigest()
    program = _programs.get(digest)
    if program is None or program.where != where:
        program = _programs[digest] = Component(code, where=where) if is_component(code) else Program(code, where=where)
    return program


def program_at(path: Path) -> Program:
    """Return the module in a file. Raises: ModuleError."""
    try:
        code = path.read_bytes()
    except OSError as error:
        raise ModuleError(f"{path} cannot be read: {error.strerror}", module=str(path)) from None
    return program_of(code, where=path.name)


class WasmFunction(Foreign):
    """An export of a module, with its sandbox and the cells that it may touch.

    threads: how many batches run beside the event loop at once; order within a request is kept. 0: what takes longer
    than a slice runs in one thread.   unsigned: i64 are numbers from 0 to 2^64 - 1.
    """

    make_operator: ClassVar[staticmethod[[WasmFunction, Shape], type[ForeignOperator]]]
    """Set where operators are known: they know functions."""

    def __init__(
        self,
        program: Program,
        export: str,
        *,
        reference: str,
        cells: Mapping[str, Access] | None = None,
        threads: int = 0,
        unsigned: bool = False,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.export = export
        self.reference = reference
        self.__name__ = export
        self.cells = dict(cells or {})
        self.threads = threads
        self.unsigned = unsigned
        self.sandbox = sandbox or Sandbox()
        self.caller: Caller = caller_of(program, export, unsigned=unsigned)
        program.linked(self.sandbox)
        self._operators: dict[Shape, type[ForeignOperator]] = {}
        self._here = threading.local()
        self.pace = Pace()
        if threads < 0:
            raise ValueError(f"threads={threads}: a number of threads is 0 or more")
        if self.cells and not isinstance(self.caller, Contract):
            raise ModuleError(
                f"{reference}: cells= is for functions that take batches; this one gives a value and knows no cells",
                module=reference,
            )
        for name, access in self.cells.items():
            if not isinstance(access, Access) or access.how not in ACCESSES:
                raise TypeError(
                    f"{reference}: cells[{name!r}] is {summary(access)}; a WASM function has owned, merged or snapshot "
                    "access, such as stock.owned()"
                )

    @property
    def program(self) -> Program:
        """Return the module, as it is now."""
        return self.caller.program

    @property
    def options(self) -> Mapping[str, Any]:
        usual, given = Sandbox(), {}
        for name in Sandbox.__dataclass_fields__:
            if (value := getattr(self.sandbox, name)) != getattr(usual, name):
                given[name] = list(value) if isinstance(value, tuple) else value
        if self.threads:
            given["threads"] = self.threads
        if self.unsigned:
            given["unsigned"] = True
        return given

    def operator(self, shape: Shape) -> type[ForeignOperator]:
        found = self._operators.get(shape)
        if found is None:
            found = self._operators[shape] = self.make_operator(self, shape)
        return found

    def __call__(self, *values: Any) -> Any:
        """Call the function for its value, here and now: keys, folds, choices. It may take a slice.

        Raises: WasmError; what a trap is in Python.
        """
        guests: Guests | None = getattr(self._here, "guests", None)
        if guests is None:
            guests = self._here.guests = Guests(self)
        guest = guests.take(NOBODY, self.sandbox.slice_s)
        outcome = self.caller.one(guest, values)
        return value_of(outcome, self.reference) if isinstance(self.caller, Contract) else outcome

    def swap(self, program: Program) -> None:
        """Use another module from the next batch on; its function must be called as the old one is.

        Raises: ModuleError, and nothing has changed.
        """
        caller = caller_of(program, self.export, unsigned=self.unsigned)
        if caller.signature != self.caller.signature:
            raise ModuleError(
                f"{program.where}#{self.export} is called otherwise than before: {caller.signature} instead of "
                f"{self.caller.signature}",
                module=program.where,
            )
        program.linked(self.sandbox)
        self.caller = caller

    def __repr__(self) -> str:
        return f"<{self.reference}>"


class Pace:
    """How long an item of a function takes, as far as is known: what takes longer than a slice runs in a thread."""

    __slots__ = ("item_s",)

    def __init__(self) -> None:
        self.item_s = 0.0

    def took(self, seconds: float, count: int) -> None:
        """Learn from a batch."""
        self.item_s += (seconds / count - self.item_s) * 0.25


class Guests:
    """The guests of one replica, or of one thread that calls a function: kept until they are spent, or out of date."""

    def __init__(self, function: WasmFunction) -> None:
        self._function = function
        self._idle: list[Guest] = []

    def take(self, work: Work, seconds: float) -> Guest:
        """Return a guest with so much time; the first of those that wait, to be there for the next call, too."""
        guest = self.lend(work, seconds)
        self._idle.append(guest)
        return guest

    def lend(self, work: Work, seconds: float) -> Guest:
        """Return a guest that nobody else has until it is given back."""
        while self._idle:
            guest = self._idle.pop()
            if not guest.spent and guest.program is self._function.program:
                break
        else:
            guest = self._function.program.guest(self._function.sandbox)
        guest.work = work
        guest.ticks = int(seconds / TICK_S) + 1
        guest.spare = 0
        return guest

    def give_back(self, guest: Guest) -> None:
        """Keep a guest for the next."""
        guest.work = NOBODY
        if not guest.spent:
            self._idle.append(guest)

    def clear(self) -> None:
        """Let all go."""
        self._idle.clear()


class Lease:
    """The guest of one batch: another one after each that is spent. `stop` ends it from another thread."""

    def __init__(self, guests: Guests, work: Work, seconds: float, *, spare_s: float = 0.0) -> None:
        self._guests = guests
        self._work = work
        self._until_s = time.monotonic() + seconds
        self._stopped = False
        self._guest = guests.lend(work, seconds)
        self._guest.spare = int(spare_s / TICK_S)

    def guest(self) -> Guest:
        """Return the guest."""
        if self._guest.spent:
            left = self._until_s - time.monotonic()
            self._guest = self._guests.lend(self._work, max(left, 0.0))
            self._guest.stopped = self._stopped
        return self._guest

    def stop(self) -> None:
        """End what runs, at the next tick."""
        self._stopped = True
        self._guest.stopped = True

    def end(self) -> None:
        """Give the guest back."""
        self._guests.give_back(self._guest)


def value_of(outcome: Any, where: str) -> Any:
    """Return the one value that an outcome stands for; None where it has none.

    Raises: WasmError that the function gave; ContractError where there is more than a value in it.
    """
    if isinstance(outcome, Failed):
        raise outcome.error
    if type(outcome) is not list:
        return outcome
    values: list[Any] = []
    for verb, argument in pairs_of(outcome, where):
        if verb == ITEMS and type(argument) is list:
            values += argument
        elif verb == ERROR:
            raise error_of(argument, where)
        elif verb == LOG:
            log.info("%s", argument)
        else:
            raise ContractError(f"{where} gave more than a value, where it is called for its value", module=where)
    if len(values) > 1:
        raise ContractError(f"{where} gave {len(values)} values where one is due", module=where)
    return values[0] if values else None


ITEMS, REPLY, FEEDBACK, ERROR, LOG, PUT, DELETE, ADD, REMOVE = range(9)
"""What comes of an item, in an outcome that is an array: each followed by its argument."""


def pairs_of(outcome: list[Any], where: str) -> list[tuple[int, Any]]:
    """Return what an outcome says to do, in order. Raises: ContractError."""
    if len(outcome) % 2:
        raise ContractError(
            f"{where} gave {summary(outcome)}: an outcome is pairs of a verb and its argument", module=where
        )
    pairs = list(zip(outcome[::2], outcome[1::2], strict=True))
    for verb, _ in pairs:
        if type(verb) is not int or not 0 <= verb <= REMOVE:
            raise ContractError(f"{where} gave the verb {summary(verb)}: verbs are 0 to {REMOVE}", module=where)
    return pairs


def error_of(argument: Any, where: str) -> WasmError:
    """Return the error that a function gives for an item: a message, or its type and a message."""
    if type(argument) is list and len(argument) == 2 and all(type(each) is str for each in argument):
        return WasmError(argument[1], module=where, cause_type=argument[0][:200])
    if type(argument) is str:
        return WasmError(argument, module=where)
    raise ContractError(f"{where} gave {summary(argument)} as an error: text is due, or a type and text", module=where)


def pool_of(name: str, threads: int) -> ThreadPoolExecutor:
    """Return the threads of a function."""
    return ThreadPoolExecutor(max(threads, 1), thread_name_prefix=f"actorflow-wasm-{name}")
