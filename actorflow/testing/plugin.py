"""The pytest plugin: installed with actorflow, found by pytest by itself.

import pytest

@pytest.mark.asyncio                      # or asyncio_mode = "auto" in the settings of pytest
async def test_greets(local):
    client = await local(app)
    assert await client.request("hello", "world") == "Hello, world!"
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from actorflow.client import Client
from actorflow.local import Local
from actorflow.plan.app import AppPlan
from actorflow.testing.leftovers import check_nothing_left

Start = Callable[..., Awaitable[Client]]


async def _running() -> AsyncIterator[Start]:
    """Return `await local(app, strict=True)`: a client of the app, run in this process until the test ends.

    Items go through the codec between operators (as between hosts) unless `strict=False`. After the test the host is
    stopped and checked: a request, actor or envelope that is left fails the test.
    """
    running: list[Local] = []

    async def start(app: AppPlan, *, strict: bool = True, **options: Any) -> Client:
        context = Local(app, strict=strict, **options)
        client = await context.__aenter__()
        running.append(context)
        return client

    yield start
    for context in reversed(running):
        await context.__aexit__(None, None, None)
        assert context.host is not None
        check_nothing_left(context.host)


def _missing() -> None:
    """Say what is missing."""
    pytest.fail("the fixture `local` needs pytest-asyncio: pip install 'actorflow[test]'", pytrace=False)


local: Any
try:
    import pytest_asyncio
except ImportError:  # pytest without it runs no async test, and must run all others
    local = pytest.fixture(_missing, name="local")
else:
    local = pytest_asyncio.fixture(_running, name="local")
