"""Dead letters: items that were set aside, with what is needed to look at them and to try again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actorflow.errors import ActorflowError, UnknownStreamError, summary

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica
    from actorflow.runtime.request import Request
    from actorflow.runtime.steps import Node


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item whose activation failed and whose request went on, or an error that came after an early answer.

    `at_s` is in seconds since 1970. `replayable`: there is an item that can be processed again.
    """

    number: int
    stream: str
    operator: str
    request_id: str
    at_s: float
    item: Any
    error: ActorflowError
    replayable: bool = False

    def to_wire(self) -> dict[str, Any]:
        """Return the letter as plain values, the item as a short text."""
        return {
            "number": self.number,
            "stream": self.stream,
            "operator": self.operator,
            "request_id": self.request_id,
            "at_s": self.at_s,
            "item": summary(self.item),
            "error": self.error.to_wire(),
            "replayable": self.replayable,
        }


class DeadLetters:
    """The newest dead letters of a host, up to its limit."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._letters: OrderedDict[int, tuple[DeadLetter, Node | None, Replica | None]] = OrderedDict()
        self._count = 0

    def add(
        self,
        request: Request,
        error: ActorflowError,
        *,
        node: Node | None = None,
        item: Any = None,
        actor: Replica | None = None,
        whole: bool = False,
    ) -> None:
        """Keep a letter; the oldest goes when there are too many. whole: the item is what the request began with."""
        self._count += 1
        letter = DeadLetter(
            self._count, request.stream.name, node.name if node is not None else "", request.id,
            self._host.wall_s(), item, error, whole or node is not None,
        )  # fmt: skip
        self._letters[letter.number] = (letter, node, actor)
        while len(self._letters) > self._host.limits.dead_letters:
            self._letters.popitem(last=False)

    def list(self) -> list[DeadLetter]:
        """Return the letters, oldest first."""
        return [letter for letter, _, _ in self._letters.values()]

    def get(self, number: int) -> DeadLetter:
        """Return one letter. Raises: UnknownStreamError."""
        return self._entry(number)[0]

    def replay(self, number: int) -> str:
        """Process a letter's item again at the same operator, as a new request without an answer; return its id.

        The letter is removed; should it fail again, there will be a new one.

        Raises: UnknownStreamError; HostStoppingError; TooManyRequestsError.
        """
        letter, node, actor = self._entry(number)
        if not letter.replayable:
            raise UnknownStreamError(f"dead letter {number} has no item to process again: {letter.error}")
        if node is None:
            request = self._host.begin_sent(self._host.stream(letter.stream), letter.item)
        else:
            request = self._host.replay(node, letter.item, actor)
        self._letters.pop(number, None)
        return request.id

    def forget(self, number: int) -> None:
        """Remove a letter. Raises: UnknownStreamError."""
        self._entry(number)
        del self._letters[number]

    def _entry(self, number: int) -> tuple[DeadLetter, Node | None, Replica | None]:
        try:
            return self._letters[number]
        except KeyError:
            known = f"{next(iter(self._letters))} to {next(reversed(self._letters))}" if self._letters else "none"
            raise UnknownStreamError(f"there is no dead letter {number} (kept: {known})") from None

    def __len__(self) -> int:
        return len(self._letters)
