"""Compare the delays of flights that left in the rain with those that left in the dry.

Shows a join on a key of two fields, and an outcome for items without a partner.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from actorflow import App, Client
from benchmarks.cases import flow
from benchmarks.cases.flow import Flight

HOUR_S = 3600

Delay: TypeAlias = tuple[int, int]

app = App("weather-of-flights")


class Files(msgspec.Struct, frozen=True):
    """The inputs of a request, as paths."""

    flights: str
    weather: str


class Weather(msgspec.Struct, frozen=True):
    """The precipitation at an airport in the hour that begins at `hour_s`."""

    origin: str
    hour_s: int
    precipitation: float


Observed: TypeAlias = tuple[Flight, Weather | None]


def read_flights(files: Files) -> Iterator[Flight]:
    """Yield the flights."""
    yield from flow.flights(files.flights)


def read_weather(files: Files) -> Iterator[Weather]:
    """Yield the observations."""
    for row in flow.rows(files.weather):
        yield Weather(row["origin"], int(row["hour_ts"]), float(row["precip"]))


def departure_hour(flight: Flight) -> tuple[str, int]:
    """Return where and in which hour a flight left."""
    return flight.origin, flight.time_s // HOUR_S * HOUR_S


def observed_hour(weather: Weather) -> tuple[str, int]:
    """Return where and in which hour it was observed."""
    return weather.origin, weather.hour_s


def condition(pair: Observed) -> str:
    """Return which of the three answers a flight counts for."""
    _, weather = pair
    return "unknown" if weather is None else "wet" if weather.precipitation > 0 else "dry"


def add_delay(total: Delay, pair: Observed) -> Delay:
    """Add up the minutes of delay, and count the flights that left at all."""
    delay_min = pair[0].delay_min
    return total if delay_min is None else (total[0] + delay_min, total[1] + 1)


files = app.stream("weather", Files)
weather = files.flat_map(read_weather).key_by(observed_hour).distinct()
flights = files.flat_map(read_flights).join(weather, departure_hour, observed_hour, how="left")
by_condition = flights.route(condition, "wet", "dry", "unknown")

answer = flow.record(
    weather_rows=weather.count(),
    no_weather=by_condition["unknown"].count(),
    wet_sum_count=by_condition["wet"].fold((0, 0), add_delay),
    dry_sum_count=by_condition["dry"].fold((0, 0), add_delay),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Join the flights of `params["file"]` with the weather of `params["weather"]`."""
    return await client.request(answer, Files(flow.path_of(params, "file"), flow.path_of(params, "weather")))
