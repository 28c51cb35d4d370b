"""What comes of an item, as a function says it: a value, or verbs with their arguments. See `docs/contract.md`."""

from __future__ import annotations

from typing import Any

from actorflow.errors import ContractError, WasmError, summary
from actorflow.wasm.calling import Failed
from actorflow.wasm.hosting import NOBODY

ITEMS, REPLY, FEEDBACK, ERROR, LOG, PUT, DELETE, ADD, REMOVE = range(9)
"""What comes of an item, in an outcome that is an array: each followed by its argument."""


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
            NOBODY.log(str(argument))
        else:
            raise ContractError(f"{where} gave more than a value, where it is called for its value", module=where)
    if len(values) > 1:
        raise ContractError(f"{where} gave {len(values)} values where one is due", module=where)
    return values[0] if values else None


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
