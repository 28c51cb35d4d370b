"""A host whose streams and cells change while it runs."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from actorflow import (
    App,
    DeployError,
    Operator,
    TopologyError,
    UnknownStreamError,
)
from actorflow.local import LocalConnection
from actorflow.plan.app import OpenPlan
from actorflow.runtime.host import Host
from actorflow.stores.memory import MemoryStore
from actorflow.testing.leftovers import check_nothing_left

gates: dict[str, asyncio.Event] = {}


class Wait(Operator):
    def __init__(self, says: str) -> None:
        self.says = says

    async def process(self, item: Any) -> Any:
        await gates.setdefault("open", asyncio.Event()).wait()
        return self.says, item


def greeting(words: str) -> App:
    app = App("greeting")
    app.stream("greet", str).map(lambda name: f"{words}, {name}!")
    return app


def waiting(says: str) -> App:
    app = App("waiting")
    app.stream("wait").then(Wait, says)
    return app


def counting(*, kind: str = "table", by: int = 1) -> App:
    app = App("counting")
    if kind == "table":
        table = app.table("hits", key="page", value=int)

        class Hit(Operator):
            hits = table.owned()

            def process(self, page: str) -> int:
                self.hits[page] = self.hits.get(page, 0) + by
                return self.hits[page]

        app.stream("hit", str).key_by(space="page").then(Hit)
    else:
        app.counter("hits")
        app.stream("hit", str)
    return app


class Running:
    """A host without any app at first, and a client of it."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    async def __aenter__(self) -> Self:
        gates.clear()
        self.host = Host(OpenPlan("host"), **self.options)
        await self.host.start()
        self.client = LocalConnection(self.host)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.stop()
        check_nothing_left(self.host)

    async def ask(self, stream: str, item: Any) -> Any:
        return await self.client.request(stream, item, None, None)


async def test_an_app_is_brought_to_a_host_that_runs_and_taken_away_again() -> None:
    async with Running() as running:
        with pytest.raises(UnknownStreamError):
            await running.ask("greet", "Ada")
        app = greeting("Hello")
        await running.host.changes.bring(app)
        first = await running.ask("greet", "Ada")
        running.host.changes.take_away(app, state=False)
        with pytest.raises(UnknownStreamError):
            await running.ask("greet", "Ada")

    assert first == "Hello, Ada!"


async def test_new_requests_use_the_new_version_and_running_ones_finish_on_theirs() -> None:
    async with Running() as running:
        old, new = waiting("old"), waiting("new")
        await running.host.changes.bring(old)
        before = [asyncio.create_task(running.ask("wait", number)) for number in range(3)]
        await asyncio.sleep(0)
        await running.host.changes.bring(new, instead_of=old)
        after = [asyncio.create_task(running.ask("wait", number)) for number in range(3)]
        await asyncio.sleep(0)
        gates["open"].set()
        answers = await asyncio.gather(*before, *after)

    assert answers == [("old", 0), ("old", 1), ("old", 2), ("new", 0), ("new", 1), ("new", 2)]


async def test_state_stays_when_a_new_version_comes() -> None:
    async with Running() as running:
        old, new = counting(), counting(by=10)
        await running.host.changes.bring(old)
        await running.ask("hit", "a")
        await running.host.changes.bring(new, instead_of=old)

        assert await running.ask("hit", "a") == 11


async def test_what_is_refused_changes_nothing() -> None:
    async with Running() as running:
        old = counting()
        await running.host.changes.bring(old)
        await running.ask("hit", "a")
        other = App("other")
        other.stream("hit").map(lambda item: item)
        broken = App("broken")
        broken.stream("broken").call("nowhere")
        for wrong, before, error in (
            (other, None, DeployError),
            (broken, None, TopologyError),
            (counting(kind="counter"), old, DeployError),
        ):
            with pytest.raises(error):
                await running.host.changes.bring(wrong, instead_of=before)

        assert await running.ask("hit", "a") == 2
        assert list(running.host.wirings) == ["hit"]
        assert list(running.host.app.streams) == ["hit"]


async def test_an_operator_that_cannot_start_leaves_the_old_version_running() -> None:
    class Fails(Operator):
        def start(self) -> None:
            raise RuntimeError("no")

        def process(self, item: Any) -> Any:
            return item

    from actorflow import Restart

    async with Running() as running:
        old = greeting("Hello")
        await running.host.changes.bring(old)
        new = App("greeting")
        new.stream("greet").then(Fails, restart=Restart(restarts=1, backoff_s=0.001))
        new.table("fresh", key="x")
        with pytest.raises(Exception, match="no"):
            await running.host.changes.bring(new, instead_of=old)

        assert await running.ask("greet", "Ada") == "Hello, Ada!"
        assert "fresh" not in running.host.cells


async def test_an_unused_stream_gives_up_its_replicas_and_has_new_ones_when_a_request_comes() -> None:
    async with Running(idle_s=0.05) as running:
        app = greeting("Hello")
        app.stream("length", str).then(Length)
        await running.host.changes.bring(app)
        await running.ask("length", "four")
        for _ in range(100):
            if "length" in running.host.changes.dormant:
                break
            await asyncio.sleep(0.02)
        asleep = dict(running.host.changes.dormant)

        assert list(asleep) == ["length"]
        assert await running.ask("length", "seven77") == 7
        assert "length" in running.host.wirings


class Length(Operator):
    def process(self, text: str) -> int:
        return len(text)


async def test_a_stream_at_work_does_not_fall_asleep() -> None:
    async with Running(idle_s=0.02) as running:
        await running.host.changes.bring(waiting("awake"))
        asked = asyncio.create_task(running.ask("wait", 1))
        await asyncio.sleep(0.15)

        assert list(running.host.wirings) == ["wait"]
        gates["open"].set()
        assert await asked == ("awake", 1)


async def test_state_that_goes_with_its_app_is_gone_and_other_state_is_not() -> None:
    store = MemoryStore()
    async with Running(store=store) as running:
        app = counting()
        await running.host.changes.bring(app)
        await running.ask("hit", "a")
        running.host.changes.take_away(app, state=True)
        await running.host.changes.bring(counting())
        assert await running.ask("hit", "a") == 1
        await running.host.settled()


async def test_what_was_brought_is_kept_by_the_store() -> None:
    store = MemoryStore()
    async with Running(store=store) as running:
        await running.host.changes.bring(counting())
        await running.ask("hit", "a")
        await running.host.settled()
    plan = OpenPlan("host")
    plan.take_in(counting())
    host = Host(plan, store=store)
    await host.start()
    try:
        assert await LocalConnection(host).request("hit", "a", None, None) == 2
    finally:
        await host.stop()


async def test_requests_under_load_are_all_answered_while_versions_change() -> None:
    async with Running() as running:
        app = counting()
        await running.host.changes.bring(app)
        done = 0

        async def ask() -> None:
            nonlocal done
            for _ in range(300):
                await running.ask("hit", "page")
                done += 1
                if done % 7 == 0:
                    await asyncio.sleep(0)

        async def change() -> None:
            nonlocal app
            for _ in range(20):
                new = counting()
                await running.host.changes.bring(new, instead_of=app)
                app = new
                await asyncio.sleep(0.002)

        await asyncio.gather(*(ask() for _ in range(5)), change())

        assert await running.ask("hit", "page") == 1_501
