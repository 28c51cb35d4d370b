"""Long iterations tell how far they are: the client, HTTP, metrics and the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from actorflow import App, Client, LoopReport, Operator, RequestReport
from actorflow.gateway import serving
from actorflow.report import reports_from_wire


class Slow(Operator):
    async def process(self, error: float) -> float:
        await asyncio.sleep(0.02)
        return error / 2


app = App("long")
app.stream("converge", float, float).iterate(
    lambda errors: errors.then(Slow), fold=max, vote=lambda error: error, initial=0.0, until=lambda worst: worst < 1e-9
)


class Down(Operator):
    async def process(self, left: int) -> int:
        await asyncio.sleep(0.02)
        if left:
            self.feedback(left - 1)
        return self.round


app.stream("trips", int, int, replies="many").then(Down, feedback=True)


@pytest.fixture(params=["local", "remote"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "local":
        async with app.local() as client:
            yield client
    else:
        async with serving(app, port=0) as gateway, Client(gateway.url) as client:
            yield client


async def test_a_client_is_told_the_round_the_items_and_the_value_of_a_loop(client: Client) -> None:
    reports: list[RequestReport] = []

    assert await client.request("converge", 1.0, on_progress=reports.append) < 1e-9

    loops = [report.loops[0] for report in reports]
    assert len(loops) >= 2
    assert all(loop.loop == "iterate" and loop.items >= 1 for loop in loops)
    rounds = [loop.round or 0 for loop in loops]
    assert rounds == sorted(rounds)
    assert rounds[-1] > rounds[0] > 0
    assert [loop.value for loop in loops] == sorted((loop.value for loop in loops), reverse=True)
    assert reports[-1].elapsed_s > reports[0].elapsed_s > 0


async def test_a_loop_without_rounds_tells_the_trips_where_they_are_counted(client: Client) -> None:
    reports: list[RequestReport] = []

    await client.request("trips", 40, on_progress=reports.append)

    assert 0 < (reports[0].loops[0].round or 0) < (reports[-1].loops[0].round or 0) <= 40


async def test_what_on_progress_raises_ends_the_wait_and_the_request(client: Client) -> None:
    def refuse(report: RequestReport) -> None:
        raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        await client.request("converge", 1.0, on_progress=refuse)
    assert await client.request("converge", 0.0) == 0.0


async def test_http_tells_the_loops_of_a_request_and_metrics_those_of_a_host() -> None:
    async with serving(app, port=0) as gateway, Client(gateway.url) as client, aiohttp.ClientSession() as session:
        number = await client.send("converge", 1.0)
        await asyncio.sleep(0.2)
        async with session.get(f"{gateway.url}/requests/{number}") as answer:
            told: Any = await answer.json()
        async with session.get(f"{gateway.url}/metrics") as answer:
            kind, text = answer.content_type, await answer.text()

    (loop,) = told["loops"]
    assert loop["loop"] == "iterate"
    assert loop["round"] > 0
    assert 0 < loop["value"] < 1
    assert kind == "text/plain"
    where = '{loop="iterate",stream="converge"}'
    metrics = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(metrics['actorflow_requests_in_flight{stream="converge"}']) == 1
    assert float(metrics[f"actorflow_loop_requests{where}"]) == 1
    assert float(metrics[f"actorflow_loop_round{where}"]) > 0
    assert float(metrics[f"actorflow_loop_rounds_total{where}"]) > 0
    assert 0 < float(metrics[f"actorflow_loop_value{where}"]) < 1


def test_a_report_reads_as_one_line() -> None:
    loop = LoopReport("ranks", 1_200, 7, 0.000123456789)

    assert (
        str(RequestReport(1_300, 1.0, (loop,), "host-1.2"))
        == "ranks: round 7, 1,200 items in the loop, value 0.000123457"
    )
    assert str(RequestReport(1_300, 1.0)) == "1,300 items under way"
    assert reports_from_wire([loop.to_wire(), 3, {"loop": "x"}]) == (loop,)


def test_a_state_that_is_no_scalar_is_told_in_short() -> None:
    wire = LoopReport("ranks", 1, 2, list(range(1_000))).to_wire()

    assert wire["value"].startswith("[0, 1, 2")
    assert len(wire["value"]) <= 200
