"""A client's connection to a host elsewhere: frames over one WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import typing
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import aiohttp
import msgspec

from actorflow import wire
from actorflow.connection import Items, Named, OnProgress
from actorflow.errors import (
    ActorflowError,
    CodecError,
    ConnectionLostError,
    ProtocolError,
    ReplayExpiredError,
)
from actorflow.exchange import Exchange, Feeder
from actorflow.limits import Limits
from actorflow.runtime.tracing import with_parent
from actorflow.sending import Sender

CONNECT_TIMEOUT_S = 10.0
UNIX = "unix://"
REPLY_BYTES_MAX = 1 << 28
"""Of one message from a host, whatever its own limit."""

RETRY_FIRST_S, RETRY_MAX_S, RETRY_LONGER_S = 0.02, 1.0, 1.0
"""Pauses before a request is sent again, and how much longer than its deadline that is tried."""

FORGET_AT_ONCE = 64
"""Answers that have come, before the host is told."""


class RemoteConnection:
    """One WebSocket to a host, opened when first used and again after it was lost.

    A request that is in flight when the connection ends is sent again with its key, as long as the host remembers it;
    else it fails with ConnectionLostError: its outcome is unknown. plain: declared types arrive as plain values.
    """

    def __init__(self, url: str, *, token: str | None = None, plain: bool = False) -> None:
        self._codec = "plain" if plain else "tagged"
        self._unix = url.removeprefix(UNIX) if url.startswith(UNIX) else None
        self._url = url.rstrip("/")
        self._base = self._url if self._unix is None else "http://localhost"
        if not self._base.startswith(("http://", "https://")) or self._unix == "":
            raise ValueError(f"Client({url!r}): a URL such as http://localhost:7700 or unix:///run/shop.sock is needed")
        self._token = token
        self._limits = Limits()
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._connecting = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._sender: Sender | None = None
        self._welcome = False
        self._prefix = uuid.uuid4().hex
        self._outbox: wire.Outbox | None = None
        self._open: dict[int, Exchange] = {}
        self._count = 0
        self._memory: str | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._forget: list[str] = []

    # -- the verbs

    async def request(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        on_progress: OnProgress | None = None,
        key: str | None = None,
    ) -> Any:
        """Send one item and await the reply; `on_progress` is called while it takes time.

        Asks again with its key when the connection is lost, as long as the host remembers, until the deadline.
        """
        mode = wire.ONE if on_progress is None else wire.WATCHED
        own = key is None
        if key is None:
            self._count += 1
            key = f"{self._prefix}{self._count:x}"

        async def once(key: str) -> Any:
            await self._connect()
            exchange = self._begin(stream, item, timeout_s, attributes, mode, key)
            exchange.on_progress = on_progress
            exchange.left_alone = not own  # who has given a key may ask again
            try:
                return await exchange.result()
            finally:
                self._finish(exchange)

        reply = await self._until_answered(once, key, timeout_s, forget=own)
        if not isinstance(stream, str) and stream.replies == "many":
            return [_typed(stream, value) for value in reply]
        return _typed(stream, reply)

    async def _until_answered(
        self, once: Callable[[str], Awaitable[Any]], key: str, timeout_s: float | None, *, forget: bool
    ) -> Any:
        """Do something with a key until it is answered, over as many connections as it takes."""
        came = False
        try:
            lost: ConnectionLostError | None = None
            if self._is_connected():  # nearly always: nothing else needs to be thought of
                memory = self._memory
                try:
                    answer = await once(key)
                    came = True
                    return answer
                except ConnectionLostError as error:
                    error.memory = memory
                    lost = error
            answer = await self._again_and_again(once, key, timeout_s, lost)
            came = True
            return answer
        except ActorflowError as error:
            came = not isinstance(error, ConnectionLostError)  # an error is an answer, too
            raise
        finally:
            if came and forget:
                self._has_come(key)

    async def _again_and_again(
        self,
        once: Callable[[str], Awaitable[Any]],
        key: str,
        timeout_s: float | None,
        lost: ConnectionLostError | None,
    ) -> Any:
        """Ask again as long as somebody may know the answer. lost: how the connection ended over which it was asked."""
        loop = asyncio.get_running_loop()
        gives_up_s = loop.time() + (timeout_s or self._limits.timeout_s) + RETRY_LONGER_S
        pause_s = RETRY_FIRST_S
        while True:
            connected, memory = False, None
            try:
                await self._connect()
                connected, memory = True, self._memory
                if lost is not None and lost.memory != memory:
                    raise lost
                return await once(key)
            except ConnectionLostError as error:
                if error is lost or loop.time() + pause_s > gives_up_s:
                    raise
                if lost is None and not connected:
                    if not wire.is_durable(self._memory):
                        raise  # it was never sent; a host that was there before, and remembers, is waited for
                elif lost is not None and not connected and not wire.is_durable(lost.memory):
                    raise lost from None  # nobody answers there, and whoever did has forgotten
                elif lost is None:
                    error.memory = memory
                    lost = error
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    def _has_come(self, key: str) -> None:
        """Tell the host, with the next frames, that an answer has come and need not be kept."""
        self._forget.append(key)
        if len(self._forget) >= FORGET_AT_ONCE:
            self._flush_forgotten()

    def _flush_forgotten(self) -> None:
        if self._forget:
            keys, self._forget = self._forget, []
            self._put([wire.FORGET, keys])

    async def stream(
        self,
        stream: Named,
        items: Items,
        timeout_s: float | None,
        total_s: float | None,
        attributes: Mapping[str, Any] | None,
        key: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Send items as there is room for them and yield replies as they come, over as many connections as it takes."""
        mode = wire.STREAM if key is not None else wire.OWN_STREAM
        key = key or uuid.uuid4().hex
        loop = asyncio.get_running_loop()
        total = asyncio.timeout(total_s)
        feeder: Feeder | None = None
        came, lost_s, again = 0, 0.0, False
        memory: str | None = None
        try:
            async with total:
                while True:
                    try:
                        if feeder is None or again:
                            again = False
                            begin = partial(self._begin, stream, None, timeout_s, attributes, mode, key)
                        else:
                            begin = partial(self._attach, key, came, memory)
                        async with self._exchange(begin) as exchange:
                            memory = self._memory
                            feeder = feeder or Feeder(self._put, self._put_packed, items)
                            feeder.go_on(exchange)
                            while values := await exchange.values():
                                self._put([wire.CREDIT, exchange.number, len(values)])
                                lost_s = 0.0
                                for value in values:
                                    came += 1
                                    yield _typed(stream, value)
                        return
                    except ReplayExpiredError:
                        # a host that has lived on, and knows nothing of it, has never got it
                        if feeder is None or came or feeder.taken or wire.is_durable(memory):
                            raise
                        again = True
                    except ConnectionLostError:
                        lost_s = lost_s or loop.time()
                        if feeder is None or loop.time() - lost_s > (timeout_s or self._limits.timeout_s):
                            raise
                        await asyncio.sleep(RETRY_FIRST_S * 5)
        finally:
            if feeder is not None:
                await feeder.stop()
            if mode == wire.OWN_STREAM:
                self._put([wire.FORGET, [key]])

    async def attach(self, name: str, after: int) -> AsyncGenerator[Any, None]:
        """Yield the replies of a request that was begun under a key, from a number on."""
        async with self._exchange(partial(self._attach, name, after)) as exchange:
            exchange.left_alone = True  # it is another's
            while values := await exchange.values():
                self._put([wire.CREDIT, exchange.number, len(values)])
                for value in values:
                    yield value
            if exchange.replied:
                yield exchange.reply

    async def send(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        key: str | None = None,
    ) -> str:
        """Send one item and return the request's id once it is accepted; asks again as `request` does."""

        async def once(key: str) -> str:
            begin = partial(self._begin, stream, item, timeout_s, attributes, wire.SEND, key)
            async with self._exchange(begin) as exchange:
                return str(await exchange.result())

        return str(await self._until_answered(once, key or uuid.uuid4().hex, timeout_s, forget=False))

    async def close(self) -> None:
        """Close the connection."""
        self._flush_forgotten()
        if self._outbox is not None:
            self._outbox.flush()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()
        if self._session is not None:
            await self._session.close()
        self._socket = self._session = None
        self._lost("the client was closed")

    # -- exchanges

    def _begin(
        self,
        stream: Named,
        item: Any,
        timeout_s: float | None,
        attributes: Mapping[str, Any] | None,
        mode: str,
        key: str | None,
    ) -> Exchange:
        """Send a request. Raises: CodecError when the item cannot travel; nothing was sent then."""
        outbox = self._outbox
        assert outbox is not None
        name = stream if isinstance(stream, str) else stream.name
        attributes = with_parent(attributes)
        given = dict(attributes) if attributes else None
        number = self._count = self._count + 1
        packed = wire.pack_frame([wire.REQUEST, number, name, item, timeout_s, given, mode, key], tagged=True)
        if self._is_connected():
            outbox.gathering = not self._open  # nobody else is about to add something
            outbox.put_packed(packed)
            if outbox.gathering:
                outbox.gathering = False
                outbox.flush()
        exchange = self._open[number] = Exchange(number)
        return exchange

    def _finish(self, exchange: Exchange) -> None:
        """Forget an exchange; one that has not ended is cancelled."""
        self._open.pop(exchange.number, None)
        if not (exchange.ended or exchange.left_alone):
            self._put([wire.CANCEL, exchange.number])

    def _attach(self, name: str, after: int, memory: str | None = None) -> Exchange:
        """Go on with a request that was begun before. Raises: ConnectionLostError when the host has forgotten it."""
        if memory is not None and self._memory != memory:
            raise ConnectionLostError(f"the host at {self._url} was started again meanwhile; the outcome is unknown")
        exchange = self._new()
        self._put([wire.ATTACH, exchange.number, name, after])
        return exchange

    @contextlib.asynccontextmanager
    async def _exchange(self, begin: Callable[[], Exchange]) -> AsyncGenerator[Exchange, None]:
        """Begin an exchange over a connection that stands, and finish it."""
        await self._connect()
        exchange = begin()
        try:
            yield exchange
        finally:
            self._finish(exchange)

    async def ask(self, verb: str, argument: Any) -> Any:
        await self._connect()
        exchange = self._new()
        self._put([wire.ASK, exchange.number, verb, argument])
        try:
            return await exchange.result()
        finally:
            self._open.pop(exchange.number, None)

    def _new(self) -> Exchange:
        self._count += 1
        exchange = self._open[self._count] = Exchange(self._count)
        return exchange

    def open_count(self) -> int:
        """Return how many exchanges are open."""
        return len(self._open)

    # -- the connection

    def _put(self, frame: list[Any]) -> None:
        if self._outbox is not None and self._socket is not None and not self._socket.closed:
            self._outbox.put(frame)

    def _put_packed(self, data: bytes) -> None:
        if self._outbox is not None and self._socket is not None and not self._socket.closed:
            self._outbox.put_packed(data)

    def _is_connected(self) -> bool:
        """Return whether a host has greeted us, and nothing has ended the connection since."""
        return self._socket is not None and self._welcome and not self._socket.closed

    async def _connect(self) -> None:
        if self._is_connected():
            return
        async with self._connecting:
            if self._is_connected():
                return
            if self._socket is not None and not self._socket.closed:  # somebody has begun, and given up waiting
                await self._wait_for_welcome(self._socket)
                return
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
            if self._session is None:
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(self._unix) if self._unix is not None else None,
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S),
                )
            try:
                socket = await self._session.ws_connect(
                    self._base + wire.PATH, headers=headers, max_msg_size=REPLY_BYTES_MAX, heartbeat=20.0
                )
            except aiohttp.WSServerHandshakeError as error:
                why = (
                    "a valid token is needed (token=, or ACTORFLOW_TOKEN for the command)"
                    if error.status == 401
                    else f"it answered {error.status}"
                )
                raise ConnectionLostError(f"{self._url} refused the connection: {why}") from error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise ConnectionLostError(
                    f"no host answers at {self._url} ({error}); start one with: actorflow run MODULE:APP",
                    retryable=True,
                ) from error
            self._socket, self._welcome = socket, False
            self._greeted = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            self._sender = Sender(loop, socket.send_bytes)
            self._outbox = wire.Outbox(self._sender.write, loop.call_soon, message_bytes=self._limits.frame_bytes)
            self._outbox.put([wire.HELLO, wire.VERSION, self._codec])
            self._reader = loop.create_task(self._read(socket), name="client reader")
            await self._wait_for_welcome(socket)

    async def _wait_for_welcome(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        assert self._greeted is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._greeted), CONNECT_TIMEOUT_S)
        except TimeoutError:
            await socket.close()
            raise ConnectionLostError(
                f"what answers at {self._url} says nothing a host would say; is it one?", retryable=True
            ) from None

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        why = "the host closed the connection"
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    continue
                frames = wire.unpack(message.data, nesting_depth=self._limits.nesting_depth, from_client=False)
                for frame in frames:
                    if frame[0] == wire.UNREADABLE:
                        if (unread := self._open.get(frame[1])) is not None:
                            self._put([wire.CANCEL, unread.number])
                            unread.fail(frame[2])
                    elif frame[0] == wire.ERROR and frame[1] is None:
                        why = str(frame[2].get("message"))
                    elif frame[0] == wire.WELCOME:
                        self._memory = frame[2]
                        self._welcome = True
                        if self._outbox is not None:
                            self._outbox.message_bytes = frame[3]  # what the host reads at the most
                        if self._greeted is not None and not self._greeted.done():
                            self._greeted.set_result(None)
                    elif (exchange := self._open.get(frame[1])) is not None:
                        exchange.receive(frame)
        except (CodecError, ProtocolError) as error:
            self._lost(f"it sent something unreadable: {error}", CodecError)  # and would do so again
        finally:
            if self._socket is socket:
                self._lost(why)
            if self._greeted is not None and not self._greeted.done():
                self._greeted.set_exception(
                    ConnectionLostError(f"{self._url} refused the connection: {why}", retryable=True)
                )
                self._greeted.exception()  # whoever waited for it may have given up
            if not socket.closed:
                await socket.close()

    def _lost(self, why: str, kind: type[ActorflowError] = ConnectionLostError) -> None:
        for exchange in list(self._open.values()):
            exchange.fail(kind(f"the connection to {self._url} was lost: {why}; the outcome is unknown"))
        if self._sender is not None:
            self._sender.stop()


class Pool:
    """Several connections to one host: each request goes over the one with the fewest open."""

    def __init__(self, url: str, *, token: str | None = None, size: int) -> None:
        if size < 1:
            raise ValueError(f"Client(connections={size}): at least one is needed")
        self._connections = [RemoteConnection(url, token=token) for _ in range(size)]

    def _freest(self) -> RemoteConnection:
        self._connections.append(self._connections.pop(0))  # of those that are equally free, each in turn
        return min(self._connections, key=RemoteConnection.open_count)

    def request(self, *asked: Any) -> Coroutine[Any, Any, Any]:
        """Send one item over the freest connection and await the reply."""
        return self._freest().request(*asked)

    def stream(self, *asked: Any) -> AsyncGenerator[Any, None]:
        """Send items and yield replies over the freest connection."""
        return self._freest().stream(*asked)

    def attach(self, name: str, after: int) -> AsyncGenerator[Any, None]:
        """Yield the replies of a request that was begun under a key, from a number on."""
        return self._freest().attach(name, after)

    async def send(self, *asked: Any) -> str:
        """Send one item over the freest connection."""
        return await self._freest().send(*asked)

    async def ask(self, verb: str, argument: Any) -> Any:
        """Ask the host about itself."""
        return await self._freest().ask(verb, argument)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(connection.close() for connection in self._connections))


def _typed(stream: Named, value: Any) -> Any:
    """Return a reply as the type that the stream declares, where the caller named the stream by a point of it."""
    kind = Any if isinstance(stream, str) else stream.reply_type
    instances = isinstance(kind, type) and not typing.is_typeddict(kind)
    if kind is Any or kind is None or (instances and isinstance(value, kind)):
        return value
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise CodecError(f"the reply is not of the declared type: {error}") from error
