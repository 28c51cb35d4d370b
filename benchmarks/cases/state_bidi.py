"""Requests that stream numbers in and running sums out: each request sees only its own, in order.

Shows `client.stream` with many items and many replies, and a fold of the input that tells an operator of its end. Half
of the requests are conversations: they send a number only when the sum of those before has come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from actorflow import App, Client, Operator
from benchmarks.cases.generators import SplitMix64, seq_hash

app = App("bidirectional")


class End(msgspec.Struct, frozen=True):
    """The end of a request's input, after `count` numbers."""

    count: int


class RunningSum(Operator):
    """Answer every number with the sum of the request's numbers so far."""

    def __init__(self) -> None:
        self.sums: dict[str, list[int]] = {}

    def process(self, item: int | End) -> int | None:
        request = self.request.id
        if isinstance(item, End):
            seen = self.sums.pop(request, [])
            assert len(seen) == item.count, f"{len(seen)} numbers came before the end, {item.count} were sent"
            return None
        seen = self.sums.setdefault(request, [])
        seen.append(item + (seen[-1] if seen else 0))
        return seen[-1]


numbers = app.stream("running_sums", int, replies="many")
running_sums = numbers.merge(numbers.count().map(End)).then(RunningSum)


async def send_all(client: Client, values: list[int]) -> list[int]:
    """Send the numbers without waiting for answers."""
    return [total async for total in client.stream(running_sums, items=values)]


async def converse(client: Client, values: list[int]) -> list[int]:
    """Send each number when the one before has been answered."""
    totals: list[int] = []
    answered = asyncio.Event()

    async def one_by_one() -> AsyncIterator[int]:
        for value in values:
            answered.clear()
            yield value
            await answered.wait()

    async for total in client.stream(running_sums, items=one_by_one()):
        totals.append(total)
        answered.set()
    return totals


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Stream `n` requests of up to `max_items` numbers each, all at once."""
    random = SplitMix64(params["seed"])
    inputs = [[random.below(1000) for _ in range(random.below(params["max_items"] + 1))] for _ in range(params["n"])]
    answers = await asyncio.gather(
        *((converse if index % 2 else send_all)(client, values) for index, values in enumerate(inputs))
    )
    return {
        "requests": len(answers),
        "items": sum(map(len, answers)),
        "empty_streams": answers.count([]),
        "answers_sha256": seq_hash(list(row) for row in enumerate(answers)),
        "first_answers": answers[0][:8],
    }
