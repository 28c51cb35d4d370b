"""NEXMark query 2: the bids on every 123rd auction.

Shows an operator that answers some of its items with nothing, and completion all the same.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from actorflow import App, Client, Operator, Stream
from benchmarks.cases import flow
from benchmarks.cases.generators import rows_hash
from benchmarks.cases.nexmark_feed import Event, Feed, ask, declare, events, is_bid

EVERY = 123

Row: TypeAlias = tuple[int, int, int]

app = App("nexmark-q2")


class Select(Operator):
    """Make a row (auction, price, time) of a bid on a chosen auction, and nothing of the others."""

    def process(self, bid: Event) -> Row | None:
        return None if bid["auction"] % EVERY else (bid["auction"], bid["price"], bid["ts"])


def query(replicas: int) -> Stream[Feed, dict[str, Any]]:
    """Declare the query."""
    rows = app.stream(f"q2_{replicas}", Feed).flat_map(events).filter(is_bid).then(Select, replicas=replicas)
    return flow.record(
        rows=rows.count(),
        rows_sha256=rows.collect().map(rows_hash),
        first3=rows.top(3, reverse=False).collect(),
    )


streams = declare(query)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask the query in every way."""
    return await ask(client, streams, params)
