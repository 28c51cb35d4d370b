"""`play` runs an app on a host in virtual time, and holds every request it saw to promise 1."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from actorflow import App, Client
from actorflow.local import LocalConnection
from actorflow.runtime.host import Host
from actorflow.runtime.request import Request
from actorflow.testing import SimulatedLoop, check_nothing_left, simulate

Main = Callable[[Client, Host], Awaitable[Any]]


@pytest.fixture(params=["shuffled", "inline"])
def play(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return `play(app, main, seed=0)`: the result of `await main(client, host)`.

    Each test runs twice: with turns shuffled by the seed and every item through the codec, and as in production, where
    the caller's stack does the work. All requests must have ended once, with counts of zero and nothing left.
    """

    def run(app: App, main: Main, *, seed: int = 0, inline: bool | None = None, strict: bool | None = None) -> Any:
        direct = request.param == "inline" if inline is None else inline

        async def body() -> Any:
            loop = cast("SimulatedLoop", asyncio.get_running_loop())
            chance = random.Random(loop.random.getrandbits(64))
            host = Host(
                app,
                strict=not direct if strict is None else strict,
                inline=direct,
                shuffle=not direct,
                watch=False,
                chance=chance,
            )
            ticks = itertools.count()
            host.clock = lambda: next(ticks) * 1e-5  # slices end after so many looks at the clock, alike in every run
            requests, ends = _watched(host)
            await host.start()
            try:
                result = await main(Client(LocalConnection(host)), host)
                for each in requests:
                    while not each.state:
                        await asyncio.sleep(1.0)
                await asyncio.sleep(20.0)
                check_nothing_left(host, requests)
            finally:
                await host.stop()
            check_nothing_left(host, requests)
            assert not [one.id for one, count in ends.items() if count > 1], "a request ended twice"
            return result

        return simulate(body, seed=seed, jitter_s=0.0001 if seed else 0.0, time_max_s=20_000.0, steps_max=300_000)

    return run


def _watched(host: Host) -> tuple[list[Request], Counter[Request]]:
    """Note every request that a host opens, and how often each ends."""
    requests: list[Request] = []
    ends: Counter[Request] = Counter()
    opening, ending = host.open, host.ended

    def opened(*arguments: Any, **named: Any) -> Request:
        made = opening(*arguments, **named)
        requests.append(made)
        return made

    def ended(one: Request) -> None:
        ends[one] += 1
        ending(one)

    host.open = opened  # type: ignore[method-assign]
    host.ended = ended  # type: ignore[method-assign]
    return requests, ends
