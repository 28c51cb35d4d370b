"""Whole systems under the simulated loop: random failures, delays, cancels, deadlines and clients that leave.

After each run every request has ended exactly once, all counts are zero, and nothing is left. `make sim SEEDS=500`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import Any

import pytest

from actorflow import ActorflowError, App, Limits, Operator, Outcome, Restart
from actorflow.runtime.request import Request
from actorflow.testing import check_nothing_left, simulate, simulated

SEEDS = int(os.environ.get("SEEDS", "40"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))


class Trouble(Exception):
    """What operators raise here."""


class Chance:
    """The chances of one run, shared by its operators: set by the test, drawn in simulated order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fail = self.random.choice([0.0, 0.0, 0.01, 0.05, 0.2])

    def maybe_fail(self) -> None:
        if self.random.random() < self.fail:
            raise Trouble("by chance")

    async def maybe_wait(self) -> None:
        while self.random.random() < 0.4:
            await asyncio.sleep(self.random.choice([0.0, 0.0, 0.001, 0.1, 3.0]))


def system(chance: Chance) -> App:
    """Return an app whose stream "sum" answers n with n, by splitting it into parts that take many ways to a fold."""
    app = App("chaos", limits=Limits(timeout_s=20.0, items_ahead=50, reruns=1000))

    class Plain(Operator):
        def process(self, part: int) -> int:
            chance.maybe_fail()
            return part

    class Slow(Operator):
        concurrency = chance.random.choice([1, 3])

        async def process(self, part: int) -> int:
            await chance.maybe_wait()
            chance.maybe_fail()
            self.emit(part - part // 2)
            return part // 2

    class Halves(Operator):
        def process(self, part: int) -> Any:
            yield part // 2
            chance.maybe_fail()
            yield part - part // 2

    class AsyncHalves(Operator):
        async def process(self, part: int) -> Any:
            yield part // 2
            await chance.maybe_wait()
            yield part - part // 2
            chance.maybe_fail()

    class Together(Operator):
        def process_batch(self, parts: list[int]) -> list[int]:
            chance.maybe_fail()
            return parts

    class Worker(Operator):
        def process(self, part: int) -> None:
            chance.maybe_fail()
            if part > 3 and chance.random.random() < 0.5:
                self.tell(self.spawn(Worker), part // 2)
                part -= part // 2
            self.emit(part)
            self.stop_actor()

    class Spawns(Operator):
        def process(self, part: int) -> None:
            self.tell(self.spawn(Worker), part)
            chance.maybe_fail()

    class Answerer(Operator):
        concurrency = 2

        async def process(self, part: int) -> int:
            await chance.maybe_wait()
            chance.maybe_fail()
            return part

    class Asks(Operator):
        concurrency = 4

        async def process(self, part: int) -> int:
            answerer = self.spawn(Answerer)
            return int(await self.ask(answerer, part))

    class Waits(Operator):
        def process(self, part: Any) -> int | None:
            if isinstance(part, tuple):
                return int(part[1])
            self.after(chance.random.choice([0.0, 0.5, 2.0]), ("due", part))
            chance.maybe_fail()
            return None

    class Calls(Operator):
        concurrency = 3

        async def process(self, part: int) -> int:
            if part > 20:
                first, second = await asyncio.gather(self.call("echo", part // 2), self.call("sum", part - part // 2))
                return int(first + second)
            return int(await self.call("echo", part))

    class Watches(Operator):
        def process(self, part: int) -> int:
            return part

        async def on_reply(self, outcome: Outcome, part: int) -> Any:
            await chance.maybe_wait()
            return outcome.result()

    class Echo(Operator):
        restart = Restart(failures=3, restarts=1000, backoff_s=0.01)

        async def process(self, part: int) -> int:
            await chance.maybe_wait()
            chance.maybe_fail()
            return part

    app.stream("echo", int).then(Echo)
    steps = [Plain, Slow, Halves, AsyncHalves, Together, Spawns, Asks, Waits, Calls]
    point = app.stream("sum", int, int).flat_map(lambda n: [part for part in (n // 3, n - n // 3) if part] or [n])
    if chance.random.random() < 0.3:
        point = point.then(Watches)
    for _ in range(chance.random.randrange(1, 6)):
        step = chance.random.choice(steps)
        shape = chance.random.randrange(5)
        if shape == 0:
            one, other = point.split(lambda part: part % 2)
            point = one.then(step).merge(other.then(chance.random.choice(steps)))
        elif shape == 1:
            point = point.key_by(lambda part: part % 5).then(step)
        elif shape == 2:
            point = point.collect().map(lambda parts: [part for part in parts if part]).flat_map(iter).then(step)
        elif shape == 3:
            point = point.call("echo", concurrency=2, ordered=chance.random.random() < 0.5)
        else:
            point = point.then(step, replicas=chance.random.choice([1, 3]))
    point.fold(0, lambda total, part: total + part)
    app.stream("parts", int, replies="many").flat_map(range).then(chance.random.choice([Plain, Slow, Echo]))
    return app


async def one_run(seed: int) -> None:
    chance = Chance(seed)
    requests: list[Request] = []
    ends: dict[int, int] = {}
    async with simulated(system(chance)) as (client, host):
        original = host.open

        def opened(*arguments: Any, **named: Any) -> Request:
            request = original(*arguments, **named)
            requests.append(request)
            return request

        host.open = opened  # type: ignore[method-assign]
        ended = host.ended

        def count_end(request: Request) -> None:
            ends[id(request)] = ends.get(id(request), 0) + 1
            ended(request)

        host.ended = count_end  # type: ignore[method-assign]

        async def ask(number: int) -> None:
            timeout_s = chance.random.choice([None, None, 0.05, 1.0, 10.0])
            asking = asyncio.ensure_future(client.request("sum", number, timeout_s=timeout_s))
            if chance.random.random() < 0.15:
                await asyncio.sleep(chance.random.choice([0.0, 0.01, 1.0]))
                asking.cancel()
            with contextlib.suppress(ActorflowError, asyncio.CancelledError):
                assert await asking == number, f"asked {number}, answered {asking.result()}"

        async def read(number: int) -> None:
            replies = client.stream("parts", items=[number] * 3, timeout_s=5.0)
            leave = chance.random.randrange(2 * number + 1)
            seen = 0
            try:
                async for _ in replies:
                    seen += 1
                    if seen == leave:
                        break
            except ActorflowError:
                pass
            finally:
                await replies.aclose()

        async with asyncio.TaskGroup() as group:
            for _ in range(chance.random.randrange(1, 25)):
                group.create_task(ask(chance.random.randrange(1, 200)))
                if chance.random.random() < 0.2:
                    group.create_task(read(chance.random.randrange(1, 100)))
                await asyncio.sleep(chance.random.choice([0.0, 0.0, 0.01, 1.0]))
        for request in requests:  # children of what was cancelled, and clean-up
            while not request.state:
                await asyncio.sleep(1.0)
        await asyncio.sleep(10.0)
    check_nothing_left(host, requests)
    assert all(count == 1 for count in ends.values()), "a request ended twice"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_every_request_ends_once_and_nothing_is_left(seed: int) -> None:
    simulate(lambda: one_run(seed), seed=seed, jitter_s=0.0005, time_max_s=10_000.0)
