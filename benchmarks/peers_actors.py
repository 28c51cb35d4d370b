"""The actor workloads of `benchmarks.bare` on xoscar and Pykka, written as their documentation shows.

The peers are imported when a side runs. xoscar has two handles: the one that `create_actor` returns passes messages
through its pool, as a call to another process would; the one looked up with `actor_ref` in the actor's own process
awaits the actor's method under its lock, with no mailbox between. `looked_up=True` takes the second.
"""

import asyncio
import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import pairwise
from time import perf_counter
from types import ModuleType, SimpleNamespace
from typing import Any

from benchmarks.harness import SkipSide


def peer(name: str) -> ModuleType:
    """Return a peer's module.

    Raises:
        SkipSide: the peer is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = f"{name.partition('.')[0]} is not installed, its sides are skipped; pip install 'actorflow[bench]'"
        raise SkipSide(message) from error


@cache
def _xoscar_actors() -> SimpleNamespace:
    xoscar: Any = peer("xoscar")

    class Echo(xoscar.Actor):  # type: ignore[misc]  # xoscar has no types
        def echo(self, message: int) -> int:
            return message

    class Counter(xoscar.Actor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def add(self, number: int) -> None:
            self.count += number

        def total(self) -> int:
            return self.count

    class Passer(xoscar.Actor):  # type: ignore[misc]
        def __init__(self, done: asyncio.Future[None]) -> None:
            super().__init__()
            self.done = done
            self.next: Any = None

        def follow(self, following: object) -> None:
            self.next = following

        async def hit(self, remaining: int) -> None:
            if remaining:
                await self.next.hit.tell(remaining - 1)
            else:
                self.done.set_result(None)

    return SimpleNamespace(Echo=Echo, Counter=Counter, Passer=Passer)


class _XoscarPool:
    """Create actors in an xoscar pool of this process."""

    def __init__(self, address: str, *, looked_up: bool) -> None:
        self.xoscar: Any = peer("xoscar")
        self.address = address
        self.looked_up = looked_up
        self.actors = 0

    async def create(self, actor: type, *arguments: object) -> Any:  # a handle has any method
        self.actors += 1
        uid = f"{actor.__name__}-{self.actors}"
        handle = await self.xoscar.create_actor(actor, *arguments, uid=uid, address=self.address)
        return await self.xoscar.actor_ref(uid, address=self.address) if self.looked_up else handle


@asynccontextmanager
async def _xoscar_pool(*, looked_up: bool) -> AsyncIterator[_XoscarPool]:
    pool = await peer("xoscar").create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        yield _XoscarPool(pool.external_address, looked_up=looked_up)


async def xoscar_ask(count: int, *, in_flight: int = 1, looked_up: bool = False) -> float:
    """Return asks per second of an xoscar actor, sent by `in_flight` clients that each wait for the reply.

    Raises:
        SkipSide: xoscar is not installed; so in each of this module's functions, for its peer.
    """
    async with _xoscar_pool(looked_up=looked_up) as pool:
        actor = await pool.create(_xoscar_actors().Echo)

        async def client() -> None:
            for number in range(count // in_flight):
                await actor.echo(number)

        started = perf_counter()
        await asyncio.gather(*(client() for _ in range(in_flight)))
        return count // in_flight * in_flight / (perf_counter() - started)


async def xoscar_ring(hops: int, *, size: int = 100, looked_up: bool = False) -> float:
    """Return hops per second of one message told around `size` xoscar actors; a ping-pong is a ring of two."""
    async with _xoscar_pool(looked_up=looked_up) as pool:
        done = asyncio.get_running_loop().create_future()
        passers = [await pool.create(_xoscar_actors().Passer, done) for _ in range(size)]
        for passer, following in pairwise([*passers, passers[0]]):
            await passer.follow(following)
        started = perf_counter()
        await passers[0].hit.tell(hops)
        await done
        return hops / (perf_counter() - started)


async def xoscar_ping_pong(round_trips: int, *, looked_up: bool = False) -> float:
    """Return round trips per second between two xoscar actors."""
    return await xoscar_ring(2 * round_trips, size=2, looked_up=looked_up) / 2


async def xoscar_tell(count: int, *, looked_up: bool = False) -> float:
    """Return messages per second told to one xoscar counter and counted."""
    async with _xoscar_pool(looked_up=looked_up) as pool:
        counter = await pool.create(_xoscar_actors().Counter)
        started = perf_counter()
        for _ in range(count):
            await counter.add.tell(1)
        while await counter.total() < count:  # noqa: ASYNC110  # a counter that set an event would do more than count
            await asyncio.sleep(0)
        return count / (perf_counter() - started)


@cache
def _pykka_actors() -> SimpleNamespace:
    pykka: Any = peer("pykka")

    class Echo(pykka.ThreadingActor):  # type: ignore[misc]  # the import is lazy, so mypy knows no types
        def on_receive(self, message: object) -> object:
            return message

    class Counter(pykka.ThreadingActor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def on_receive(self, message: int) -> int:
            self.count += message
            return self.count

    class Passer(pykka.ThreadingActor):  # type: ignore[misc]
        def __init__(self, done: threading.Event) -> None:
            super().__init__()
            self.done = done
            self.next: Any = None

        def on_receive(self, message: object) -> None:
            if not isinstance(message, int):
                self.next = message
            elif message:
                self.next.tell(message - 1)
            else:
                self.done.set()

    return SimpleNamespace(Echo=Echo, Counter=Counter, Passer=Passer)


def pykka_ask(count: int, *, in_flight: int = 1) -> float:
    """Return asks per second of a Pykka actor, sent in windows of `in_flight` asks whose replies are then awaited."""
    actor = _pykka_actors().Echo.start()
    try:
        started = perf_counter()
        for _ in range(count // in_flight):
            for reply in [actor.ask(number, block=False) for number in range(in_flight)]:
                reply.get()
        return count // in_flight * in_flight / (perf_counter() - started)
    finally:
        actor.stop()


def pykka_ring(hops: int, *, size: int = 100) -> float:
    """Return hops per second of one message told around `size` Pykka actors; a ping-pong is a ring of two."""
    done = threading.Event()
    passers = [_pykka_actors().Passer.start(done) for _ in range(size)]
    try:
        for passer, following in pairwise([*passers, passers[0]]):
            passer.ask(following)
        started = perf_counter()
        passers[0].tell(hops)
        done.wait()
        return hops / (perf_counter() - started)
    finally:
        for passer in passers:
            passer.stop()


def pykka_ping_pong(round_trips: int) -> float:
    """Return round trips per second between two Pykka actors."""
    return pykka_ring(2 * round_trips, size=2) / 2


def pykka_tell(count: int) -> float:
    """Return messages per second told to one Pykka counter and counted."""
    counter = _pykka_actors().Counter.start()
    try:
        started = perf_counter()
        for _ in range(count):
            counter.tell(1)
        total = counter.ask(0)
        seconds = perf_counter() - started
        assert total == count
        return count / seconds
    finally:
        counter.stop()
