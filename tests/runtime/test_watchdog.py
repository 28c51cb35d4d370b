"""A handler that holds the event loop is reported with its operator and its stack. Real time, well below a second."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from actorflow import App, Limits, Operator

UNNAMED = [pytest.param(how) for how in ("reply", "map")]


def held(how: str) -> App:
    """Return an app whose stream holds the loop for 0.2 s in one place."""
    app = App("t", limits=Limits(blocked_after_s=0.04))

    def hold(item: Any) -> Any:
        time.sleep(0.2)
        return item

    class Holds(Operator):
        def process(self, item):
            return hold(item)

    class HoldsAsync(Operator):
        async def process(self, item):
            return hold(item)

    class HoldsLater(Operator):
        async def process(self, item):
            await asyncio.sleep(0.01)
            return hold(item)

    class HoldsYielding(Operator):
        def process(self, item):
            yield hold(item)

    class HoldsBack(Operator):
        def process(self, item):
            return item

        def on_reply(self, outcome, item):
            return hold(outcome.result())

    operators = {
        "plain": Holds, "async": HoldsAsync, "later": HoldsLater, "generator": HoldsYielding, "reply": HoldsBack,
    }  # fmt: skip
    if how == "map":
        app.stream("s", int).map(hold, name="culprit")
    else:
        app.stream("s", int).then(operators[how], name="culprit")
    return app


@pytest.mark.parametrize(
    "how",
    ["plain", "async", "later", "generator", *UNNAMED],
)
async def test_a_handler_that_holds_the_loop_is_reported_by_name(local, caplog, how):
    client = await local(held(how))

    with caplog.at_level(logging.WARNING, "actorflow.watchdog"):
        await client.request("s", 1)

    reports = [record.getMessage() for record in caplog.records if record.name == "actorflow.watchdog"]
    assert len(reports) == 1
    assert "s/culprit" in reports[0]
    assert "in hold" in reports[0]


async def test_a_handler_that_waits_properly_is_not_reported(local, caplog):
    app = App("t", limits=Limits(blocked_after_s=0.1))

    class Waits(Operator):
        async def process(self, item):
            await asyncio.sleep(0.3)
            return item

    app.stream("s", int).then(Waits)
    client = await local(app)

    with caplog.at_level(logging.WARNING, "actorflow.watchdog"):
        await client.request("s", 1)

    assert not [record for record in caplog.records if record.name == "actorflow.watchdog"]
