"""NEXMark query 1: the price of every bid in another currency.

Shows a filter that is fused into the operator after it, and two results of the same items.
"""

from __future__ import annotations

from operator import add, itemgetter
from typing import Any, TypeAlias

from actorflow import App, Client, Operator, Stream
from benchmarks.cases import flow
from benchmarks.cases.generators import rows_hash
from benchmarks.cases.nexmark_feed import Event, Feed, ask, declare, events, is_bid

RATE_PER_MILLE = 908

Row: TypeAlias = tuple[int, int, int, int]

app = App("nexmark-q1")


class Convert(Operator):
    """Make a row (auction, bidder, price in thousandths of a euro cent, time) of a bid in dollar cents."""

    def process(self, bid: Event) -> Row:
        return bid["auction"], bid["bidder"], RATE_PER_MILLE * bid["price"], bid["ts"]


def query(replicas: int) -> Stream[Feed, dict[str, Any]]:
    """Declare the query."""
    rows = app.stream(f"q1_{replicas}", Feed).flat_map(events).filter(is_bid).then(Convert, replicas=replicas)
    return flow.record(
        rows=rows.count(),
        rows_sha256=rows.collect().map(rows_hash),
        first3=rows.top(3, reverse=False).collect(),
        sum=rows.map(itemgetter(2)).fold(0, add),
    )


streams = declare(query)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask the query in every way."""
    return await ask(client, streams, params) | {"unit": "thousandths of a cent (price*908)"}
