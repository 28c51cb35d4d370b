"""Messages on their way into a WebSocket, in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from actorflow.carrying import carry_on


class Sender:
    """Writes messages: at once where the socket takes them, which it nearly always does, else as fast as it does.

    unsent_bytes: what waits for a slow reader.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
        self._loop = loop
        self._send = send
        self._waiting: deque[bytes] = deque()
        self._task: asyncio.Task[None] | None = None
        self.unsent_bytes = 0

    def write(self, data: bytes) -> None:
        """Send a message behind those that wait. What the connection's end makes impossible is dropped."""
        if self._task is not None:
            self._waiting.append(data)
            self.unsent_bytes += len(data)
            return
        sending = self._send(data)
        try:
            awaited = sending.send(None)
        except StopIteration:
            return
        except (OSError, RuntimeError):  # closed: whoever reads from it finds out, and says so
            return
        self.unsent_bytes += len(data)
        self._task = self._loop.create_task(self._go_on(sending, awaited, len(data)), name="sender")

    async def _go_on(self, sending: Coroutine[Any, Any, None], awaited: Any, count: int) -> None:
        try:
            await carry_on(sending, awaited)
            self.unsent_bytes -= count
            while self._waiting:
                data = self._waiting.popleft()
                await self._send(data)
                self.unsent_bytes -= len(data)
        except (OSError, RuntimeError):
            self._waiting.clear()
            self.unsent_bytes = 0
        finally:
            self._task = None

    async def drained(self) -> None:
        """Wait until nothing waits any more."""
        while (task := self._task) is not None:
            await asyncio.wait({task})

    def stop(self) -> None:
        """Send nothing more."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None  # one that has not begun would never say so
