"""Promise 3: first in, first out per sender replica, receiver replica and request; and nobody starves."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from actorflow import App, Limits, Operator, Restart

SEEDS = pytest.mark.parametrize("seed", range(20))


SPLIT = pytest.param(
    Limits(),
)
PARKED = pytest.param(
    Limits(items_ahead=20, batch_items=8),
)


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class EchoLater(Operator):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(0)
        return item


class Pieces(Operator):
    def process(self, item: int) -> Any:
        for n in range(10):
            yield item * 10 + n


class PiecesLater(Operator):
    async def process(self, item: int) -> Any:
        for n in range(10):
            if n % 4 == 0:
                await asyncio.sleep(0.001)
            yield item * 10 + n


@pytest.mark.parametrize("limits", [SPLIT, PARKED])
def test_items_keep_their_order_through_any_chain(play, limits):
    for seed in range(20):
        chance = random.Random(seed)
        app = App("t", limits=limits)
        point = app.stream("s", int, int).flat_map(lambda n: range(n))
        steps = [Echo, EchoLater, Pieces, PiecesLater, Echo]
        chance.shuffle(steps)
        for step in steps:
            point = point.then(step)
        point.collect()

        async def main(client, host):
            sizes = [chance.choice([1, 2, 5, 20]) for _ in range(3)]
            return sizes, await asyncio.gather(*(client.request("s", n) for n in sizes))

        sizes, answers = play(app, main, seed=seed)

        for n, answer in zip(sizes, answers, strict=True):
            assert answer == list(range(n * 100))


@SEEDS
def test_long_generators_started_by_single_envelopes_keep_their_order(play, seed):
    app = App("t", limits=Limits(items_ahead=100, batch_items=100))

    class Thousand(Operator):
        def process(self, item):
            for n in range(1000):
                yield item, n

    class One(Operator):
        async def process(self, item):
            return item

    app.stream("s", int).flat_map(range).then(One).then(Thousand).collect()

    async def main(client, host):
        return await client.request("s", 4)

    assert play(app, main, seed=seed) == [(i, n) for i in range(4) for n in range(1000)]


def test_tells_keep_their_order_beside_a_flood(play):
    for seed in range(20):
        app = App("t")
        heard = []

        class Hears(Operator):
            def process(self, item):
                heard.append(item)

        class Tells(Operator):
            def process(self, n):
                to = self.spawn(Hears)
                for i in range(n):
                    self.tell(to, (n, i))

        app.stream("s", int, replies="none").then(Tells)

        async def main(client, host):
            await asyncio.gather(*(client.request("s", n) for n in (3, 700, 40, 2000)))

        play(app, main, seed=seed, inline=False)

        for n in (3, 700, 40, 2000):
            assert [i for size, i in heard if size == n] == list(range(n))


@SEEDS
def test_an_actor_told_by_one_sender_in_several_activations_hears_them_in_order(play, seed):
    app = App("t")
    heard: list[int] = []

    class Hears(Operator):
        async def process(self, item):
            await asyncio.sleep(0)
            heard.append(item)

    class Sender(Operator):
        to: Any = None

        def process(self, n):
            self.to = self.to or self.spawn(Hears)
            for i in range(100 if n % 7 == 3 else 1):
                self.tell(self.to, (n, i))

    app.stream("s", int, replies="none").flat_map(lambda n: range(n)).then(EchoLater).then(Sender)

    async def main(client, host):
        await client.request("s", 60)

    play(app, main, seed=seed)

    assert heard == sorted(heard)
    assert len(heard) == sum(100 if n % 7 == 3 else 1 for n in range(60))


@pytest.mark.parametrize(
    "keyed",
    [False, pytest.param(True)],
)
def test_order_survives_a_restart_in_the_middle(play, keyed):
    for seed in range(20):
        app = App("t")
        chance = random.Random(seed)
        busy = set()

        class Fragile(Operator):
            concurrency = 2 if keyed else 1
            escalate = (ConnectionError,)
            on_error = "set_aside"

            async def process(self, item):
                assert item % 2 not in busy or not keyed, "two at once of one key"
                busy.add(item % 2)
                try:
                    await asyncio.sleep(chance.choice([0.0, 0.01]))
                    if chance.random() < 0.2:
                        raise ConnectionError
                    return item
                finally:
                    busy.discard(item % 2)

        restart = Restart(restarts=1000, backoff_s=0.01, backoff_max_s=0.05)
        point = app.stream("s", int, restart=restart).flat_map(lambda n: range(n))
        point = point.key_by(lambda n: n % 2) if keyed else point
        point.then(Fragile).collect()

        async def main(client, host):
            return await client.request("s", 40)

        answer = play(app, main, seed=seed)

        groups = [[n for n in answer if n % 2 == k] for k in (0, 1)] if keyed else [answer]
        for group in groups:
            assert group == sorted(group)
        assert len(answer) > 10


@pytest.mark.parametrize(
    "waits",
    [False, pytest.param(True)],
)
def test_a_single_item_beside_a_flood_is_not_starved(play, waits):
    app = App("t")

    class Work(Operator):
        async def process(self, item):
            await asyncio.sleep(0.01)
            return item

    class WorkAtOnce(Operator):
        def process(self, item):
            return item

    app.stream("flood", int, replies="none").flat_map(lambda n: range(n)).call("s", concurrency=5000)
    app.stream("s", int, timeout_s=100.0).then(Work if waits else WorkAtOnce)
    shared = app.stream("shared", int, replies="many", timeout_s=100.0).flat_map(range)
    shared.then(Work if waits else WorkAtOnce)

    async def main(client, host):
        flood = asyncio.ensure_future(client.request("shared", 2000))
        await asyncio.sleep(0.05)
        before_s = host.now_s()
        await client.request("shared", 1)
        waited_s = host.now_s() - before_s
        await flood
        return waited_s

    assert play(app, main) < 0.1


def test_a_slow_reader_does_not_stop_the_others_at_its_operator(play):
    app = App("t", limits=Limits(items_ahead=10))

    class Ticks(Operator):
        async def process(self, n):
            for i in range(n):
                yield i

    app.stream("s", int, replies="many").then(Ticks)

    async def main(client, host):
        slow = client.stream("s", 100, timeout_s=1000.0)
        await anext(slow)
        before_s = host.now_s()
        other = await client.request("s", 3, timeout_s=100.0)
        waited_s = host.now_s() - before_s
        await slow.aclose()
        return other, waited_s

    assert play(app, main) == ([0, 1, 2], pytest.approx(0.0, abs=0.1))
