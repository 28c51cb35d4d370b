"""What an activation leaves running when it ends has no part in what comes after."""

from __future__ import annotations

import asyncio

import pytest

from actorflow import App, Limits, Operator
from actorflow.testing import simulate, simulated


def left(how: str, *, gates: dict[str, asyncio.Event], seen: list[BaseException | None]) -> App:
    app = App("left")
    rows = app.table("rows", key="row", value=int)
    total = app.counter("total")

    class Leave(Operator):
        rows_ = rows.exclusive()
        total_ = total.merged()
        concurrency = 2

        async def process(self, order: tuple[str, int, bool]) -> int:
            key, cents, bad = order
            if key == "holder":
                await self.rows_.lock("ann")
                await gates["holder"].wait()
                return 0
            task = asyncio.ensure_future(self.add(key, cents))
            task.add_done_callback(lambda done: seen.append(done.exception()))
            if not bad:
                await task
                return cents
            await asyncio.sleep(0.01)
            raise ValueError("bad")

        async def add(self, key: str, cents: int) -> None:
            if how == "lock":
                held = await self.rows_.lock(key)
                held[key] = held.get(key, 0) + cents
                return
            if cents > 1:
                await gates["late"].wait()
            self.total_.add(cents)

    app.stream("leave", tuple, int).then(Leave)
    return app


def test_a_lock_that_is_waited_for_is_refused_when_its_activation_has_failed() -> None:
    async def system() -> None:
        gates, seen = {"holder": asyncio.Event()}, []
        async with simulated(left("lock", gates=gates, seen=seen)) as (client, _):
            holding = asyncio.create_task(client.request("leave", ("holder", 0, False)))
            await asyncio.sleep(0.001)
            with pytest.raises(ValueError, match="bad"):
                await client.request("leave", ("ann", 1_000, True))
            asking = asyncio.create_task(client.request("leave", ("ann", 1, False)))
            await asyncio.sleep(0.001)
            gates["holder"].set()

            assert await holding == 0
            assert await asking == 1
            assert await client.cell("rows", "ann") == 1
        assert ["has ended" in str(error) for error in seen if error is not None] == [True]

    simulate(system, seed=1)


def test_what_is_added_late_belongs_to_nobody_else() -> None:
    async def system() -> None:
        gates, seen = {"late": asyncio.Event()}, []
        async with simulated(left("count", gates=gates, seen=seen)) as (client, _):
            with pytest.raises(ValueError, match="bad"):
                await client.request("leave", ("ann", 100, True))
            gates["late"].set()
            for _ in range(3):
                assert await client.request("leave", ("ann", 1, False)) == 1
            assert await client.cell("total") == 3

    simulate(system, seed=1)


def test_what_shares_a_key_and_wants_it_alone_gets_it_however_many_do() -> None:
    app = App("upgrade", limits=Limits(reruns=20))
    rows = app.table("rows", key="row", value=int)

    class Upgrade(Operator):
        rows_ = rows.exclusive()
        concurrency = 100

        async def process(self, key: str) -> int:
            seen = (await self.rows_.lock(key, shared=True)).get(key, 0)
            await asyncio.sleep(0.01)
            held = await self.rows_.lock(key)
            held[key] = held.get(key, 0) + 1
            return seen

    app.stream("upgrade", str, int).then(Upgrade)

    async def system() -> None:
        async with simulated(app) as (client, _):
            await asyncio.gather(*(client.request("upgrade", "hot") for _ in range(50)))
            assert await client.cell("rows", "hot") == 50

    simulate(system, seed=3)
