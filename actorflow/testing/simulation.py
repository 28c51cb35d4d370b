"""A host under the simulated loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from typing import cast

from actorflow.client import Client
from actorflow.local import LocalConnection
from actorflow.plan.app import AppPlan
from actorflow.runtime.host import Host
from actorflow.testing.leftovers import check_nothing_left
from actorflow.testing.loop import SimulatedLoop


@contextlib.asynccontextmanager
async def simulated(app: AppPlan, *, strict: bool = True, inline: bool = False) -> AsyncIterator[tuple[Client, Host]]:
    """Run an app inside `simulate`: `async with simulated(app) as (client, host)`.

    The order of turns and all chance follow the loop's seed, every item goes through the codec (unless not `strict`),
    and at the end the host is checked for leftovers. `inline` takes the short ways of production instead, in their
    order: a request may be processed on its caller's stack.

    Raises: LeftoverError.
    """
    loop = cast("SimulatedLoop", asyncio.get_running_loop())
    chance = random.Random(loop.random.getrandbits(64))
    host = Host(app, strict=strict, inline=inline, shuffle=not inline, watch=False, chance=chance)
    looks = itertools.count()
    if inline:
        host.clock = lambda: next(looks) * 1e-5  # slices end after so many looks at the clock, alike in every run
    await host.start()
    try:
        yield Client(LocalConnection(host)), host
    finally:
        await host.stop()
    check_nothing_left(host)
