"""One request as its client sees it: what has come, and the items that still go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any

from actorflow import wire
from actorflow.connection import Items, OnProgress
from actorflow.errors import ActorflowError, activation_error, from_wire
from actorflow.report import RequestReport, reports_from_wire


class Feeder:
    """Sends the items of one request, and after a lost connection those again that had not come.

    An item counts as taken when the host makes room for another in its place.
    """

    def __init__(self, put: Callable[[list[Any]], None], put_packed: Callable[[bytes], None], items: Items) -> None:
        self._put = put
        self._put_packed = put_packed
        self._items = items
        self._exchange: Exchange | None = None
        self._unsure: deque[Any] = deque()  # sent, and perhaps not taken
        self.taken = 0
        self._ended = False
        self._failed: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def go_on(self, exchange: Exchange) -> None:
        """Send over this exchange from now on."""
        self._exchange = exchange
        exchange.on_accepted = self._accepted
        exchange.on_room = self._taken_more
        if self._failed is not None:
            exchange.fail(self._failed)

    def _accepted(self, taken: int) -> None:
        """Send again what the host has not got, and begin, or go on, with what is left."""
        exchange = self._exchange
        assert exchange is not None
        while self.taken < taken and self._unsure:
            self._unsure.popleft()
            self.taken += 1
        exchange.spent = len(self._unsure)
        for item in self._unsure:
            self._put([wire.ITEMS, exchange.number, [item]])
        if self._ended:
            self._put([wire.END, exchange.number])
        if self._task is None:
            self._task = asyncio.create_task(self._feed(), name="items of a request")
        self._changed.set()

    def _taken_more(self, count: int) -> None:
        for _ in range(min(count, len(self._unsure))):
            self._unsure.popleft()
            self.taken += 1
        self._changed.set()

    async def _feed(self) -> None:
        try:
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    await self._send(item)
            else:
                for item in self._items:
                    await self._send(item)
        except Exception as error:  # the replies that were still to come depend on it: the reader is told at once
            said = f"the items of the request raised {type(error).__name__}: {error}"
            exchange = self._exchange
            assert exchange is not None
            self._failed = error if isinstance(error, ActorflowError) else activation_error(error, said)
            self._put([wire.CANCEL, exchange.number])
            exchange.fail(self._failed)
            return
        self._ended = True
        assert self._exchange is not None
        self._put([wire.END, self._exchange.number])

    async def _send(self, item: Any) -> None:
        while (exchange := self._exchange) is None or exchange.spent >= exchange.room:
            self._changed.clear()
            await self._changed.wait()
        packed = wire.pack_frame([wire.ITEMS, exchange.number, [item]], tagged=True)  # what cannot travel ends it here
        exchange.spent += 1
        self._unsure.append(item)
        self._put_packed(packed)

    async def stop(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class Exchange:
    """One request as the client sees it.

    room: items that might be sent so far.   spent: those that were.   replied: it ended with one reply, and this is it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended = False
        self.on_progress: OnProgress | None = None
        self._value: Any = None
        self._values: list[Any] = []
        self._error: Exception | None = None
        self.room = self.spent = 0
        self.replied = self.left_alone = False
        self.reply: Any = None
        self.on_accepted: Callable[[int], None] | None = None
        self.on_room: Callable[[int], None] | None = None
        self._changed: asyncio.Future[None] | None = None

    def receive(self, frame: list[Any]) -> None:
        """Take a frame from the host."""
        kind = frame[0]
        if kind == wire.PROGRESS:
            if self.on_progress is not None:
                try:
                    self.on_progress(RequestReport(frame[2], frame[3], reports_from_wire(frame[4]), frame[5]))
                except Exception as error:  # the caller's own: it ends the caller's wait, not the connection
                    self.fail(error)
            return
        if kind in {wire.REPLY, wire.DONE}:
            self.ended = True
            self.replied = kind == wire.REPLY
            self._value = self.reply = frame[2] if self.replied else None
        elif kind == wire.ACCEPTED:
            self._value = frame[2]
            if self.on_accepted is not None:
                self.on_accepted(frame[3])
        elif kind == wire.VALUES:
            self._values.extend(frame[2])
        elif kind == wire.ROOM:
            self.room += frame[2]
            if self.on_room is not None and self.room > wire.ITEMS_AHEAD:
                self.on_room(frame[2])
            elif self.on_room is not None:
                self.on_room(0)
        elif kind == wire.ERROR:
            self.fail(from_wire(frame[2]))
            return
        self._wake()

    def fail(self, error: Exception) -> None:
        """End badly, unless it has ended."""
        if self.ended:
            return
        self.ended = True
        self._error = error
        self._wake()

    async def result(self) -> Any:
        """Await the reply, or the acceptance, of an exchange that has one. Raises: what it ended with."""
        while not self.ended and self._value is None:
            await self._change()
        if self._error is not None:
            raise self._error
        self.ended = True
        return self._value

    async def values(self) -> list[Any]:
        """Await streamed replies; an empty list at the end. Raises: what the request ended with."""
        while not self._values and not self.ended:
            await self._change()
        if not self._values and self._error is not None:
            raise self._error
        values, self._values = self._values, []
        return values

    async def _change(self) -> None:
        self._changed = asyncio.get_running_loop().create_future()  # one waits: whoever has begun the exchange
        await self._changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
