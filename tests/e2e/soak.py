"""A soak: half of what a host can do, for a long time, from clients that come, go and misbehave.

    python tests/e2e/soak.py --minutes 20

A host is `actorflow run tests.e2e.soak:app`. First its capacity is measured, then requests come at half that rate over
HTTP and the binary door; beside them clients hang up in the middle (FIN, RST), read too slowly, cancel, come back for
replies, and send what is no request at all. Afterwards memory, open files, tasks and counts must be what they were:
the slope of resident memory after a warm-up is less than 1 MiB a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from actorflow import ActorflowError, App, Client, Limits, Operator  # noqa: E402

SLOPE_MIB_A_MINUTE_MAX = 1.0
WARM_UP_SHARE = 0.3
WORKERS = 24

app = App("soak", limits=Limits(timeout_s=20.0, dead_letters=200, answers_kept_s=20.0, replay_s=5.0))
stock = app.table("stock", key="sku", value=int)
sold = app.counter("sold")


class Reserve(Operator):
    stock = stock.owned()
    sold = sold.merged()

    def process(self, sku: str) -> int:
        self.stock[sku] = left = self.stock.get(sku, 1_000_000_000) - 1
        self.sold.add(1)
        return left


class Order(Operator):
    concurrency = 500

    async def process(self, sku: str) -> int:
        await asyncio.sleep(0.002)
        return int(await self.call("reserve", sku))


class Numbers(Operator):
    def process(self, count: int) -> Any:
        yield from range(count)


class Slow(Operator):
    concurrency = 5_000

    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


class Picky(Operator):
    on_error = "set_aside"

    def process(self, item: int) -> int:
        raise ValueError(f"not {item}")


app.stream("reserve", str, int).key_by(space="sku").then(Reserve)
app.stream("order", str, int).then(Order)
app.stream("numbers", int, int, replies="many").then(Numbers)
app.stream("sum", int, int).fold(0, lambda total, item: total + item)
app.stream("slow", float, float).then(Slow)
app.stream("picky", int, int, replies="none").then(Picky)
app.stream("words", str, list).flat_map(str.split).key_by().count().collect()


class Soak:
    """Clients of one host, and what was seen."""

    def __init__(self, url: str, pid: int, seed: int) -> None:
        self.url = url
        self.pid = pid
        self.port = int(url.rpartition(":")[2])
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.samples: list[dict[str, float]] = []
        self.began_s = time.monotonic()
        self.over = False

    # -- what well-behaved clients do

    async def usual(self, client: Client, http: aiohttp.ClientSession) -> None:
        """Send one request of some kind, and look at its answer."""
        kind = self.chance.choice(["reserve", "order", "http", "words", "numbers", "sum", "lines", "send"])
        sku = f"sku-{self.chance.randrange(500)}"
        match kind:
            case "reserve" | "order":
                self.check(isinstance(await client.request(kind, sku), int), kind)
            case "http":
                async with http.post(f"{self.url}/streams/reserve", json=sku) as answer:
                    self.check(answer.status == 200, f"{kind} {answer.status}")
            case "words":
                self.check(await client.request("words", "a b a") == [("a", 2), ("b", 1)], kind)
            case "numbers":
                self.check([each async for each in client.stream("numbers", 20)] == list(range(20)), kind)
            case "sum":
                self.check([each async for each in client.stream("sum", items=range(50))] == [1225], kind)
            case "lines":
                lines = "".join(f"{number}\n" for number in range(50))
                headers = {"Content-Type": "application/x-ndjson"}
                async with http.post(f"{self.url}/streams/sum", data=lines, headers=headers) as answer:
                    self.check(await answer.json() == 1225, kind)
            case "send":
                await client.send("picky", 1)
        self.counts[kind] += 1

    def check(self, fine: bool, what: str) -> None:
        if not fine:
            self.wrong.append(f"a wrong answer: {what}")

    async def work(self, rate: Callable[[], float]) -> None:
        """Send requests at a rate, and make new connections now and then."""
        while not self.over:
            async with Client(self.url) as client, aiohttp.ClientSession() as http:
                for _ in range(self.chance.randrange(50, 400)):
                    if self.over:
                        break
                    began = time.monotonic()
                    try:
                        async with asyncio.timeout(15):
                            await self.usual(client, http)
                    except (ActorflowError, aiohttp.ClientError, TimeoutError, OSError) as error:
                        self.wrong.append(f"{type(error).__name__}: {error}"[:300])
                    pause_s = WORKERS / rate() - (time.monotonic() - began) if rate() else 0.0
                    if pause_s > 0:
                        await asyncio.sleep(pause_s)

    # -- what others do

    async def misbehave(self) -> None:
        """Do something that no client should do, again and again."""
        ways: list[Callable[[], Awaitable[None]]] = [
            self.hang_up, self.hang_up_http, self.garbage, self.half_a_header, self.bad_frames, self.bad_json,
            self.slow_reader, self.cancelled, self.left_alone, self.idle, self.deadline,
        ]  # fmt: skip
        while not self.over:
            way = self.chance.choice(ways)
            with contextlib.suppress(ActorflowError, aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(10):
                    await way()
            self.counts[way.__name__] += 1
            await asyncio.sleep(0.02)

    async def hang_up(self) -> None:
        client = Client(self.url)
        asking = [asyncio.create_task(client.request("slow", 1.0)) for _ in range(5)]
        await asyncio.sleep(0.02)
        connection: Any = client._connection
        if connection._socket is not None:
            connection._socket._response.connection.transport.abort()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await client.close()

    async def raw(self, data: bytes, *, reset: bool = False, wait_s: float = 0.05) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.write(data)
        await asyncio.sleep(wait_s)
        writer.close()

    async def hang_up_http(self) -> None:
        head = b"POST /streams/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n1.0"
        await self.raw(head, reset=self.chance.random() < 0.5)

    async def garbage(self) -> None:
        await self.raw(self.chance.randbytes(200))

    async def half_a_header(self) -> None:
        await self.raw(b"POST /streams/reserve HTTP/1.1\r\nHo", reset=self.chance.random() < 0.5)

    async def bad_frames(self) -> None:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{self.url}/wire") as ws:
            await ws.send_bytes(self.chance.randbytes(self.chance.randrange(100)))
            await ws.receive()

    async def bad_json(self) -> None:
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/streams/reserve", data=b"[[[") as answer:
            self.check(answer.status == 400, f"bad JSON {answer.status}")

    async def slow_reader(self) -> None:
        async with Client(self.url) as client:
            replies = client.stream("numbers", 20_000)
            for _ in range(3):
                await anext(replies)
            await asyncio.sleep(0.5)
            await replies.aclose()

    async def cancelled(self) -> None:
        async with Client(self.url) as client:
            asking = asyncio.create_task(client.request("slow", 2.0))
            await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def left_alone(self) -> None:
        key = f"key-{self.chance.getrandbits(60):x}"
        client = Client(self.url)
        replies = client.stream("numbers", 500, key=key)
        await anext(replies)
        connection: Any = client._connection
        connection._socket._response.connection.transport.abort()
        async with Client(self.url) as other:
            rest = [each async for each in other.attach(key, after=1)]
            self.check(rest == list(range(1, 500)), "replies after coming back")
        await replies.aclose()
        await client.close()

    async def idle(self) -> None:
        async with Client(self.url) as client:
            await client.cells()
            await asyncio.sleep(2.0)

    async def deadline(self) -> None:
        async with Client(self.url) as client:
            await client.request("slow", 5.0, timeout_s=0.05)

    # -- what is looked at

    async def look(self) -> dict[str, float]:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/ps") as answer:
            told = await answer.json()
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])  # noqa: ASYNC240 - no disk is behind it
        return {
            "at_s": time.monotonic() - self.began_s,
            "rss_mib": pages * os.sysconf("SC_PAGESIZE") / (1 << 20),
            "files": len(os.listdir(f"/proc/{self.pid}/fd")),
            "in_flight": told["in_flight"],
            "depth": sum(row["depth"] for row in told["replicas"]),
        }

    async def sample(self, every_s: float) -> None:
        while not self.over:
            self.samples.append(await self.look())
            last = self.samples[-1]
            said = ", ".join(f"{name} {value:,.0f}" for name, value in last.items())
            if sys.stdout.isatty():
                print(f"\r{said}, {sum(self.counts.values()):,} done, {len(self.wrong)} wrong  ", end="", flush=True)
            await asyncio.sleep(every_s)


async def soak(minutes: float, seed: int) -> dict[str, Any]:
    """Run a host, soak it, and return what was seen."""
    process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
        [sys.executable, "-m", "actorflow", "run", "tests.e2e.soak:app", "--port", "0"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    log: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"answers on (http://[\d.]+:\d+)", line):
                break
        else:
            raise AssertionError("the host did not start")
        stdout = process.stdout
        reading = asyncio.create_task(asyncio.to_thread(lambda: log.extend(stdout)))
        run = Soak(found[1], process.pid, seed)
        before = await run.look()
        rate = 0.0
        workers = [asyncio.create_task(run.work(lambda: rate)) for _ in range(WORKERS)]
        await asyncio.sleep(min(5.0, minutes * 6))
        done = sum(run.counts.values())
        rate = max(done / min(5.0, minutes * 6) / 2, 1.0)
        tasks = [asyncio.create_task(run.misbehave()) for _ in range(4)]
        tasks.append(asyncio.create_task(run.sample(max(minutes * 60 / 200, 0.2))))
        await asyncio.sleep(minutes * 60)
        run.over = True
        await asyncio.gather(*workers, *tasks)
        async with asyncio.timeout(60):
            while (after := await run.look())["in_flight"]:
                await asyncio.sleep(0.5)
            while (after := await run.look())["files"] > before["files"] + 5:
                await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 60)
        await reading
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    warm = run.samples[int(len(run.samples) * WARM_UP_SHARE) :]
    slope = statistics.linear_regression([each["at_s"] / 60 for each in warm], [each["rss_mib"] for each in warm]).slope
    tracebacks = sum("Traceback" in line for line in log)
    if minutes >= 5 and slope > SLOPE_MIB_A_MINUTE_MAX:
        run.wrong.append(f"memory grows by {slope:.2f} MiB a minute")
    if tracebacks:
        run.wrong.append(f"{tracebacks} tracebacks in the log: {''.join(log)[-2000:]}")
    if code:
        run.wrong.append(f"the host exited with {code}")
    return {
        "minutes": minutes,
        "requests_a_second": round(rate, 1),
        "done": dict(run.counts),
        "before": before,
        "warm": warm[0],
        "last": warm[-1],
        "after": after,
        "rss_slope_mib_a_minute": round(slope, 3),
        "log_lines": len(log),
        "wrong": run.wrong[:20],
        "wrong_count": len(run.wrong),
    }


def main() -> int:
    """Run from the command line; exits with 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    seen = asyncio.run(soak(given.minutes, given.seed))
    print("\n" + json.dumps(seen, indent=1))
    return 1 if seen["wrong_count"] else 0


if __name__ == "__main__":
    sys.exit(main())
