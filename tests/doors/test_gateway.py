"""The HTTP door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from actorflow import App, Limits, Operator
from actorflow.gateway import Gateway, serving
from actorflow.runtime.host import Host


class Broken(Exception):
    pass


class Fails(Operator):
    def process(self, item: Any) -> None:
        raise Broken("as always")


class Sleeps(Operator):
    concurrency = 10

    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


def make_app() -> App:
    app = App("door", limits=Limits(frame_bytes=100_000))
    app.stream("double", int, int).map(lambda x: x * 2)
    app.stream("fails").then(Fails)
    app.stream("sleeps", float, float, in_flight=2).then(Sleeps)
    app.stream("range", int, int, replies="many").flat_map(range)
    app.stream("set", int).map(lambda n: {n})
    app.stream("object", int).map(lambda n: object())
    app.stream("nothing", int).filter(lambda n: False)
    return app


@pytest_asyncio.fixture
async def door() -> AsyncIterator[tuple[aiohttp.ClientSession, Gateway]]:
    async with serving(make_app(), port=0) as gateway, aiohttp.ClientSession(gateway.url) as session:
        yield session, gateway


Door = tuple[aiohttp.ClientSession, Gateway]


async def test_json_goes_in_and_comes_out(door: Door) -> None:
    async with door[0].post("/streams/double", data=b"21") as answer:
        assert (answer.status, await answer.json()) == (200, 42)
        assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "body", "status", "title"),
    [
        ("/streams/dubble", b"1", 404, "UnknownStreamError"),
        ("/streams/double", b'"x"', 422, "InvalidItemError"),
        ("/streams/double", b"", 422, "InvalidItemError"),
        ("/streams/double", b"{", 400, "CodecError"),
        ("/streams/double", b"\xff\xfe", 400, "CodecError"),
        ("/streams/fails", b"1", 500, "test_gateway:Broken"),
        ("/streams/nothing", b"1", 500, "NoReplyError"),
        ("/streams/object", b"1", 400, "CodecError"),
        ("/streams/sleeps?timeout_s=0.01", b"5.0", 504, "DeadlineExceededError"),
        ("/streams/sleeps?timeout_s=-1", b"5.0", 422, "InvalidItemError"),
        ("/streams/double", b" " * 200_000, 413, "RequestEntityTooLargeError"),
        ("/dead-letters/x/replay", b"", 404, "UnknownStreamError"),
        ("/nowhere", b"", 404, "NotFoundError"),
    ],
)
async def test_a_wrong_request_gets_a_problem_document(
    door: Door, path: str, body: bytes, status: int, title: str
) -> None:
    async with door[0].post(path, data=body) as answer:
        problem = await answer.json(content_type="application/problem+json")

    assert answer.status == status
    assert problem["title"].endswith(title)
    assert problem["detail"]


async def test_over_the_limit_is_429_with_a_time_to_try_again(door: Door) -> None:
    session, _ = door

    async def ask() -> tuple[int, str | None]:
        async with session.post("/streams/sleeps", data=b"0.2") as answer:
            return answer.status, answer.headers.get("Retry-After")

    answers = await asyncio.gather(*(ask() for _ in range(4)))

    assert sorted(status for status, _ in answers) == [200, 200, 429, 429]
    assert all(retry == "1" for status, retry in answers if status == 429)


async def test_many_replies_are_a_list_or_lines_as_the_caller_likes(door: Door) -> None:
    async with door[0].post("/streams/range", data=b"3") as answer:
        assert await answer.json() == [0, 1, 2]
    async with door[0].post("/streams/range", data=b"3", headers={"Accept": "application/x-ndjson"}) as answer:
        assert await answer.text() == "0\n1\n2\n"


async def test_a_caller_that_leaves_cancels_its_request() -> None:
    async with serving(make_app(), port=0) as gateway:
        host: Host = gateway._host
        async with aiohttp.ClientSession(gateway.url) as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await session.post("/streams/sleeps", data=b"60.0")
        async with asyncio.timeout(5):
            while host.in_flight:
                await asyncio.sleep(0.01)


async def test_requests_in_flight_can_be_seen_and_cancelled(door: Door) -> None:
    session, gateway = door
    asking = asyncio.create_task(session.post("/streams/sleeps", data=b"60.0"))
    while not gateway._host.requests:
        await asyncio.sleep(0.01)
    (request,) = gateway._host.requests.values()

    async with session.get(f"/requests/{request.id}") as answer:
        seen = await answer.json()
    async with session.delete(f"/requests/{request.id}") as answer:
        assert answer.status == 200

    assert (seen["stream"], seen["outstanding"]) == ("sleeps", 1)
    assert (await asking).status == 409


async def test_streams_and_health_are_listed(door: Door) -> None:
    async with door[0].get("/streams") as answer:
        assert {stream["name"] for stream in await answer.json()} >= {"double", "range"}
    async with door[0].get("/healthz") as answer:
        assert (await answer.json())["status"] == "ok"


async def test_a_token_is_asked_for_and_needed_beyond_loopback() -> None:
    async with serving(make_app(), port=0, token="secret") as gateway, aiohttp.ClientSession(gateway.url) as session:
        async with session.post("/streams/double", data=b"1") as refused:
            assert refused.status == 401
        async with session.post("/streams/double", data=b"1", headers={"Authorization": "Bearer secret"}) as accepted:
            assert accepted.status == 200
        with pytest.raises(ValueError, match="without a token"):
            Gateway(gateway._host, address="0.0.0.0")
