"""Savina 23, Fibonacci: one short-lived actor per recursive call.

Each call spawns two more, adds what they answer, answers its parent and ends. It shows how cheap an actor has to be,
and the life of one: spawned, told, answering, gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator


@dataclass(frozen=True, slots=True)
class Sum:
    """A Fibonacci number, and how many actors have worked on it and ended."""

    value: int
    actors: int


class Fibonacci(Operator):
    """Begin the recursion."""

    def process(self, n: int) -> None:
        self.tell(self.spawn(Call, None), n)


class Call(Operator):
    """One call: answers its parent, or the request if it is the first."""

    def __init__(self, parent: Address | None) -> None:
        self.parent = parent
        self.missing = 2
        self.value = 0
        self.actors = 1

    def process(self, item: int | Sum) -> Sum | None:
        if isinstance(item, Sum):
            self.value += item.value
            self.actors += item.actors
            self.missing -= 1
            return None if self.missing else self.answer(Sum(self.value, self.actors))
        if item <= 2:
            return self.answer(Sum(1, 1))
        self.tell(self.spawn(Call, self.address), item - 1)
        self.tell(self.spawn(Call, self.address), item - 2)
        return None

    def answer(self, total: Sum) -> Sum | None:
        """End, and give the sum to whoever waits for it."""
        self.stop_actor()
        if self.parent is None:
            return total
        self.tell(self.parent, total)
        return None


app = App("savina-fib")
fib = app.stream("fib", int, Sum).then(Fibonacci)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Compute the `N`th Fibonacci number."""
    result = await client.request(fib, params["N"])
    return {"fib": result.value, "actors_created": result.actors}
