"""Streamed replies that are kept until their caller has them, so that it may come back for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import TYPE_CHECKING, Any

from actorflow.errors import InvalidItemError, ReplayExpiredError, RequestCancelledError, TooManyRequestsError
from actorflow.runtime.answers import check_key
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.runtime.host import Host

COMES_BACK_S = 10.0
"""How long a client may be away whose request ends with it."""

SAMPLE = 8
"""Elements of a container that are looked at to guess its size."""


class Replay:
    """The replies of one request, numbered from 0; `first` is the number of the oldest that is kept.

    `taken`: items of its input that have come.   A reader at a time: who reads from now on ends the reading of others.
    """

    def __init__(self, host: Host, request: Request, key: str, *, own: bool, digest: int | None) -> None:
        self._host = host
        self.digest = digest  # of what it was begun with, where that is one item
        self._own = own
        self.request = request
        self._queue = request.stream_replies()
        self.key = key
        self.id = request.id
        self.first = 0
        self.taken = 0
        self.reader: object = None
        self.session: Any = None  # the connection that sends them just now
        self._values: deque[tuple[Any, int]] = deque()
        self._bytes = 0
        self._had = 0  # number of the first reply that its caller may not have yet
        self._pulling: asyncio.Task[None] | None = None
        self._displaced: asyncio.Future[None] = host.loop.create_future()
        self._left: asyncio.TimerHandle | None = None
        self.timer: asyncio.TimerHandle | None = None  # until it is forgotten

    @property
    def end(self) -> int:
        """Return the number of the next reply."""
        return self.first + len(self._values)

    def check(self, number: int) -> None:
        """Refuse to begin with a reply that is not kept any more. Raises: ReplayExpiredError; InvalidItemError."""
        if number < self.first:
            raise ReplayExpiredError(
                f"replies {number} to {self.first - 1} of request {self.id} are not kept any more (from {self.first} "
                f"on they are); come back sooner, or raise Limits(replay_bytes=…)",
                stream=self.request.stream.name,
                request_id=self.id,
            )
        if number > self.end:
            raise InvalidItemError(f"request {self.id} has {self.end} replies so far: {number} are not to be had yet")

    async def read(self, number: int, reader: object) -> list[Any]:
        """Return the replies from a number on that are there, at least one; an empty list at the end.

        Raises: what the request failed with, after all its replies; ReplayExpiredError; RequestCancelledError when
        somebody else reads now; HostStoppingError.
        """
        self.check(number)
        while number >= self.end:
            self._check_reader(reader)
            if self._pulling is None:
                self._pulling = self._host.loop.create_task(self._pull(), name=f"replies of {self.id}")
            pulling, displaced = self._pulling, self._displaced
            await asyncio.wait({pulling, displaced}, return_when=asyncio.FIRST_COMPLETED)
            self._check_reader(reader)
            if pulling.cancelled():
                raise self._host.stops()
            if (error := pulling.exception()) is not None:
                raise error
            if number >= self.end:
                return []
        self._check_reader(reader)
        return [value for value, _ in islice(self._values, number - self.first, None)]

    def take_over(self, reader: object, session: Any = None) -> None:
        """Let somebody read from now on; whoever did is told."""
        if self.session is not None:
            self.session.forget(self.request)
        self.reader, self.session = reader, session
        if not self._displaced.done():
            self._displaced.set_result(None)
        self._displaced = self._host.loop.create_future()

    def _check_reader(self, reader: object) -> None:
        if self.reader is not reader:
            raise self.displaced()

    def displaced(self) -> RequestCancelledError:
        """Return the error of whoever reads no more, because somebody else does."""
        return RequestCancelledError(
            f"somebody else reads the replies of request {self.id} now; it goes on", stream=self.request.stream.name
        )

    def reading(self, number: int) -> Callable[[], Coroutine[Any, Any, list[Any]]]:
        """Return what reads on from a number, as `ReplyQueue.read` does. Raises: ReplayExpiredError."""
        self.check(number)
        reader = object()
        self.take_over(reader)

        async def read() -> list[Any]:
            nonlocal number
            self.acknowledge(number)  # whoever asks for more has what came before
            values = await self.read(number, reader)
            number += len(values)
            return values

        return read

    async def _pull(self) -> None:
        """Take what the request has answered meanwhile, or its end."""
        if values := await self._queue.read():
            self._keep(values)
            self._pulling = None

    def _keep(self, values: list[Any]) -> None:
        for value in values:
            size = rough_bytes(value)
            self._values.append((value, size))
            self._bytes += size
        self._trim()

    def acknowledge(self, number: int) -> None:
        """Note that its caller has all replies before a number."""
        self._had = max(self._had, number)
        self._trim()

    def _trim(self) -> None:
        """Keep no more of what its caller has than there is room for."""
        most = self._host.limits.replay_bytes
        while self._values and self._bytes > most and self.first < self._had:
            _, size = self._values.popleft()
            self._bytes -= size
            self.first += 1

    def left(self, session: Any) -> None:
        """Note that a connection has ended."""
        if self.session is session:
            self.session = None
            if self._own and not self.request.state:
                self._left = self._host.loop.call_later(COMES_BACK_S, self._look_left)

    def _look_left(self) -> None:
        if self.session is None and not self.request.state:
            self.request.cancel("its client left")

    def forget(self) -> None:
        """Let nobody begin to read any more; whoever reads reads to the end."""
        for timer in (self._left, self.timer):
            if timer is not None:
                timer.cancel()

    def stop(self) -> None:
        """Wait for nothing any more."""
        self.forget()
        if self._pulling is not None:
            self._pulling.cancel()


class Replays:
    """The streamed requests of a host whose callers gave a key: those under way, and for a while those that ended."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, Replay] = {}  # by key and by request id

    def find(self, name: str) -> Replay | None:
        """Return what is kept under a key, or under the id of a request."""
        return self._known.get(name)

    def check_new(self, key: str) -> None:
        """Refuse a key that is none, or that belongs to a request that was begun before. Raises: InvalidItemError."""
        check_key(key)
        if key in self._known or self._host.answers.under(key) is not None:
            raise InvalidItemError(
                f"key {key[:64]!r} belongs to a request that was begun before: attach to it, or take a new key"
            )

    def begin(self, key: str, request: Request, *, own: bool = False, digest: int | None = None) -> Replay:
        """Keep the replies of a request. own: nobody but its caller knows the key, so that it ends with its caller.

        Raises: TooManyRequestsError, with which the request fails too.
        """
        if len(self._known) >= 2 * self._host.limits.replays_kept:
            error = TooManyRequestsError(
                f"host {self._host.name} keeps the replies of {len(self._known) // 2} requests, its limit; try again "
                "later, or raise Limits(replays_kept=…)",
                host=self._host.name,
            )
            request.fail(error)
            raise error
        replay = self._known[key] = self._known[request.id] = Replay(self._host, request, key, own=own, digest=digest)
        request.more().own("watchers")[self._ended] = None
        return replay

    def _ended(self, request: Request) -> None:
        replay = self._known.get(request.id)
        if replay is not None:
            replay.timer = self._host.loop.call_later(self._host.limits.replay_s, self.forget, request.id)

    def forget(self, name: str) -> None:
        """Keep no more of a request that has ended: its time is over, or its caller has all of it."""
        replay = self._known.get(name)
        if replay is None or not replay.request.state:
            return
        replay.forget()
        replay.request.let_go_of_replies()
        for each in (replay.key, replay.id):
            if self._known.get(each) is replay:
                del self._known[each]

    def stop(self) -> None:
        """End all waits: the host ends."""
        for replay in self._known.values():
            replay.stop()
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known) // 2


def rough_bytes(value: Any) -> int:
    """Return about how many bytes a value takes; of a long container a few elements stand for all."""
    if isinstance(value, (str, bytes)):
        return 50 + len(value)
    if isinstance(value, dict):
        some = [rough_bytes(key) + rough_bytes(each) for key, each in islice(value.items(), SAMPLE)]
    elif isinstance(value, (list, tuple, set, frozenset)):
        some = [rough_bytes(each) for each in islice(value, SAMPLE)]
    else:
        return 50
    return 50 + (sum(some) * len(value) // len(some) if some else 0)
