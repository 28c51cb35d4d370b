"""Promise 8: nothing is unbounded; over a limit is a typed error or back-pressure, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorflow import (
    App,
    CallDepthError,
    HostStoppingError,
    ItemBudgetError,
    Limits,
    MailboxFullError,
    Operator,
    SpawnLimitError,
    TooManyRequestsError,
)


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class Sleep(Operator):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(1)
        return item


class Once(Operator):
    def process(self, item: Any) -> Any:
        yield item


class Many(Operator):
    def process(self, item: Any) -> Any:
        yield from range(20)


class ManyLater(Operator):
    async def process(self, item: Any) -> Any:
        for n in range(20):
            yield n


@pytest.mark.parametrize("whose", ["stream", "host", "own"])
def test_too_many_requests_are_refused_before_anything_starts(play, whose):
    limits = {"stream": Limits(requests_per_stream=3), "host": Limits(requests_per_host=3), "own": Limits()}[whose]
    app = App("t", limits=limits)
    app.stream("s", int, in_flight=3 if whose == "own" else None).then(Sleep, concurrency=9)

    async def main(client, host):
        first = await asyncio.gather(*(client.request("s", n) for n in range(5)), return_exceptions=True)
        return first, await client.request("s", 9)

    first, again = play(app, main)

    assert first[:3] == [0, 1, 2]
    assert [type(each) for each in first[3:]] == [TooManyRequestsError] * 2
    assert first[3].retryable
    assert first[3].overloaded
    assert again == 9


def test_more_items_at_once_than_a_request_may_have_are_an_error(play):
    app = App("t", limits=Limits(items_per_request=1000))
    app.stream("s", int, replies="none").flat_map(lambda n: range(n)).then(Sleep, concurrency=9)
    app.stream("emits", int, replies="none").then(type("Emits", (Operator,), {"process": _emit_all})).then(Sleep)

    async def main(client, host):
        return await asyncio.gather(client.request("s", 5000), client.request("emits", 5000), return_exceptions=True)

    errors = play(app, main)

    assert [type(error) for error in errors] == [ItemBudgetError] * 2
    assert errors[0].overloaded


def _emit_all(self: Any, n: int) -> None:
    for i in range(n):
        self.emit(i)


def test_the_largest_request_fails_when_the_host_holds_too_many_items(play):
    app = App("t", limits=Limits(items_per_host=3000))
    app.stream("s", int, replies="none", timeout_s=10.0).then(type("Emits", (Operator,), {"process": _emit_all})).then(
        Sleep
    )

    async def main(client, host):
        return await asyncio.gather(
            *(client.request("s", 500 if n else 900) for n in range(40)), return_exceptions=True
        )

    errors = play(app, main)

    assert isinstance(errors[0], ItemBudgetError)


def test_a_generator_waits_for_a_slow_consumer(play):
    app = App("t", limits=Limits(items_ahead=100, batch_items=10))
    made: list[int] = []
    most = [0]

    class Slow(Operator):
        async def process(self, item):
            await asyncio.sleep(0.01)
            most[0] = max(most[0], len(made) - item)

    def numbers(n):
        for i in range(n):
            made.append(i)
            yield i

    app.stream("s", int, replies="none").flat_map(numbers).then(Slow)

    async def main(client, host):
        await client.request("s", 1000)

    play(app, main)

    assert len(made) == 1000
    assert most[0] <= 130


def test_a_slow_reader_bounds_what_is_made_for_it(play):
    app = App("t", limits=Limits(items_ahead=100, batch_items=10))
    made: list[int] = []

    def numbers(n):
        for i in range(n):
            made.append(i)
            yield i

    app.stream("s", int, replies="many").flat_map(numbers).then(Echo)

    async def main(client, host):
        replies = client.stream("s", 5000, timeout_s=100.0)
        first = await anext(replies)
        await asyncio.sleep(5)
        waiting = len(made)
        rest = [value async for value in replies]
        return first, waiting, rest

    first, waiting, rest = play(app, main)

    assert waiting <= 330
    assert [first, *rest] == list(range(5000))


def test_replies_unread_bounds_what_is_made_for_a_slow_reader(play):
    app = App("t", limits=Limits(replies_unread=50, batch_items=10))
    made: list[int] = []

    def numbers(n):
        for i in range(n):
            made.append(i)
            yield i

    app.stream("s", int, replies="many").flat_map(numbers).then(Echo)

    async def main(client, host):
        replies = client.stream("s", 5000, timeout_s=100.0)
        await anext(replies)
        await asyncio.sleep(5)
        await replies.aclose()

    play(app, main)

    assert len(made) < 500


def test_an_input_waits_for_a_slow_stream(play):
    app = App("t", limits=Limits(items_ahead=20, batch_items=4))
    taken, done = [], []

    async def items():
        for i in range(200):
            taken.append(i - len(done))
            yield i

    class Slow(Operator):
        async def process(self, item):
            await asyncio.sleep(0.01)
            done.append(item)

    app.stream("s", int, replies="many").then(Slow)

    async def main(client, host):
        async for _ in client.stream("s", items=items()):
            pass

    play(app, main)

    assert done == list(range(200))
    assert max(taken) <= 25


@pytest.mark.parametrize("operator", [Many, ManyLater])
def test_a_generator_that_is_given_more_than_the_items_ahead_is_not_parked_for_ever(play, operator):
    app = App("t", limits=Limits(items_ahead=100, batch_items=10))
    app.stream("s", int, int).flat_map(lambda n: list(range(n))).then(operator).count()

    async def main(client, host):
        return await client.request("s", 150, timeout_s=1000.0)

    assert play(app, main) == 150 * 20


def test_with_the_default_limits_a_generator_goes_on_behind_many_items(play):
    app = App("t")

    class AtFirst(Operator):
        def process(self, n):
            yield from range(1000 if n == 0 else 1)

    app.stream("t", int, int).flat_map(lambda n: list(range(n))).then(AtFirst).count()

    async def main(client, host):
        return await client.request("t", 20_000, timeout_s=1000.0)

    assert play(app, main) == 1000 + 19_999


@pytest.mark.parametrize("how", ["request", "call", "step"])
def test_a_large_answer_of_many_replies_arrives_without_a_reader(play, how):
    app = App("t")

    class Calls(Operator):
        async def process(self, n):
            return len(await self.call("numbers", n))

    def numbers(n):
        yield from range(n)

    app.stream("numbers", int, replies="many").flat_map(numbers).then(Once)
    app.stream("call", int).then(Calls)
    app.stream("step", int).call("numbers").count()

    async def main(client, host):
        if how == "request":
            return len(await client.request("numbers", 20_000, timeout_s=1000.0))
        return await client.request(how, 20_000, timeout_s=1000.0)

    assert play(app, main) == 20_000


def test_a_mailbox_that_is_full_refuses(play):
    app = App("t")
    app.stream("s", int).then(Sleep, mailbox_envelopes=5)

    async def main(client, host):
        return await asyncio.gather(*(client.request("s", n) for n in range(10)), return_exceptions=True)

    answers = play(app, main)

    assert sum(isinstance(answer, MailboxFullError) for answer in answers) >= 3
    assert sum(isinstance(answer, int) for answer in answers) >= 5


def test_an_actor_that_is_told_too_much_fails_whoever_tells_it(play):
    app = App("t", limits=Limits(mailbox_envelopes=5))
    known: list[Any] = []

    class Hears(Operator):
        async def process(self, item):
            await asyncio.sleep(1)

    class Keeps(Operator):
        def process(self, item):
            known.append(self.spawn_detached(Hears))
            return item

    class Tells(Operator):
        def process(self, item):
            self.tell(known[0], item)
            return item

    app.stream("keep", int).then(Keeps)
    app.stream("s", int).then(Tells)

    async def main(client, host):
        await client.request("keep", 0)
        answers = await asyncio.gather(*(client.request("s", n) for n in range(12)), return_exceptions=True)
        for replica in list(host.actors.values()):
            replica.close()
        return answers

    answers = play(app, main)

    assert {type(answer) for answer in answers} == {int, MailboxFullError}


def test_calls_nest_as_deep_as_allowed_and_no_deeper(play):
    app = App("t", limits=Limits(call_depth=10))

    class Deep(Operator):
        async def process(self, n):
            return 0 if n == 0 else 1 + await self.call("s", n - 1)

    app.stream("s", int).then(Deep, concurrency=100)

    async def main(client, host):
        return await asyncio.gather(client.request("s", 10), client.request("s", 11), return_exceptions=True)

    fits, deeper = play(app, main)

    assert fits == 10
    assert isinstance(deeper, CallDepthError)


def test_open_children_are_limited(play):
    app = App("t", limits=Limits(children_per_request=5))

    class Wide(Operator):
        async def process(self, n):
            return len(await asyncio.gather(*(self.call("sleep", i) for i in range(n))))

    app.stream("sleep", int).then(Sleep, concurrency=100)
    app.stream("s", int).then(Wide)

    async def main(client, host):
        return await asyncio.gather(client.request("s", 5), client.request("s", 6), return_exceptions=True)

    fits, wider = play(app, main)

    assert fits == 5
    assert isinstance(wider, TooManyRequestsError)
    assert wider.overloaded


def test_open_children_are_counted_at_the_root(play):
    app = App("t", limits=Limits(children_per_request=10))

    class Wide(Operator):
        async def process(self, n):
            if n == 0:
                await asyncio.sleep(1)
                return 1
            return sum(await asyncio.gather(*(self.call("s", n - 1) for _ in range(4))))

    app.stream("s", int).then(Wide, concurrency=1000)

    async def main(client, host):
        with pytest.raises(TooManyRequestsError):
            await client.request("s", 3)

    play(app, main)


def test_actors_of_a_request_are_limited(play):
    app = App("t", limits=Limits(actors_per_request=5))

    class Spawns(Operator):
        def process(self, n):
            for _ in range(n):
                self.spawn(Echo)
            return n

    app.stream("s", int).then(Spawns)

    async def main(client, host):
        answers = await asyncio.gather(
            client.request("s", 5), client.request("s", 6), client.request("s", 5), return_exceptions=True
        )
        return answers, dict(host.actors)

    (fits, more, again), actors = play(app, main)

    assert fits == again == 5
    assert isinstance(more, SpawnLimitError)
    assert more.overloaded
    assert not actors


def test_a_host_that_drains_finishes_and_takes_nothing_new(play):
    app = App("t")
    app.stream("s", int).then(Sleep)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 1))
        await asyncio.sleep(0.1)
        draining = asyncio.ensure_future(host.drain())
        await asyncio.sleep(0.1)
        with pytest.raises(HostStoppingError) as refused:
            await client.request("s", 2)
        return await asking, await draining, refused.value.retryable

    assert play(app, main) == (1, True, True)


@pytest.mark.parametrize("name", Limits.__slots__)
def test_a_limit_is_positive(name):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})
