"""The way back: `on_reply` in reverse order, for replies and errors and every other end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorflow import App, DeadlineExceededError, Limits, Operator, Retry

LATER = pytest.mark.parametrize("later", [False, True])


class Raise(Operator):
    def process(self, item: Any) -> Any:
        raise ValueError(item)


class Sleep(Operator):
    concurrency = 100

    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


def watcher(seen: list[Any], later: bool, does: Any = None) -> type[Operator]:
    """Return an operator that notes what comes back, and answers with `does(name, outcome, item)`."""

    class Watches(Operator):
        def __init__(self, name):
            self.name = name

        def process(self, item):
            return item

        def back(self, outcome, item):
            seen.append((self.name, outcome.value if outcome.ok else type(outcome.error).__name__, item))
            return does(self.name, outcome, item) if does else outcome.result()

        def on_reply(self, outcome, item):
            return self.back(outcome, item)

    class WatchesLater(Watches):
        async def on_reply(self, outcome, item):
            await asyncio.sleep(0.1)
            return self.back(outcome, item)

    return WatchesLater if later else Watches


@LATER
def test_replies_come_back_in_reverse_order_and_are_transformed(play, later):
    app, seen = App("t"), []
    watches = watcher(seen, later, lambda name, outcome, item: outcome.result() + name)
    app.stream("s", str).then(watches, "a").then(watches, "b").map(str.upper).then(watches, "c")

    async def main(client, host):
        return await client.request("s", "x")

    assert play(app, main) == "Xcba"
    assert seen == [("c", "X", "X"), ("b", "Xc", "x"), ("a", "Xcb", "x")]


@LATER
def test_an_error_comes_back_and_may_be_answered(play, later):
    app, seen = App("t"), []

    def does(name, outcome, item):
        return "recovered" if name == "a" and not outcome.ok else outcome.result()

    watches = watcher(seen, later, does)
    app.stream("s", int).then(watches, "a").then(watches, "b").then(Raise)

    async def main(client, host):
        return await client.request("s", 1)

    assert play(app, main) == "recovered"
    assert seen == [("b", "ValueError", 1), ("a", "ValueError", 1)]


@LATER
def test_an_item_may_be_tried_again(play, later):
    app, seen, tries = App("t"), [], []

    class Fragile(Operator):
        def process(self, item):
            tries.append(item)
            if len(tries) < 3:
                raise ValueError(item)
            return item

    watches = watcher(seen, later, lambda name, outcome, item: outcome.value if outcome.ok else Retry(item))
    app.stream("s", int).then(watches, "a").then(Fragile)

    async def main(client, host):
        return await client.request("s", 7)

    assert play(app, main) == 7
    assert tries == [7, 7, 7]


@LATER
def test_a_deadline_is_told_to_everyone_on_the_way_in_reverse_order(play, later):
    app, seen = App("t"), []
    watches = watcher(seen, later)
    app.stream("s", float).then(watches, "a").then(watches, "b").then(Sleep)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("s", 100.0, timeout_s=1.0)
        ended_s = host.now_s()
        await asyncio.sleep(5)
        return ended_s

    assert play(app, main, inline=False) == pytest.approx(1.0)
    assert seen == [("b", "DeadlineExceededError", 100.0), ("a", "DeadlineExceededError", 100.0)]


@LATER
def test_a_cancelled_request_is_told_to_everyone_on_the_way(play, later):
    app, seen = App("t"), []
    app.stream("s", float).then(watcher(seen, later), "a").then(Sleep)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 100.0))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.sleep(5)

    play(app, main)

    assert seen == [("a", "RequestCancelledError", 100.0)]


def test_compensation_has_its_own_time_and_no_more(play):
    app, seen = App("t", limits=Limits(unwind_timeout_s=3.0)), []

    class Compensates(Operator):
        def process(self, item):
            return item

        async def on_reply(self, outcome, item):
            seen.append(await self.call("undo", 1.0))
            try:
                await asyncio.sleep(100)
            finally:
                seen.append(round(asyncio.get_running_loop().time(), 1))

    app.stream("undo", float).then(Sleep)
    app.stream("s", float).then(Compensates).then(Sleep)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("s", 100.0, timeout_s=1.0)
        await asyncio.sleep(20)

    play(app, main)

    assert seen == [1.0, 4.0]


@pytest.mark.parametrize(
    "later",
    [
        False,
        pytest.param(
            True,
        ),
    ],
)
def test_an_operator_sees_what_it_replied_itself_alike_whether_it_waits_or_not(play, later):
    app, seen = App("t"), []

    class Replies(Operator):
        def process(self, item):
            self.reply(item)

        def on_reply(self, outcome, item):
            seen.append(outcome.value)
            return outcome.result()

    class RepliesLater(Replies):
        async def process(self, item):
            self.reply(item)

    app.stream("s", int).then(RepliesLater if later else Replies)

    async def main(client, host):
        return await client.request("s", 1)

    assert play(app, main) == 1
    assert seen == []


def test_a_rerun_is_on_the_way_back_once(play):
    app, seen = App("t"), []

    class Works(Operator):
        escalate = (ConnectionError,)
        concurrency = 2

        async def process(self, item):
            if item == "break":
                raise ConnectionError
            await asyncio.sleep(1)
            return item

        def on_reply(self, outcome, item):
            seen.append(item)
            return outcome.result()

    app.stream("s", str).then(Works)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", "x"))
        await asyncio.sleep(0.5)
        await asyncio.gather(client.request("s", "break"), return_exceptions=True)
        return await asking

    assert play(app, main) == "x"
    assert seen.count("x") == 1


@LATER
def test_a_fold_passes_on_what_its_items_have_in_common(play, later):
    app, seen = App("t"), []
    watches = watcher(seen, later)
    app.stream("s", int).then(watches, "all").flat_map(range).then(watches, "each").count()

    async def main(client, host):
        return await client.request("s", 3)

    assert play(app, main) == 3
    assert seen == [("all", 3, 3)]


@LATER
def test_what_on_reply_raises_is_the_outcome_from_there_on(play, later):
    app, seen = App("t"), []

    def does(name, outcome, item):
        if name == "b":
            raise KeyError(item)
        return outcome.result()

    watches = watcher(seen, later, does)
    app.stream("s", int).then(watches, "a").then(watches, "b")

    async def main(client, host):
        with pytest.raises(KeyError):
            await client.request("s", 1)

    play(app, main)

    assert seen == [("b", 1, 1), ("a", "KeyError", 1)]
