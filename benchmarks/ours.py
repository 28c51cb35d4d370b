"""The actorflow sides: each runs one workload on a fresh host and returns operations per second, set-up not counted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from actorflow import Address, App, Client, Limits, Operator


class Echo(Operator):
    def process(self, item: int) -> int:
        return item


class AsyncEcho(Operator):
    async def process(self, item: int) -> int:
        return item


class Asker(Operator):
    """Asks one plain actor as often as it is told, by so many askers at once."""

    async def process(self, order: tuple[int, int]) -> float:
        count, in_flight = order
        actor = self.spawn(Echo)

        async def ask_some() -> None:
            for number in range(count // in_flight):
                await self.ask(actor, number)

        began = perf_counter()
        await asyncio.gather(*(ask_some() for _ in range(in_flight)))
        return count / (perf_counter() - began)


class Passer(Operator):
    """Hands a token to the next actor until it has made its hops."""

    def __init__(self) -> None:
        self.next: Address | None = None

    def process(self, message: Any) -> str | None:
        if message.__class__ is not int:
            self.next = message
        elif message:
            self.tell(self.next, message - 1)  # type: ignore[arg-type] # told before the token comes
        else:
            return "done"
        return None


class Ring(Operator):
    def __init__(self, size: int) -> None:
        self.size = size

    def process(self, hops: int) -> None:
        actors = [self.spawn(Passer) for _ in range(self.size)]
        for actor, following in zip(actors, actors[1:] + actors[:1], strict=True):
            self.tell(actor, following)
        self.tell(actors[0], hops)


class Counter(Operator):
    def __init__(self) -> None:
        self.count = 0

    def process(self, item: int) -> int | None:
        self.count += item
        return None if item else self.count


class Producer(Operator):
    """Tells a counter in bursts, so that the counter runs in between."""

    def process(self, order: tuple[int, int]) -> Iterator[None]:
        count, burst = order
        counter = self.spawn(Counter)
        for _ in range(count // burst):
            for _ in range(burst):
                self.tell(counter, 1)
            yield None
        self.tell(counter, 0)


app = App("benchmark", limits=Limits(timeout_s=600.0))
echo = app.stream("echo", int).then(Echo)
async_echo = app.stream("async-echo", int).then(AsyncEcho)
actor_asks = app.stream("actor-asks").then(Asker)
ping_pong_stream = app.stream("ping-pong", int).then(Ring, size=2)
ring_stream = app.stream("ring", int).then(Ring, size=100)
tell_stream = app.stream("tell").then(Producer)


def lines(path: str) -> Iterator[str]:
    with Path(path).open(encoding="ascii") as text:
        yield from text


def keyed_sum_app(replicas: int = 1) -> App:
    """Return an app whose stream takes a list of (key, value) and answers every running sum of its key."""

    class RunningSum(Operator):
        def __init__(self) -> None:
            self.sums: dict[str, int] = {}

        def process(self, event: tuple[str, int]) -> tuple[str, int]:
            key, value = event
            total = self.sums[key] = self.sums.get(key, 0) + value
            return (key, total)

    made = App("sums", limits=Limits(timeout_s=600.0))
    made.stream("sums", list, list).flat_map(iter_of).key_by(lambda event: event[0]).then(RunningSum).collect()
    return made


def iter_of(events: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    yield from events


words_app = App("words", limits=Limits(timeout_s=600.0))
built_in = words_app.stream("built-in", str, list).flat_map(lines).flat_map(str.split).key_by().count().collect()
lambdas = (
    words_app.stream("lambdas", str, list)
    .flat_map(lines)
    .flat_map(lambda line: line.split())
    .key_by(lambda word: word)
    .fold(0, lambda count, _: count + 1)
    .collect()
)


@contextlib.asynccontextmanager
async def running(which: App = app) -> AsyncIterator[Client]:
    async with which.local(watch=False) as client:
        yield client


async def ask(count: int, *, in_flight: int = 1, stream: Any = echo) -> float:
    async with running() as client:

        async def ask_some() -> None:
            for number in range(count // in_flight):
                await client.request(stream, number)

        began = perf_counter()
        if in_flight == 1:
            await ask_some()
        else:
            await asyncio.gather(*(ask_some() for _ in range(in_flight)))
        return count / (perf_counter() - began)


async def ask_actor(count: int, *, in_flight: int) -> float:
    async with running() as client:
        return float(await client.request(actor_asks, (count, in_flight)))


async def passes(stream: Any, count: int) -> float:
    async with running() as client:
        began = perf_counter()
        await client.request(stream, count)
        return count / (perf_counter() - began)


async def ping_pong(round_trips: int) -> float:
    return await passes(ping_pong_stream, 2 * round_trips) / 2


async def ring(hops: int) -> float:
    return await passes(ring_stream, hops)


async def tell(count: int, *, burst: int = 1_000) -> float:
    async with running() as client:
        began = perf_counter()
        assert await client.request(tell_stream, (count, burst)) == count
        return count / (perf_counter() - began)


async def word_count(path: Path, stream: Any = built_in) -> tuple[int, float]:
    """Return the number of words and the seconds taken."""
    async with running(words_app) as client:
        began = perf_counter()
        pairs = await client.request(stream, str(path))
        return sum(count for _, count in pairs), perf_counter() - began


async def keyed_sum(events: list[tuple[str, int]]) -> tuple[int, float]:
    """Return the number of running sums and the seconds taken."""
    made = keyed_sum_app()
    async with running(made) as client:
        began = perf_counter()
        sums = await client.request("sums", events)
        return len(sums), perf_counter() - began
