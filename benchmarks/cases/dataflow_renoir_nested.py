"""Renoir's nested replay: numbers are summed in each round of a loop that runs in each round of another one.

It shows a synchronous loop within a synchronous loop: the inner one begins anew, from its own initial state, in every
round of the outer one, and what it amounts to is a vote there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow import App, Client


@dataclass(frozen=True, slots=True)
class Task:
    """Sum the numbers below `below` in so many rounds of so many rounds."""

    below: int
    outer_rounds: int
    inner_rounds: int


@dataclass(frozen=True, slots=True)
class Sum:
    """A number, or the sum of some; `rounds` of them were summed up one after the other."""

    task: Task
    value: int
    rounds: int = 0


NOTHING = Sum(Task(0, 0, 0), 0)


def numbers(task: Task) -> Iterator[Sum]:
    """Yield the numbers of a task."""
    return (Sum(task, value) for value in range(task.below))


def add(total: Sum, part: Sum) -> Sum:
    """Add up what belongs to one round."""
    return Sum(part.task, total.value + part.value)


def add_round(before: Sum, total: Sum) -> Sum:
    """Add one round to those before it."""
    return Sum(total.task, before.value + total.value, before.rounds + 1)


def inner_done(total: Sum) -> bool:
    """Return whether the inner loop has made its rounds."""
    return total.rounds >= total.task.inner_rounds


def outer_done(total: Sum) -> bool:
    """Return whether the outer loop has made its rounds."""
    return total.rounds >= total.task.outer_rounds


app = App("renoir-nested")
nested = (
    app.stream("nested", Task, int)
    .flat_map(numbers)
    .replay(
        lambda outer: outer.replay(lambda inner: inner, fold=add, initial=NOTHING, update=add_round, until=inner_done),
        fold=add,
        initial=NOTHING,
        update=add_round,
        until=outer_done,
    )
    .map(lambda total: total.value)
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Sum `n` numbers in `inner` rounds of each of `outer` rounds."""
    return {"state": await client.request(nested, Task(params["n"], params["outer"], params["inner"]))}
