"""A WASM function as a value: what stands in a stream, wherever a Python function or operator may stand."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actorflow.errors import ModuleError, summary
from actorflow.plan.cells import Access
from actorflow.plan.foreign import Foreign, ForeignOperator, Shape
from actorflow.wasm.calling import Caller, Contract, caller_of
from actorflow.wasm.components import Component, is_component
from actorflow.wasm.hosting import NOBODY
from actorflow.wasm.lending import Guests, Pace
from actorflow.wasm.operator import OPERATOR_MEMBERS, operator_of
from actorflow.wasm.outcomes import value_of
from actorflow.wasm.program import Program, Sandbox

_programs: weakref.WeakValueDictionary[str, Program] = weakref.WeakValueDictionary()
THREADS_MAX = 64
ACCESSES = frozenset({"owned", "merged", "snapshot"})


def program_of(code: bytes, *, where: str) -> Program:
    """Return a compiled module; the same one for the same bytes. Raises: ModuleError."""
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
        if not isinstance(threads, int) or isinstance(threads, bool) or not 0 <= threads <= THREADS_MAX:
            raise ValueError(f"threads={threads!r}: a number of threads is a whole number from 0 to {THREADS_MAX}")
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
        if self.cells and not isinstance(self.caller, Contract):
            raise ModuleError(
                f"{reference}: cells= is for functions of batches, (pointer: i32, length: i32) → i64, in a module "
                f"that exports actorflow_alloc; this one takes ({', '.join(self.caller.signature.params)}) and gives "
                f"{self.caller.signature.result}",
                module=reference,
            )
        for name, access in self.cells.items():
            if name.startswith("_") or hasattr(ForeignOperator, name) or name in OPERATOR_MEMBERS:
                raise ValueError(f"{reference}: {name!r} is a name of the operator's own: call the cell otherwise")
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
            found = self._operators[shape] = operator_of(self, shape)
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
        self.caller = self.check_swap(program)

    def check_swap(self, program: Program) -> Caller:
        """Return how the function of another module is called. Raises: ModuleError where it cannot take the place."""
        caller = caller_of(program, self.export, unsigned=self.unsigned)
        if caller.signature != self.caller.signature:
            raise ModuleError(
                f"{program.where}#{self.export} is called otherwise than before: {caller.signature} instead of "
                f"{self.caller.signature}",
                module=program.where,
            )
        program.linked(self.sandbox)
        return caller

    def __repr__(self) -> str:
        return f"<{self.reference}>"
