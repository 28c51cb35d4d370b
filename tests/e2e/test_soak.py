"""A host under clients that come, go and misbehave is as it was before; the long run is `make soak`."""

from __future__ import annotations

from tests.e2e.soak import soak


async def test_a_short_soak_leaves_nothing_behind() -> None:
    seen = await soak(0.15, seed=1)

    assert seen["wrong"] == []
    assert seen["after"]["in_flight"] == 0
    assert seen["after"]["depth"] == 0
    assert seen["after"]["files"] <= seen["before"]["files"] + 5
    assert sum(seen["done"].values()) > 100
