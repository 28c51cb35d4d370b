"""Schedules: requests that begin by the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cronsim import CronSim, CronSimError


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Begins a request of a stream again and again: every so many seconds, or as a cron expression says (UTC).

    After a restart with a store, one that was missed begins once, at once. Raises: ValueError.
    """

    name: str
    stream: str
    item: Any
    every_s: float | None = None
    cron: str | None = None

    def __post_init__(self) -> None:
        if (self.every_s is None) == (self.cron is None):
            raise ValueError(f"schedule {self.name!r}: declare either every_s= or cron=")
        if self.every_s is not None and not self.every_s > 0:
            raise ValueError(f"schedule {self.name!r}: every_s={self.every_s}, but it is a positive number of seconds")
        if self.cron is not None:
            import datetime

            try:
                CronSim(self.cron, datetime.datetime.now(datetime.UTC))
            except CronSimError as error:
                raise ValueError(f"schedule {self.name!r}: cron={self.cron!r} is no cron expression: {error}") from None
