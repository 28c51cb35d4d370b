"""Three queries over one reading of a month of flights: cancellations per week, carrier, and week and airport.

Shows several keyed folds that follow the same point of a stream, each with a result of its own.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from actorflow import App, Client
from benchmarks.cases import flow
from benchmarks.cases.flow import Flight
from benchmarks.cases.generators import rows_hash

WEEK_S = 7 * 24 * 3600

Tally: TypeAlias = tuple[int, int]

app = App("cancelled-flights")


def week(flight: Flight) -> int:
    """Return the week of a flight, counted from 1970."""
    return flight.time_s // WEEK_S


def week_and_origin(flight: Flight) -> tuple[int, str]:
    """Return the week and the airport of a flight."""
    return week(flight), flight.origin


def tally(counts: Tally, flight: Flight) -> Tally:
    """Count flights, and those of them that were cancelled."""
    return counts[0] + 1, counts[1] + flight.cancelled


flights = app.stream("cancelled", str).flat_map(flow.flights)
cancelled = flights.filter(lambda flight: flight.cancelled)
cancelled_by_week = cancelled.key_by(week).count()
by_carrier = flights.key_by("carrier").fold((0, 0), tally).map(lambda pair: (pair[0], *pair[1]))
by_week_and_origin = flights.key_by(week_and_origin).fold((0, 0), tally).map(lambda pair: (*pair[0], *pair[1]))

queries = flow.record(
    rows=flights.count(),
    cancelled=cancelled.count(),
    q1_rows=cancelled_by_week.count(),
    q1_sha256=cancelled_by_week.collect().map(rows_hash),
    q2=by_carrier.sort().collect(),
    q3_rows=by_week_and_origin.count(),
    q3_sha256=by_week_and_origin.collect().map(rows_hash),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask all three queries of the flights in `params["file"]` in one request."""
    return await client.request(queries, flow.path_of(params, "file"))
