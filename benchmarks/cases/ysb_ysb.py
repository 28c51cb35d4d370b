"""The Yahoo streaming benchmark: views of advertisements, joined with their campaigns and counted in windows of 10 s.

Shows a source that makes its items, a join with a table that is a source of the same request, and a keyed count by
event time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from actorflow import App, Client
from benchmarks.cases import flow
from benchmarks.cases.generators import SplitMix64, rows_hash

CAMPAIGNS = 100
ADS_PER_CAMPAIGN = 10
WINDOW_MS = 10_000
KINDS = ("view", "click", "purchase")

app = App("ysb")


class Workload(msgspec.Struct, frozen=True):
    """How many events to make, and of which seed; there is one per millisecond."""

    seed: int
    count: int


class Event(msgspec.Struct, frozen=True):
    """What somebody did with an advertisement."""

    ad: int
    kind: str
    time_ms: int


class Ad(msgspec.Struct, frozen=True):
    """One row of the table of advertisements."""

    ad: int
    campaign: int


def events(workload: Workload) -> Iterator[Event]:
    """Yield the events in order of time."""
    random = SplitMix64(workload.seed)
    for time_ms in range(workload.count):
        ad = random.below(CAMPAIGNS * ADS_PER_CAMPAIGN)
        yield Event(ad, KINDS[random.below(3)], time_ms)


def table(workload: Workload) -> list[Ad]:
    """Return the table that says to which campaign an advertisement belongs."""
    return [Ad(ad, ad // ADS_PER_CAMPAIGN) for ad in range(CAMPAIGNS * ADS_PER_CAMPAIGN)]


def campaign_and_window(pair: tuple[Event, Ad]) -> tuple[int, int]:
    """Return the campaign of a view, and when the window it falls in begins."""
    view, ad = pair
    return ad.campaign, view.time_ms // WINDOW_MS * WINDOW_MS


workload = app.stream("ysb", Workload)
views = workload.flat_map(events).filter(lambda event: event.kind == "view")
counts = views.join(workload.flat_map(table), "ad").key_by(campaign_and_window).count()
rows = counts.map(lambda pair: (*pair[0], pair[1]))

answer = flow.record(
    rows=rows.count(),
    rows_sha256=rows.collect().map(rows_hash),
    first3=rows.top(3, reverse=False).collect(),
    views=views.count(),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Count the views of `count` events."""
    return await client.request(answer, Workload(params["seed"], params["count"]))
