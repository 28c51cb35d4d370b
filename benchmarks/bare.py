"""A bare run-queue actor runtime: the limit that actorflow is compared with, so it is fast and has no features."""

import asyncio
from collections.abc import Callable
from itertools import islice, pairwise
from time import perf_counter
from typing import Any

ACTIVATIONS_MAX = 512  # per turn, about 200 µs of small handlers; then the event loop has its say


class Runtime:
    # No flag says that an actor is queued or a turn scheduled: an actor stands in the run queue exactly while its inbox
    # has messages, and a turn is scheduled, or running, exactly while the run queue has actors.
    __slots__ = ("loop", "ready")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ready: list[Actor] = []

    def turn(self) -> None:
        ready = self.ready
        for actor in islice(ready, ACTIVATIONS_MAX):  # a list's iterator also sees the actors that join meanwhile
            batch = actor.inbox
            actor.inbox = actor.spare  # fill one list, drain the other
            for message in batch:
                actor.handle(message)
            batch.clear()
            actor.spare = batch
        del ready[:ACTIVATIONS_MAX]
        if ready:
            self.loop.call_soon(self.turn)


class Actor:
    __slots__ = ("inbox", "ready", "runtime", "spare")
    handle: Callable[[Any], Any]

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.ready = runtime, runtime.ready
        self.inbox: list[object] = []
        self.spare: list[object] = []

    def tell(self, message: object) -> None:
        inbox = self.inbox
        if not inbox:
            ready = self.ready
            if not ready:
                self.runtime.loop.call_soon(self.runtime.turn)
            ready.append(self)
        inbox.append(message)

    def ask(self, message: object) -> asyncio.Future[Any]:
        reply = self.runtime.loop.create_future()
        self.tell((message, reply))
        return reply


class AsyncActor(Actor):  # awaits its handler, in one task that lives as long as the actor
    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.idle: asyncio.Future[None] | None = None
        self.task = runtime.loop.create_task(self.run())

    def tell(self, message: object) -> None:
        self.inbox.append(message)
        if self.idle is not None:
            self.idle.set_result(None)
            self.idle = None

    async def run(self) -> None:
        while True:
            if not self.inbox:
                self.idle = self.runtime.loop.create_future()
                await self.idle
            batch, self.inbox = self.inbox, self.spare
            for message in batch:
                await self.handle(message)
            batch.clear()
            self.spare = batch


class Echo(Actor):
    def handle(self, message: tuple[Any, asyncio.Future[Any]]) -> None:
        message[1].set_result(message[0])


class AsyncEcho(AsyncActor):
    async def handle(self, message: tuple[Any, asyncio.Future[Any]]) -> None:
        message[1].set_result(message[0])


class Passer(Actor):
    next: "Passer"
    done: asyncio.Future[None]

    def handle(self, message: int) -> None:
        self.next.tell(message - 1) if message else self.done.set_result(None)


class Counter(Actor):
    count = 0

    def handle(self, message: int) -> None:
        self.count += message


async def ask(count: int, *, in_flight: int = 1, echo: type[Actor] = Echo) -> float:
    """Return asks per second, sent by `in_flight` clients that each wait for the reply before the next ask."""
    actor = echo(Runtime())

    async def client() -> None:
        for number in range(count // in_flight):
            await actor.ask(number)

    started = perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    seconds = perf_counter() - started
    if isinstance(actor, AsyncActor):
        actor.task.cancel()
    return count // in_flight * in_flight / seconds


async def ring(hops: int, *, size: int = 100) -> float:
    """Return hops per second of one message that walks around `size` actors; a ping-pong is a ring of two."""
    runtime, done = Runtime(), asyncio.get_running_loop().create_future()
    passers = [Passer(runtime) for _ in range(size)]
    for passer, following in pairwise([*passers, passers[0]]):
        passer.next, passer.done = following, done
    started = perf_counter()
    passers[0].tell(hops)
    await done
    return hops / (perf_counter() - started)


async def ping_pong(round_trips: int) -> float:
    """Return round trips per second between two actors."""
    return await ring(2 * round_trips, size=2) / 2


async def tell(count: int, *, burst: int = 1_000) -> float:
    """Return messages per second told to one counter; it runs after each burst, which a bounded mailbox could hold."""
    counter = Counter(Runtime())
    started = perf_counter()
    for _ in range(count // burst):
        for _ in range(burst):
            counter.tell(1)
        await asyncio.sleep(0)  # the turn was scheduled before this task, so the counter is done when it returns
    return counter.count / (perf_counter() - started)
