"""Promise 5: one item is one activation, and an activation is a transaction."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from actorflow import (
    App,
    ItemError,
    ItemFailure,
    Limits,
    Operator,
    ReplicaFailedError,
    UnknownStreamError,
)


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class Note(Operator):
    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def process(self, item: Any) -> None:
        self.seen.append(item)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_a_failed_item_of_a_batch_leaves_nothing_and_the_others_stand(play, waits, batched):
    app = App("t")
    told, sent = [], []

    class Told(Operator):
        def process(self, item):
            told.append(item)

    class Sent(Operator):
        def process(self, item):
            sent.append(item)

    class Work(Operator):
        def act(self, item):
            self.emit(("emitted", item))
            self.reply(("replied", item))
            self.tell(self.spawn(Told), item)
            self.send("sent", item)
            self.after(1.0, item + 100)
            if item % 3 == 0:
                raise ValueError(item)
            return ("returned", item)

        def process(self, item):
            return self.act(item) if item < 100 else None

    class WorkLater(Work):
        async def process(self, item):
            await asyncio.sleep(0.01)
            return self.act(item) if item < 100 else None

    app.stream("sent", int, replies="none").then(Sent)
    entry = app.stream("s", int, replies="many", on_error="set_aside")
    point = entry.flat_map(lambda n: range(n)) if batched else entry.flat_map(range).then(Echo)
    point.then(WorkLater if waits else Work)

    async def main(client, host):
        replies = await client.request("s", 6)
        await asyncio.sleep(5)
        return replies, await client.dead_letters(), dict(host.actors)

    replies, letters, actors = play(app, main)

    good = [1, 2, 4, 5]
    assert sorted(replies) == sorted((kind, n) for n in good for kind in ("emitted", "replied", "returned"))
    assert (sorted(told), sorted(sent)) == (good, good)
    assert [letter["item"] for letter in letters] == ["0", "3"]
    assert not actors


def test_an_answer_given_with_reply_does_not_answer_the_next_ask(play):
    app = App("t")

    class Replies(Operator):
        def process(self, item):
            self.reply(item)

    class Asks(Operator):
        async def process(self, item):
            await asyncio.sleep(0)
            return await self.ask(self.spawn(Echo), item)

    app.stream("replies", int).then(Replies)
    app.stream("asks", int).then(Asks)

    async def main(client, host):
        first = await client.request("replies", 1)
        return first, await client.request("asks", 2, timeout_s=5.0)

    assert play(app, main) == (1, 2)


def test_a_plain_operator_may_defer_for_every_item(play):
    app = App("t")

    class Defers(Operator):
        def process(self, item):
            if isinstance(item, tuple):
                item[0].reply(item[1])
            else:
                pending = self.defer()
                self.waiting = [*getattr(self, "waiting", []), pending]
                if len(self.waiting) == 3:
                    for number, each in enumerate(self.waiting):
                        each.reply(number)
                    self.waiting = []

    app.stream("s", int).then(Defers)

    async def main(client, host):
        return await asyncio.gather(*(client.request("s", n, timeout_s=5.0) for n in range(6)))

    assert sorted(play(app, main)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("waits", [False, True])
def test_an_actor_of_a_finished_activation_survives_the_failure_of_the_next(play, waits):
    app = App("t")

    class Spawns(Operator):
        def process(self, item):
            if item == "fail":
                raise ValueError(item)
            return self.spawn(Echo)

    class SpawnsLater(Spawns):
        async def process(self, item):
            await asyncio.sleep(0)
            return Spawns.process(self, item)

    class Asks(Operator):
        concurrency = 9

        async def process(self, address):
            await asyncio.sleep(1)
            return await self.ask(address, "alive")

    app.stream("s", str).then(SpawnsLater if waits else Spawns).then(Asks)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", "spawn"))
        await asyncio.sleep(0.1)
        with pytest.raises(ValueError, match="fail"):
            await client.request("s", "fail")
        return await asking

    assert play(app, main) == "alive"


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_failed_on_reply_emitted_goes_nowhere(play, waits):
    app = App("t")

    class Watches(Operator):
        def process(self, item):
            return item

        def on_reply(self, outcome, item):
            self.emit("stray")
            raise ValueError(item)

    class WatchesLater(Watches):
        async def on_reply(self, outcome, item):
            self.emit("stray")
            await asyncio.sleep(1)
            raise ValueError(item)

    app.stream("s", int).then(WatchesLater if waits else Watches)
    app.stream("other", int, replies="many").then(Echo)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 1))
        await asyncio.sleep(0.5)
        others = await client.request("other", 2)
        await asyncio.gather(asking, return_exceptions=True)
        return others + await client.request("other", 3)

    assert play(app, main) == [2, 3]


def test_an_async_on_reply_of_a_plain_operator_emits_into_its_own_request(play):
    app = App("t")

    class Watches(Operator):
        def process(self, item):
            return item

        async def on_reply(self, outcome, item):
            self.emit("mine")
            await asyncio.sleep(1)
            return outcome.result()

    app.stream("s", int, replies="many").then(Watches).map(lambda item: item)
    app.stream("other", int, replies="many").then(Echo)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 1))
        await asyncio.sleep(0.5)
        other = await client.request("other", 2)
        return other, await asking

    other, mine = play(app, main)

    assert other == [2]
    assert sorted(map(str, mine)) == ["1", "mine"]


def test_start_may_not_emit_since_it_works_for_no_request(play):
    app = App("t")

    class Starts(Operator):
        def start(self):
            self.emit("from start")

        def process(self, item):
            return item

    app.stream("s", int, replies="many").then(Starts)

    async def main(client, host):
        raise AssertionError("started")

    with pytest.raises(ReplicaFailedError, match="works for no request"):
        play(app, main)


def test_process_batch_fails_the_items_it_names_and_no_others(play):
    app = App("t")
    calls = []

    class Batch(Operator):
        def process_batch(self, items):
            calls.append(items)
            return [ItemError(ValueError(n)) if n % 2 else n for n in items]

    class BatchLater(Operator):
        async def process_batch(self, items):
            await asyncio.sleep(0.1)
            return [ItemError(ValueError(n)) if n % 2 else n for n in items]

    app.stream("s", int, replies="many", on_error="set_aside").flat_map(lambda n: range(n)).then(Batch)
    app.stream("later", int, replies="many", on_error="set_aside").flat_map(lambda n: range(n)).then(BatchLater)

    async def main(client, host):
        return await client.request("s", 6), await client.request("later", 6), await client.dead_letters()

    first, later, letters = play(app, main)

    assert first == later == [0, 2, 4]
    assert [letter["item"] for letter in letters] == ["1", "3", "5"] * 2
    assert [n for call in calls for n in call] == [0, 1, 2, 3, 4, 5]


def test_a_batch_that_raises_fails_as_one(play):
    app = App("t")

    class Batch(Operator):
        def process_batch(self, items):
            self.emit("stray")
            self.send("s", 0)
            raise ValueError

    app.stream("s", int, replies="many", on_error="set_aside").flat_map(lambda n: range(n)).then(Batch)

    async def main(client, host):
        replies = await client.request("s", 3)
        return replies, len(await client.dead_letters())

    assert play(app, main) == ([], 3)


def test_dead_letters_are_replayed_as_requests_of_their_own_and_bounded(play):
    app = App("t", limits=Limits(dead_letters=3))
    seen, broken = [], [True]

    class Work(Operator):
        on_error = "set_aside"

        def process(self, item):
            if broken[0]:
                raise ValueError(item)
            seen.append((item, self.request.id))
            return item

    app.stream("s", int, replies="many").flat_map(lambda n: range(n)).then(Work)

    async def main(client, host):
        await client.request("s", 5)
        letters = await client.dead_letters()
        again = await client.replay(letters[0]["number"])
        await asyncio.sleep(0.1)
        after = await client.dead_letters()
        broken[0] = False
        fine = await client.replay(after[0]["number"])
        await asyncio.sleep(1)
        with pytest.raises(UnknownStreamError):
            await client.replay(letters[0]["number"])
        return letters, again, after, fine, await client.dead_letters()

    letters, again, after, fine, left = play(app, main)

    assert [letter["item"] for letter in letters] == ["2", "3", "4"]
    assert [letter["item"] for letter in after] == ["3", "4", "2"]
    assert after[-1]["request_id"] == again != letters[0]["request_id"]
    assert seen == [(3, fine)]
    assert [letter["item"] for letter in left] == ["4", "2"]


def test_the_dead_letter_of_an_actor_is_refused_with_a_typed_error_or_replayed(play):
    app = App("t")

    class Actor(Operator):
        on_error = "set_aside"

        def process(self, item):
            raise ValueError(item)

    class Spawns(Operator):
        def process(self, item):
            self.tell(self.spawn(Actor), item)
            return item

    app.stream("s", int).then(Spawns)

    async def main(client, host):
        await client.request("s", 1)
        (letter,) = await client.dead_letters()
        with pytest.raises(UnknownStreamError):
            await client.replay(letter["number"])

    play(app, main)


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_edge_carries_the_item_and_its_error(play, waits):
    app = App("t")

    class Work(Operator):
        on_error = "edge"

        def process(self, item):
            self.emit("stray")
            raise KeyError(item)

    class WorkLater(Work):
        async def process(self, item):
            await asyncio.sleep(0.1)
            return Work.process(self, item)

    point = app.stream("s", int).then(WorkLater if waits else Work)
    failures = point.errors.map(lambda each: (type(each) is ItemFailure, each.item, each.error.cause_type))
    failures.merge(point)

    async def main(client, host):
        return await client.request("s", 7)

    assert play(app, main) == (True, 7, "KeyError")


def test_the_tools_of_asyncio_work_in_an_operator(play):
    app = App("t")

    class Work(Operator):
        async def process(self, item):
            task = asyncio.current_task()
            try:
                async with asyncio.timeout(0):
                    await asyncio.sleep(10)
            except TimeoutError:
                pass
            try:
                async with asyncio.timeout(1):
                    await self.call("slow", 5.0)
            except TimeoutError:
                pass
            async with asyncio.TaskGroup() as group:
                one, two = group.create_task(self.call("slow", 1.0)), group.create_task(self.call("slow", 2.0))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(100))
                    raise ValueError
            except* ValueError:
                pass
            shielded = await asyncio.shield(self.call("slow", 1.0))
            return one.result(), two.result(), shielded, task is asyncio.current_task(), task.cancelling()

    class Slow(Operator):
        concurrency = 10

        async def process(self, seconds):
            await asyncio.sleep(seconds)
            return seconds

    app.stream("slow", float).then(Slow)
    app.stream("s", int).then(Work)

    async def main(client, host):
        answers = [await client.request("s", n) for n in range(3)]
        return answers, host.now_s()

    answers, ended_s = play(app, main)

    assert answers == [(1.0, 2.0, 1.0, True, 0)] * 3
    assert ended_s == pytest.approx(12.0, abs=0.1)


@pytest.mark.parametrize(
    "awaits",
    [
        False,
        pytest.param(
            True,
        ),
    ],
)
def test_an_activation_that_cancels_its_own_task_ends_and_harms_no_other(play, awaits):
    app = App("t")

    class Work(Operator):
        async def process(self, item):
            if item == 0:
                asyncio.current_task().cancel()
                if awaits:
                    await asyncio.sleep(1)
            return item

    app.stream("s", int).then(Work)

    async def main(client, host):
        (first,) = await asyncio.gather(client.request("s", 0, timeout_s=5.0), return_exceptions=True)
        await asyncio.sleep(0.1)
        return first, await client.request("s", 1, timeout_s=5.0), host.now_s()

    _, second, ended_s = play(app, main)

    assert second == 1
    assert ended_s < 5


def test_context_variables_of_one_activation_are_not_seen_by_the_next(play):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    app = App("t")

    class Work(Operator):
        async def process(self, item):
            before = variable.get()
            token = variable.set(f"item {item}")
            await asyncio.sleep(0.1)
            inside = await asyncio.create_task(self.look())
            if item == 2:
                variable.reset(token)
            return before, inside

        async def look(self):
            return variable.get()

    app.stream("s", int).then(Work)

    async def main(client, host):
        return [await client.request("s", n) for n in range(3)]

    assert play(app, main) == [("none", f"item {n}") for n in range(3)]


@pytest.mark.parametrize("seed", range(20))
def test_interleaved_activations_keep_their_own_request_and_output(play, seed):
    app = App("t")

    class Work(Operator):
        concurrency = 8

        async def process(self, item):
            before = self.request.id
            self.emit((item, before))
            await asyncio.sleep(item % 5 / 100)
            self.emit((item, self.request.id))
            inner = await asyncio.gather(self.later(item), self.later(item))
            return item, *inner

        async def later(self, item):
            await asyncio.sleep(item % 3 / 100)
            return self.request.id

    app.stream("s", int, replies="many").then(Work)

    async def main(client, host):
        return await asyncio.gather(*(client.request("s", n) for n in range(40)))

    answers = play(app, main, seed=seed)

    for n, answer in enumerate(answers):
        assert {item for item, *_ in answer} == {n}
        assert len({request_id for _, *ids in answer for request_id in ids}) == 1
    assert len({answer[0][1] for answer in answers}) == 40


@pytest.mark.parametrize(
    "key",
    [
        "number",
        pytest.param("none"),
    ],
)
@pytest.mark.parametrize("seed", range(20))
def test_items_of_one_key_are_worked_on_one_after_the_other(play, seed, key):
    app = App("t")
    busy, log, most = set(), [], [0]

    class Work(Operator):
        concurrency = 4

        async def process(self, item):
            k = item % 3 if key == "number" else None
            assert k not in busy
            busy.add(k)
            most[0] = max(most[0], len(busy))
            log.append(item)
            await asyncio.sleep(item % 4 / 10)
            busy.discard(k)
            return item

    by = (lambda n: n % 3) if key == "number" else (lambda n: None)
    app.stream("s", int, replies="many").flat_map(lambda n: range(n)).key_by(by).then(Work)

    async def main(client, host):
        return await client.request("s", 30)

    replies = play(app, main, seed=seed)

    assert sorted(replies) == list(range(30))
    assert most[0] == (3 if key == "number" else 1)
    for k in range(3):
        assert [n for n in log if n % 3 == k] == list(range(k, 30, 3))


@pytest.mark.parametrize("early", [False, True])
def test_a_generator_hands_on_batch_by_batch(play, early):
    app = App("t", limits=Limits(batch_items=4, items_ahead=8))
    seen: list[int] = []
    ahead = []

    class Makes(Operator):
        def process(self, n):
            for i in range(n):
                ahead.append(i - len(seen))
                yield i

    class Slow(Operator):
        async def process(self, item):
            await asyncio.sleep(0.1)
            seen.append(item)

    app.stream("s", int, replies="none").then(Makes).then(Slow)

    async def main(client, host):
        await client.request("s", 100, timeout_s=60)

    play(app, main)

    assert seen == list(range(100))
    assert max(ahead) <= 20


def test_an_async_worker_that_has_nothing_to_do_is_given_back(play):
    app = App("t")

    class Quick(Operator):
        async def process(self, item):
            return item

    class Asks(Operator):
        async def process(self, item):
            address = self.spawn(Quick)
            await self.ask(address, item)
            self.stop_actor(address)
            return item

    class Waits(Operator):
        async def process(self, item):
            await asyncio.sleep(100)

    class AsksForever(Operator):
        concurrency = 100

        async def process(self, item):
            await self.ask(self.spawn(Waits), item)

    app.stream("s", int).then(Asks)
    app.stream("never", int).then(AsksForever)

    async def main(client, host):
        await client.request("s", 0)
        before = len(host.workers)
        for n in range(50):
            await client.request("s", n)
        await asyncio.sleep(1)
        quick = len(host.workers) - before
        await asyncio.gather(*(client.request("never", n, timeout_s=1.0) for n in range(50)), return_exceptions=True)
        await asyncio.sleep(1)
        return quick, len(host.workers) - before - quick

    quick, never = play(app, main)

    assert quick == 0
    assert never <= 50  # the workers of the operator itself stay
