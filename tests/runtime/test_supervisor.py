"""Supervision: restarts, strategies, back-off, escalation and revival."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from actorflow import App, Operator, ReplicaFailedError, Restart


def fragile(log: list[Any], *, later: bool = False, broken: Any = lambda number: False) -> type[Operator]:
    """Return an operator that escalates on "break", notes its life, and cannot start while `broken(number)`."""
    numbers = itertools.count()

    class Fragile(Operator):
        escalate = (ConnectionError,)

        def __init__(self, name="x"):
            self.name = name
            self.number = next(numbers)

        def start(self):
            if broken(self.number):
                raise OSError("cannot start")
            log.append(("start", self.name, self.number))

        def stop(self):
            log.append(("stop", self.name, self.number))

        def process(self, item):
            if item == f"break {self.name}":
                raise ConnectionError(item)
            return (*item, self.number) if isinstance(item, tuple) else item

    class FragileLater(Fragile):
        async def process(self, item):
            await asyncio.sleep(0.01)
            return Fragile.process(self, item)

    return FragileLater if later else Fragile


LATER = pytest.mark.parametrize("later", [False, True])


def test_a_start_that_fails_is_tried_again_with_back_off(play):
    app, log = App("t"), []
    app.stream("s", restart=Restart(restarts=5, backoff_s=1.0)).then(fragile(log, broken=lambda n: n < 3))

    async def main(client, host):
        return host.now_s(), await client.request("s", ())

    assert play(app, main) == (pytest.approx(1.0 + 2.0 + 4.0), (3,))


def test_a_start_that_always_fails_keeps_the_host_from_starting(play):
    app, log = App("t"), []
    app.stream("s").then(fragile(log, broken=lambda n: True))

    async def main(client, host):
        raise AssertionError("started")

    with pytest.raises(ReplicaFailedError, match="cannot start"):
        play(app, main)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(
            False,
        ),
        True,
    ],
)
def test_what_waits_behind_an_escalation_meets_the_new_instance(play, later):
    app, log = App("t"), []
    app.stream("s", restart=Restart(backoff_s=1.0)).then(fragile(log, later=later))

    async def main(client, host):
        asking = [asyncio.ensure_future(client.request("s", item)) for item in ("break x", (), (), ())]
        return await asyncio.gather(*asking, return_exceptions=True), host.now_s()

    (broken, *others), ended_s = play(app, main, inline=False)

    assert isinstance(broken, ConnectionError)
    assert others == [(1,)] * 3 or later
    assert ended_s == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", {"b"}),
        ("rest_for_one", {"b", "c"}),
        ("one_for_all", {"a", "b", "c"}),
    ],
)
@LATER
def test_a_strategy_says_which_siblings_restart(play, strategy, expected, later):
    app, log = App("t"), []
    operator = fragile(log, later=later)
    restart = Restart(strategy=strategy, backoff_s=1.0)
    app.stream("s", restart=restart).then(operator, "a").then(operator, "b").then(operator, "c")

    async def main(client, host):
        log.clear()
        await asyncio.gather(client.request("s", "break b"), return_exceptions=True)
        await client.request("s", ())
        return [entry[:2] for entry in log]

    life = play(app, main)

    assert {name for what, name in life if what == "start"} == expected
    assert {name for what, name in life if what == "stop"} == expected


def test_a_sibling_that_cannot_start_at_once_does_not_leave_the_others_paused(play):
    app, log = App("t"), []
    first = [True]

    def broken(number):
        if number == 4 and first[0]:
            first[0] = False
            return True
        return False

    operator = fragile(log, broken=broken)
    restart = Restart(strategy="rest_for_one", backoff_s=1.0)
    app.stream("s", restart=restart).then(operator, "a").then(operator, "b").then(operator, "c")

    async def main(client, host):
        await asyncio.gather(client.request("s", "break b"), return_exceptions=True)
        await client.request("s", (), timeout_s=20.0)
        return host.now_s()

    assert play(app, main) < 10


def test_failures_that_come_too_often_restart_the_replica(play):
    app, log = App("t"), []

    class Sour(Operator):
        restart = Restart(failures=2, failures_within_s=10.0)

        def __init__(self):
            log.append("made")

        def process(self, item):
            raise ValueError(item)

    app.stream("s").then(Sour)

    async def main(client, host):
        log.clear()
        for _ in range(3):
            await asyncio.gather(client.request("s", 1), return_exceptions=True)
        await asyncio.sleep(1)
        often = len(log)
        for _ in range(6):
            await asyncio.gather(client.request("s", 1), return_exceptions=True)
            await asyncio.sleep(6)
        return often, len(log)

    assert play(app, main) == (1, 1)


def test_the_restart_policy_of_an_operator_is_its_own(play):
    app, log = App("t"), []
    operator = fragile(log)
    app.stream("s").then(operator, restart=Restart(restarts=2, backoff_s=3.0))

    async def main(client, host):
        await asyncio.gather(client.request("s", "break x"), return_exceptions=True)
        await client.request("s", ())
        return host.now_s()

    assert play(app, main) == pytest.approx(3.0)


@LATER
def test_too_many_restarts_fail_the_stream_until_it_is_revived(play, later):
    app, log = App("t"), []
    restart = Restart(restarts=2, backoff_s=0.1, backoff_max_s=5.0)
    app.stream("s", restart=restart).then(fragile(log, later=later))
    app.stream("other").then(fragile([], later=later))

    async def main(client, host):
        waiting = None
        for _ in range(3):
            waiting = await asyncio.gather(client.request("s", "break x"), return_exceptions=True)
        (refused,) = await asyncio.gather(client.request("s", ()), return_exceptions=True)
        other = await client.request("other", ())
        await asyncio.sleep(10)
        return waiting, refused, other, await client.request("s", ())

    _, refused, other, after = play(app, main)

    assert isinstance(refused, ReplicaFailedError)
    assert refused.retryable
    assert other == (0,)
    assert after[0] >= 3


def test_a_stream_whose_operator_cannot_be_made_for_a_while_is_still_revived(play):
    app = App("t")
    sick = [False]

    class Sick(Operator):
        escalate = (ConnectionError,)

        def __init__(self):
            if sick[0]:
                raise OSError("no database")

        def process(self, item):
            if item == "break":
                sick[0] = True
                raise ConnectionError
            return item

    app.stream("s", restart=Restart(restarts=1, backoff_s=0.1, backoff_max_s=5.0)).then(Sick)

    async def main(client, host):
        await asyncio.gather(client.request("s", "break"), return_exceptions=True)
        await asyncio.sleep(20)
        sick[0] = False
        await asyncio.sleep(20)
        return await client.request("s", "well")

    assert play(app, main) == "well"


@pytest.mark.parametrize("seed", range(20))
def test_a_sum_is_right_however_often_replicas_restart(play, seed):
    app = App("t")

    class Shaky(Operator):
        escalate = (ConnectionError,)
        on_error = "set_aside"

        async def process(self, n):
            await asyncio.sleep(0.01)
            if n % 10 == 7:
                raise ConnectionError
            return n

    restart = Restart(strategy="one_for_all", restarts=1000, backoff_s=0.01, backoff_max_s=0.02)
    stream = app.stream("s", int, restart=restart)
    stream.flat_map(lambda n: range(n)).then(Shaky).then(Shaky, replicas=2).fold(0, lambda total, n: total + n)

    async def main(client, host):
        return await asyncio.gather(client.request("s", 40), client.request("s", 25))

    good = [sum(n for n in range(size) if n % 10 != 7) for size in (40, 25)]
    assert play(app, main, seed=seed) == good


def test_nothing_is_worked_on_while_a_keyed_replica_restarts(play):
    app = App("t")
    down = [False]
    wrong = []

    class Keyed(Operator):
        escalate = (ConnectionError,)

        def start(self):
            down[0] = False

        async def process(self, item):
            if down[0]:
                wrong.append(item)
            await asyncio.sleep(0.1)
            if item == 0:
                down[0] = True
                raise ConnectionError
            return item

    restart = Restart(backoff_s=5.0)
    stream = app.stream("s", int, replies="many", restart=restart, on_error="set_aside").flat_map(lambda n: range(n))
    stream.key_by(lambda n: "k").then(Keyed, concurrency=3)

    async def main(client, host):
        return await client.request("s", 4)

    assert play(app, main) == [1, 2, 3]
    assert wrong == []
