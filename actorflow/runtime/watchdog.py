"""A thread that notices when a handler holds the event loop, and says which one, with its stack."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from actorflow.runtime.replica import Replica
from actorflow.runtime.return_path import ReturnStep
from actorflow.runtime.steps import Node
from actorflow.runtime.worker import Worker

log = logging.getLogger("actorflow.watchdog")


class Watchdog:
    """Watches one event loop. `blocked` counts the reports."""

    def __init__(self, loop: asyncio.AbstractEventLoop, blocked_after_s: float) -> None:
        self.blocked = 0
        self._loop = loop
        self._after_s = blocked_after_s
        self._beat = time.monotonic()
        self._stopped = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="actorflow-watchdog", daemon=True)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the calling thread's loop."""
        self._pulse()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join(timeout=1.0)

    def _pulse(self) -> None:
        self._beat = time.monotonic()
        self._timer = self._loop.call_later(self._after_s / 4, self._pulse)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stopped.wait(self._after_s / 4):
            beat = self._beat
            late_s = time.monotonic() - beat
            if late_s > self._after_s and beat != reported:
                reported = beat
                self.blocked += 1
                self._report(late_s)

    def _report(self, late_s: float) -> None:
        """Say who holds the loop. In a call of its own, since the frame keeps alive all that it refers to."""
        frame = sys._current_frames().get(self._watched)
        place = _place(frame)
        stack = "".join(traceback.format_stack(frame)[-12:]) if frame is not None else "(no stack)"
        log.warning("the event loop has been held for %.2f s by %s; nothing else runs\n%s", late_s, place, stack)


def _place(frame: FrameType | None) -> str:
    """Return the operator whose handler is on the stack."""
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Worker):
            owner = owner.replica
        if isinstance(owner, ReturnStep):
            owner = owner.replica
        if isinstance(owner, (Replica, Node)):
            with contextlib.suppress(AttributeError):  # it is just being made: look further up
                return f"operator {owner.stream.name}/{owner.name}"
        frame = frame.f_back
    return "code outside any operator"
