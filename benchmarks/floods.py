"""A lone ask beside a stream that floods the host: its latency, beside that on an idle host."""

import asyncio
from collections.abc import Iterator
from time import perf_counter

from actorflow import App, Client, Limits, Operator
from benchmarks.harness import Goal, compare, parse_options

ASKS_PER_S = 500


class Echo(Operator):
    def process(self, item: int) -> int:
        return item


class AsyncEcho(Operator):
    async def process(self, item: int) -> int:
        return item


def endless(seconds: float) -> Iterator[int]:
    until = perf_counter() + seconds
    number = 0
    while perf_counter() < until:
        for number in range(number, number + 1000):
            yield number


app = App("floods", limits=Limits(timeout_s=600.0))
app.stream("ask", int, int).then(Echo).then(AsyncEcho)
app.stream("flood", float, int).flat_map(endless).then(Echo).then(Echo).key_by(lambda n: n % 1000).count().count()


async def p99_ms(seconds: float, *, flooded: bool) -> float:
    """Return the 99th percentile of the latency of asks that come one at a time, in milliseconds."""
    async with app.local(watch=False) as client:
        flood = asyncio.create_task(client.request("flood", seconds)) if flooded else None
        await asyncio.sleep(0.05)
        latencies = sorted(await _ask_for(client, seconds - 0.1))
        if flood is not None:
            await flood
        return latencies[int(len(latencies) * 0.99)] * 1000


async def _ask_for(client: Client, seconds: float) -> list[float]:
    latencies: list[float] = []
    until = perf_counter() + seconds
    while perf_counter() < until:
        began = perf_counter()
        await client.request("ask", 1)
        latencies.append(perf_counter() - began)
        await asyncio.sleep(1 / ASKS_PER_S)
    return latencies


def main() -> None:
    options = parse_options(__doc__)
    seconds = options.size(20, 10) / 10
    compare(
        "floods",
        sides={
            "idle, p99 ms": lambda: p99_ms(seconds, flooded=False),
            "flooded, p99 ms": lambda: p99_ms(seconds, flooded=True),
        },
        ratios={"flooded, p99 ms": Goal("flooded, p99 ms", None, 2.5, at_most=True)},
        repeats=options.repeats,
        unit="ms",
    )


if __name__ == "__main__":
    main()
