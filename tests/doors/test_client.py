"""The client: the same in process and over the network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from actorflow import (
    ActivationError,
    App,
    Client,
    DeadlineExceededError,
    InvalidItemError,
    Limits,
    Operator,
    RequestCancelledError,
    UnknownStreamError,
)
from actorflow.gateway import serving
from actorflow.testing import check_nothing_left


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class TooFar(Exception):
    pass


class Move(Operator):
    def process(self, point: Point) -> Point:
        if point.x > 100:
            raise TooFar(point.x)
        return Point(point.x + 1, point.y)


class Sleeps(Operator):
    concurrency = 100

    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


class Sums(Operator):
    """Running sums; the total of one request at a time."""

    async def process(self, x: int) -> int:
        return x


app = App("near", limits=Limits(items_ahead=100))
move = app.stream("move", Point, Point).then(Move)
sleeps = app.stream("sleeps", float, float).then(Sleeps)
count = app.stream("count", int, int).count()
echo = app.stream("echo", replies="many").then(Sums)
aside = app.stream("aside", Point, replies="none").then(Move, on_error="set_aside")


@contextlib.asynccontextmanager
async def near() -> AsyncIterator[Client]:
    local = app.local(strict=True)
    async with local as client:
        yield client
    assert local.host is not None
    check_nothing_left(local.host)


@contextlib.asynccontextmanager
async def far() -> AsyncIterator[Client]:
    async with serving(app, port=0) as gateway:
        async with Client(gateway.url) as client:
            yield client
        async with asyncio.timeout(5):
            while gateway._host.in_flight:
                await asyncio.sleep(0.01)
        check_nothing_left(gateway._host)


pytestmark = pytest.mark.parametrize("place", [near, far])
Place = Any


async def test_a_reply_arrives_as_its_type(place: Place) -> None:
    async with place() as client:
        assert await client.request(move, Point(1, 2)) == Point(2, 2)
        assert await client.request("move", Point(1, 2)) == Point(2, 2)
        assert await client.request("move", {"x": 1, "y": 2}) == Point(2, 2)


async def test_an_error_arrives_as_the_class_that_was_raised(place: Place) -> None:
    async with place() as client:
        with pytest.raises(TooFar) as caught:
            await client.request(move, Point(101, 0))

    error = caught.value
    assert isinstance(error, ActivationError)
    assert (error.stream, error.operator, error.cause_type, error.retryable) == ("move", "Move", "TooFar", True)
    assert error.args == (101,)


async def test_wrong_input_is_refused_with_the_reason(place: Place) -> None:
    async with place() as client:
        with pytest.raises(UnknownStreamError, match="did you mean 'move'"):
            await client.request("mov", 1)
        with pytest.raises(InvalidItemError, match="takes Point"):
            await client.request("move", "x")
        with pytest.raises(DeadlineExceededError, match=r"0\.01 s"):
            await client.request(sleeps, 5.0, timeout_s=0.01)


async def test_a_cancelled_await_cancels_the_request(place: Place) -> None:
    async with place() as client:
        asking = asyncio.create_task(client.request(sleeps, 60.0))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_many_requests_are_answered_each_with_its_own(place: Place) -> None:
    async with place() as client:
        points = [Point(number % 100, number) for number in range(500)]
        assert await asyncio.gather(*(client.request(move, point) for point in points)) == [
            Point(point.x + 1, point.y) for point in points
        ]


@pytest.mark.parametrize("number", [0, 1, 5000])
async def test_items_stream_in_and_replies_out_in_order(place: Place, number: int) -> None:
    async def items() -> AsyncIterator[int]:
        for item in range(number):
            yield item

    async with place() as client:
        assert [x async for x in client.stream(echo, items=items())] == list(range(number))
        assert [x async for x in client.stream(count, items=range(number))] == [number]


async def test_leaving_a_stream_of_replies_cancels_it(place: Place) -> None:
    async with place() as client:
        async with contextlib.aclosing(client.stream(echo, items=range(100_000))) as replies:
            async for _ in replies:
                break
        assert await client.request(move, Point(0, 0)) == Point(1, 0)


async def test_an_item_that_does_not_fit_ends_its_stream(place: Place) -> None:
    async with place() as client:
        with pytest.raises(InvalidItemError):
            assert [x async for x in client.stream(count, items=[1, 2, "three"])]


async def test_sent_requests_leave_dead_letters_that_can_be_replayed(place: Place) -> None:
    async with place() as client:
        assert await client.send(aside, Point(500, 0))
        (letter,) = await client.dead_letters()
        assert (letter["stream"], letter["operator"]) == ("aside", "Move")
        assert await client.replay(letter["number"])
        while not (letters := await client.dead_letters()):
            await asyncio.sleep(0)
        (again,) = letters
        assert again["number"] > letter["number"]
        with pytest.raises(UnknownStreamError):
            await client.replay(99)


async def test_a_request_can_be_cancelled_by_its_id(place: Place) -> None:
    async with place() as client:
        request_id = await client.send(sleeps, 60.0)
        assert await client.cancel(request_id)
        assert not await client.cancel(request_id)
        (letter,) = await client.dead_letters()
        assert letter["error"]["type"] == RequestCancelledError.__name__
