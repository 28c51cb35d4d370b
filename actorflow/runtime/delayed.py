"""Requests that begin later: sends with a delay, and schedules that begin one again and again."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cronsim import CronSim

from actorflow.core.merges import ABSENT
from actorflow.errors import LimitError
from actorflow.plan.schedules import Schedule
from actorflow.runtime.journal import DELAYED, SCHEDULES

if TYPE_CHECKING:
    from actorflow.runtime.host import Host

LATE_MAX_S = 0.001


@dataclass(slots=True)
class _Delayed:
    stream: str
    item: Any
    due_s: float  # wall clock
    timer: asyncio.TimerHandle | None = None


class Delays:
    """What is due later on this host: by ticket what was sent with a delay, by name the schedules of the app."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._delayed: dict[str, _Delayed] = {}
        self._schedules: dict[str, _Delayed] = {}

    def __len__(self) -> int:
        return len(self._delayed)

    # -- sends

    def check_room(self) -> None:
        """Raises: LimitError when as many sends wait as may."""
        limit = self._host.limits.delayed_sends
        if len(self._delayed) >= limit:
            raise LimitError(f"{limit} sends wait on host {self._host.name}, its limit; raise Limits(delayed_sends=…)")

    def add(self, ticket: str, stream: str, item: Any, due_s: float) -> None:
        """Begin a request when it is due, unless it is cancelled before."""
        self._delayed[ticket] = delayed = _Delayed(stream, item, due_s)
        self._arm(ticket, delayed)
        self._keep(ticket, [due_s, stream, item])

    def restore(self, ticket: str, kept: list[Any]) -> None:
        """Take one back from the store; what is overdue begins at once."""
        due_s, stream, item = kept
        self._delayed[ticket] = delayed = _Delayed(stream, item, due_s)
        self._arm(ticket, delayed)

    def cancel(self, ticket: str) -> bool:
        """Cancel a send; return whether it was still to come."""
        delayed = self._delayed.pop(ticket, None)
        if delayed is None:
            return False
        if delayed.timer is not None:
            delayed.timer.cancel()
        self._keep(ticket, ABSENT)
        return True

    def _arm(self, ticket: str, delayed: _Delayed) -> None:
        host = self._host
        delayed.timer = host.loop.call_later(max(delayed.due_s - host.wall_s(), 0.0), self._due, ticket)

    def _due(self, ticket: str) -> None:
        host = self._host
        delayed = self._delayed.pop(ticket, None)
        if delayed is None or host.draining:
            if delayed is not None:
                self._delayed[ticket] = delayed  # it waits for the next start
            return
        self._keep(ticket, ABSENT)
        host.send(host.stream(delayed.stream), delayed.item)

    def _keep(self, ticket: str, row: Any) -> None:
        if self._host.journal is not None:
            self._host.journal.put(DELAYED, ticket, row)

    # -- schedules

    def start(self, kept: dict[str, float]) -> None:
        """Begin the schedules of the app; `kept` says when each was to be due next, before a restart."""
        for name, schedule in self._host.app.schedules.items():
            self.begin_schedule(name, schedule, kept.get(name))

    def begin_schedule(self, name: str, schedule: Schedule, due_s: float | None = None) -> None:
        """Begin one schedule; `due_s` is when it is due next, where that is known."""
        if due_s is None:
            due_s = self._next(schedule, self._host.wall_s())
        self._schedules[name] = running = _Delayed(schedule.stream, schedule.item, due_s)
        self._arm_schedule(name, running)
        self._keep_schedule(name, due_s)

    def end_schedule(self, name: str) -> None:
        """End one schedule."""
        running = self._schedules.pop(name, None)
        if running is not None:
            if running.timer is not None:
                running.timer.cancel()
            if self._host.journal is not None:
                self._host.journal.put(SCHEDULES, name, ABSENT)

    def waiting_for(self, streams: Container[str]) -> int:
        """Return how many sends to some streams wait for their time."""
        return sum(delayed.stream in streams for delayed in self._delayed.values())

    def _next(self, schedule: Schedule, now_s: float) -> float:
        if schedule.every_s is not None:
            return now_s + schedule.every_s
        assert schedule.cron is not None
        moment = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
        return next(CronSim(schedule.cron, moment)).timestamp()

    def _arm_schedule(self, name: str, running: _Delayed) -> None:
        host = self._host
        running.timer = host.loop.call_later(max(running.due_s - host.wall_s(), 0.0), self._schedule_due, name)

    def _schedule_due(self, name: str) -> None:
        host, running = self._host, self._schedules[name]
        if host.draining:
            return
        now_s = host.wall_s()
        if now_s < running.due_s - LATE_MAX_S:  # the wall clock was set back
            self._arm_schedule(name, running)
            return
        running.due_s = self._next(host.app.schedules[name], now_s)
        self._keep_schedule(name, running.due_s)
        self._arm_schedule(name, running)
        wiring = host.stream(running.stream)
        host.send(wiring, wiring.checked(running.item))

    def _keep_schedule(self, name: str, due_s: float) -> None:
        if self._host.journal is not None:
            self._host.journal.put(SCHEDULES, name, due_s)

    def stop(self) -> None:
        """Let nothing more begin."""
        for each in (*self._delayed.values(), *self._schedules.values()):
            if each.timer is not None:
                each.timer.cancel()
