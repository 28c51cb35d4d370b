"""Twenty clients with fifty requests each in flight, through three stages that finish in any order.

Shows that the return address travels with the request: nothing in an item says whose it is, and every answer arrives
where it was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from actorflow import App, Client, Operator
from benchmarks.cases.generators import SplitMix64, rows_hash

CLIENTS = 20
IN_FLIGHT_PER_CLIENT = 50

app = App("request-response")


async def linger(value: int) -> None:
    """Take a time that depends on the value, so that later requests overtake earlier ones."""
    await asyncio.sleep(value % 4 / 1000)


class AddOne(Operator):
    """The first stage."""

    concurrency = CLIENTS * IN_FLIGHT_PER_CLIENT

    async def process(self, value: int) -> int:
        await linger(value)
        return value + 1


class TripleOrHalve(Operator):
    """The second stage: odd values are tripled, even ones halved."""

    concurrency = CLIENTS * IN_FLIGHT_PER_CLIENT

    async def process(self, value: int) -> int:
        await linger(value)
        return value * 3 if value % 2 else value // 2


class Mix(Operator):
    """The third stage: scramble the value, and answer in decimals."""

    concurrency = CLIENTS * IN_FLIGHT_PER_CLIENT

    async def process(self, value: int) -> str:
        await linger(value)
        return str(SplitMix64(value).next())


pipeline = app.stream("pipeline", int, str).then(AddOne).then(TripleOrHalve).then(Mix)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask `n` questions and put each answer beside its question."""
    random = SplitMix64(params["seed"])
    questions = [random.below(1 << 40) for _ in range(params["n"])]
    answers: dict[int, str] = {}
    asked = answered = in_flight_most = 0

    async def ask(numbers: Iterable[int]) -> None:
        nonlocal asked, answered, in_flight_most
        for number in numbers:
            asked += 1
            in_flight_most = max(in_flight_most, asked - answered)
            answers[number] = await client.request(pipeline, questions[number])
            answered += 1

    async with asyncio.TaskGroup() as clients:
        for index in range(CLIENTS):
            numbers = iter(range(index, len(questions), CLIENTS))
            for _ in range(IN_FLIGHT_PER_CLIENT):
                clients.create_task(ask(numbers))

    assert in_flight_most == min(CLIENTS * IN_FLIGHT_PER_CLIENT, len(questions))
    assert list(answers) != sorted(answers), "no request overtook another: this run proves nothing"
    rows = [[number, question, answers[number]] for number, question in enumerate(questions)]
    return {"requests": len(answers), "answers_sha256": rows_hash(rows), "first3": rows[:3]}
