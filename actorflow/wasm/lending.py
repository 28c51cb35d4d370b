"""Guests, lent to one batch after another: made when they are needed, kept until they are spent or out of date."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from actorflow.wasm.engine import TICK_S
from actorflow.wasm.guest import Guest
from actorflow.wasm.hosting import NOBODY, Work

if TYPE_CHECKING:
    from actorflow.wasm.function import WasmFunction


class Pace:
    """How long an item of a function takes, as far as is known: what takes longer than a slice runs in a thread."""

    __slots__ = ("item_s",)

    def __init__(self) -> None:
        self.item_s = 0.0

    def took(self, seconds: float, count: int) -> None:
        """Learn from a batch."""
        self.item_s += (seconds / count - self.item_s) * 0.25


class Guests:
    """The guests of one replica, or of one thread that calls a function: kept until they are spent, or out of date."""

    def __init__(self, function: WasmFunction) -> None:
        self._function = function
        self._idle: list[Guest] = []

    def take(self, work: Work, seconds: float) -> Guest:
        """Return a guest with so much time; the first of those that wait, to be there for the next call, too."""
        guest = self.lend(work, seconds)
        self._idle.append(guest)
        return guest

    def lend(self, work: Work, seconds: float) -> Guest:
        """Return a guest that nobody else has until it is given back."""
        while self._idle:
            guest = self._idle.pop()
            if not guest.spent and guest.program is self._function.program:
                break
        else:
            guest = self._function.program.guest(self._function.sandbox)
        guest.work = work
        guest.ticks = int(seconds / TICK_S) + 1
        return guest

    def give_back(self, guest: Guest) -> None:
        """Keep a guest for the next."""
        guest.work = NOBODY
        if not guest.spent:
            self._idle.append(guest)

    def clear(self) -> None:
        """Let all go."""
        self._idle.clear()


class Lease:
    """The guest of one batch: another one after each that is spent. `stop` ends it from another thread."""

    def __init__(self, guests: Guests, work: Work, seconds: float) -> None:
        self._guests = guests
        self._work = work
        self._until_s = time.monotonic() + seconds
        self._stopped = self._ended = False
        self._lock = threading.Lock()
        self._guest = guests.lend(work, seconds)

    def guest(self) -> Guest:
        """Return the guest."""
        if self._guest.spent:
            left = self._until_s - time.monotonic()
            guest = self._guests.lend(self._work, max(left, 0.0))
            with self._lock:
                self._guest = guest
                guest.stopped = self._stopped
        return self._guest

    def stop(self) -> None:
        """End what runs, at the next tick; nothing where it has ended."""
        with self._lock:
            self._stopped = True
            if not self._ended:
                self._guest.stopped = True

    def end(self) -> None:
        """Give the guest back, unless it was stopped: its next batch would be, too."""
        with self._lock:
            self._ended = True
            self._guest.spent = self._guest.spent or self._stopped
        self._guests.give_back(self._guest)
