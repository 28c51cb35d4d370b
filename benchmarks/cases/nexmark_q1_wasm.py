"""NEXMark query 1, with the price of a bid converted by a function in C: otherwise as `nexmark_q1`."""

from __future__ import annotations

from operator import add, itemgetter
from typing import Any

from actorflow import App, Client, Stream
from benchmarks.cases import flow
from benchmarks.cases.generators import rows_hash
from benchmarks.cases.nexmark_feed import Feed, ask, declare, events, is_bid
from benchmarks.cases.wasm_modules import built

app = App("nexmark-q1")


def query(replicas: int) -> Stream[Feed, dict[str, Any]]:
    """Declare the query."""
    rows = (
        app.stream(f"q1_{replicas}", Feed)
        .flat_map(events)
        .filter(is_bid)
        .then(built("c-nexmark", "convert"), replicas=replicas)
    )
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
