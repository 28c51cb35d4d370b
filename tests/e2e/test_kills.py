"""Hosts are killed for real, again and again, while clients work: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.chaos import run

SEEDS = range(int(os.environ.get("CHAOS_SEEDS", "1")))


async def test_a_few_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    tally = await run(tmp_path, kills=5, seed=1, scale=0.02, cycle_s=0.4, timeout_s=90)

    assert tally.wrong == [], tally.summary()
    assert tally.kills == 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100 + seed for seed in SEEDS])
async def test_a_hundred_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path, seed: int) -> None:
    tally = await run(tmp_path, kills=100, seed=seed, scale=1.0, timeout_s=900)

    assert tally.wrong == [], tally.summary()
    assert tally.kills == 100
    assert tally.kills_that_hit > 50
