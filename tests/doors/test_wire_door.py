"""The binary door: hosts that go away, and peers that break the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import msgpack
import pytest
from aiohttp import web

from actorflow import (
    ActivationError,
    App,
    Client,
    CodecError,
    ConnectionLostError,
    Operator,
    RequestCancelledError,
    remote,
    wire,
)
from actorflow.gateway import Gateway, serving


class Sleeps(Operator):
    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


app = App("wired")
move = app.stream("move", int, int).map(lambda x: x + 1)
sleeps = app.stream("sleeps", float, float).then(Sleeps)


async def test_a_host_that_goes_away_is_said_and_found_again() -> None:
    async with serving(app, port=0) as first:
        client = Client(first.url)
        asking = asyncio.create_task(client.request(sleeps, 60.0))
        await asyncio.sleep(0.1)
        await first.stop()
        with pytest.raises((ConnectionLostError, RequestCancelledError)):
            await asking
        with pytest.raises(ConnectionLostError, match="no host answers"):
            await client.request(move, 0)
        again = Gateway(first._host, port=int(first.url.rsplit(":", 1)[1]))
        await again.start()
        assert await client.request(move, 0) == 1
        await client.close()
        await again.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x93\x01",
        msgpack.packb([[99]]),
        msgpack.packb([[wire.REQUEST, 1, "move", None, None, None, "one"]]),
        msgpack.packb([[wire.HELLO, 999, "plain"]]),
        msgpack.packb([[wire.HELLO, 1, "pickle"]]),
        msgpack.packb([[wire.HELLO, 1, "plain"], [wire.HELLO, 1, "plain"]]),
        msgpack.packb([[wire.HELLO, 1, "plain"], [wire.REQUEST, 1, "move"]]),
        msgpack.packb([[wire.HELLO, 1, "plain"], [wire.REQUEST, "one", "move", None, None, None, "one"]]),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_told_and_closed(data: bytes) -> None:
    async with serving(app, port=0) as gateway, aiohttp.ClientSession() as session:
        async with session.ws_connect(gateway.url + wire.PATH) as socket:
            await socket.send_bytes(data)
            messages = [message async for message in socket]
        async with Client(gateway.url) as client:
            assert await client.request(move, 0) == 1

    error = msgpack.unpackb(messages[-1].data)[-1]
    assert error[0] == wire.ERROR
    assert error[2]["type"] == "ProtocolError"


class Large(Operator):
    def process(self, size: int) -> str:
        return "x" * size


class Halt(BaseException):
    pass


class Halts(Operator):
    def process(self, item: int) -> int:
        if item < 0:
            raise Halt
        return item


attacked = App("attacked")
attacked.stream("large", int, str).then(Large)
attacked.stream("halts", int, int).then(Halts)
attacked.stream("halting", int, int).map(lambda item: (_ for _ in ()).throw(Halt) if item < 0 else item)
attacked.stream("echo", int, int, replies="many").map(lambda x: x)


async def probe(client: Client) -> None:
    async with asyncio.timeout(1.0):
        assert await client.request("halts", 3) == 3
        assert await client.request("halting", 3) == 3


@pytest.mark.parametrize(
    "frames",
    [
        [[wire.REQUEST, 1, "echo", None, None, None, "stream"], *([[wire.CREDIT, 1, 1024]] * 100_000)],
        [[wire.REQUEST, 1, "echo", None, None, None, "stream"], *([[wire.CREDIT, 1, -5]] * 1_000)],
        [[wire.REQUEST, 1, "halts", [{}] * 1_000_000, None, None, "one"]],
        [[wire.END, -1]],
    ],
    ids=["credits", "negative-credits", "containers", "negative-number"],
)
async def test_hostile_frames_do_not_hold_the_host(frames: list[list[object]]) -> None:
    async with (
        serving(attacked, port=0) as gateway,
        aiohttp.ClientSession() as session,
        session.ws_connect(gateway.url + wire.PATH, max_msg_size=0) as socket,
        Client(gateway.url) as client,
    ):
        await probe(client)
        await socket.send_bytes(msgpack.packb([[wire.HELLO, 1, "plain"], *frames]))
        await asyncio.sleep(0.05)
        await probe(client)


async def test_replies_of_one_turn_leave_in_messages_that_the_client_accepts() -> None:
    async with serving(attacked, port=0) as gateway, Client(gateway.url) as client:
        replies = await asyncio.gather(*(client.request("large", 1_000_000) for _ in range(40)))

        assert [len(reply) for reply in replies] == [1_000_000] * 40


async def test_a_reply_larger_than_a_message_is_an_error_that_says_so() -> None:
    async with serving(attacked, port=0) as gateway, Client(gateway.url) as client:
        with pytest.raises(CodecError, match="larger than a message"):
            await client.request("large", 20_000_000)
        await probe(client)


@pytest.mark.parametrize("stream", ["halts", "halting"])
async def test_what_no_handler_should_raise_fails_its_request_and_nothing_else(stream: str) -> None:
    async with serving(attacked, port=0) as gateway, Client(gateway.url) as client:
        with pytest.raises(ActivationError):
            await client.request(stream, -1, timeout_s=5.0)
        await probe(client)


async def test_an_input_that_raises_is_told_at_once() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    async with serving(attacked, port=0) as gateway, Client(gateway.url) as client:
        async with asyncio.timeout(5.0):
            with pytest.raises(KeyError):
                assert [x async for x in client.stream("echo", items=items())]


async def test_what_answers_and_never_says_what_a_host_would_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    monkeypatch.setattr(remote, "CONNECT_TIMEOUT_S", 0.05)
    app = web.Application()
    app.add_routes([web.get("/wire", silent)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]

    async with Client(f"http://{host}:{port}") as client:
        with pytest.raises(ConnectionLostError, match="is it one") as raised:
            await asyncio.wait_for(client.request("sum", 1), 5)

    assert raised.value.retryable
    await runner.cleanup()
