"""Waiting in a circle is found when the wait begins; nothing else is taken for one."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from actorflow import ActivationError, App, CallCycleError, DeadlineExceededError, Operator, ReplayError

SEEDS = pytest.mark.parametrize("seed", range(20))


class Calls(Operator):
    def __init__(self, stream: str, before_s: float = 0.0) -> None:
        self.stream = stream
        self.before_s = before_s

    async def process(self, item: Any) -> Any:
        if self.before_s:
            await asyncio.sleep(self.before_s)
        return await self.call(self.stream, item)


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class EchoLater(Operator):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(1)
        return item


def caught(play: Any, app: App, item: Any = 1, *, seed: int = 0) -> Any:
    async def main(client, host):
        with pytest.raises(CallCycleError) as found:
            await client.request("a", item)
        return found.value, host.now_s()

    error, ended_s = play(app, main, seed=seed)
    assert ended_s < 5.0, "found at the deadline only"
    return error


@SEEDS
def test_a_stream_that_calls_itself_is_named(play, seed):
    app = App("t")
    app.stream("a", int).then(Calls, "b", name="first")
    app.stream("b", int).then(Echo).then(Calls, "a", name="second")

    error = caught(play, app, seed=seed)

    assert "a/first" in str(error)
    assert "b/second" in str(error)


def test_a_circle_through_a_call_step_is_named(play):
    app = App("t")
    app.stream("a", int).then(Calls, "b")
    app.stream("b", int).call("a")

    error = caught(play, app)

    assert "a/Calls" in str(error)


def test_a_circle_through_a_later_operator_of_the_called_stream_is_named(play):
    app = App("t")
    app.stream("a", int).then(Calls, "b")
    app.stream("b", int).then(EchoLater).then(Calls, "a")

    assert "a/Calls" in str(caught(play, app))


def test_a_circle_is_found_when_the_called_stream_has_other_work_too(play):
    app = App("t")
    app.stream("a", int).then(Calls, "b")
    point = app.stream("b", int)
    point.then(Calls, "a")
    point.then(EchoLater).then(EchoLater).discard()

    assert "a/Calls" in str(caught(play, app))


def test_a_circle_through_a_key_is_named(play):
    app = App("t")
    app.stream("a", int).key_by().then(Calls, "b", concurrency=4)
    app.stream("b", int).then(Calls, "a", concurrency=4)

    assert "a/Calls" in str(caught(play, app))


def test_an_actor_that_waits_for_a_stream_that_tells_it_is_a_circle(play):
    app = App("t")

    class Tells(Operator):
        def process(self, address):
            self.tell(address, "hello")
            return 1

    class Actor(Operator):
        async def process(self, item):
            if item == "hello":
                return None
            return await self.call("b", self.address)

    class Parent(Operator):
        async def process(self, item):
            return await self.ask(self.spawn(Actor), "begin")

    app.stream("a", int).then(Parent)
    app.stream("b").then(Tells)

    caught(play, app)


def test_actors_that_ask_each_other_are_a_circle(play):
    app = App("t")

    class Actor(Operator):
        async def process(self, item):
            if isinstance(item, tuple):
                peer, back = item
                return await self.ask(peer, back)
            return await self.ask(item, "again")

    class Parent(Operator):
        async def process(self, item):
            one, other = self.spawn(Actor), self.spawn(Actor)
            return await self.ask(one, (other, one))

    app.stream("a", int).then(Parent)

    assert "Actor" in str(caught(play, app))


@pytest.mark.parametrize(
    "keyed",
    [False, pytest.param(True)],
)
def test_two_requests_that_wait_for_each_other_both_answer(play, keyed):
    for seed in range(20):
        app = App("t")
        runs: list[Any] = []

        class Crosses(Operator):
            def __init__(self, other):
                self.other = other

            async def process(self, item):
                first = item[0]
                if first:
                    runs.append(self.other)
                    await asyncio.sleep(1)
                    return await self.call(self.other, (False, item[1]))
                return item[1]

        left, right = app.stream("left"), app.stream("right")
        if keyed:
            left.key_by(lambda item: "k").then(Crosses, "right", concurrency=8)
            right.key_by(lambda item: "k").then(Crosses, "left", concurrency=8)
        else:
            left.then(Crosses, "right")
            right.then(Crosses, "left")

        async def main(client, host):
            answers = await asyncio.gather(client.request("left", (True, 1)), client.request("right", (True, 2)))
            return answers, host.now_s()

        answers, ended_s = play(app, main, seed=seed, inline=False)

        assert answers == [1, 2]
        assert len(runs) == 3
        assert ended_s < 10


@SEEDS
def test_many_requests_across_each_other_all_answer(play, seed):
    app = App("t")

    class Walks(Operator):
        async def process(self, path):
            if len(path) > 1:
                await asyncio.sleep(0.01)
                await self.call(path[1], path[1:])
            return len(path)

    for name in "abc":
        app.stream(name).then(Walks)

    async def main(client, host):
        paths = ["ab", "ba", "bc", "cb", "ca", "ac", "abc", "cba"]
        return [len(path) for path in paths], await asyncio.gather(*(client.request(p[0], p) for p in paths))

    expected, answers = play(app, main, seed=seed)

    assert answers == expected


def test_recursion_is_no_circle_where_there_is_room_for_it(play):
    app = App("t")

    class Fib(Operator):
        async def process(self, n):
            return n if n < 2 else sum(await asyncio.gather(self.call("fib", n - 1), self.call("fib", n - 2)))

    app.stream("fib", int).then(Fib, concurrency=1000)

    async def main(client, host):
        return await client.request("fib", 10)

    assert play(app, main) == 55


def test_what_ends_by_itself_is_no_circle(play):
    app = App("t")

    class Timed(Operator):
        def process(self, item):
            if isinstance(item, tuple):
                return item[0]
            self.after(5.0, (item,))
            return None

    runs: list[str] = []

    class Passes(Operator):
        async def process(self, item):
            runs.append(item)
            await asyncio.sleep(0.1)
            if item == "call a":
                return await self.call("a", "short")
            return item

    class Waits(Operator):
        async def process(self, item):
            return item if item == "short" else await self.call("s", item)

    app.stream("s", str).then(Passes).then(Timed)
    app.stream("a", str).then(Waits)

    async def main(client, host):
        one = asyncio.ensure_future(client.request("a", "long"))
        await asyncio.sleep(1)
        other = asyncio.ensure_future(client.request("s", "call a"))
        return await asyncio.gather(one, other), host.now_s()

    answers, ended_s = play(app, main)

    assert answers == ["long", "short"]
    assert runs == ["long", "call a"]
    assert ended_s == pytest.approx(10.1, abs=0.5)


def crossing(app: App, operator: type[Operator]) -> None:
    """Let `operator` on "young" and one on "old" wait for each other, so that the younger one runs twice."""

    class Old(Operator):
        async def process(self, item):
            if item == 0:
                return "free"
            await asyncio.sleep(2)
            return await self.call("young", "inner")

    app.stream("old").then(Old)
    app.stream("young").then(operator)


async def cross(client: Any, host: Any) -> list[Any]:
    old = asyncio.ensure_future(client.request("old", 1))
    await asyncio.sleep(0.1)
    young = asyncio.ensure_future(client.request("young", "outer"))
    return await asyncio.gather(old, young, return_exceptions=True)


def test_a_rerun_receives_the_answers_of_its_first_run(play):
    app = App("t")
    made: list[Any] = []

    class Makes(Operator):
        def process(self, item):
            made.append(item)
            return len(made)

    class Young(Operator):
        async def process(self, item):
            if item == "inner":
                return "inner"
            first = await self.call("makes", "x")
            second = await self.call("makes", "x")
            await asyncio.sleep(1)
            return first, second, await self.call("old", 0)

    app.stream("makes").then(Makes)
    crossing(app, Young)

    async def main(client, host):
        return await cross(client, host)

    answers = play(app, main)

    assert answers == ["inner", (1, 2, "free")]
    assert made == ["x", "x"]


def test_a_rerun_does_not_ask_an_actor_again(play):
    app = App("t")
    counted: list[Any] = []

    class Counts(Operator):
        def process(self, item):
            counted.append(item)
            self.send("sink", item)
            return len(counted)

    class Young(Operator):
        def __init__(self):
            self.counters = []

        async def process(self, item):
            if item == "inner":
                return "inner"
            if item == "prepare":
                self.counters.append(self.spawn_detached(Counts))
                return "prepared"
            number = await self.ask(self.counters[0], "once")
            await self.call("old", 0)
            return number

    app.stream("sink", replies="none").then(Echo).discard()
    crossing(app, Young)

    async def main(client, host):
        await client.request("young", "prepare")
        answers = await cross(client, host)
        for replica in list(host.actors.values()):
            replica.close()
        return answers

    answers = play(app, main)

    assert answers == ["inner", 1]
    assert counted == ["once"]


def test_a_rerun_does_not_repeat_what_an_async_generator_has_handed_on(play):
    app = App("t")

    class Young(Operator):
        async def process(self, item):
            if item == "inner":
                yield "inner"
                return
            yield 1
            yield await self.call("old", 0)

    class Old(Operator):
        async def process(self, item):
            if item == 0:
                return "free"
            await asyncio.sleep(2)
            return await self.call("young", "inner")

    app.stream("old").then(Old)
    app.stream("young", replies="many").then(Young)

    async def main(client, host):
        return await cross(client, host)

    old, young = play(app, main)

    assert old == ["inner"]
    assert young == [1, "free"]


def test_a_rerun_that_asks_something_else_is_refused(play):
    app = App("t")
    runs: list[int] = []

    class Young(Operator):
        async def process(self, item):
            if item == "inner":
                return "inner"
            runs.append(1)
            await self.call("echo", len(runs))
            await self.call("old", 0)
            return "answered"

    app.stream("echo").then(Echo)
    crossing(app, Young)

    async def main(client, host):
        return await cross(client, host)

    old, young = play(app, main)

    assert old == "inner"
    assert isinstance(young, ReplayError)
    assert len(runs) == 2


def test_a_circle_among_thousands_is_found_long_before_the_deadline_and_named_in_short(play):
    class Halves(Operator):
        concurrency = 600

        async def process(self, count: int) -> int:
            if count < 2:
                return 1
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.call("halves", part)) for part in (count // 2, count - count // 2)]
            return sum(task.result() for task in tasks)

    app = App("many")
    app.stream("halves", int, int).then(Halves)

    async def main(client, host):
        assert await client.request("halves", 200) == 200
        with pytest.raises(ActivationError) as caught:
            await client.request("halves", 2_000, timeout_s=1_000.0)
        found: BaseException | None = caught.value
        while found is not None and not isinstance(found, CallCycleError):  # through groups of tasks, level by level
            found = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else found.__cause__
        assert isinstance(found, CallCycleError)
        assert len(str(found)) < 3_000
        assert asyncio.get_running_loop().time() < 500

    play(app, main, strict=False)


@pytest.mark.parametrize("crowd", [0, 400])
def test_of_two_waits_that_begin_together_the_one_that_closes_a_circle_fails(play, crowd):
    class Slow(Operator):
        async def process(self, n: int) -> int:
            await asyncio.sleep(0.001 if n else 0.5)
            return n

    class Inner(Operator):
        async def process(self, n: int) -> Any:
            if n == 1:
                return "unreachable"
            circle, fine = await asyncio.gather(self.call("inner", 1), self.call("slow", 8), return_exceptions=True)
            return type(circle).__name__, fine

    app = App("two")
    app.stream("slow", int, int).then(Slow)
    app.stream("inner", int, Any).then(Inner)

    async def main(client, host):
        others = [asyncio.ensure_future(client.request("slow", n)) for n in range(crowd)]
        told = await client.request("inner", 0, timeout_s=100.0)
        await asyncio.gather(*others)
        return tuple(told)

    assert play(app, main, strict=False) == ("CallCycleError", 8)


def test_an_activation_that_waits_to_run_again_can_be_part_of_the_next_circle(play):
    """The first circle is broken by running an activation again, which then waits behind one that waits for it."""

    def operator(number: int) -> type[Operator]:
        class Calls(Operator):
            async def process(self, path: list[int]) -> int:
                await asyncio.sleep(0.0 if number == 1 else 0.02)
                if path:
                    await self.call(f"o{path[0]}", path[1:])
                return number

        return Calls

    app = App("again")
    for number in range(3):
        app.stream(f"o{number}", list, int).then(operator(number))

    async def main(client, host):
        return await asyncio.gather(client.request("o0", [2, 1]), client.request("o1", [2, 0]))

    assert play(app, main) == [0, 1]


@pytest.mark.parametrize("seed", [7, 51])
def test_of_random_requests_that_call_each_others_operators_none_waits_for_its_deadline(play, seed):
    chance = random.Random(seed)
    count = chance.randint(2, 5)

    class Calls(Operator):
        async def process(self, plan: Any) -> int:
            delay_s, calls, together = plan
            await asyncio.sleep(delay_s)
            if together:
                await asyncio.gather(*(self.call(f"o{k}", part) for k, part in calls), return_exceptions=True)
            else:
                for k, part in calls:
                    await self.call(f"o{k}", part)
            await asyncio.sleep(delay_s)
            return 1

    app = App("random")
    for number in range(count):
        app.stream(f"o{number}", list, int).then(Calls, concurrency=chance.choice([1, 1, 1, 2]))

    def plan(depth: int, used: frozenset[int]) -> list[Any]:
        free = [k for k in range(count) if k not in used] if depth else []
        chosen = chance.sample(free, min(len(free), chance.randint(0, 2)))
        calls = [[k, plan(depth - 1, used | {k})] for k in chosen]
        return [chance.choice([0, 0.01, 0.02]), calls, chance.random() < 0.6]

    plans = [(k, plan(3, frozenset({k}))) for k in (chance.randrange(count) for _ in range(8))]

    async def main(client, host):
        asked = (client.request(f"o{k}", each, timeout_s=50.0) for k, each in plans)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert not [answer for answer in answers if isinstance(answer, DeadlineExceededError)]

    play(app, main, seed=seed, strict=False)
