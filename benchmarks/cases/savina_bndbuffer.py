"""Bounded buffer: forty producers and forty consumers share a buffer of fifty items.

Shows back-pressure by `defer`: a producer that finds the buffer full, or a consumer that finds it empty, simply gets
its answer later. Nobody polls, no task is blocked, and the buffer is a plain actor of twenty lines.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator, Pending
from benchmarks.cases.generators import SavinaLCG


@dataclass(slots=True)
class Plan:
    """Who produces and consumes how much, through how small a buffer; costs are rounds of a hundred logarithms."""

    capacity: int
    producers: int
    consumers: int
    items_each: int
    produce_cost: int
    consume_cost: int


@dataclass(slots=True)
class Put:
    """Asks to take an item in; answered when there was room for it."""

    item: float


@dataclass(slots=True)
class Take:
    """Asks for an item; answered when there is one, or with None when no more will come."""


@dataclass(slots=True)
class Close:
    """No more items will be put; answered with the largest number of items that waited at once."""


class Buffer(Operator):
    """Holds a few items, or a few answers."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: deque[float] = deque()
        self.producers: deque[tuple[Pending, float]] = deque()
        self.consumers: deque[Pending] = deque()
        self.closed = False
        self.fullest = 0

    def process(self, message: Put | Take | Close) -> Any:
        match message:
            case Put(item) if self.consumers:
                self.consumers.popleft().reply(item)
            case Put(item) if len(self.items) == self.capacity:
                self.producers.append((self.defer(), item))
            case Put(item):
                self.add(item)
            case Take() if self.items:
                item = self.items.popleft()
                if self.producers:
                    producer, next_item = self.producers.popleft()
                    self.add(next_item)
                    producer.reply(None)
                return item
            case Take() if not self.closed:
                self.consumers.append(self.defer())
            case Close():
                self.closed = True
                while self.consumers:
                    self.consumers.popleft().reply(None)
                return self.fullest
        return None

    def add(self, item: float) -> None:
        """Let an item in, and look that there never are too many."""
        self.items.append(item)
        self.fullest = max(self.fullest, len(self.items))
        assert self.fullest <= self.capacity, "the buffer is over its bound"


def work_on(item: float, cost: int) -> float:
    """Make a new item of an item, at some cost."""
    chance = SavinaLCG(cost)
    for _ in range(100 * cost or 1):
        item += math.log(chance.next_double() + 0.01)
    return item


class Producer(Operator):
    """Makes each item out of the one before; ends with the last."""

    def __init__(self, buffer: Address, cost: int) -> None:
        self.buffer = buffer
        self.cost = cost

    async def process(self, items: int) -> float:
        item = 0.0
        for _ in range(items):
            item = work_on(item, self.cost)
            await self.ask(self.buffer, Put(item))
        return item


class Consumer(Operator):
    """Consumes until nothing more comes; ends with how many items it had, and their sum."""

    def __init__(self, buffer: Address, cost: int) -> None:
        self.buffer = buffer
        self.cost = cost

    async def process(self, item: float) -> tuple[int, float]:
        count, total = 0, 0.0
        while (data := await self.ask(self.buffer, Take())) is not None:
            item = work_on(item + data, self.cost)
            count += 1
            total += data
        return count, total


class Factory(Operator):
    """Starts all, closes the buffer when the producers are done, and adds up what the consumers had."""

    async def process(self, plan: Plan) -> dict[str, Any]:
        buffer = self.spawn(Buffer, plan.capacity)
        producers = [self.spawn(Producer, buffer, plan.produce_cost) for _ in range(plan.producers)]
        consumers = [self.spawn(Consumer, buffer, plan.consume_cost) for _ in range(plan.consumers)]
        async with asyncio.TaskGroup() as work:
            produced = [work.create_task(self.ask(producer, plan.items_each)) for producer in producers]
            consumed = [work.create_task(self.ask(consumer, 0.0)) for consumer in consumers]
            last = await asyncio.gather(*produced)
            fullest = await self.ask(buffer, Close())
        counts, totals = zip(*(task.result() for task in consumed), strict=True)
        assert len(set(last)) == 1, "the producers made different items"
        return {
            "items_consumed": sum(counts),
            "sum_of_data": math.fsum(totals),
            "last_item_of_each_producer": last[0],
            "buffer_never_above": plan.capacity,
            "fullest": fullest,
        }


app = App("savina-bndbuffer")
bndbuffer = app.stream("bndbuffer", Plan, dict, timeout_s=180).then(Factory)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    plan = Plan(params["bb"], params["np"], params["nc"], params["ipp"], params["pc"], params["cc"])
    result: dict[str, Any] = await client.request(bndbuffer, plan)
    assert result["fullest"] <= plan.capacity
    return result
