"""`/metrics`: what a host counts, in the format of Prometheus.

Labels name streams and loops, never requests: their number has no limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actorflow.runtime.host import Host

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HostMetrics(Collector):
    """Looks at a host whenever somebody asks; nothing is counted for it in between.

    actorflow_requests_in_flight{stream}     requests that have not ended
    actorflow_loop_requests{stream,loop}     requests of which something is in a loop
    actorflow_loop_items{stream,loop}        items and holds in it, of all requests
    actorflow_loop_round{stream,loop}        the highest round that one of them is in
    actorflow_loop_value{stream,loop}        the state of the oldest of them, where it is a number
    actorflow_loop_rounds_total{stream,loop} synchronous rounds done
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the metrics as text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        flight = GaugeMetricFamily("actorflow_requests_in_flight", "Requests that have not ended.", labels=["stream"])
        labels = ["stream", "loop"]
        requests = GaugeMetricFamily("actorflow_loop_requests", "Requests with something in a loop.", labels=labels)
        items = GaugeMetricFamily("actorflow_loop_items", "Items and holds in a loop.", labels=labels)
        highest = GaugeMetricFamily("actorflow_loop_round", "Highest round of a request in a loop.", labels=labels)
        value = GaugeMetricFamily("actorflow_loop_value", "Loop state of the oldest request.", labels=labels)
        rounds = CounterMetricFamily("actorflow_loop_rounds", "Synchronous rounds done.", labels=labels)
        for wiring in self._host.wirings.values():
            flight.add_metric([wiring.name], wiring.in_flight)
            reports = [
                report
                for request in (self._host.requests.values() if wiring.loops else ())
                if request.stream is wiring
                for report in request.loops()
            ]
            for loop in wiring.loops:
                name = [wiring.name, loop.loop.name]
                mine = [report for report in reports if report.loop == loop.loop.name]
                requests.add_metric(name, len(mine))
                items.add_metric(name, sum(report.items for report in mine))
                counted = [report.round for report in mine if report.round is not None]
                if counted:
                    highest.add_metric(name, max(counted))
                numbers = [report.value for report in mine if _is_number(report.value)]
                if numbers:
                    value.add_metric(name, numbers[0])
                if loop.gate is not None:
                    rounds.add_metric(name, loop.gate.rounds_done)
        yield from (flight, requests, items, highest, value, rounds)


def _is_number(value: object) -> bool:
    """Return whether a value is a number that the format can show."""
    return type(value) is float or (type(value) is int and -(1 << 63) <= value < 1 << 63)
