"""Coming back: a request with a key goes on without its caller, and its replies can be had again for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from actorflow import (
    App,
    Client,
    CodecError,
    InvalidItemError,
    Limits,
    Operator,
    ReplayExpiredError,
    RequestCancelledError,
    TooManyRequestsError,
)
from actorflow.gateway import Gateway, serving
from actorflow.remote import RemoteConnection
from actorflow.runtime import replays

gates: dict[str, asyncio.Event] = {}


class Count(Operator):
    """Yields so many numbers."""

    def process(self, most: int) -> Any:
        yield from range(most)


class CountSlowly(Operator):
    """Yields numbers, the second half when somebody opens the gate."""

    async def process(self, most: int) -> Any:
        for number in range(most):
            if number == most // 2:
                await gates.setdefault("half", asyncio.Event()).wait()
            yield number


class Wait(Operator):
    async def process(self, name: str) -> str:
        await gates.setdefault(name, asyncio.Event()).wait()
        return name


def app(**limits: Any) -> App:
    app = App("attach", limits=Limits(**limits))
    app.stream("count", int, int, replies="many").then(Count)
    app.stream("slowly", int, int, replies="many").then(CountSlowly)
    app.stream("double", int, int, replies="many").map(lambda number: number * 2)
    app.stream("sum", int, int).fold(0, lambda total, number: total + number)
    app.stream("wait", str, str).then(Wait)
    return app


@pytest.fixture
async def door() -> AsyncIterator[Gateway]:
    gates.clear()
    async with serving(app(), port=0) as gateway:
        yield gateway


@pytest.fixture(params=["far", "near"])
async def client(request: Any) -> AsyncIterator[Client]:
    gates.clear()
    if request.param == "near":
        async with app().local() as near:
            yield near
        return
    async with serving(app(), port=0) as gateway, Client(gateway.url) as far:
        yield far


def cut(client: Client) -> None:
    """Tear the connection of a client, without a word to the other side."""
    connection = client._connection
    assert isinstance(connection, RemoteConnection)
    assert connection._socket is not None
    connection._socket._response.connection.transport.abort()  # type: ignore[union-attr]


async def test_replies_go_on_where_they_were_when_the_connection_is_lost(door: Gateway) -> None:
    got = []
    async with Client(door.url) as client:
        async for number in client.stream("slowly", 4_000):
            got.append(number)
            if number in {10, 1_999}:
                cut(client)
                gates.setdefault("half", asyncio.Event()).set()

    assert got == list(range(4_000))


@pytest.mark.parametrize("way", ["far", "near", "http"])
async def test_a_slow_reader_has_all_replies_although_they_are_kept_for_nobody_else_any_more(way: str) -> None:
    got: list[int] = []

    async def read(replies: AsyncIterator[int]) -> None:
        async for number in replies:
            got.append(number)
            if number % 500 == 0:
                await asyncio.sleep(0.1)

    async def over_http(url: str) -> AsyncIterator[int]:
        headers = {"Idempotency-Key": "slow", "Accept": "application/x-ndjson"}
        async with (
            aiohttp.ClientSession(read_bufsize=1_024) as session,
            session.post(f"{url}/streams/count", json=3_000, headers=headers) as answer,
        ):
            async for line in answer.content:
                yield int(line)

    if way == "near":
        async with app(replay_s=0.02).local() as client:
            await read(client.stream("count", 3_000, key="slow"))
    else:
        async with serving(app(replay_s=0.02), port=0) as gateway, Client(gateway.url) as client:
            far = client.stream("count", 3_000, key="slow")
            await read(far if way == "far" else over_http(gateway.url))

    assert got == list(range(3_000))


async def test_items_are_sent_again_only_when_they_had_not_come(door: Gateway) -> None:
    async with Client(door.url) as client:

        async def items() -> AsyncIterator[int]:
            for number in range(5_000):
                if number in {100, 2_500, 4_999}:
                    cut(client)
                    await asyncio.sleep(0.01)
                yield number

        doubled = [number async for number in client.stream("double", items=items())]
        total = [number async for number in client.stream("sum", items=items())]

    assert doubled == [2 * number for number in range(5_000)]
    assert total == [sum(range(5_000))]


async def test_who_has_the_key_takes_the_replies_over_from_any_number_on(client: Client) -> None:
    first = client.stream("slowly", 100, key="mine")
    began = [await anext(first) for _ in range(3)]

    taken_over = client.attach("mine", after=3)
    rest = [await anext(taken_over)]
    gates.setdefault("half", asyncio.Event()).set()
    rest += [number async for number in taken_over]

    assert began == [0, 1, 2]
    assert rest == list(range(3, 100))
    await first.aclose()


async def test_the_replies_of_a_request_that_has_ended_can_be_had_again(client: Client) -> None:
    assert [number async for number in client.stream("count", 5, key="again")] == [0, 1, 2, 3, 4]

    assert [number async for number in client.attach("again", after=3)] == [3, 4]
    assert [number async for number in client.attach("again")] == [0, 1, 2, 3, 4]
    assert [number async for number in client.attach("again", after=5)] == []


async def test_the_one_answer_of_a_request_with_a_key_can_be_awaited_by_others(client: Client) -> None:
    asking = asyncio.create_task(client.request("wait", "gate", key="one"))
    await asyncio.sleep(0.05)

    watching = asyncio.create_task(anext(client.attach("one")))
    await asyncio.sleep(0.05)
    gates["gate"].set()

    assert await asking == await watching == "gate"
    assert [value async for value in client.attach("one")] == ["gate"]


async def test_a_key_belongs_to_one_streamed_request(client: Client) -> None:
    assert [number async for number in client.stream("count", 2, key="taken")] == [0, 1]

    with pytest.raises(InvalidItemError, match="begun before"):
        _ = [number async for number in client.stream("count", 2, key="taken")]


async def test_what_nobody_has_heard_of_is_not_replayed(client: Client) -> None:
    with pytest.raises(ReplayExpiredError, match="no request 'nobody'"):
        _ = [each async for each in client.attach("nobody")]


async def test_replies_that_their_caller_has_are_kept_within_a_limit() -> None:
    async with serving(app(replay_bytes=50_000), port=0) as gateway, Client(gateway.url) as client:
        numbers = [number async for number in client.stream("count", 20_000, key="much")]
        with pytest.raises(ReplayExpiredError, match="not kept any more"):
            _ = [number async for number in client.attach("much")]
        last = [number async for number in client.attach("much", after=19_990)]

    assert numbers == list(range(20_000))
    assert last == list(range(19_990, 20_000))


async def test_a_request_whose_replies_there_is_no_room_to_keep_ends_at_once() -> None:
    local = app(replays_kept=1).local()
    async with serving(app(replays_kept=1), port=0) as gateway, Client(gateway.url) as far, local as near:
        for client, host in ((far, gateway._host), (near, local.host)):
            assert [number async for number in client.stream("count", 2, key="kept")] == [0, 1]
            with pytest.raises(TooManyRequestsError, match="replays_kept"):
                _ = [number async for number in client.stream("count", 2, key="too many")]
            assert host is not None
            assert not host.requests
        headers = {"Accept": "application/x-ndjson", "Idempotency-Key": "too many"}
        async with (
            aiohttp.ClientSession(gateway.url) as http,
            http.post("/streams/count", json=2, headers=headers) as response,
        ):
            assert response.status == 429
        assert not gateway._host.requests


async def test_replies_are_kept_for_a_while_only() -> None:
    async with app(replay_s=0.05).local() as client:
        assert [number async for number in client.stream("count", 2, key="short")] == [0, 1]
        await asyncio.sleep(0.1)

        with pytest.raises(ReplayExpiredError):
            _ = [number async for number in client.attach("short")]


async def test_a_stream_whose_client_does_not_come_back_ends(door: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "COMES_BACK_S", 0.05)
    client = Client(door.url)
    replies = client.stream("slowly", 100)
    assert await anext(replies) == 0
    host = door._host

    cut(client)
    client._connection._url = "http://127.0.0.1:1"  # type: ignore[union-attr]
    async with asyncio.timeout(5):
        while host.requests:
            await asyncio.sleep(0.01)
    await replies.aclose()
    await client.close()


async def test_a_stream_with_a_key_of_its_callers_goes_on_alone(door: Gateway) -> None:
    client = Client(door.url)
    replies = client.stream("slowly", 100, key="alone")
    assert await anext(replies) == 0
    cut(client)
    gates.setdefault("half", asyncio.Event()).set()

    async with Client(door.url) as other:
        assert [number async for number in other.attach("alone")] == list(range(100))
    await replies.aclose()
    await client.close()


async def test_who_reads_no_more_is_told_who_does(door: Gateway) -> None:
    async with Client(door.url) as one, Client(door.url) as other:
        first = one.stream("slowly", 10, key="shared")
        assert [await anext(first) for _ in range(5)] == [0, 1, 2, 3, 4]
        waiting = asyncio.create_task(anext(first))
        await asyncio.sleep(0.05)
        second = other.attach("shared", after=5)
        taking = asyncio.create_task(anext(second))

        with pytest.raises(RequestCancelledError, match="somebody else reads"):
            await waiting
        gates["half"].set()
        assert await taking == 5
        await second.aclose()


async def test_events_go_on_behind_the_last_that_came(door: Gateway) -> None:
    gates.setdefault("half", asyncio.Event()).set()
    accept = {"Accept": "text/event-stream"}
    async with aiohttp.ClientSession(door.url) as http:
        async with http.post("/streams/slowly", json=6, headers={**accept, "Idempotency-Key": "sse"}) as response:
            whole = await response.text()
        async with http.get("/requests/sse/replies", headers={**accept, "Last-Event-ID": "3"}) as response:
            rest = await response.text()
        async with http.get("/requests/sse/replies?after=4") as response:
            lines = await response.text()
        async with http.get("/requests/unknown/replies") as response:
            gone = response.status, await response.json()

    events = [part.split("\n") for part in whole.strip().split("\n\n")]
    assert [(int(each[0][4:]), json.loads(each[2][6:])) for each in events[:-1]] == [(n, n) for n in range(6)]
    assert events[-1] == ["event: end", "data: {}"]
    assert rest.startswith("id: 4\nevent: reply\ndata: 4\n\nid: 5\n")
    assert lines == "4\n5\n"
    assert gone[0] == 410
    assert gone[1]["title"] == "ReplayExpiredError"


async def test_a_client_with_several_connections_spreads_what_it_asks() -> None:
    app = App("pool")
    app.stream("double", int, int).map(lambda number: 2 * number)
    async with serving(app, port=0) as gateway, Client(gateway.url, connections=3) as client:
        answers = await asyncio.gather(*(client.request("double", number) for number in range(60)))
        sessions = len(gateway._sessions)
        doubled = [each async for each in client.stream("double", 21)]

    assert answers == [2 * number for number in range(60)]
    assert sessions == 3
    assert doubled == [42]
    with pytest.raises(ValueError, match="at least one"):
        Client("http://localhost:1", connections=0)


# -- what breaks nothing but itself


class Large(Operator):
    """Yields large replies, or replies of many small lists, or one that nobody can read."""

    def process(self, wanted: list[int]) -> Any:
        kind, count = wanted
        for _ in range(count):
            yield b"x" * 100_000 if kind == 0 else [[] for _ in range(300)]


def odd() -> App:
    made = app(replays_kept=10)
    made.stream("large", list, object, replies="many").then(Large)
    made.stream("lists", int, list).map(lambda count: [[]] * count)
    made.stream("echo", object, object).map(lambda item: item)
    return made


async def test_many_large_replies_leave_in_parts() -> None:
    async with serving(odd(), port=0) as gateway, Client(gateway.url) as client:
        large = [each async for each in client.stream("large", [0, 300])]
        lists = [each async for each in client.stream("large", [1, 1000])]

    assert large == [b"x" * 100_000] * 300
    assert lists == [[[]] * 300] * 1000


async def test_a_reply_that_cannot_be_read_fails_its_own_request_alone() -> None:
    async with serving(odd(), port=0) as gateway, Client(gateway.url) as client:
        waiting = asyncio.create_task(client.request("wait", "beside"))
        await asyncio.sleep(0.05)

        with pytest.raises(CodecError, match="more than 200000 arrays"):
            await client.request("lists", 250_000, timeout_s=5)
        gates["beside"].set()

        assert await waiting == "beside"
        assert len(gateway._sessions) == 1


async def test_an_item_that_cannot_be_read_fails_its_own_request_at_once() -> None:
    deep: Any = 1
    for _ in range(70):
        deep = [deep]

    async def items() -> AsyncIterator[Any]:
        yield 1
        yield deep

    async with serving(odd(), port=0) as gateway, Client(gateway.url) as client:
        assert await client.request("echo", 1) == 1
        async with asyncio.timeout(3):
            with pytest.raises(CodecError, match="nest"):
                await client.request("echo", deep, timeout_s=20)
            with pytest.raises(CodecError, match="larger than a message"):
                await client.request("echo", b"x" * (17 << 20), timeout_s=20)
            with pytest.raises(CodecError, match="nest"):
                _ = [each async for each in client.stream("double", items=items())]
        assert await client.request("echo", 2) == 2


async def test_a_request_is_sent_although_whoever_connected_first_has_given_up(door: Gateway) -> None:
    async with Client(door.url) as client:
        first = asyncio.create_task(client.request("count", 1))
        second = asyncio.create_task(client.request("count", 2, timeout_s=2))
        connection = client._connection
        assert isinstance(connection, RemoteConnection)
        while connection._socket is None:
            await asyncio.sleep(0)
        first.cancel()

        async with asyncio.timeout(3):
            assert await second == [0, 1]


async def test_streams_one_after_the_other_need_no_room_for_what_their_callers_have() -> None:
    async with serving(odd(), port=0) as gateway, Client(gateway.url) as client:
        for _ in range(40):
            assert [each async for each in client.stream("count", 2)] == [0, 1]


@pytest.mark.parametrize("ways", ["wire to http", "http to http", "http to wire", "near to near"])
async def test_whoever_reads_no_more_is_told_and_nothing_ends(ways: str) -> None:
    first_way, second_way = ways.split(" to ")
    gates.clear()
    async with (
        app().local() as near,
        serving(app(), port=0) as gateway,
        Client(gateway.url) as far,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        accept = {"Accept": "text/event-stream"}

        async def read(way: str, *, begin: bool, after: int) -> list[Any]:
            if way == "http":
                path = "/streams/slowly" if begin else f"/requests/key/replies?after={after}"
                ask = http.post if begin else http.get
                options: Any = {"json": 20} if begin else {}
                async with ask(path, headers={**accept, "Idempotency-Key": "key"}, **options) as answer:
                    events = [part.split("\n") for part in (await answer.text()).strip().split("\n\n")]
                kinds = [line for event in events for line in event if line.startswith("event: ")]
                if kinds[-1] == "event: error":
                    raise RequestCancelledError(events[-1][-1])
                return [json.loads(event[2][6:]) for event in events[:-1]]
            client = near if way == "near" else far
            replies = client.stream("slowly", 20, key="key") if begin else client.attach("key", after=after)
            return [each async for each in replies]

        first = asyncio.create_task(read(first_way, begin=True, after=0))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(read(second_way, begin=False, after=10))
        async with asyncio.timeout(5):
            with pytest.raises(RequestCancelledError, match="somebody else reads"):
                await first
            gates["half"].set()
            assert await second == list(range(10, 20))


async def test_a_key_is_for_one_question(door: Gateway) -> None:
    gates.setdefault("half", asyncio.Event()).set()
    lines, events = {"Accept": "application/x-ndjson"}, {"Accept": "text/event-stream"}
    async with aiohttp.ClientSession(door.url) as http, Client(door.url) as client:

        async def post(path: str, item: int, accept: dict[str, str]) -> tuple[int, str]:
            async with http.post(path, json=item, headers={**accept, "Idempotency-Key": "one"}) as answer:
                return answer.status, await answer.text()

        assert await post("/streams/count", 3, lines) == (200, "0\n1\n2\n")
        assert await post("/streams/count", 3, lines) == (200, "0\n1\n2\n")
        assert (await post("/streams/count", 3, events))[0] == 200
        assert (await post("/streams/count", 4, lines))[0] == 422
        assert (await post("/streams/double", 3, lines))[0] == 422
        assert (await post("/streams/count", 3, {}))[0] == 422
        with pytest.raises(InvalidItemError):
            await client.request("count", 3, key="one")
        assert await client.request("count", 3, key="two") == [0, 1, 2]
        with pytest.raises(InvalidItemError):
            _ = [each async for each in client.stream("count", 3, key="two")]


async def test_who_gives_up_a_request_with_a_key_of_its_own_leaves_it_to_others(door: Gateway) -> None:
    async with Client(door.url) as one, Client(door.url) as other:
        asking = [asyncio.create_task(each.request("wait", "both", key="both")) for each in (one, other)]
        await asyncio.sleep(0.1)
        asking[0].cancel()
        await asyncio.sleep(0.05)
        gates["both"].set()

        assert await asking[1] == "both"


async def test_large_replies_can_be_had_again_although_their_reader_was_cut_off() -> None:
    async with serving(odd(), port=0) as gateway:
        headers = {"Accept": "text/event-stream", "Idempotency-Key": "large"}
        async with aiohttp.ClientSession(gateway.url) as http:
            async with http.post("/streams/large", json=[1, 200], headers=headers) as answer:
                await answer.content.readline()
            headers["Last-Event-ID"] = "0"
            async with http.get("/requests/large/replies", headers=headers) as answer:
                assert answer.status == 200
                text = await answer.text()

    assert text.startswith("id: 1\n")
    assert text.count("event: reply") == 199
