"""The pulse of operators: how much they do, how long it takes, how often it fails. Looked at by doors, never needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica

MEASURED, MEASURED_NOW = 7, 63
"""One in so many plus one is measured: of turns and async activations, and of what is processed at once."""

SAMPLES = 256
"""Activations whose time is remembered, of each replica: the newest of those that were measured."""

WINDOW_S, LOOK_EVERY_S = 5.0, 0.5
"""Over how long a rate is measured, and how often it pays to note how much was done."""


class Pulse:
    """What is known of one replica, beside how many items it has processed.

    Only some activations are measured: reading a clock costs as much as a short one takes.
    """

    __slots__ = ("errors", "restarts", "times")

    def __init__(self) -> None:
        self.times: deque[float] = deque(maxlen=SAMPLES)
        self.errors = 0
        self.restarts = 0


def pulse_of(replica: Replica) -> Pulse:
    """Return the pulse of a replica, made when first asked for."""
    if replica.pulse is None:
        replica.pulse = Pulse()
    return replica.pulse


class Pulses:
    """Looks at all replicas of a host whenever somebody asks, and remembers what it saw for a few seconds."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._looks: dict[Any, deque[tuple[float, int]]] = {}

    def report(self) -> list[dict[str, Any]]:
        """Return a row for each replica, and one for all actors of an operator: see `row`."""
        now_s = self._host.now_s()
        rows = [
            self._row((wiring.name, node.name, replica.index), node.number, [replica], now_s)
            for wiring in self._host.wirings.values()
            for node in wiring.operators()
            for replica in node.replicas
        ]
        actors: dict[tuple[str, str], list[Replica]] = {}
        for replica in self._host.actors.values():
            actors.setdefault((replica.stream.name, type(replica.op).__name__), []).append(replica)
        rows += [
            self._row((*who, None), None, some, now_s) | {"operator": f"{who[1]} ({len(some)} actors)"}
            for who, some in actors.items()
        ]
        return rows

    def _row(
        self, who: tuple[str, str, int | None], step: int | None, some: list[Replica], now_s: float
    ) -> dict[str, Any]:
        """Return how some replicas are: items since the start, items/s, milliseconds of recent activations.

        who: stream, operator and number of the replica, under which what was seen is remembered.
        """
        stream, operator, index = who
        pulses = [replica.pulse for replica in some if replica.pulse is not None]
        times = sorted(each for pulse in pulses for each in pulse.times)
        done = sum(replica.done for replica in some)
        return {
            "stream": stream,
            "operator": operator,
            "step": step,
            "replica": index,
            "depth": sum(replica.depth() for replica in some),
            "working": sum(replica.at_work() for replica in some),
            "items": done,
            "rate": round(self._rate(who, done, now_s), 1),
            "p50_ms": _quantile(times, 0.5),
            "p99_ms": _quantile(times, 0.99),
            "errors": sum(pulse.errors for pulse in pulses),
            "restarts": sum(pulse.restarts for pulse in pulses),
        }

    def _rate(self, who: Any, done: int, now_s: float) -> float:
        """Return items per second since the last look that is old enough, at the most since the window began."""
        looks = self._looks.setdefault(who, deque([(self._host.began_s, 0)]))
        while len(looks) > 1 and looks[1][0] <= now_s - WINDOW_S:
            looks.popleft()
        since_s, before = looks[0]
        if now_s - looks[-1][0] >= LOOK_EVERY_S:
            looks.append((now_s, done))
        return max(done - before, 0) / max(now_s - since_s, LOOK_EVERY_S)


def items_of(replica: Replica, request: Any) -> Iterator[int]:
    """Yield how many items of a request wait in each envelope of a mailbox."""
    for owner, _, items, _ in replica.waiting():
        if owner is request:
            yield len(items)


def _quantile(times: list[float], share: float) -> float | None:
    return round(times[min(int(len(times) * share), len(times) - 1)] * 1e3, 4) if times else None
