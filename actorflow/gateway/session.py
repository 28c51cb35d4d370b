"""One client's connection, at the host: frames in, requests begun, frames out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from actorflow import wire
from actorflow.asking import told
from actorflow.connection import PROGRESS_EVERY_S
from actorflow.core.epoch import Leaving
from actorflow.errors import (
    ActorflowError,
    CodecError,
    InvalidItemError,
    ProtocolError,
    TooManyRequestsError,
)
from actorflow.runtime.answers import Answer
from actorflow.runtime.host import Host
from actorflow.runtime.replays import Replay, rough_bytes
from actorflow.runtime.request import Details, Request
from actorflow.sending import Sender

log = logging.getLogger("actorflow.session")

OPEN_MAX = 20_000
"""Exchanges that one connection may have open at once."""

UNSENT_FRAMES_MAX = 4
"""Replies of so many times `frame_bytes` may wait for a slow reader before its connection is closed."""

CLOSE_TIMEOUT_S = 5.0

VALUES_BYTES = 64 << 10
"""Of streamed replies that one frame carries, roughly."""

HELLO_TIMEOUT_S = 10.0


class _Credit:
    """How many values the client has room for: never more than it may announce at once."""

    __slots__ = ("_changed", "_count", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = wire.ITEMS_AHEAD
        self._changed: asyncio.Future[None] | None = None

    def add(self, count: int) -> None:
        """Note room that the client has made."""
        self._count = min(self._count + max(count, 0), wire.ITEMS_AHEAD)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def take(self, wanted: int) -> int:
        """Wait until there is room, and take as much of it as is wanted."""
        while not self._count:
            self._changed = self._loop.create_future()
            await self._changed
        taken = min(wanted, self._count)
        self._count -= taken
        return taken


class Session:
    """The state of one connection: its open exchanges. Everything that is still open ends with it."""

    def __init__(self, host: Host, socket: web.WebSocketResponse) -> None:
        self._host = host
        self._socket = socket
        self._open: dict[int, Request] = {}
        self._watchers: dict[int, Callable[[Request], None]] = {}
        self._credits: dict[int, _Credit] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox = wire.Outbox(self._write, host.loop.call_soon, message_bytes=host.limits.frame_bytes)
        self._sender = Sender(host.loop, socket.send_bytes)
        self._greeted = self._closed = False
        self._late = host.loop.call_later(HELLO_TIMEOUT_S, self._too_late)

    def _too_late(self) -> None:
        if not (self._greeted or self._closed):
            self._run(self.refuse(f"it did not say HELLO within {HELLO_TIMEOUT_S:g} s"), "end of a silent client")

    # -- bytes

    def _write(self, data: bytes) -> None:
        if self._closed:
            return
        unsent = self._sender.unsent_bytes + len(data)
        if unsent > UNSENT_FRAMES_MAX * self._host.limits.frame_bytes:
            log.warning("closed a connection: %d bytes of replies wait for a reader that does not read", unsent)
            self._run(self.close(), "end of a slow reader")
            return
        self._sender.write(data)

    async def receive(self, data: bytes) -> bool:
        """Act on a message; return False when the connection is to be closed."""
        try:
            frames = wire.unpack(data, nesting_depth=self._host.limits.nesting_depth, from_client=True)
            self._outbox.gathering = True  # what is answered at once need not wait for the end of the turn
            for frame in frames:
                self._act(frame)
        except (CodecError, ProtocolError) as error:
            await self.refuse(str(error))
            return False
        finally:
            self._outbox.gathering = False
            self._outbox.flush()
        return True

    async def refuse(self, why: str) -> None:
        """Say why, and close."""
        log.warning("closed a connection: %s", why)
        error = ProtocolError(why)
        with contextlib.suppress(ConnectionError):
            await self._socket.send_bytes(wire.pack([[wire.ERROR, None, error.to_wire()]], tagged=False))
            await self._socket.close(code=1002, message=why.encode()[:120])

    async def close(self) -> None:
        """End everything that is open, and the tasks."""
        if self._closed:
            return
        self._outbox.flush()
        self._late.cancel()
        self._outbox.close()
        self._closed = True
        for number, request in list(self._open.items()):
            if (watcher := self._watchers.pop(number, None)) is not None:
                request.more().watchers.pop(watcher, None)  # it has a key: its client may ask again
            elif (replay := self._host.replays.find(request.id)) is not None:
                replay.left(self)  # so has this one, and may come back for its replies
            else:
                request.on_end = None
                request.cancel("its client left")
        self._open.clear()
        if not self._socket.closed:
            with contextlib.suppress(TimeoutError):  # replies that are there are sent, to whoever reads them
                await asyncio.wait_for(self._sender.drained(), CLOSE_TIMEOUT_S)
        self._sender.stop()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(self._socket.close(code=1001), CLOSE_TIMEOUT_S)

    # -- frames

    def _act(self, frame: list[Any]) -> None:
        kind = frame[0]
        if not self._greeted:
            self._greet(frame)
        elif kind == wire.REQUEST:
            try:
                self._begin(*frame[1:])
            except ActorflowError as error:
                self._outbox.put([wire.ERROR, frame[1], error.to_wire()])
        elif kind == wire.ITEMS:
            self._feed(frame[1], frame[2])
        elif kind == wire.END:
            if (request := self._open.get(frame[1])) is not None:
                self._host.fed(request)
        elif kind == wire.CREDIT:
            if (credit := self._credits.get(frame[1])) is not None:
                credit.add(frame[2])
        elif kind == wire.CANCEL:
            if (request := self._open.get(frame[1])) is not None:
                request.cancel()
        elif kind == wire.ASK:
            self._ask(*frame[1:])
        elif kind == wire.UNREADABLE:
            self._unreadable(frame[1], frame[2])
        elif kind == wire.FORGET:
            keys = [key for key in frame[1] if type(key) is str]
            self._host.answers.forget(keys)
            for key in keys:
                self._host.replays.forget(key)
        elif kind == wire.ATTACH:
            try:
                self._attach(*frame[1:])
            except ActorflowError as error:
                self._outbox.put([wire.ERROR, frame[1], error.to_wire()])
        else:
            raise ProtocolError("HELLO is the first frame, and only that")

    def _unreadable(self, number: int, error: CodecError) -> None:
        """Say to what exchange a frame belonged that could not be read; a request that it was part of ends with it."""
        if (request := self._open.get(number)) is not None and number in self._credits:
            request.fail(error)
        else:
            self._outbox.put([wire.ERROR, number, error.to_wire()])

    def _greet(self, frame: list[Any]) -> None:
        if frame[0] != wire.HELLO:
            raise ProtocolError("the first frame must be HELLO")
        version, codec_name = frame[1], frame[2]
        if version != wire.VERSION:
            raise ProtocolError(f"this host speaks version {wire.VERSION} of the protocol, the client {version}")
        if codec_name not in {"plain", "tagged"}:
            raise ProtocolError(f"the codec is 'plain' or 'tagged', not {codec_name!r}")
        self._outbox.tagged = codec_name == "tagged"
        self._greeted = True
        self._outbox.put([wire.WELCOME, wire.VERSION, self._host.memory, self._host.limits.frame_bytes])

    def _begin(
        self,
        number: int,
        stream: str,
        item: Any,
        timeout_s: float | None,
        attributes: dict[str, Any] | None,
        mode: str,
        key: str | None,
    ) -> None:
        self._check_new(number)
        if mode not in wire.MODES:
            raise ProtocolError(f"mode is one of {', '.join(wire.MODES)}, not {mode!r}")
        if timeout_s is not None and not 0 < timeout_s < float("inf"):
            raise InvalidItemError(f"timeout_s={timeout_s!r} is not a positive number of seconds")
        host = self._host
        wiring = host.stream(stream)
        if mode in {wire.STREAM, wire.OWN_STREAM}:
            if key is not None:
                host.replays.check_new(key)
            request = host.feed(wiring, timeout_s, attributes)
            self._begin_stream(number, request, key, own=mode == wire.OWN_STREAM)
            return
        item = wiring.checked(item)
        if key is not None:
            begun = host.begin_once(wiring, item, key, timeout_s, attributes, sent=mode == wire.SEND)
            self._begun_once(number, begun, key, mode)
            return
        if mode == wire.SEND:
            sent = host.begin_sent(wiring, item, timeout_s, attributes)
            self._when_durable([wire.ACCEPTED, number, sent.id, 1])
            return
        request = host.open(wiring, timeout_s, attributes)
        self._open[number] = request
        request.on_end = lambda ended: self._ended(number, ended)
        host.enter(request, [item])
        if mode == wire.WATCHED and not request.state:
            self._run(self._report(number, request), "progress")

    def _check_new(self, number: int) -> None:
        """Refuse the number of an exchange that is open, or one exchange too many."""
        if number in self._open:
            raise ProtocolError(f"exchange {number} is open already")
        if len(self._open) >= OPEN_MAX:
            raise TooManyRequestsError(f"this connection has {OPEN_MAX} requests open, its limit; await some first")

    def _begun_once(self, number: int, begun: Request | Answer, key: str, mode: str) -> None:
        """Answer a request with a key: as it was answered before, or when it ends."""
        if mode == wire.SEND:
            request_id = begun.id if isinstance(begun, Request) else begun.request_id or key
            self._when_durable([wire.ACCEPTED, number, request_id, 1])
            return
        if isinstance(begun, Answer):
            if begun.error is not None:
                self._when_durable([wire.ERROR, number, begun.error.to_wire()])
            else:
                self._when_durable([wire.REPLY, number, begun.value])
            return
        self._open[number] = begun
        if begun.state and not begun.held:
            self._ended(number, begun)
            return

        def ended(request: Request) -> None:
            self._ended(number, request)

        begun.more().own("watchers")[ended] = None
        self._watchers[number] = ended
        if mode == wire.WATCHED and not begun.state:
            self._run(self._report(number, begun), "progress")

    def _when_durable(self, frame: list[Any]) -> None:
        """Send a frame when all that was done before is durable."""
        journal = self._host.journal
        if journal is None:
            self._outbox.put(frame)
        else:
            journal.hold(
                Leaving(lambda: self._put(frame), lambda error: self._put([wire.ERROR, frame[1], error.to_wire()]))
            )

    def _put(self, frame: list[Any]) -> None:
        """Send a frame that has waited, if anybody is still there; of a host that stops, the next one answers."""
        if not (self._closed or (self._host.frozen and frame[0] == wire.ERROR)):
            self._outbox.put(frame)

    def _ended(self, number: int, request: Request) -> None:
        """Say how a request with one reply ended; one that goes on when its host starts again has not."""
        self._open.pop(number, None)
        self._watchers.pop(number, None)
        if self._host.frozen and request.error is not None:
            return
        if request.error is not None:
            self._outbox.put([wire.ERROR, number, request.error.to_wire()])
        else:
            self._outbox.put([wire.REPLY, number, request.answer_value()])

    async def _report(self, number: int, request: Request) -> None:
        began = self._host.now_s()
        while not request.state:
            await asyncio.sleep(PROGRESS_EVERY_S)
            if not request.state:
                report = request.report(began)
                loops = [loop.to_wire() for loop in report.loops]
                self._outbox.put([wire.PROGRESS, number, report.outstanding, report.elapsed_s, loops, request.id])

    def _ask(self, number: int, verb: str, argument: Any) -> None:
        try:
            value = told(self._host, verb, argument)
        except ActorflowError as error:
            self._outbox.put([wire.ERROR, number, error.to_wire()])
        else:
            self._when_durable([wire.REPLY, number, value])

    # -- streams of items and replies

    def _begin_stream(self, number: int, request: Request, key: str | None, *, own: bool) -> None:
        request.more().idle_since_s = self._host.now_s()
        if key is not None:
            self._open_kept(number, self._host.replays.begin(key, request, own=own), 0)
            return
        request.stream_replies()
        self._open_stream(number, request, self._forward(number, request))

    def _open_stream(self, number: int, request: Request, forward: Coroutine[Any, Any, None], taken: int = 0) -> None:
        self._open[number] = request
        self._credits[number] = _Credit(self._host.loop)
        self._outbox.put([wire.ACCEPTED, number, request.id, taken])
        self._outbox.put([wire.ROOM, number, wire.ITEMS_AHEAD])
        self._run(forward, f"replies of {request.id}")

    def _open_kept(self, number: int, replay: Replay, after: int) -> None:
        """Send the replies that are kept from a number on; whoever read them until now is told so."""
        reader = object()
        replay.take_over(reader, self)
        self._open_stream(number, replay.request, self._forward_kept(number, replay, after, reader), replay.taken)

    def _attach(self, number: int, name: str, after: int) -> None:
        """Go on with a request that was begun under a key, here or over another connection."""
        self._check_new(number)
        replay = self._host.replays.find(name)
        if replay is not None:
            replay.check(after)
            self._open_kept(number, replay, after)
            return
        self._run(self._answer_again(number, name), f"answer of {name[:64]}")

    async def _answer_again(self, number: int, name: str) -> None:
        try:
            value = await self._host.answer_of(name)
        except ActorflowError as error:
            self._put([wire.ERROR, number, error.to_wire()])
        else:
            self._put([wire.REPLY, number, value])

    def forget(self, request: Request) -> None:
        """Close what is open of a request, which goes on over another connection."""
        for number in [number for number, each in self._open.items() if each is request]:
            del self._open[number]
            self._credits.pop(number, None)
            if (replay := self._host.replays.find(request.id)) is not None:
                self._put([wire.ERROR, number, replay.displaced().to_wire()])

    def _feed(self, number: int, items: list[Any]) -> None:
        request = self._open.get(number)
        if request is None or number not in self._credits or request.details is None or not _is_open(request.details):
            return  # it has ended, or its input has: what was under way is dropped
        if len(items) > wire.ITEMS_AHEAD:
            raise ProtocolError(f"{len(items)} items at once, but there was room for {wire.ITEMS_AHEAD}")
        try:
            checked = [request.stream.checked(item) for item in items]
        except ActorflowError as error:
            request.fail(error)
            return
        if (replay := self._host.replays.find(request.id)) is not None:
            replay.taken += len(items)
        request.more().idle_since_s = self._host.now_s()
        self._host.feed_items(request, checked)
        if request.crowded():
            self._run(self._make_room(number, request, len(items)), f"room for {request.id}")
        else:
            self._outbox.put([wire.ROOM, number, len(items)])

    async def _make_room(self, number: int, request: Request, count: int) -> None:
        await request.room()
        self._outbox.put([wire.ROOM, number, count])

    async def _forward(self, number: int, request: Request) -> None:
        """Send streamed replies as there is credit for them, and then the end."""
        credit = self._credits[number]
        assert request.replies is not None
        try:
            while values := await request.replies.read():
                request.more().idle_since_s = self._host.now_s()
                while values:
                    some = await credit.take(len(values))
                    self._put_values(number, values[:some])
                    values = values[some:]
            self._outbox.put([wire.DONE, number])
        except ActorflowError as error:
            self._outbox.put([wire.ERROR, number, error.to_wire()])
        finally:
            self._open.pop(number, None)
            self._credits.pop(number, None)
            request.cancel("its client left")
            request.let_go_of_replies()

    def _put_values(self, number: int, values: list[Any]) -> None:
        """Send values in frames that are not too large. Raises: CodecError for one that cannot travel.

        Many frames may leave as one message, and one that is too large for a message of its own is that value's fault.
        """
        some: list[Any] = []
        size = 0
        for value in values:
            some.append(value)
            size += rough_bytes(value)
            if size > VALUES_BYTES:
                self._put_some(number, some)
                some, size = [], 0
        if some:
            self._put_some(number, some)

    def _put_some(self, number: int, values: list[Any]) -> None:
        try:
            self._outbox.put_packed(wire.pack_frame([wire.VALUES, number, values], tagged=self._outbox.tagged))
        except CodecError:
            if len(values) == 1:
                raise
            for value in values:
                self._put_some(number, [value])

    async def _forward_kept(self, number: int, replay: Replay, after: int, reader: object) -> None:
        """Send replies that are kept, from a number on; what is kept goes on without this connection."""
        credit, request = self._credits[number], replay.request
        try:
            while values := await replay.read(after, reader):
                request.more().idle_since_s = self._host.now_s()
                # what there is room for has been read: the client announces it when its caller has taken as many
                some = await credit.take(len(values))
                if replay.reader is not reader:
                    return
                replay.acknowledge(after + some - wire.ITEMS_AHEAD)
                self._put_values(number, values[:some])
                after += some
            if replay.reader is reader:
                self._outbox.put([wire.DONE, number])
        except ActorflowError as error:
            if replay.reader is reader:
                self._outbox.put([wire.ERROR, number, error.to_wire()])
        finally:
            if self._open.get(number) is request and replay.reader is reader:
                self._open.pop(number, None)
                self._credits.pop(number, None)

    def _run(self, coroutine: Any, name: str) -> None:
        task = self._host.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_open(details: Details) -> bool:
    """Return whether items of a request may still come."""
    return details.input is not None and details.input.taken
