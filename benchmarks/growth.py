"""What a message costs as work grows: more streams, more requests in flight, more scattered replicas."""

import asyncio
from time import perf_counter

from actorflow import Address, App, Limits, Operator
from benchmarks.harness import Goal, compare, parse_options


class Echo(Operator):
    def process(self, item: int) -> int:
        return item


class Waits(Operator):
    """Keeps requests open."""

    def __init__(self) -> None:
        self.pending: list[object] = []

    def process(self, item: int) -> None:
        self.pending.append(self.defer())


class Passer(Operator):
    def __init__(self) -> None:
        self.next: Address | None = None

    def process(self, message: object) -> str | None:
        if message.__class__ is not int:
            self.next = message  # type: ignore[assignment]
        elif message:
            self.tell(self.next, message - 1)  # type: ignore[arg-type, operator]
        else:
            return "done"
        return None


class Ring(Operator):
    def process(self, order: tuple[int, int]) -> None:
        size, hops = order
        actors = [self.spawn(Passer) for _ in range(size)]
        for number, actor in enumerate(actors):
            # far neighbours, so that a hop finds nothing in the caches that the last one left
            self.tell(actor, actors[(number * 7919 + 1) % size])
        self.tell(actors[0], hops)


LIMITS = Limits(timeout_s=600.0)


async def streams(count: int, asks: int) -> float:
    """Return ns per ask, spread over so many streams."""
    app = App("many", limits=LIMITS)
    names = [app.stream(f"echo-{number}", int, int).then(Echo).name for number in range(count)]
    async with app.local(watch=False) as client:
        for name in names:
            await client.request(name, 0)
        began = perf_counter()
        for number in range(asks):
            await client.request(names[number % count], number)
        return (perf_counter() - began) / asks * 1e9


async def in_flight(count: int, asks: int) -> float:
    """Return ns per ask that goes through while so many other requests are open."""
    app = App("open", limits=LIMITS)
    app.stream("wait", int, int).then(Waits)
    app.stream("echo", int, int).then(Echo)
    local = app.local(watch=False)
    async with local as client:
        host = local.host
        assert host is not None
        for number in range(count):
            host.begin(host.stream("wait"), number)
        await asyncio.sleep(0)
        began = perf_counter()
        for number in range(asks):
            await client.request("echo", number)
        return (perf_counter() - began) / asks * 1e9


async def replicas(count: int, hops: int) -> float:
    """Return ns per message among so many actors that are far from one another in memory."""
    app = App("ring", limits=LIMITS)
    app.stream("ring").then(Ring)
    async with app.local(watch=False) as client:
        began = perf_counter()
        await client.request("ring", (count, 0))
        setup_s = perf_counter() - began
        began = perf_counter()
        await client.request("ring", (count, hops))
        return (perf_counter() - began - setup_s) / hops * 1e9


def main() -> None:
    options = parse_options(__doc__)
    count = options.size(200_000, 30_000)
    compare(
        "growth",
        sides={
            "1 stream": lambda: streams(1, count),
            "1,000 streams": lambda: streams(1_000, count),
            "1 in flight": lambda: in_flight(1, count),
            "100,000 in flight": lambda: in_flight(100_000, count),
            "2 replicas": lambda: replicas(2, count),
            "10,000 replicas": lambda: replicas(10_000, 2 * count),
        },
        ratios={
            "streams": Goal("1,000 streams", "1 stream", 1.2, at_most=True),
            "in flight": Goal("100,000 in flight", "1 in flight", 1.2, at_most=True),
            "replicas": Goal("10,000 replicas", "2 replicas", 2.0, at_most=True),
        },
        repeats=options.repeats,
        unit="ns",
    )


if __name__ == "__main__":
    main()
