"""Renoir's replay: the same numbers in every round, multiplied by a state that their sum moves on.

It shows `replay`: what its body puts out are votes, which are folded into the next state, and the state of the last
round is the answer. When that is follows from the state too, since every request wants another number of rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow import App, Client


@dataclass(frozen=True, slots=True)
class Task:
    """Replay the numbers below `below` so many times."""

    below: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Number:
    """One of the numbers of a task, or a multiple of it, or a sum."""

    value: int
    rounds: int


@dataclass(frozen=True, slots=True)
class State:
    """What the rounds amount to so far, and how many of them are to come."""

    value: int = 1
    rounds_left: int | None = None


def numbers(task: Task) -> Iterator[Number]:
    """Yield the numbers of a task."""
    return (Number(value, task.rounds) for value in range(task.below))


def multiply(pair: tuple[Number, State]) -> Number:
    """Return a number times the state."""
    number, state = pair
    return Number(number.value * state.value, number.rounds)


def add(total: Number, number: Number) -> Number:
    """Add up the numbers of a round."""
    return Number(total.value + number.value, number.rounds)


def move_on(state: State, total: Number) -> State:
    """Return the state after a round."""
    rounds_left = total.rounds if state.rounds_left is None else state.rounds_left
    return State(state.value + total.value - 1, rounds_left - 1)


app = App("renoir-replay")
replay = (
    app.stream("replay", Task, int)
    .flat_map(numbers)
    .replay(
        lambda numbers: numbers.with_loop_state().map(multiply),
        fold=add,
        initial=Number(0, 1),
        state=State(),
        update=move_on,
        until=lambda state: state.rounds_left == 0,
    )
    .map(lambda state: state.value)
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Replay `n` numbers `iters` times."""
    return {"state": await client.request(replay, Task(params["n"], params["iters"]))}
