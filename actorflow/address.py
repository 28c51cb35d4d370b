"""Addresses of actors: values that may travel in items."""

from __future__ import annotations

from typing import Any


class Address:
    """The address of a spawned actor.

    Two addresses are equal when they name the same actor. `host` is the incarnation that the actor lives on and
    `number` its number there. An address is only good for sending (`Operator.tell`, `Operator.ask`).
    """

    __slots__ = ("host", "local", "name", "number")

    def __init__(self, host: str, number: int, name: str, local: Any = None) -> None:
        self.host = host
        self.number = number
        self.name = name
        self.local = local  # the actor's mailbox when it lives here: saves the look-up on every tell

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.number == other.number and self.host == other.host

    def __hash__(self) -> int:
        return hash((self.host, self.number))

    def __repr__(self) -> str:
        return f"<{self.name} #{self.number} on {self.host}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Address:
        return self
