"""The operator that a WASM function is: batches on the event loop while they are quick, in threads when they are not.

A function that touches no cell gets whole batches, and each item is a transaction of its own all the same: what comes
of one that failed is dropped. One that does touches them item by item, each an activation, under the same locks and
overlays as a Python operator.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from typing import Any, ClassVar

import msgspec

from actorflow.errors import AccessError, CellTypeError, ContractError, WasmTimeoutError, summary
from actorflow.plan.foreign import ForeignOperator, Shape
from actorflow.plan.operator import ItemError
from actorflow.wasm import function as functions
from actorflow.wasm.calling import Contract, Failed
from actorflow.wasm.engine import Running
from actorflow.wasm.function import Guests, Lease, WasmFunction, error_of, pairs_of, value_of
from actorflow.wasm.hosting import NOBODY, OURS, log
from actorflow.wasm.values import hashable

ABSENT: Any = object()


class Foreigner(ForeignOperator):
    """What all operators in WASM share: guests, threads, and the choice between loop and thread."""

    foreign: ClassVar[WasmFunction]  # that of this room

    def __init__(self) -> None:
        self._guests = Guests(self.foreign)
        self._threads: list[ThreadPoolExecutor] = []  # none before it is needed

    def start(self) -> None:
        """Refuse what cannot run before any request comes."""
        self._guests.give_back(self._guests.lend(NOBODY, self.foreign.sandbox.batch_s))

    def stop(self) -> None:
        self._guests.clear()
        for threads in self._threads:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _outcomes(self, items: list[Any]) -> list[Any]:
        """Return the outcome of each item."""
        function = self.foreign
        sandbox, pace = function.sandbox, function.pace
        if pace.item_s * len(items) <= sandbox.slice_s:
            began = time.perf_counter()
            work = Activated(self)
            slice_s = min(sandbox.slice_s, sandbox.batch_s)
            spare_s = max(min(sandbox.batch_s, work.deadline_s()) - slice_s, 0.0) if function.cells else 0.0
            lease = Lease(self._guests, work, slice_s, spare_s=spare_s)
            try:
                outcomes = function.caller.many(lease, items)
            except WasmTimeoutError:
                pace.item_s = max(pace.item_s, 2 * sandbox.slice_s / len(items))
                if work.changed or sandbox.batch_s <= sandbox.slice_s:
                    raise
            else:
                pace.took(time.perf_counter() - began, len(items))
                return outcomes
            finally:
                lease.end()
        parts = function.threads if function.threads > 1 and len(items) > 1 else 1
        if parts == 1:
            return await self._in_thread(items)
        share = -(-len(items) // parts)
        some = (items[at : at + share] for at in range(0, len(items), share))
        done = await asyncio.gather(*map(self._in_thread, some))
        return [outcome for outcomes in done for outcome in outcomes]

    async def _in_thread(self, items: list[Any]) -> list[Any]:
        """Return the outcome of each item, computed beside the event loop; who gives up waiting ends it."""
        function = self.foreign
        work = Activated(self)
        seconds = min(function.sandbox.batch_s, max(work.deadline_s(), 0.0))
        if not self._threads:
            self._threads.append(functions.pool_of(function.export, function.threads))
        lease = Lease(self._guests, work, seconds)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads[0], _run, function, lease, items)
        except BaseException:
            lease.stop()
            raise

    # -- what came of an item

    def _apply(self, outcome: Any) -> None:
        """Do what an outcome says. Raises: what it says that it failed with; ContractError."""
        activation = self._activation
        if type(outcome) is not list:
            if outcome is not None:
                activation.out.append(outcome)
            return
        where = self.foreign.reference
        pairs = pairs_of(outcome, where)
        for verb, argument in pairs:
            if verb == functions.ERROR:
                raise error_of(argument, where)
        for verb, argument in pairs:
            if verb == functions.ITEMS:
                if type(argument) is not list:
                    raise ContractError(f"{where} gave {summary(argument)} as items: an array is due", module=where)
                activation.out.extend(argument)
            elif verb == functions.REPLY:
                activation.reply(argument)
            elif verb == functions.FEEDBACK:
                activation.feedback(argument)
            elif verb == functions.LOG:
                Activated(self).log(str(argument))
            else:
                self._change(verb, argument, where)

    def _change(self, verb: int, argument: Any, where: str) -> None:
        name = ("put", "delete", "add", "remove")[verb - functions.PUT]
        parts = 2 if verb == functions.DELETE else 3
        if type(argument) is not list or len(argument) != parts or type(argument[0]) is not str:
            raise ContractError(
                f"{where} gave {summary(argument)} for {name}: an array of cell, key{', value' * (parts > 2)} is due",
                module=where,
            )
        key = hashable(argument[1])
        Activated(self).change(name, argument[0], key, argument[2] if parts > 2 else None)


def _run(function: WasmFunction, lease: Lease, items: list[Any]) -> list[Any]:
    """Call a function in a thread."""
    began = time.perf_counter()
    try:
        with Running():
            outcomes = function.caller.many(lease, items)
    except WasmTimeoutError as error:
        outcomes = [Failed(error)] * len(items)
    finally:
        lease.end()
    function.pace.took(time.perf_counter() - began, len(items))
    return outcomes


class Stateless(Foreigner):
    """A function that touches no cell, as an operator: it is given whole batches."""

    async def process_batch(self, items: list[Any]) -> list[Any]:
        outcomes = await self._outcomes(items)
        if not isinstance(self.foreign.caller, Contract):
            return [ItemError(each.error) if type(each) is Failed else each for each in outcomes]
        results: list[Any] = [None] * len(items)
        for index, outcome in enumerate(outcomes):
            if type(outcome) is Failed:
                results[index] = ItemError(outcome.error)
            elif type(outcome) is not list:
                if outcome is not None:
                    self._activation.out.append(outcome)
            else:
                try:
                    self._apply(outcome)
                except Exception as error:
                    results[index] = ItemError(error)
        return results


class Stateful(Foreigner):
    """A function that touches cells, as an operator: each item is an activation."""

    async def process(self, item: Any) -> None:
        (outcome,) = await self._outcomes([item])
        if type(outcome) is Failed:
            raise outcome.error
        self._apply(outcome)


class Shaped(Foreigner):
    """A function in `map`, `filter` or `flat_map`: what it gives is a value, a choice, or values."""

    async def process_batch(self, items: list[Any]) -> list[Any]:
        outcomes = await self._outcomes(items)
        values, results = self._values(outcomes)
        if self.shape == "filter":
            made = list(compress(items, values))
        elif self.shape == "map":
            made = values
        else:
            made = [each for some in values for each in some]
        self._activation.out.extend(made)
        return results

    def _values(self, outcomes: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return what each outcome is worth, and the errors in the places of items that failed."""
        if set(map(type, outcomes)) <= _VALUES:
            return list(outcomes), []
        values: list[Any] = []
        results: list[Any] = [None] * len(outcomes)
        nothing: Any = [] if self.shape == "flat_map" else False
        for index, outcome in enumerate(outcomes):
            try:
                values.append(self._value(outcome))
            except Exception as error:
                results[index] = ItemError(error)
                if self.shape != "map":
                    values.append(nothing)
        return values, results

    def _value(self, outcome: Any) -> Any:
        where = self.foreign.reference
        if self.shape != "flat_map" or type(outcome) is not list:
            value = value_of(outcome, where)
            return value if self.shape != "flat_map" else [] if value is None else [value]
        made: list[Any] = []
        for verb, argument in pairs_of(outcome, where):
            if verb == functions.ITEMS and type(argument) is list:
                made += argument
            else:
                value_of([verb, argument], where)
        return made


_VALUES = frozenset({int, float, bool, str, bytes, dict})
"""Of outcomes that are what they are worth, in `map` and `filter`; `flat_map` looks at each."""


class Activated:
    """What a guest works for: the activation of an operator, with the cells that it declares."""

    __slots__ = ("_operator", "changed")

    def __init__(self, operator: Foreigner) -> None:
        self._operator = operator
        self.changed = False

    def get(self, cell: str, key: Any) -> tuple[Any, ...]:
        access, handle = self._handle(cell, key)
        found = _READ[access.cell.kind](handle, _typed(key, access.cell.key_type, cell))
        return () if found is ABSENT else (found,)

    def change(self, verb: str, cell: str, key: Any, value: Any) -> None:
        access, handle = self._handle(cell, key)
        kind = access.cell.kind
        do = _CHANGE.get((kind, verb))
        if do is None:
            known = ", ".join(each for of, each in _CHANGE if of == kind)
            raise AccessError(
                f"{self._operator.foreign.reference}: a {kind} such as {cell!r} has {known}, no {verb}", cell=cell
            )
        if (kind, verb) == ("map", "add"):
            if type(value) is not list or len(value) != 2:
                said = f"add to a map such as {cell!r} is given a field and a value in an array, not {summary(value)}"
                raise ContractError(said, module=self._operator.foreign.reference)
            value = [value[0], _typed(value[1], access.cell.value_type, cell)]
        else:
            value = _typed(value, access.cell.value_type, cell, verb)
        self.changed = True
        do(handle, _typed(key, access.cell.key_type, cell), value)

    def _handle(self, cell: str, key: Any) -> tuple[Any, Any]:
        function = self._operator.foreign
        access = function.cells.get(cell)
        if access is None:
            known = ", ".join(function.cells) or "none"
            raise AccessError(
                f"{function.reference} touches cell {cell!r}, which it does not declare ({known})", cell=cell
            )
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
        operator = self._operator
        request = operator._activation.request
        log.info(
            "%s",
            line,
            extra={"request_id": request.id, "stream": request.stream.name, "operator": operator.foreign.export},
        )


def _typed(value: Any, kind: Any, cell: str, verb: str = "") -> Any:
    """Return a plain value as what a cell declares. Raises: CellTypeError."""
    if kind is Any or verb in {"delete", "remove"} or isinstance(value, kind if isinstance(kind, type) else ()):
        return value
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise CellTypeError(f"{summary(value)} is nothing for cell {cell!r}: {error}", cell=cell) from None


_READ: dict[str, Any] = {
    "table": lambda rows, key: rows.get(key, ABSENT),
    "value": lambda value, _: value.get(ABSENT),
    "counter": lambda counter, _: counter.value(),
    "max": lambda extreme, _: extreme.value(ABSENT),
    "min": lambda extreme, _: extreme.value(ABSENT),
    "register": lambda register, _: register.value(ABSENT),
    "set": lambda members, _: list(members),
    "grow_set": lambda members, _: list(members),
    "map": lambda fields, _: dict(fields.items()),
    "log": lambda entries, _: list(entries),
}


def _put_row(rows: Any, key: Any, value: Any) -> None:
    rows[key] = value


def _put_field(fields: Any, key: Any, value: Any) -> None:
    fields.put(hashable(value[0]), value[1])


_CHANGE: dict[tuple[str, str], Any] = {
    ("table", "put"): _put_row,
    ("table", "delete"): lambda rows, key, _: rows.pop(key, None),
    ("counter", "add"): lambda counter, _, value: counter.add(value),
    ("max", "add"): lambda extreme, _, value: extreme.put(value),
    ("min", "add"): lambda extreme, _, value: extreme.put(value),
    ("register", "add"): lambda register, _, value: register.put(value),
    ("set", "add"): lambda members, _, value: members.add(hashable(value)),
    ("set", "remove"): lambda members, _, value: members.discard(hashable(value)),
    ("grow_set", "add"): lambda members, _, value: members.add(hashable(value)),
    ("map", "add"): _put_field,
    ("map", "remove"): lambda fields, _, value: fields.discard(hashable(value)),
    ("log", "add"): lambda entries, _, value: entries.append(value),
}
"""By kind of cell and verb; which access allows it the handle knows."""


def operator_of(function: WasmFunction, shape: Shape) -> type[ForeignOperator]:
    """Return the operator class of a function in a place."""
    kind: type[Foreigner] = Shaped if shape != "then" else Stateful if function.cells else Stateless
    uses_round = (OURS, "round") in function.program.imports
    members = {
        "foreign": function,
        "shape": shape,
        "concurrency": max(function.threads, 1),
        "in_order": True,
        "tells_round": uses_round,
        "__doc__": f"{function.reference}, as an operator.",
        **function.cells,
    }
    return type(function.export, (kind,), members)
