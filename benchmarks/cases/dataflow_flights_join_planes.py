"""Join flights with the register of planes, and keep apart the flights whose plane is not registered.

Shows two sources in one request, a left join and a split of its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import add
from typing import Any

import msgspec

from actorflow import App, Client
from benchmarks.cases import flow
from benchmarks.cases.flow import Flight

app = App("planes-of-flights")


class Files(msgspec.Struct, frozen=True):
    """The inputs of a request, as paths."""

    flights: str
    planes: str


class Plane(msgspec.Struct, frozen=True):
    """One registered plane."""

    tailnum: str
    manufacturer: str
    seats: int


def read_flights(files: Files) -> Iterator[Flight]:
    """Yield the flights."""
    yield from flow.flights(files.flights)


def read_planes(files: Files) -> Iterator[Plane]:
    """Yield the planes."""
    for row in flow.rows(files.planes):
        yield Plane(row["tailnum"], row["manufacturer"], int(row["seats"]))


files = app.stream("planes", Files)
planes = files.flat_map(read_planes).key_by("tailnum").distinct()
joined = files.flat_map(read_flights).join(planes, "tailnum", how="left")
matched, unmatched = joined.split(lambda pair: pair[1] is not None)
by_manufacturer = matched.key_by(lambda pair: pair[1].manufacturer).count()

answer = flow.record(
    planes=planes.count(),
    matched=matched.count(),
    unmatched=unmatched.count(),
    sum_of_seats=matched.map(lambda pair: pair[1].seats).fold(0, add),
    by_manufacturer=by_manufacturer.top(8, by=lambda pair: (-pair[1], pair[0]), reverse=False).collect(),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Join the flights of `params["file"]` with the planes of `params["planes"]`."""
    return await client.request(answer, Files(flow.path_of(params, "file"), flow.path_of(params, "planes")))
