"""What the doors cost: HTTP and binary requests, a body of many lines, and clients that are only there.

python -m benchmarks.doors [--quick]

Both servers are processes of their own on uvloop, with the same settings of the garbage collector: `actorflow run
benchmarks.doors:app`, and the aiohttp handlers of `benchmarks.door_baselines`, which parse the same payload with the
same libraries and do nothing else. The load comes from this process: over HTTP from raw protocols that search an answer
for its length only (`benchmarks.door_load`), so that the server is the limit; over the binary door from the `Client` of
actorflow, beside a bare aiohttp WebSocket client, since a client is half of what such a request costs.

Idle clients are connections to `/wire` from a third process that have said HELLO and answer pings. What each takes is
the growth of the host's resident memory.
"""

import asyncio
import gc
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import orjson

from actorflow import App, Client, Operator
from benchmarks import door_baselines, door_load
from benchmarks.harness import Goal, Options, Report, measure, parse_options, publish

ROOT = Path(__file__).resolve().parent.parent
PAGE_KIB = 4
ITEM = {
    "order": 4711, "customer": "ann@example.org", "express": True, "total": 61.5,
    "lines": [{"sku": "tea", "quantity": 2, "cents": 450}, {"sku": "cup", "quantity": 6, "cents": 875}],
}  # fmt: skip
BODY = orjson.dumps(ITEM)
IN_FLIGHT = 256
CONNECTIONS = 64
LATENCIES_UNTIL_STEADY = 500


class Echo(Operator):
    def process(self, item: dict) -> dict:  # type: ignore[type-arg]  # any JSON object
        return item


app = App("doors")
app.stream("echo", dict, dict).then(Echo)
app.stream("count", dict, int, timeout_s=600).fold(0, lambda total, item: total + 1)


# -- servers


@contextmanager
def serving(*command: str) -> Iterator[tuple[str, int]]:
    """Run a server in a process of its own; yield its URL and the process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = ""
        while (found := re.search(r"answers on (http://[\d.]+:\d+)", said)) is None:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(command)} ended before it served: {said}")
            said += line
        yield found[1], process.pid
    finally:
        process.terminate()
        process.communicate(timeout=30)


def host() -> contextmanager:  # type: ignore[type-arg]
    return serving("actorflow", "run", "benchmarks.doors:app", "--port", "0", "--drain-s", "1")


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB


# -- sides


async def http(url: str, requests: int, connections: int) -> tuple[int, float]:
    began = perf_counter()
    await door_load.post_again_and_again(url, BODY, requests=requests, connections=connections)
    return requests, perf_counter() - began


async def lines(url: str, body: bytes, count: int) -> tuple[int, float]:
    began = perf_counter()
    answer = await door_load.post_once(url, body, "application/x-ndjson")
    spent = perf_counter() - began
    assert orjson.loads(answer) == count, answer
    return count, spent


async def binary(url: str, requests: int, in_flight: int) -> tuple[int, float]:
    async with Client(url) as client:
        assert await client.request("echo", ITEM) == ITEM
        began = perf_counter()
        if in_flight == 1:
            for _ in range(requests):
                await client.request("echo", ITEM)
        else:
            tickets = iter(range(requests))

            async def ask() -> None:
                for _ in tickets:
                    await client.request("echo", ITEM)

            await asyncio.gather(*(ask() for _ in range(in_flight)))
        return requests, perf_counter() - began


async def bare_binary(url: str, requests: int, window: int) -> tuple[int, float]:
    spent = 0.0

    async def measured(client: door_baselines.BareClient) -> None:
        nonlocal spent
        await client.requests(window, window)
        began = perf_counter()
        await client.requests(requests, window)
        spent = perf_counter() - began

    await door_baselines.with_client(url, ITEM, measured)
    return requests, spent


async def p99_us(url: str, requests: int) -> float:
    """Return the time that 99 of 100 requests take at the most, one after another on a connection of its own."""
    async with Client(url) as client:
        for _ in range(LATENCIES_UNTIL_STEADY):
            await client.request("echo", ITEM)
        spent = []
        for _ in range(requests):
            began = perf_counter()
            await client.request("echo", ITEM)
            spent.append(perf_counter() - began)
    return sorted(spent)[requests * 99 // 100] * 1e6


class Crowd:
    """A host with idle clients: first the tail of the latency without them, then with them, then what each took."""

    def __init__(self, clients: int, requests: int) -> None:
        self._clients = clients
        self._requests = requests
        self._kib_each = 0.0

    async def alone(self) -> float:
        with host() as (url, _):
            return await p99_us(url, self._requests)

    async def crowded(self) -> float:
        with host() as (url, pid):
            await p99_us(url, 1)
            before_kib = resident_kib(pid)
            with self._idle(url):
                self._kib_each = (resident_kib(pid) - before_kib) / self._clients
                return await p99_us(url, self._requests)

    def kib_each(self) -> float:
        return self._kib_each

    @contextmanager
    def _idle(self, url: str) -> Iterator[None]:
        place = urlsplit(url)
        holder = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.door_load", str(place.hostname), str(place.port), str(self._clients)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdout is not None
        try:
            if holder.stdout.readline() != "all are welcome\n":
                raise RuntimeError(f"{self._clients} idle clients could not connect to {url}")
            yield
        finally:
            holder.communicate(timeout=30)  # which ends its standard input


# -- reports


def http_report(options: Options, url: str, bare_url: str, connections: int) -> Report:
    count = options.size(20_000, 4_000)
    return measure(
        f"POST /streams/echo, {connections} connection{'s' if connections > 1 else ''}",
        sides={
            "bare aiohttp": lambda: http(f"{bare_url}/echo", count, connections),
            "actorflow": lambda: http(f"{url}/streams/echo", count, connections),
        },
        ratios={"actorflow/bare": ("actorflow", "bare aiohttp", 0.75)},
        unit="requests/s",
        repeats=options.repeats,
    )


def binary_report(options: Options, url: str, bare_url: str, in_flight: int, target: float) -> Report:
    count = options.size(20_000, 4_000) if in_flight == 1 else options.size(100_000, 20_000)
    return measure(
        f"binary door, {in_flight} in flight",
        sides={
            "bare WebSocket": lambda: bare_binary(bare_url, count, in_flight),
            "actorflow": lambda: binary(url, count, in_flight),
        },
        ratios={"actorflow/bare": ("actorflow", "bare WebSocket", target)},
        unit="requests/s",
        repeats=options.repeats,
    )


def lines_report(options: Options, url: str, bare_url: str) -> Report:
    count = options.size(1_000_000, 100_000)
    body = b"".join(b'{"number":%d}\n' % number for number in range(count))
    return measure(
        "lines of JSON in, their count out",
        sides={
            "bare, by line": lambda: lines(f"{bare_url}/lines", body, count),
            "bare, by chunk": lambda: lines(f"{bare_url}/chunks", body, count),
            "actorflow": lambda: lines(f"{url}/streams/count", body, count),
        },
        ratios={
            "actorflow/bare, by line": ("actorflow", "bare, by line", 0.4),
            "actorflow/bare, by chunk": ("actorflow", "bare, by chunk", 0.4),
        },
        unit="items/s",
        repeats=options.repeats,
    )


def crowd_report(options: Options) -> Report:
    crowd = Crowd(options.size(10_000, 1_000), options.size(20_000, 4_000))
    return measure(
        f"{options.size(10_000, 1_000):,} idle clients",
        sides={
            "p99 alone, µs": crowd.alone,
            "p99 among them, µs": crowd.crowded,
            "KiB each": crowd.kib_each,
        },
        ratios={
            "p99 among them/alone": Goal("p99 among them, µs", "p99 alone, µs", 2.0, at_most=True),
            "KiB each": Goal("KiB each", None, 30.0, at_most=True),
        },
        unit="",
        repeats=options.repeats,
    )


def main() -> None:
    options = parse_options(__doc__)
    door_load.raise_file_limit()
    gc.set_threshold(50_000, 20, 50)
    with host() as (url, _), serving("benchmarks.door_baselines") as (bare_url, _):
        reports = [
            http_report(options, url, bare_url, 1),
            http_report(options, url, bare_url, CONNECTIONS),
            binary_report(options, url, bare_url, 1, 0.6),
            binary_report(options, url, bare_url, IN_FLIGHT, 0.5),
            lines_report(options, url, bare_url),
        ]
    publish("doors", *reports, crowd_report(options))


if __name__ == "__main__":
    main()
