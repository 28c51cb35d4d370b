"""NEXMark query 0: every event passes through an operator unchanged, and what comes out is counted.

Shows replicas of an operator that keep the content of a request while they change its order, and a total fold.
"""

from __future__ import annotations

from typing import Any

from actorflow import App, Client, Operator, Stream
from benchmarks.cases.nexmark_feed import Event, Feed, ask, declare, events

KINDS = {"person": "persons", "auction": "auctions", "bid": "bids"}

app = App("nexmark-q0")


class PassThrough(Operator):
    """Hand each event on as it is."""

    def process(self, event: Event) -> Event:
        return event


def nothing() -> dict[str, int]:
    """Return the tally of no events."""
    return {"events": 0, "persons": 0, "auctions": 0, "bids": 0, "sum_of_prices": 0}


def tally(totals: dict[str, int], event: Event) -> dict[str, int]:
    """Add one event."""
    totals["events"] += 1
    totals[KINDS[event["type"]]] += 1
    totals["sum_of_prices"] += event.get("price", 0)
    return totals


def query(replicas: int) -> Stream[Feed, dict[str, int]]:
    """Declare the query."""
    return app.stream(f"q0_{replicas}", Feed).flat_map(events).then(PassThrough, replicas=replicas).fold(nothing, tally)


streams = declare(query)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask the query in every way."""
    return await ask(client, streams, params)
