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
    actorflow_operator_items_total{stream,operator,replica}    items processed
    actorflow_operator_errors_total{stream,operator,replica}   activations that failed
    actorflow_operator_restarts_total{stream,operator,replica} restarts of the replica
    actorflow_operator_waiting{stream,operator,replica}        envelopes and items in its mailbox
    actorflow_operator_working{stream,operator,replica}        activations that are suspended in it
    actorflow_operator_seconds{stream,operator,replica,quantile}  times of its recent activations: 0.5 and 0.99
    actorflow_dead_letters                   dead letters kept
    actorflow_cell_entries{cell}             entries of a cell
    actorflow_keys_locked{space}             keys in use
    actorflow_keys_waited_for{space}         waits for a key
    actorflow_answers_kept                   answers kept in case their callers ask again
    actorflow_delayed_sends                  sends that wait for their time
    actorflow_epochs_total                   epochs that the store has
    actorflow_gate_waiting                   replies that wait for an epoch
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
        yield from self._operators()
        yield from self._state()

    def _operators(self) -> Iterator[Metric]:
        labels = ["stream", "operator", "replica"]
        done = CounterMetricFamily("actorflow_operator_items", "Items processed.", labels=labels)
        errors = CounterMetricFamily("actorflow_operator_errors", "Activations that failed.", labels=labels)
        restarts = CounterMetricFamily("actorflow_operator_restarts", "Restarts of a replica.", labels=labels)
        waiting = GaugeMetricFamily("actorflow_operator_waiting", "What waits in a mailbox.", labels=labels)
        working = GaugeMetricFamily("actorflow_operator_working", "Activations that are suspended.", labels=labels)
        seconds = GaugeMetricFamily(
            "actorflow_operator_seconds", "Times of recent activations.", labels=[*labels, "quantile"]
        )
        for row in self._host.pulses.report():
            name = [row["stream"], row["operator"], str(row["replica"] or 0)]
            done.add_metric(name, row["items"])
            errors.add_metric(name, row["errors"])
            restarts.add_metric(name, row["restarts"])
            waiting.add_metric(name, row["depth"])
            working.add_metric(name, row["working"])
            for quantile, took_ms in (("0.5", row["p50_ms"]), ("0.99", row["p99_ms"])):
                if took_ms is not None:
                    seconds.add_metric([*name, quantile], took_ms / 1e3)
        yield from (done, errors, restarts, waiting, working, seconds)
        yield GaugeMetricFamily("actorflow_dead_letters", "Dead letters kept.", value=len(self._host.dead_letters))

    def _state(self) -> Iterator[Metric]:
        host = self._host
        entries = GaugeMetricFamily("actorflow_cell_entries", "Entries of a cell.", labels=["cell"])
        for cell in host.cells.values():
            entries.add_metric([cell.name], cell.size)
        held = GaugeMetricFamily("actorflow_keys_locked", "Keys in use.", labels=["space"])
        waits = GaugeMetricFamily("actorflow_keys_waited_for", "Waits for a key.", labels=["space"])
        for space, locks in host.spaces.items():
            held.add_metric([space], len(locks.held))
            waits.add_metric([space], sum(1 for _ in locks.wanted()))
        yield from (entries, held, waits)
        yield GaugeMetricFamily("actorflow_answers_kept", "Answers kept for callers.", value=len(host.answers))
        yield GaugeMetricFamily("actorflow_delayed_sends", "Sends that wait for their time.", value=len(host.delays))
        if host.journal is not None:
            gate = host.journal.gate
            yield CounterMetricFamily("actorflow_epochs", "Epochs that the store has.", value=gate.durable)
            yield GaugeMetricFamily("actorflow_gate_waiting", "Replies that wait for an epoch.", value=gate.waiting)


def _is_number(value: object) -> bool:
    """Return whether a value is a number that the format can show."""
    return type(value) is float or (type(value) is int and -(1 << 63) <= value < 1 << 63)
