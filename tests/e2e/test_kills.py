"""Hosts are killed for real, again and again, while clients work: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from actorflow import Client
from tests.e2e.chaos import HostProcess, Tally, run

SEEDS = range(int(os.environ.get("CHAOS_SEEDS", "1")))


async def test_a_few_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    tally = await run(tmp_path, kills=5, seed=1, scale=0.02, cycle_s=0.4, timeout_s=90)

    assert tally.wrong == [], tally.summary()
    assert tally.kills == 5


async def test_what_is_sent_while_a_host_drains_is_done(tmp_path: Path) -> None:
    host = HostProcess(tmp_path, Tally())
    host.spawn()
    try:
        assert await host.ready()
        async with Client(host.url) as client:
            asking = [asyncio.create_task(client.request("order", [97, 1, False], key=f"{each}")) for each in range(3)]
            await asyncio.sleep(0.3)

            host.signal(signal.SIGTERM)

            assert await asyncio.gather(*asking) == [1, 1, 1]
        assert await host.wait() == 0
        host.spawn()
        assert await host.ready()
        await asyncio.sleep(2.0)  # one of them was sent for later
        async with Client(host.url) as client:
            marks = dict(await client.cell_range("marks"))
    finally:
        host.end()
    assert {key[2]: times for key, times in marks.items()} == {"pay": 3, "ship": 3, "wait": 6, "now": 3, "later": 3}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100 + seed for seed in SEEDS])
async def test_a_hundred_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path, seed: int) -> None:
    tally = await run(tmp_path, kills=100, seed=seed, scale=1.0, timeout_s=900)

    assert tally.wrong == [], tally.summary()
    assert tally.kills == 100
    assert tally.kills_that_hit > 50
