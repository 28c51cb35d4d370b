"""How case programs are run: on a host that is watched, with many callers at once, in real or in simulated time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from actorflow import App, Client
from actorflow.runtime.host import Host
from actorflow.runtime.request import Request
from actorflow.testing import check_nothing_left, simulated

T = TypeVar("T")
R = TypeVar("R")

Pause = Callable[[], Awaitable[None]]
"""What an operator awaits while it holds keys, so that others come in between."""


async def no_pause() -> None:
    """Go on at once."""


async def breath() -> None:
    """Let everybody else have a turn."""
    await asyncio.sleep(0)


class Watch:
    """Counts how often each request of a host ends."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ends: dict[Request, int] = {}
        ended = host.ended

        def count(request: Request) -> None:
            self.ends[request] = self.ends.get(request, 0) + 1
            ended(request)

        host.ended = count  # type: ignore[method-assign]

    def check(self) -> None:
        """Check that every request has ended once, that nothing is left, and that nobody holds a key."""
        twice = [request.id for request, count in self.ends.items() if count != 1]
        assert not twice, f"requests that ended more than once: {twice}"
        check_nothing_left(self.host, list(self.ends))
        held = {name: locks.held for name, locks in self.host.spaces.items() if not locks.idle}
        assert not held, f"keys are still held: {held}"


@contextlib.asynccontextmanager
async def running(app: App, *, strict: bool = False) -> AsyncIterator[Client]:
    """Run an app in this process; afterwards every request has ended once, nothing is left and no key is held."""
    local = app.local(strict=strict)
    async with local as client:
        assert local.host is not None
        watch = Watch(local.host)
        yield client
        for _ in range(100):  # what has ended may take a few turns to be cleared away
            if not local.host.requests and not local.host.ready:
                break
            await asyncio.sleep(0)
        watch.check()


@contextlib.asynccontextmanager
async def running_simulated(app: App) -> AsyncIterator[Client]:
    """The same inside `simulate`."""
    async with simulated(app) as (client, host):
        watch = Watch(host)
        yield client
        watch.check()


async def by_many(
    callers: int, items: Iterable[T], call: Callable[[T], Awaitable[R]], *, every: Pause = no_pause
) -> list[R]:
    """Call with every item, by so many callers at once that take the next item in turn; return the results in order."""
    ahead = enumerate(items)
    results: dict[int, R] = {}

    async def caller() -> None:
        for index, item in ahead:
            results[index] = await call(item)
            await every()

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return [results[index] for index in range(len(results))]


@contextlib.asynccontextmanager
async def meanwhile(look: Callable[[], Awaitable[Any]], *, pause_s: float = 0.002) -> AsyncIterator[list[Any]]:
    """Look again and again while the block runs; yields the list of what was seen."""
    seen: list[Any] = []

    async def looking() -> None:
        while True:
            seen.append(await look())
            await asyncio.sleep(pause_s)

    task = asyncio.ensure_future(looking())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    seen.append(await look())
