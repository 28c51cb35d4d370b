"""Memory: an idle host with its doors, a request in flight, and an idle actor. Each is measured in a fresh process."""

import gc
import subprocess
import sys
from pathlib import Path

from actorflow import App, Limits, Operator
from benchmarks.harness import Goal, compare, parse_options

ROOT = Path(__file__).resolve().parent.parent
PAGE = 4096


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Waits(Operator):
    """Keeps every request open until it is told to let them go."""

    def __init__(self) -> None:
        self.pending: list[object] = []

    def process(self, item: int) -> None:
        self.pending.append(self.defer())


class Idle(Operator):
    def process(self, item: int) -> None:
        """Nothing."""


class Spawner(Operator):
    async def process(self, count: int) -> int:
        gc.collect()
        before = resident_bytes()
        actors = [self.spawn(Idle) for _ in range(count)]
        gc.collect()
        return (resident_bytes() - before) // len(actors)


async def idle_host() -> float:
    """Return the MiB of a host that has been started with its doors and does nothing."""
    from actorflow.gateway import serving

    app = App("idle")
    app.stream("echo", int, int).map(lambda x: x)
    async with serving(app, port=0):
        gc.collect()
        return resident_bytes() / (1 << 20)


async def per_request(count: int) -> float:
    """Return the bytes of a request in flight, without a task of the caller."""
    app = App("open", limits=Limits(timeout_s=600.0))
    app.stream("wait", int, int).then(Waits)
    local = app.local(watch=False)
    async with local:
        host = local.host
        assert host is not None
        wiring = host.stream("wait")
        for number in range(1000):
            host.begin(wiring, number)
        gc.collect()
        before = resident_bytes()
        requests = [host.begin(wiring, number) for number in range(count)]
        for request in requests:
            request.future = host.loop.create_future()
        gc.collect()
        return (resident_bytes() - before) / count


async def per_actor(count: int) -> float:
    """Return the bytes of an actor that has nothing to do."""
    app = App("idle-actors", limits=Limits(timeout_s=600.0))
    app.stream("spawn", int, int).then(Spawner)
    async with app.local(watch=False) as client:
        return float(await client.request("spawn", count))


def fresh(what: str) -> float:
    """Return what a function here returns in a process of its own."""
    code = f"import asyncio; from benchmarks import memory; print(asyncio.run(memory.{what}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    options = parse_options(__doc__)
    count = options.size(50_000, 10_000)
    compare(
        "memory",
        sides={
            "idle host, MiB": lambda: fresh("idle_host()"),
            "request, bytes": lambda: fresh(f"per_request({count})"),
            "actor, bytes": lambda: fresh(f"per_actor({count})"),
        },
        ratios={
            "idle host, MiB": Goal("idle host, MiB", None, 60, at_most=True),
            "request, bytes": Goal("request, bytes", None, 1200, at_most=True),
            "actor, bytes": Goal("actor, bytes", None, 1024, at_most=True),
        },
        repeats=options.repeats,
        unit="",
    )


if __name__ == "__main__":
    main()
