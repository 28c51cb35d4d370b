"""Cheap load on a door: raw asyncio protocols, which cost a tenth of what the server does.

python -m benchmarks.door_load HOST PORT COUNT

opens so many WebSocket connections to `/wire` that say HELLO, prints a line when all have been welcomed, answers pings,
and closes them when its standard input ends. It is a process of its own, so that nothing of it is in the server's.
"""

import asyncio
import re
import resource
import sys
from collections.abc import Iterator
from itertools import chain, count, islice, repeat
from urllib.parse import urlsplit

import msgspec
import uvloop

from actorflow import wire

CONNECTIONS_PER_SOURCE = 20_000
CONNECTING_AT_ONCE = 64
MASK = bytes(4)  # a mask of zeros masks nothing, and is one


def raise_file_limit() -> None:
    """Allow this process, and those it starts, as many open files as the machine does."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# -- HTTP requests


class Caller(asyncio.Protocol):
    """One kept-alive connection that sends the same request again as soon as it is answered."""

    def __init__(self, request: bytes, tickets: Iterator[int], done: asyncio.Future[None]) -> None:
        self._request = request
        self._tickets = tickets
        self._done = done
        self._seen = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, gap, body = self._seen.partition(b"\r\n\r\n")
        if not gap:
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._end(RuntimeError(f"the server answered {self._seen.decode(errors='replace')}"))
            return
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        assert found is not None
        if len(body) == int(found[1]):
            self._seen = b""
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        assert self._transport is not None
        if next(self._tickets, None) is None:
            self._end(None)
            self._transport.close()
        else:
            self._transport.write(self._request)

    def _end(self, error: Exception | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


async def post_again_and_again(url: str, body: bytes, *, requests: int, connections: int) -> None:
    """Send the same body so many times, over so many connections, one request in flight on each."""
    request = post(url, body, "application/json")
    tickets = iter(range(requests))
    await asyncio.gather(*(_call(url, request, tickets) for _ in range(connections)))


async def post_once(url: str, body: bytes, content_type: str) -> bytes:
    """Send one large body as fast as it is taken, and return the body of the answer."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(post(url, body, content_type))
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: *(\d+)", head)
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert found is not None, head
    answer = await reader.readexactly(int(found[1]))
    writer.close()
    return answer


def post(url: str, body: bytes, content_type: str) -> bytes:
    place = urlsplit(url)
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _call(url: str, request: bytes, tickets: Iterator[int]) -> None:
    place = urlsplit(url)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    await loop.create_connection(lambda: Caller(request, tickets, done), place.hostname, place.port)
    await done


# -- idle clients


class IdleClient(asyncio.Protocol):
    """A client that has said HELLO, was welcomed, and from then on answers pings."""

    def __init__(self, greeting: bytes, welcomed: asyncio.Future[None]) -> None:
        self._greeting = greeting
        self._seen = b""
        self.welcomed = welcomed
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.startswith(b"HTTP/"):
            _, gap, self._seen = self._seen.partition(b"\r\n\r\n")
            assert gap, "the answer to an upgrade came in parts"
        while len(self._seen) >= 2 and len(self._seen) >= 2 + (size := self._seen[1]):
            kind, payload, self._seen = self._seen[0] & 15, self._seen[2 : 2 + size], self._seen[2 + size :]
            if kind == 2 and not self.welcomed.done():
                assert msgspec.msgpack.decode(payload)[0][0] == wire.WELCOME
                self.welcomed.set_result(None)
            elif kind == 9:
                assert self.transport is not None
                self.transport.write(bytes((0x8A, 0x80 | size)) + MASK + payload)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.welcomed.done():
            self.welcomed.set_exception(error or ConnectionError("the host closed the connection"))


async def idle(host: str, port: int, clients: int) -> None:
    """Hold so many connections until the standard input ends."""
    hello = wire.pack([[wire.HELLO, wire.VERSION, "plain"]], tagged=False)
    greeting = (
        f"GET {wire.PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode() + bytes((0x82, 0x80 | len(hello)))
    sources = chain.from_iterable(repeat(f"127.0.0.{number}", CONNECTIONS_PER_SOURCE) for number in count(2))
    loop = asyncio.get_running_loop()
    held: list[IdleClient] = []
    waiting = islice(sources, clients)

    async def connect() -> None:
        for source in waiting:
            _, client = await loop.create_connection(
                lambda: IdleClient(greeting + MASK + hello, loop.create_future()), host, port, local_addr=(source, 0)
            )
            held.append(client)
            await client.welcomed

    await asyncio.gather(*(connect() for _ in range(CONNECTING_AT_ONCE)))
    print("all are welcome", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for client in held:
        assert client.transport is not None
        client.transport.abort()


if __name__ == "__main__":
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as events:
        events.run(idle(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
