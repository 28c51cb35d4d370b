"""Concurrent sorted list: twenty workers write to one sorted list, search it and ask for its size.

Shows `ask` from async actors: each worker is one loop that reads like sequential code, while the list, a plain actor,
serves one message at a time and so needs no lock.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash


@dataclass(slots=True)
class Load:
    """How many workers, messages of each, and of 100 messages how many write and how many ask for the size."""

    workers: int
    messages: int
    writes: int
    sizes: int


@dataclass(slots=True)
class Write:
    """Insert a value."""

    value: int


@dataclass(slots=True)
class Contains:
    """Is this value in the list?"""

    value: int


@dataclass(slots=True)
class Size:
    """How many values are there?"""


@dataclass(slots=True)
class Values:
    """All values, in order."""


class SortedList(Operator):
    """The list, and how often it was asked what."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.asked = {Size: 0, Contains: 0}

    def process(self, message: Write | Contains | Size | Values) -> Any:
        match message:
            case Write(value):
                insort(self.values, value)
                return True
            case Contains(value):
                self.asked[Contains] += 1
                place = bisect_left(self.values, value)
                return place < len(self.values) and self.values[place] == value
            case Size():
                self.asked[Size] += 1
                return len(self.values)
            case Values():
                return {
                    "final_size": len(self.values),
                    "size_requests": self.asked[Size],
                    "contains_requests": self.asked[Contains],
                    "final_sorted_list_sha256": seq_hash(self.values),
                    "min": self.values[0],
                    "max": self.values[-1],
                    "sum": sum(self.values),
                }


class Worker(Operator):
    """Chooses what to ask by its own generator; what it wrote it must find again, and the size never shrinks."""

    def __init__(self, values: Address) -> None:
        self.values = values

    async def process(self, work: tuple[int, Load]) -> int:
        number, load = work
        chance = SavinaLCG(number + load.messages + load.writes + load.sizes)
        size = 0
        for _ in range(load.messages):
            action = chance.next_int(100)
            if action < load.sizes:
                seen = await self.ask(self.values, Size())
                assert seen >= size, "the list has shrunk"
                size = seen
            elif action < load.sizes + load.writes:
                await self.ask(self.values, Write(chance.next_int()))
            else:
                await self.ask(self.values, Contains(chance.next_int()))
        return size


class Master(Operator):
    """Lets the workers work at the same time and asks for the list when all are done."""

    async def process(self, load: Load) -> dict[str, Any]:
        values = self.spawn(SortedList)
        workers = [self.spawn(Worker, values) for _ in range(load.workers)]
        await asyncio.gather(*(self.ask(worker, (number, load)) for number, worker in enumerate(workers)))
        result: dict[str, Any] = await self.ask(values, Values())
        return result


app = App("savina-concsll")
concsll = app.stream("concsll", Load, dict, timeout_s=300).then(Master)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    load = Load(params["E"], params["M"], params["W"], params["S"])
    result: dict[str, Any] = await client.request(concsll, load)
    return result
