"""Traces: from the caller through operators and child calls, and on to what operators call themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from actorflow import App, Client, Operator
from actorflow.gateway import serving

pytest.importorskip("opentelemetry.sdk", reason="pip install 'actorflow[traces]' to have traces tested")
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Add(Operator):
    def process(self, number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return number + 1


class Ask(Operator):
    concurrency = 10

    async def process(self, number: int) -> int:
        await asyncio.sleep(0.001 * number)
        with trace.get_tracer("operator").start_as_current_span("a library's own"):
            return int(await self.call("add", number))


class Each(Operator):
    def process(self, number: int) -> Any:
        yield from range(number)


def app() -> App:
    app = App("traced")
    app.stream("add", int, int).then(Add)
    app.stream("ask", int, int).then(Ask)
    app.stream("each", int, int, replies="many").then(Each)
    return app


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before, once = trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE
    trace._TRACER_PROVIDER_SET_ONCE = Once()
    trace.set_tracer_provider(provider)
    yield exporter
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = before, once


def by_name(exporter: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_trace_leads_from_the_caller_through_operators_to_child_calls(spans: InMemorySpanExporter) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    async with (
        serving(app(), port=0) as gateway,
        aiohttp.ClientSession() as http,
        http.post(gateway.url + "/streams/ask", json=1, headers=headers) as answer,
    ):
        assert await answer.json() == 2
        request_id = answer.headers["X-Request-Id"]

    found = by_name(spans)
    chain = ["request ask", "ask/Ask", "a library's own", "request add", "add/Add"]
    assert {span.context.trace_id for span in found.values()} == {int(TRACE, 16)}
    above = [int(CALLER, 16), *(found[name].context.span_id for name in chain)]
    assert [found[name].parent.span_id for name in chain] == above[:-1]
    assert found["request ask"].attributes["actorflow.request_id"] == request_id


@pytest.mark.parametrize("far", [True, False])
async def test_a_request_is_below_the_span_of_its_caller(far: bool, spans: InMemorySpanExporter) -> None:
    async with serving(app(), port=0) as gateway, app().local() as near, Client(gateway.url) as client:
        with trace.get_tracer("caller").start_as_current_span("caller") as caller:
            assert await (client if far else near).request("add", 1) == 2
            assert [each async for each in (client if far else near).stream("each", 3)] == [0, 1, 2]

    found = by_name(spans)
    assert found["request add"].parent.span_id == caller.get_span_context().span_id
    assert found["request each"].parent.span_id == caller.get_span_context().span_id
    assert found["each/Each"].parent.span_id == found["request each"].context.span_id


async def test_an_error_is_in_the_trace(spans: InMemorySpanExporter) -> None:
    async with app().local() as client:
        with pytest.raises(ValueError, match="negative"):
            await client.request("add", -1)

    found = by_name(spans)
    assert not found["add/Add"].status.is_ok
    assert "negative" in str(found["request add"].status.description)


async def test_many_at_once_are_not_mixed_up(spans: InMemorySpanExporter) -> None:
    async with app().local() as client:
        assert await asyncio.gather(*(client.request("ask", number) for number in range(8))) == list(range(1, 9))

    finished = spans.get_finished_spans()
    ids = {span.context.span_id: span for span in finished}
    for span in finished:
        if span.name == "add/Add":
            names = []
            while span.parent is not None:
                span = ids[span.parent.span_id]
                names.append(span.name)
            assert names == ["request add", "a library's own", "ask/Ask", "request ask"]
    assert len({span.context.trace_id for span in finished}) == 8


async def test_without_a_provider_nothing_is_traced() -> None:
    local = app().local()
    async with local as client:
        assert local.host is not None
        assert local.host.tracer is None
        assert await client.request("add", 1) == 2
