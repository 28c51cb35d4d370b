"""The binary door: hosts that go away, and peers that break the protocol."""

from __future__ import annotations

import asyncio

import aiohttp
import msgpack
import pytest

from actorflow import App, Client, ConnectionLostError, Operator, RequestCancelledError, wire
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
