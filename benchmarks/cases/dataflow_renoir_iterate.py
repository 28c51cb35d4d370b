"""Renoir's iterate: numbers that go round, each time raised by the sum of all that they were so far.

Items and state are both fed back: a round adds the state of the loop to each number, and the sum of what comes of that
to the state. It shows `feedback` in synchronous rounds whose number each request decides for itself, votes, and the
two results of a loop: what leaves it, and its `loop_end`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import add
from typing import Any

from actorflow import App, Client, Operator, Rounds
from benchmarks.cases import flow


@dataclass(frozen=True, slots=True)
class Task:
    """Send the numbers below `below` round so many times."""

    below: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number, and how many rounds are still before it."""

    value: int
    rounds_left: int


def numbers(task: Task) -> Iterator[Number]:
    """Yield the numbers of a task, before their first round."""
    return (Number(value, task.rounds) for value in range(task.below))


class Raise(Operator):
    """Add the state of the loop to a number, and the number to the next state."""

    def process(self, number: Number) -> Number:
        value = number.value + self.loop_state
        self.vote(value)
        return Number(value, number.rounds_left - 1)


app = App("renoir-iterate")
loop = (
    app.stream("iterate", Task)
    .flat_map(numbers)
    .then(Raise)
    .feedback(when=lambda number: number.rounds_left, rounds=Rounds(fold=add, initial=0, update=add))
)
iterate = flow.record(
    state=loop.loop_end.map(lambda end: end.state),
    items=loop.map(lambda number: number.value).collect(),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Send `n` numbers round `iters` times."""
    return await client.request(iterate, Task(params["n"], params["iters"]))
