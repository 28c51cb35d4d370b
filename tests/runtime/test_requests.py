"""Promise 1 and 10: every request ends exactly once, whatever becomes of its items, and no later than its deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorflow import (
    ActivationError,
    ActorflowError,
    App,
    DeadlineExceededError,
    Limits,
    NoReplyError,
    Operator,
    RequestCancelledError,
    TooManyRepliesError,
    UnknownStreamError,
)


class OutOfStock(Exception):
    def __init__(self, sku: str) -> None:
        super().__init__(f"no {sku} left")
        self.sku = sku


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class Drop(Operator):
    def process(self, item: Any) -> None:
        return None


class Sleep(Operator):
    concurrency = 1000

    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


class Raise(Operator):
    def process(self, item: Any) -> Any:
        raise OutOfStock("tea")


class RaiseLater(Operator):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(0.1)
        raise OutOfStock("tea")


async def read(replies: Any) -> tuple[list[Any], BaseException | None]:
    """Return the replies, and what they ended with."""
    seen: list[Any] = []
    try:
        async for value in replies:
            seen.append(value)  # noqa: PERF401 - those that came before an error count
    except ActorflowError as error:
        return seen, error
    return seen, None


def _unusual(shape: str, kind: type[BaseException]) -> Any:
    return pytest.param(shape, kind)


UNUSUAL = [
    _unusual(shape, kind)
    for kind in (asyncio.CancelledError, GeneratorExit, StopIteration)
    for shape in ("plain", "async", "late", "generator", "batch", "map", "fold", "key")
]


def test_a_request_whose_items_are_all_filtered_is_told_so(play):
    app = App("t")
    app.stream("s", int).filter(lambda n: False).then(Echo)

    async def main(client, host):
        with pytest.raises(NoReplyError) as caught:
            await client.request("s", 1)
        return caught.value, host.now_s()

    error, ended_s = play(app, main)

    assert (error.stream, error.retryable, ended_s) == ("s", True, 0.0)


@pytest.mark.parametrize("operator", [Drop])
def test_a_request_whose_item_is_dropped_is_told_so(play, operator):
    app = App("t")
    app.stream("s", int).then(operator)

    async def main(client, host):
        with pytest.raises(NoReplyError):
            await client.request("s", 1)
        return host.now_s()

    assert play(app, main) == 0.0


def test_a_second_answer_is_an_error(play):
    app = App("t")
    app.stream("s", int).flat_map(lambda n: range(n)).then(Echo)

    async def main(client, host):
        return await asyncio.gather(*(client.request("s", n) for n in (1, 2, 100)), return_exceptions=True)

    one, two, hundred = play(app, main)

    assert one == 0
    assert type(two) is type(hundred) is TooManyRepliesError


def test_a_reply_before_a_failure_is_not_delivered(play):
    app = App("t")
    point = app.stream("s", int)
    point.then(Echo)
    point.then(RaiseLater)

    async def main(client, host):
        return await asyncio.gather(client.request("s", 1), return_exceptions=True)

    (answer,) = play(app, main)

    assert isinstance(answer, OutOfStock)
    assert isinstance(answer, ActivationError)


def test_an_early_reply_is_delivered_at_once_and_later_failures_become_dead_letters(play):
    app = App("t")
    point = app.stream("s", int, early=True)
    point.then(Echo)
    point.then(RaiseLater).discard()

    async def main(client, host):
        answer = await client.request("s", 1)
        answered_s = host.now_s()
        await asyncio.sleep(1.0)
        return answer, answered_s, await client.dead_letters()

    answer, answered_s, letters = play(app, main)

    assert (answer, answered_s) == (1, 0.0)
    assert [letter["error"]["cause_type"] for letter in letters] == ["OutOfStock"]


def test_an_early_reply_stands_when_the_failure_comes_in_the_same_turn(play):
    app = App("t")
    point = app.stream("s", int, early=True)
    point.then(Echo)
    point.then(Raise).discard()

    async def main(client, host):
        answer = await client.request("s", 1)
        return answer, await client.dead_letters()

    answer, letters = play(app, main, inline=True)

    assert answer == 1
    assert len(letters) == 1


def test_a_stream_of_replies_ends_with_what_came_before_an_error(play):
    app = App("t")

    class Three(Operator):
        async def process(self, item):
            for n in range(3):
                yield n
                await asyncio.sleep(1)
            raise OutOfStock("tea")

    app.stream("s", int, replies="many").then(Three)

    async def main(client, host):
        return await read(client.stream("s", 1))

    seen, error = play(app, main)

    assert seen == [0, 1, 2]
    assert isinstance(error, OutOfStock)


def test_a_stream_declared_to_answer_nothing_answers_none_at_its_end(play):
    app = App("t")
    app.stream("s", float, replies="none").then(Sleep)

    async def main(client, host):
        return await client.request("s", 2.0), host.now_s()

    assert play(app, main) == (None, pytest.approx(2.0, abs=0.01))


def test_many_replies_to_a_plain_request_are_a_list(play):
    app = App("t")
    app.stream("s", int, replies="many").flat_map(range).then(Echo)

    async def main(client, host):
        return await client.request("s", 5), await client.request("s", 0)

    assert play(app, main) == ([0, 1, 2, 3, 4], [])


def test_the_default_deadline_ends_a_request(play):
    app = App("t", limits=Limits(timeout_s=7.0))
    app.stream("s", float).then(Sleep)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("s", 100.0)
        return host.now_s()

    assert play(app, main) == pytest.approx(7.0)


def test_a_deadline_cancels_what_is_under_way_and_drops_what_is_queued(play):
    app = App("t")
    seen = []

    class One(Operator):
        async def process(self, item):
            seen.append(("began", item))
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                seen.append(("cancelled", item, self.request.cancelled))
                raise

    app.stream("s", int, replies="many").flat_map(range).then(One)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("s", 300, timeout_s=2.0)
        await asyncio.sleep(1000)

    play(app, main)

    assert seen == [("began", 0), ("cancelled", 0, True)]


def test_a_deadline_is_inherited_by_children_and_cancels_them(play):
    app = App("t")
    seen = []

    class Child(Operator):
        async def process(self, item):
            seen.append(self.request.deadline_s)
            try:
                await asyncio.sleep(100)
            finally:
                seen.append("cancelled")

    class Parent(Operator):
        async def process(self, item):
            await asyncio.sleep(1)
            return await self.call("child", item)

    app.stream("child", int).then(Child)
    app.stream("parent", int).then(Parent)
    app.stream("stepped", int).call("parent")

    async def main(client, host):
        with pytest.raises(DeadlineExceededError) as caught:
            await client.request("stepped", 1, timeout_s=3.0)
        ended_s = host.now_s()
        await asyncio.sleep(1)
        return caught.value.stream, ended_s

    stream, ended_s = play(app, main)

    assert (stream, ended_s) == ("stepped", pytest.approx(3.0))
    assert seen == [pytest.approx(3.0), "cancelled"]


def test_a_handler_that_ignores_its_cancellation_cannot_keep_the_request_open(play):
    app = App("t")
    seen = []

    class Stubborn(Operator):
        async def process(self, item):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(5)
                self.send("other", item)
                seen.append("cleaned up")
            return item

    class Other(Operator):
        def process(self, item):
            seen.append("sent")

    app.stream("s", int).then(Stubborn)
    app.stream("other", int, replies="none").then(Other)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("s", 1, timeout_s=1.0)
        ended_s = host.now_s()
        await asyncio.sleep(10)
        return ended_s

    assert play(app, main) == pytest.approx(1.0)
    assert seen == ["cleaned up"]


def test_cancelling_the_caller_cancels_the_request(play):
    app = App("t")
    seen = []

    class Slow(Operator):
        async def process(self, item):
            try:
                await asyncio.sleep(100)
            finally:
                seen.append(asyncio.get_running_loop().time())

    app.stream("s", int).then(Slow)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 1))
        await asyncio.sleep(2)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asking.cancelled(), host.in_flight

    assert play(app, main) == (True, 0)
    assert seen == [pytest.approx(2.0)]


def test_a_request_is_cancelled_by_its_id_once(play):
    app = App("t")
    app.stream("s", float).then(Sleep)

    async def main(client, host):
        request_id = await client.send("s", 100.0)
        await asyncio.sleep(1)
        first, second, unknown = [await client.cancel(each) for each in (request_id, request_id, "nobody.1")]
        return first, second, unknown, await client.dead_letters()

    first, second, unknown, letters = play(app, main)

    assert (first, second, unknown) == (True, False, False)
    assert [letter["error"]["type"] for letter in letters] == ["RequestCancelledError"]


def test_a_reader_that_leaves_cancels_its_request(play):
    app = App("t")
    seen = []

    class Ticks(Operator):
        async def process(self, item):
            try:
                n = 0
                while True:
                    yield n
                    n += 1
                    await asyncio.sleep(1)
            finally:
                seen.append("closed")

    app.stream("s", int, replies="many").then(Ticks)

    async def main(client, host):
        replies = client.stream("s", 1)
        got = [await anext(replies) for _ in range(3)]
        await replies.aclose()
        in_flight = host.in_flight
        await asyncio.sleep(1)
        return got, in_flight

    assert play(app, main) == ([0, 1, 2], 0)
    assert seen == ["closed"]


def test_an_input_that_still_waits_for_room_leaves_no_count_when_its_reader_leaves(play):
    app = App("t", limits=Limits(items_ahead=4, batch_items=2))
    app.stream("s", float, replies="many").then(Sleep, concurrency=1)

    async def main(client, host):
        replies = client.stream("s", items=[1.0] * 100)
        await anext(replies)
        await replies.aclose()

    play(app, main)


def test_an_input_that_raises_fails_the_request_with_its_class(play):
    app = App("t")
    app.stream("s", int, replies="many").then(Echo)

    async def items():
        yield 1
        await asyncio.sleep(1)
        raise OutOfStock("items")

    async def main(client, host):
        return await read(client.stream("s", items=items()))

    seen, error = play(app, main)

    assert seen == [1]
    assert isinstance(error, OutOfStock)


def test_a_stream_times_out_when_idle_for_its_timeout_and_not_before(play):
    app = App("t")
    app.stream("s", float, replies="many").then(Sleep)

    async def items():
        for _ in range(5):
            yield 0.0
            await asyncio.sleep(3)
        await asyncio.sleep(1000)

    async def main(client, host):
        return await read(client.stream("s", items=items(), timeout_s=5.0)), host.now_s()

    (seen, error), ended_s = play(app, main)

    assert len(seen) == 5
    assert isinstance(error, DeadlineExceededError)
    assert ended_s == pytest.approx(12.0 + 5.0, abs=0.1)


def test_the_total_deadline_of_a_stream_ends_one_that_is_never_idle(play):
    app = App("t")
    app.stream("s", float, replies="many").then(Sleep)

    async def items():
        while True:
            yield 0.5
            await asyncio.sleep(1)

    async def main(client, host):
        return await read(client.stream("s", items=items(), timeout_s=5.0, total_s=20.0)), host.now_s()

    (_, error), ended_s = play(app, main)

    assert isinstance(error, DeadlineExceededError)
    assert ended_s == pytest.approx(20.0)


def test_an_error_is_retryable_while_nothing_has_committed(play):
    app = App("t")
    app.stream("first", int).then(Raise)
    app.stream("second", int).then(Echo).then(Raise)
    app.stream("functions", int).map(lambda n: n + 1).then(Raise)
    app.stream("dropped", float).then(Sleep)

    class Tells(Operator):
        def process(self, item):
            self.tell(self.spawn(Echo), item)

    app.stream("told", int).then(Tells).then(Raise)

    class Calls(Operator):
        async def process(self, item):
            await self.call("echo", item)
            raise OutOfStock("tea")

    app.stream("echo", int).then(Echo)
    app.stream("called", int).then(Calls)

    class Fails(Operator):
        async def process(self, item):
            return await self.call("first", item)

    app.stream("child_failed", int).then(Fails)

    async def main(client, host):
        names = ["first", "second", "functions", "told", "called", "child_failed"]
        found = {}
        for name in names:
            with pytest.raises(OutOfStock) as caught:
                await client.request(name, 1)
            found[name] = caught.value.retryable
        with pytest.raises(DeadlineExceededError) as late:
            await client.request("dropped", 10.0, timeout_s=1.0)
        return found, late.value.retryable

    found, late = play(app, main)

    assert found == {
        "first": True, "second": False, "functions": True, "told": False, "called": False, "child_failed": True,
    }  # fmt: skip
    assert late


def test_an_actor_that_was_spawned_and_asked_has_committed(play):
    app = App("t")

    class Asks(Operator):
        async def process(self, item):
            await self.ask(self.spawn(Keeps), item)
            raise OutOfStock("tea")

    class Keeps(Operator):
        def process(self, item):
            self.send("sink", item)
            return item

    app.stream("sink", int, replies="none").then(Drop)
    app.stream("s", int).then(Asks)

    async def main(client, host):
        with pytest.raises(OutOfStock) as caught:
            await client.request("s", 1)
        return caught.value.retryable

    assert play(app, main) is False


def test_an_error_says_where_and_on_what(play):
    app = App("shop")
    app.stream("checkout", int).then(RaiseLater, name="reserve", replicas=2)

    async def main(client, host):
        with pytest.raises(OutOfStock) as caught:
            await client.request("checkout", 42)
        return caught.value, host

    error, host = play(app, main)

    assert error.stream == "checkout"
    assert error.operator == "reserve"
    assert error.replica.startswith("reserve[")
    assert error.host == "shop"
    assert error.item == "42"
    assert (error.cause_type, error.cause_text) == ("OutOfStock", "no tea left")
    assert error.sku == "tea"
    assert error.request_id.startswith(host.incarnation)
    assert isinstance(error.__cause__, OutOfStock)


def test_the_error_of_a_child_keeps_its_class_on_the_way_up(play):
    app = App("t")
    app.stream("low", int).then(RaiseLater)
    app.stream("middle", int).call("low")

    class Calls(Operator):
        async def process(self, item):
            return await self.call("middle", item)

    app.stream("high", int).then(Calls)

    async def main(client, host):
        with pytest.raises(OutOfStock) as caught:
            await client.request("high", 1)
        return caught.value

    error = play(app, main)

    assert error.cause_text == "no tea left"
    assert error.sku == "tea"


def test_an_operating_system_error_keeps_its_number(play):
    app = App("t")

    class Reads(Operator):
        def process(self, path):
            return open(path).read()

    app.stream("s", str).then(Reads)

    async def main(client, host):
        with pytest.raises(FileNotFoundError) as caught:
            await client.request("s", "/nowhere/at/all")
        return caught.value

    assert play(app, main).errno == 2


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be printed")

    __repr__ = __str__


@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_that_cannot_be_printed_still_ends_its_request(play, waits):
    app = App("t")

    class Fails(Operator):
        def process(self, item):
            raise Unprintable("x")

    class FailsLater(Operator):
        async def process(self, item):
            await asyncio.sleep(0.1)
            raise Unprintable("x")

    app.stream("s", int).then(FailsLater if waits else Fails)

    async def main(client, host):
        for _ in range(2):
            with pytest.raises(ActivationError):
                await client.request("s", 1)
        return host.now_s()

    assert play(app, main) < 1.0


def test_a_task_group_that_fails_ends_the_request_with_what_a_child_raised(play):
    app = App("t")

    class Groups(Operator):
        async def process(self, item):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.call("fails", item))
                group.create_task(asyncio.sleep(100))

    app.stream("fails", int).then(RaiseLater)
    app.stream("s", int).then(Groups)

    async def main(client, host):
        with pytest.raises(ActivationError) as caught:
            await client.request("s", 1)
        return caught.value.cause_type, host.now_s()

    assert play(app, main) == ("OutOfStock", pytest.approx(0.1, abs=0.01))


@pytest.mark.parametrize(("shape", "kind"), UNUSUAL)
def test_an_exception_that_means_something_to_python_ends_the_request_as_any_other(play, kind, shape):
    app = App("t")
    trouble = [True]

    def work(item):
        if trouble[0] and item == 3:
            raise kind
        return item

    class Plain(Operator):
        def process(self, item):
            return work(item)

    class Async(Operator):
        async def process(self, item):
            return work(item)

    class Late(Operator):
        async def process(self, item):
            await asyncio.sleep(0.01)
            return work(item)

    class Generator(Operator):
        def process(self, item):
            yield work(item)

    class Batch(Operator):
        def process_batch(self, items):
            return [work(item) for item in items]

    entry = app.stream("s", int, int).flat_map(lambda n: range(n))
    if shape == "map":
        entry.map(work).count()
    elif shape == "fold":
        entry.fold(0, lambda total, item: total + (work(item) is not None))
    elif shape == "key":
        entry.key_by(work).count().count()
    else:
        operators = {"plain": Plain, "async": Async, "late": Late, "generator": Generator, "batch": Batch}
        entry.then(operators[shape]).count()

    async def main(client, host):
        (first,) = await asyncio.gather(client.request("s", 5, timeout_s=10), return_exceptions=True)
        trouble[0] = False
        return first, await client.request("s", 5), host.now_s()

    first, second, ended_s = play(app, main)

    assert isinstance(first, ActivationError)
    assert second == 5
    assert ended_s < 1


def test_nothing_is_asked_of_a_stream_that_is_not_there(play):
    app = App("t")
    app.stream("checkout", int).then(Echo)

    async def main(client, host):
        with pytest.raises(UnknownStreamError, match="did you mean 'checkout'"):
            await client.request("chekout", 1)

    play(app, main)


def test_attributes_reach_children(play):
    app = App("t")

    class Says(Operator):
        def process(self, item):
            return self.request.attributes["tenant"]

    class Calls(Operator):
        async def process(self, item):
            return await self.call("says", item)

    app.stream("says", int).then(Says)
    app.stream("s", int).then(Calls)

    async def main(client, host):
        return await client.request("s", 1, attributes={"tenant": "a"})

    assert play(app, main) == "a"


@pytest.mark.parametrize("depth", [400])
def test_a_deep_tree_of_children_is_cancelled_with_its_root(play, depth):
    app = App("t")

    class Deep(Operator):
        concurrency = 1000

        async def process(self, n):
            if n == 0:
                await asyncio.sleep(1000)
                return 0
            return await self.call("s", n - 1)

    app.stream("s", int).then(Deep)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("s", depth, timeout_s=5.0)
        await asyncio.sleep(1)
        return host.in_flight

    assert play(app, main) == 0


def test_a_deep_chain_of_call_steps_answers(play):
    app = App("t")
    down, done = app.stream("s", int, int).split(lambda n: n > 0)
    down.map(lambda n: n - 1).call("s").map(lambda n: n + 1).merge(done)

    async def main(client, host):
        return await client.request("s", 700)

    assert play(app, main) == 700


@pytest.mark.parametrize("seed", range(20))
def test_every_request_of_a_crowd_ends_once_with_its_own_answer(play, seed):
    app = App("t")

    class Maybe(Operator):
        concurrency = 4

        async def process(self, n):
            await asyncio.sleep(n % 7 / 10)
            if n % 5 == 0:
                raise OutOfStock(str(n))
            if n % 5 == 1:
                return None
            if n % 5 == 2:
                self.emit(n)
            return n

    app.stream("s", int, timeout_s=3.0).then(Maybe)

    async def main(client, host):
        asking = [asyncio.ensure_future(client.request("s", n)) for n in range(60)]
        await asyncio.sleep(0.05)
        for n in range(0, 60, 9):
            asking[n].cancel()
        return await asyncio.gather(*asking, return_exceptions=True)

    answers = play(app, main, seed=seed)

    for n, answer in enumerate(answers):
        expected: Any = ([OutOfStock, NoReplyError, TooManyRepliesError, int, int][n % 5],)
        if n % 9 == 0:
            expected = (*expected, asyncio.CancelledError)
        assert isinstance(answer, (DeadlineExceededError, *expected)), (n, answer)
        assert not isinstance(answer, int) or answer == n
    assert sum(isinstance(answer, int) for answer in answers) > 3


def test_a_host_that_stops_fails_what_is_in_flight(play):
    app = App("t")
    app.stream("s", float).then(Sleep)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 100.0))
        await asyncio.sleep(1)
        await host.stop()
        (answer,) = await asyncio.gather(asking, return_exceptions=True)
        return type(answer).__name__

    assert play(app, main) == "HostStoppingError"


def test_a_cancelled_request_reports_who_cancelled_it(play):
    app = App("t")
    app.stream("s", float).then(Sleep)

    async def main(client, host):
        asking = asyncio.ensure_future(client.request("s", 100.0))
        await asyncio.sleep(1)
        (request,) = host.requests.values()
        await client.cancel(request.id)
        (answer,) = await asyncio.gather(asking, return_exceptions=True)
        return answer

    assert type(play(app, main)) is RequestCancelledError


async def test_a_fold_whose_beginning_raises_fails_its_request_and_harms_no_other(local):
    def beginning() -> int:
        raise OutOfStock("beginnings")

    app = App("t")
    app.stream("fold", int, int).fold(beginning, lambda total, item: total + item)
    app.stream("later", int, int).then(Later)
    client = await local(app)

    with pytest.raises(OutOfStock) as caught:
        await client.request("fold", 1)

    assert isinstance(caught.value, ActivationError)
    assert await client.request("later", 2, timeout_s=2.0) == 2


async def test_an_error_from_deep_below_is_told_once_and_not_at_every_level(local):
    app = App("t")

    class Down(Operator):
        concurrency = 1000

        async def process(self, levels: int) -> int:
            if not levels:
                raise OutOfStock("the bottom")
            return await self.call("down", levels - 1)

    app.stream("down", int, int).then(Down)
    client = await local(app)

    with pytest.raises(OutOfStock) as caught:
        await client.request("down", 200)

    assert "200 calls deep" in str(caught.value)
    assert len(str(caught.value)) < 200


class Later(Operator):
    async def process(self, item: int) -> int:
        await asyncio.sleep(0.001)
        return item


def test_children_of_a_call_step_are_cancelled_when_their_parent_ends(play):
    app = App("t")
    cancelled_at_s: list[float] = []

    class Endless(Operator):
        async def process(self, item):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled_at_s.append(asyncio.get_running_loop().time())
                raise

    app.stream("parent", int, int).call("child")
    app.stream("child", int, int).then(Endless)

    async def main(client, host):
        with pytest.raises(DeadlineExceededError):
            await client.request("parent", 1, timeout_s=2.0)
        await asyncio.sleep(0.1)
        return host.in_flight

    assert play(app, main) == 0
    assert cancelled_at_s == [pytest.approx(2.0, abs=0.01)]
