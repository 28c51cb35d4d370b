"""The bare servers beside which the doors are measured: aiohttp handlers without actorflow.

python -m benchmarks.door_baselines      prints its URL and serves until its standard input ends

`POST /echo` reads JSON and answers it. `POST /lines` counts lines of JSON as aiohttp hands them out, `POST /chunks` as
they lie in what has arrived, which is the faster way to write it. `GET /wire` echoes MessagePack over a WebSocket.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import orjson
import uvloop
from aiohttp import ClientSession, ClientWebSocketResponse, web

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode


async def echo(request: web.Request) -> web.Response:
    item = orjson.loads(await request.read())
    return web.Response(body=orjson.dumps(item), content_type="application/json")


async def lines(request: web.Request) -> web.Response:
    count = 0
    async for line in request.content:
        orjson.loads(line)
        count += 1
    return web.Response(body=orjson.dumps(count), content_type="application/json")


async def chunks(request: web.Request) -> web.Response:
    count = 0
    rest = b""
    async for chunk in request.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            orjson.loads(line)
        count += len(whole)
    return web.Response(body=orjson.dumps(count), content_type="application/json")


async def wire(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        await socket.send_bytes(pack(unpack(message.data)))
    return socket


class BareClient:
    """Requests over one WebSocket, each a message with a number; up to `window` of them in flight."""

    def __init__(self, socket: ClientWebSocketResponse, item: object) -> None:
        self._socket = socket
        self._item = item

    async def requests(self, count: int, window: int) -> None:
        socket, item = self._socket, self._item
        for number in range(window):
            await socket.send_bytes(pack([number, item]))
        for number in range(window, count + window):
            _, reply = unpack((await socket.receive()).data)
            assert reply == item
            if number < count:
                await socket.send_bytes(pack([number, item]))


async def with_client(url: str, item: object, measured: Callable[[BareClient], Awaitable[None]]) -> None:
    async with ClientSession() as session, session.ws_connect(f"{url}/wire") as socket:
        await measured(BareClient(socket, item))


async def serve() -> None:
    app = web.Application()
    app.add_routes(
        [web.post("/echo", echo), web.post("/lines", lines), web.post("/chunks", chunks), web.get("/wire", wire)]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gc.collect()
    gc.freeze()  # and the threshold: as a host of actorflow does
    gc.set_threshold(50_000, 20, 10)
    print(f"answers on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as events, suppress(KeyboardInterrupt):
        events.run(serve())
