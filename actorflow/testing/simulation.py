"""A host under the simulated loop."""

from __future__ import annotations

import asyncio
import contextlib
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
async def simulated(app: AppPlan, *, strict: bool = True) -> AsyncIterator[tuple[Client, Host]]:
    """Run an app inside `simulate`: `async with simulated(app) as (client, host)`.

    The order of turns and all chance follow the loop's seed, every item goes through the codec (unless not `strict`),
    and at the end the host is checked for leftovers.

    Raises: LeftoverError.
    """
    loop = cast("SimulatedLoop", asyncio.get_running_loop())
    chance = random.Random(loop.random.getrandbits(64))
    host = Host(app, strict=strict, inline=False, shuffle=True, watch=False, chance=chance)
    await host.start()
    try:
        yield Client(LocalConnection(host)), host
    finally:
        await host.stop()
    check_nothing_left(host)
