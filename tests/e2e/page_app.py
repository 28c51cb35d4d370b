"""The app that the page is tested with: a stream for each thing that the page shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from actorflow import App, Operator, Outcome

app = App("gallery")
accounts = app.table("accounts", key="account", value=int)
volume = app.counter("volume")


@dataclass(frozen=True)
class Order:
    account: str
    cents: int


class Greet(Operator):
    def process(self, name: str) -> str:
        return f"Hello, {name}!"


class Deposit(Operator):
    accounts = accounts.owned()
    volume = volume.merged()

    def process(self, order: Order) -> int:
        self.accounts[order.account] = balance = self.accounts.get(order.account, 0) + order.cents
        self.volume.add(order.cents)
        return balance


class Transfer(Operator):
    """Holds the locks of two rows for as long as the order says, so that the page has locks to show."""

    accounts = accounts.exclusive()
    concurrency = 16

    async def process(self, seconds: float) -> bool:
        rows = await self.accounts.lock("ann", "bob")
        await asyncio.sleep(seconds)
        rows["ann"] = rows.get("ann", 0)
        return True


class Halve(Operator):
    def process(self, number: int) -> Iterator[int]:
        if number > 1:
            self.feedback(number // 2)
        else:
            yield number


class Tick(Operator):
    """Gives its numbers one by one, slowly enough for a person to see each of them come."""

    async def process(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            await asyncio.sleep(0.25)
            yield number


class Fragile(Operator):
    """Fails when it sees an item for the first time."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def process(self, item: str) -> str:
        if item not in self.seen:
            self.seen.add(item)
            raise ValueError(f"{item} is new to me")
        return item


class Wait(Operator):
    """Lets two items wait at once: more of them fill its mailbox."""

    concurrency = 2

    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


class Ask(Operator):
    """Waits for a request of its own, and for the reply to come back."""

    concurrency = 8

    async def process(self, seconds: float) -> float:
        reply: float = await self.call("slow", seconds)
        return reply

    def on_reply(self, outcome: Outcome, seconds: float) -> float:
        reply: float = outcome.result()
        return reply


app.stream("greet", str, str).map(str.strip).then(Greet)
app.stream("deposit", Order, int).key_by("account").then(Deposit)
app.stream("transfer", float, bool).then(Transfer)
app.stream("halve", int, int).then(Halve, feedback=True).count()
app.stream("ticks", int, int, replies="many").then(Tick)
app.stream("fragile", str, list, on_error="set_aside").then(Fragile).collect()
app.stream("slow", float, float, timeout_s=120).then(Wait)
app.stream("ask", float, float, timeout_s=120).then(Ask)

words = app.stream("words", str, list).flat_map(str.split)
short, long = words.split(lambda word: len(word) < 5)
counts = short.merge(long.map(str.title)).key_by().count()
counts.top(3, lambda pair: (pair[1], pair[0])).collect()
