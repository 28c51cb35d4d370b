"""The operator that a WASM function is: batches on the event loop while they are quick, in threads when they are not.

A function that touches no cell gets whole batches, and each item is a transaction of its own all the same: what comes
of one that failed is dropped. One that does touches them item by item, each an activation, under the same locks and
overlays as a Python operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, ClassVar

from actorflow.errors import ContractError, WasmTimeoutError, summary
from actorflow.plan.foreign import ForeignOperator, Shape
from actorflow.plan.operator import ItemError
from actorflow.wasm import outcomes as verbs
from actorflow.wasm.activated import Activated
from actorflow.wasm.calling import Contract, Failed
from actorflow.wasm.hosting import NOBODY, OURS
from actorflow.wasm.lending import Guests, Lease
from actorflow.wasm.outcomes import error_of, pairs_of, value_of
from actorflow.wasm.values import hashable

if TYPE_CHECKING:
    from actorflow.wasm.function import WasmFunction


class Foreigner(ForeignOperator):
    """What all operators in WASM share: guests, threads, and the choice between loop and thread."""

    foreign: ClassVar[WasmFunction]

    def __init__(self) -> None:
        self._guests = Guests(self.foreign)
        self._threads: list[ThreadPoolExecutor] = []  # none before it is needed

    async def start(self) -> None:
        """Refuse what cannot run before any request comes. A module's own start function may take its time."""
        lend = self._guests.lend
        made = asyncio.get_running_loop().run_in_executor(None, lend, NOBODY, self.foreign.sandbox.batch_s)
        self._guests.give_back(await made)

    def stop(self) -> None:
        self._guests.clear()
        for threads in self._threads:
            threads.shutdown(wait=False, cancel_futures=True)
        self._threads.clear()

    async def _outcomes(self, items: list[Any]) -> Sequence[Any]:
        """Return the outcome of each item."""
        function = self.foreign
        sandbox, pace = function.sandbox, function.pace
        if pace.item_s * len(items) <= sandbox.slice_s:
            began = time.perf_counter()
            work = Activated(self, function)
            lease = Lease(self._guests, work, min(sandbox.slice_s, sandbox.batch_s))
            try:
                outcomes = function.caller.many(lease, items)
            except WasmTimeoutError:
                pace.item_s = max(pace.item_s, 2 * sandbox.slice_s / len(items))
                if sandbox.batch_s <= sandbox.slice_s:
                    work.end()
                    raise
                self._activation.abort()  # it begins again: what it has changed by now would be changed twice
            else:
                pace.took(time.perf_counter() - began, len(items))
                work.end()
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

    async def _in_thread(self, items: list[Any]) -> Sequence[Any]:
        """Return the outcome of each item, computed beside the event loop; who gives up waiting ends it."""
        function = self.foreign
        work = Activated(self, function)
        seconds = min(function.sandbox.batch_s, max(work.deadline_s(), 0.0))
        if not self._threads:
            self._threads.append(_pool(function))
        lease = Lease(self._guests, work, seconds)
        ended = asyncio.get_running_loop().run_in_executor(self._threads[0], _run, function, lease, items)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            lease.stop()
            while not ended.done():  # a tick or two: what it works for must not be given up while it is at it
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({ended})
            raise
        finally:
            work.end()

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
            if verb == verbs.ERROR:
                raise error_of(argument, where)
        for verb, argument in pairs:
            if verb == verbs.ITEMS:
                if type(argument) is not list:
                    raise ContractError(f"{where} gave {summary(argument)} as items: an array is due", module=where)
                activation.out.extend(argument)
            elif verb == verbs.REPLY:
                activation.reply(argument)
            elif verb == verbs.FEEDBACK:
                activation.feedback(argument)
            elif verb == verbs.LOG:
                work = Activated(self, self.foreign)
                work.log(str(argument))
                work.end()
            else:
                self._change(verb, argument, where)

    def _change(self, verb: int, argument: Any, where: str) -> None:
        name = ("put", "delete", "add", "remove")[verb - verbs.PUT]
        parts = 2 if verb == verbs.DELETE else 3
        if type(argument) is not list or len(argument) != parts or type(argument[0]) is not str:
            raise ContractError(
                f"{where} gave {summary(argument)} for {name}: an array of cell, key{', value' * (parts > 2)} is due",
                module=where,
            )
        key = hashable(argument[1])
        Activated(self, self.foreign).change(name, argument[0], key, argument[2] if parts > 2 else None)


def _pool(function: WasmFunction) -> ThreadPoolExecutor:
    """Return threads for a function."""
    return ThreadPoolExecutor(max(function.threads, 1), thread_name_prefix=f"actorflow-wasm-{function.export}")


def _run(function: WasmFunction, lease: Lease, items: list[Any]) -> Sequence[Any]:
    """Call a function in a thread."""
    began = time.perf_counter()
    try:
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
        if type(outcomes) is tuple:
            self._activation.out.extend(outcomes)
            return []
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
                activation = self._activation
                kept = [(done, len(done)) for done in (activation.out, activation.back, activation.effects)]
                try:
                    self._apply(outcome)
                except Exception as error:
                    results[index] = ItemError(error)
                    for done, count in kept:
                        del done[count:]
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
        if values is outcomes and self.shape == "flat_map":
            made: Iterable[Any] = outcomes  # one of each
        elif self.shape == "filter":
            made = compress(items, values)
        else:
            made = values if self.shape == "map" else chain.from_iterable(values)
        self._activation.out.extend(made)
        return results

    def _values(self, outcomes: Sequence[Any]) -> tuple[Sequence[Any], list[Any]]:
        """Return what each outcome is worth, and the errors in the places of items that failed."""
        if type(outcomes) is tuple or (self.shape != "flat_map" and set(map(type, outcomes)) <= _VALUES):
            return outcomes, []
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
        if self.shape != "flat_map":
            return value_of(outcome, where)
        if type(outcome) is not list:
            value = value_of(outcome, where)
            return [] if value is None else [value]
        if len(outcome) == 2 and outcome[0] == verbs.ITEMS and type(outcome[1]) is list:  # most outcomes
            return outcome[1]
        made: list[Any] = []
        for verb, argument in pairs_of(outcome, where):
            if verb == verbs.ITEMS and type(argument) is list:
                made += argument
            else:
                value_of([verb, argument], where)
        return made


_VALUES = frozenset({int, float, bool, str, bytes, dict})
"""Of outcomes that are what they are worth, in `map` and `filter`; `flat_map` looks at each."""


OPERATOR_MEMBERS = frozenset({"process", "process_batch", "foreign", "shape", "concurrency", "in_order", "tells_round"})


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
    return type(re.sub(r"\W", "_", function.export) or "process", (kind,), members)
