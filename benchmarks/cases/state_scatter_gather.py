"""Each request asks many shards and answers with the sum, the maximum and who had it.

Shows a step that calls another stream once per item, and a fold that gathers what comes back, in any order.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import msgspec

from actorflow import App, Client, Operator
from benchmarks.cases.generators import SplitMix64, rows_hash

Value: TypeAlias = tuple[int, int]

app = App("scatter-gather")


class Question(msgspec.Struct, frozen=True):
    """Ask `fan` shards, numbered from `first` on."""

    first: int
    fan: int


class Part(msgspec.Struct, frozen=True):
    """What one shard is asked: its place in the question, and its number."""

    place: int
    number: int


class Summary(msgspec.Struct, frozen=True):
    """What the shards answered so far; `place` is the first that holds the maximum."""

    total: int = 0
    maximum: int = -1
    place: int = -1


class Shard(Operator):
    """Look up the value of a shard; odd shards take a turn longer."""

    concurrency = 64

    async def process(self, part: Part) -> Value:
        if part.number % 2:
            await asyncio.sleep(0)
        return part.place, SplitMix64(part.number).next() % 1000


def parts(question: Question) -> list[Part]:
    """Return what each shard is asked."""
    return [Part(place, question.first + place) for place in range(question.fan)]


def gather(seen: Summary, answer: Value) -> Summary:
    """Add the answer of one shard."""
    place, value = answer
    if (value, -place) > (seen.maximum, -seen.place):
        return Summary(seen.total + value, value, place)
    return Summary(seen.total + value, seen.maximum, seen.place)


shards = app.stream("shards", Part, Value).then(Shard)
scatter = app.stream("scatter", Question).flat_map(parts).call(shards, ordered=False).fold(Summary(), gather)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask `n` questions at once, each of `fan` shards."""
    fan = params["fan"]
    answers: list[Summary] = await asyncio.gather(
        *(client.request(scatter, Question(params["seed"] + index * fan, fan)) for index in range(params["n"]))
    )
    rows = [[index, answer.total, answer.maximum, answer.place] for index, answer in enumerate(answers)]
    return {"requests": len(rows), "rows_sha256": rows_hash(rows), "first3": rows[:3]}
