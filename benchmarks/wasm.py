"""Functions in WASM beside the same in Python: a tokeniser, a numeric loop, `x + 1`, threads, replicas, first requests.

python -m benchmarks.wasm [--quick]

Both sides of each comparison are streams of one app on one host, which differ in the function only. "per item" is what
a batch of 1,000 numbers takes, less what it takes without any function.
"""

import asyncio
import contextlib
import gc
import hashlib
import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from actorflow import App, Client, WasmTimeoutError
from actorflow.deploy.deployer import Deployer
from actorflow.deploy.registry import MemoryFiles, Registry
from actorflow.local import LocalConnection
from actorflow.runtime.host import Host
from actorflow.wasm import wasm
from actorflow.wasm.guest import Guest
from benchmarks import data
from benchmarks.cases.wasm_modules import BUILT, built
from benchmarks.harness import Goal, Options, Report, measure, parse_options, publish
from benchmarks.memory import resident_bytes

BATCH = 1_000
BLOCK_BYTES = 16_384


# -- the functions, in Python


def words(text: str) -> list[str]:
    """Cut a text into words as `examples/wasm/c/tokens.c` does: byte by byte."""
    found, word = [], bytearray()
    for byte in text.encode():
        if 97 <= byte <= 122 or 48 <= byte <= 57 or byte >= 128:
            word.append(byte)
        elif 65 <= byte <= 90:
            word.append(byte | 32)
        elif word:
            found.append(word.decode())
            word = bytearray()
    if word:
        found.append(word.decode())
    return found


def token_ids(text: str) -> list[int]:
    """Make a number of each word: the FNV-1a hash of its bytes, 32 bits."""
    found, token, inside = [], 2166136261, False
    for byte in text.encode():
        if 97 <= byte <= 122 or 48 <= byte <= 57 or byte >= 128:
            token, inside = ((token ^ byte) * 16777619) & 0xFFFFFFFF, True
        elif 65 <= byte <= 90:
            token, inside = ((token ^ (byte | 32)) * 16777619) & 0xFFFFFFFF, True
        elif inside:
            found.append(token)
            token, inside = 2166136261, False
    if inside:
        found.append(token)
    return found


def step64(x: int) -> int:
    """Make 64 steps of a linear congruential generator."""
    for _ in range(64):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


@wasm
def increment_compiled(x: int) -> int:
    return x + 1


def busy(x: int) -> int:
    """Keep a processor busy for about a millisecond."""
    for _ in range(500_000):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def blocks(path: str) -> Iterator[str]:
    """Yield a text in pieces of about 16 KiB, cut between two lines."""
    with Path(path).open(encoding="utf-8") as file:
        while some := file.readlines(BLOCK_BYTES):
            yield "".join(some)


def each(items: list[Any]) -> list[Any]:
    return items


def declared() -> App:
    """Return the app: pairs of streams that differ in one function."""
    app = App("wasm")
    app.stream("tokens-python", str, int, timeout_s=600).flat_map(blocks).flat_map(words).count()
    app.stream("tokens-wasm", str, int, timeout_s=600).flat_map(blocks).flat_map(built("c-tokens", "tokenise")).count()
    app.stream("ids-python", str, int, timeout_s=600).flat_map(blocks).flat_map(token_ids).count()
    app.stream("ids-wasm", str, int, timeout_s=600).flat_map(blocks).flat_map(built("c-tokens", "ids")).count()
    app.stream("step64-python", list, int).flat_map(each).map(step64).count()
    app.stream("step64-wasm", list, int).flat_map(each).map(wasm(step64)).count()
    app.stream("nothing", list, int).flat_map(each).count()
    app.stream("increment-python", list, int).flat_map(each).map(lambda x: x + 1).count()
    app.stream("increment-wasm", list, int).flat_map(each).map(increment_compiled).count()
    for threads in (1, 2):
        function = wasm(threads=threads, batch_s=60.0)(busy)
        app.stream(f"busy-{threads}", list, int, timeout_s=600).flat_map(each).then(function).count()
    return app


@asynccontextmanager
async def running() -> Any:
    async with declared().local(watch=False) as client:
        yield client


# -- the sides


async def tokens(path: Path, side: str, kind: str = "ids") -> tuple[float, float]:
    """Return the size of the text in MB and the seconds taken."""
    size = os.stat(path).st_size
    async with running() as client:
        began = perf_counter()
        await client.request(f"{kind}-{side}", str(path))
        return size / 1e6, perf_counter() - began


async def per_item(stream: str, batches: int) -> float:
    """Return nanoseconds per item of a batch of 1,000 numbers, less those without any function."""
    items = list(range(BATCH))
    async with running() as client:
        return (
            await _batch_s(client, stream, items, batches) - await _batch_s(client, "nothing", items, batches)
        ) * 1e6


async def _batch_s(client: Client, stream: str, items: list[int], batches: int) -> float:
    """Return the median time of a batch."""
    taken = []
    for _ in range(batches):
        began = perf_counter()
        await client.request(stream, items)
        taken.append(perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


async def busy_items(threads: int, count: int) -> tuple[int, float]:
    """Return how many items went through, and the seconds taken."""
    async with running() as client:
        await client.request(f"busy-{threads}", list(range(16)))
        began = perf_counter()
        await client.request(f"busy-{threads}", list(range(count)))
        return count, perf_counter() - began


def new_replica_us(count: int) -> float:
    """Return the median time of a new instance of a module that is compiled already, until it has answered once."""
    function = built("c-tokens", "tokenise")
    guests, taken = [], []
    for _ in range(count):
        began = perf_counter()
        guest = Guest(function.program, function.sandbox)
        function.caller.one(guest, ["a b"])
        taken.append(perf_counter() - began)
        guests.append(guest)
    return sorted(taken)[count // 2] * 1e6


def new_replica_kb(count: int) -> float:
    """Return the resident memory of a new instance that has answered once."""
    function = built("c-tokens", "tokenise")
    gc.collect()
    before, guests = resident_bytes(), []
    for _ in range(count):
        guest = Guest(function.program, function.sandbox)
        function.caller.one(guest, ["a b"])
        guests.append(guest)
    gc.collect()
    return (resident_bytes() - before) / count / 1e3


# (module (func (export "spin") (param i64) (result i64) (loop (br 0)) (unreachable)))
SPIN = bytes.fromhex("0061736d0100000001060160017e017e03020100070801047370696e00000a0a01080003400c000b000b")
SPEC = """
app: tokens
streams:
  tokens:
    request: str
    reply: int
    steps:
      - flat_map: wasm:tokens.wasm#tokenise
      - count:
"""


async def p99_ms(*, runaway: bool) -> float:
    """Return the p99 of requests to another stream, one each millisecond, beside functions that run away."""
    app = App("beside")
    app.stream("spin").then(wasm(SPIN, "spin", batch_s=0.5))
    app.stream("same").map(lambda item: item)
    ended = False
    async with app.local(watch=False) as client:

        async def run_away() -> None:
            while runaway and not ended:
                with contextlib.suppress(WasmTimeoutError):
                    await client.request("spin", 1)

        running_away = asyncio.create_task(run_away())
        taken = []
        for _ in range(1_000):
            began = perf_counter()
            await client.request("same", 1)
            await asyncio.sleep(0.001)
            taken.append(perf_counter() - began - 0.001)
        ended = True
        await running_away
    return sorted(taken)[990] * 1e3


async def first_request_ms(*, asleep: bool) -> float:
    """Return what a request takes to a deployed function that has been asleep, or one that is awake."""
    deployer = Deployer(Registry(MemoryFiles()))
    host = Host(deployer.plan, watch=False, idle_s=0.05)
    deployer.serve(host)
    await host.start()
    try:
        code = (BUILT / "c-tokens.wasm").read_bytes()
        digest = hashlib.sha256(code).hexdigest()
        deployer.registry.keep_module(digest, code)
        await deployer.deploy("tokens", spec=SPEC, form="yaml", modules={"tokens.wasm": digest})
        client = LocalConnection(host)
        await client.request("tokens", "a b", None, None)
        while asleep and "tokens" not in host.changes.dormant:  # noqa: ASYNC110 - it is the clock that does it
            await asyncio.sleep(0.01)
        began = perf_counter()
        await client.request("tokens", "a b", None, None)
        return (perf_counter() - began) * 1e3
    finally:
        await host.stop()


# -- the tables


def functions(options: Options) -> list[Report]:
    path = data.zipf_text(text_bytes=options.size(50_000_000, 2_000_000))
    batches = options.size(300, 60)
    return [
        measure(
            "byte tokeniser",
            sides={
                "Python, to numbers": lambda: tokens(path, "python"),
                "C, to numbers": lambda: tokens(path, "wasm"),
                "Python, to words": lambda: tokens(path, "python", "tokens"),
                "C, to words": lambda: tokens(path, "wasm", "tokens"),  # most of it makes strings of Python
            },
            ratios={
                "C/Python, to numbers": ("C, to numbers", "Python, to numbers", 5.0),
                "C/Python, to words": ("C, to words", "Python, to words", 2.5),
            },
            repeats=options.repeats,
            unit="MB/s",
        ),
        measure(
            "64 steps of a generator, per item",
            sides={"Python": lambda: per_item("step64-python", batches // 10),
                   "@wasm": lambda: per_item("step64-wasm", batches)},
            ratios={"Python/@wasm": ("Python", "@wasm", 10.0)},
            repeats=options.repeats,
            unit="ns",
        ),
        measure(
            "x + 1, per item",
            sides={"lambda": lambda: per_item("increment-python", batches),
                   "@wasm": lambda: per_item("increment-wasm", batches)},
            ratios={"@wasm/lambda": Goal("@wasm", "lambda", 3.0, at_most=True)},
            repeats=options.repeats,
            unit="ns",
        ),
    ]  # fmt: skip


def resources(options: Options) -> list[Report]:
    count = options.size(128, 64)
    return [
        measure(
            "processors in use",
            sides={"threads=1": lambda: busy_items(1, count), "threads=2": lambda: busy_items(2, count)},
            ratios={"two/one": ("threads=2", "threads=1", 1.7)},
            repeats=options.repeats,
            unit="items/s",
        ),
        measure(
            "new replica",
            sides={"µs": lambda: new_replica_us(200), "kB": lambda: new_replica_kb(1_000)},
            ratios={"µs": Goal("µs", None, 200.0, at_most=True), "kB": Goal("kB", None, 100.0, at_most=True)},
            repeats=options.repeats,
            unit="µs or kB",
        ),
        measure(
            "p99 of another stream, and of the event loop",
            sides={"beside runaways": lambda: p99_ms(runaway=True), "alone": lambda: p99_ms(runaway=False)},
            ratios={"beside runaways": Goal("beside runaways", None, 10.0, at_most=True)},
            repeats=options.repeats,
            unit="ms",
        ),
        measure(
            "first request to a function that sleeps",
            sides={"asleep": lambda: first_request_ms(asleep=True), "awake": lambda: first_request_ms(asleep=False)},
            ratios={"asleep": Goal("asleep", None, 50.0, at_most=True)},
            repeats=options.repeats,
            unit="ms",
        ),
    ]


def main() -> None:
    options = parse_options(__doc__)
    publish("wasm", *functions(options), *resources(options))


if __name__ == "__main__":
    main()
