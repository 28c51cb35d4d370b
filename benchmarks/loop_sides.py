"""The actorflow sides of the loop benchmarks: each runs one workload on a fresh host, set-up not counted."""

import asyncio
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from time import perf_counter
from typing import Any

from actorflow import App, Limits, Operator
from benchmarks.loop_baselines import DAMPING, Neighbours, collatz_steps, labels_of, ranks_of
from benchmarks.ours import running

LIMITS = Limits(timeout_s=600.0)
HOPS = 100


def step(value: int) -> int:
    return value // 2 if value % 2 == 0 else 3 * value + 1


class Step(Operator):
    def process(self, value: int) -> int:
        return value // 2 if value % 2 == 0 else 3 * value + 1


class KeyedStep(Operator):
    def process(self, item: tuple[int, int]) -> int | None:
        number, value = item
        if value == 1:
            return number
        self.feedback((number, value // 2 if value % 2 == 0 else 3 * value + 1))
        return None


def numbers(limit: int) -> Iterator[int]:
    yield from range(1, limit + 1)


def pairs(limit: int) -> Iterator[tuple[int, int]]:
    yield from ((number, number) for number in range(1, limit + 1))


collatz_app = App("collatz", limits=LIMITS)
ints = (
    collatz_app.stream("functions", int, int)
    .flat_map(numbers)
    .map(step)
    .feedback(when=lambda value: value != 1)
    .count()
)
operator = collatz_app.stream("operator", int, int).flat_map(numbers).then(Step).feedback(when=lambda v: v != 1).count()
keyed = (
    collatz_app.stream("keyed", int, int)
    .flat_map(pairs)
    .key_by(lambda pair: pair[0])
    .then(KeyedStep, feedback=True)
    .count()
)


async def collatz(limit: int, stream: Any) -> tuple[int, float]:
    """Return (steps, seconds)."""
    async with running(collatz_app) as client:
        started = perf_counter()
        assert await client.request(stream, limit) == limit
        return collatz_steps(limit), perf_counter() - started


class Spread(Operator):
    def __init__(self, neighbours: Neighbours) -> None:
        self.neighbours = neighbours

    def process(self, changed: tuple[int, int]) -> None:
        node, label = changed
        emit = self.emit
        for other in self.neighbours[node]:
            emit((other, label))


class SpreadBatch(Operator):
    def __init__(self, neighbours: Neighbours) -> None:
        self.neighbours = neighbours

    def process_batch(self, changed: list[tuple[int, int]]) -> list[tuple[int, int]]:
        neighbours = self.neighbours
        return [(other, label) for node, label in changed for other in neighbours[node]]


smallest_label = itemgetter(1)


def own_labels(count: int) -> Iterator[tuple[int, int]]:
    yield from ((node, node) for node in range(count))


@cache
def components_app(nodes: int, edges: int) -> App:
    from benchmarks.loop_baselines import random_graph

    graph = random_graph(nodes, edges)
    app = App("components", limits=LIMITS)
    for operator in (Spread, SpreadBatch):
        for order, priority in (("", smallest_label), (" as they come", None)):
            entry = app.stream(f"{operator.__name__}{order}".replace(" ", "-"), int, list).flat_map(own_labels)
            entry.delta(lambda changed, operator=operator: changed.then(operator, graph), priority=priority).collect()
    return app


async def components(
    neighbours: Neighbours, edges: int, operator: type[Operator], order: str = ""
) -> tuple[int, float]:
    """Return (1 run, seconds) of finding connected components, smallest labels first unless `order` says otherwise."""
    async with running(components_app(len(neighbours), edges)) as client:
        started = perf_counter()
        labels = await client.request(operator.__name__ + order, len(neighbours))
        seconds = perf_counter() - started
    assert dict(labels) == dict(enumerate(labels_of(neighbours)))
    return 1, seconds


class Rank(Operator):
    """Gives what a node has to those that it leads to, and at the end of a round says what all have."""

    def __init__(self, targets: Neighbours) -> None:
        self.targets = targets

    def process(self, item: tuple[int, float]) -> None:
        node, rank = item
        notes = self.scratch
        sums = notes.get("sums") or notes.setdefault("sums", [0.0] * len(self.targets))
        if ahead := self.targets[node]:
            share = rank / len(ahead)
            for target in ahead:
                sums[target] += share
        else:
            notes["dangling"] = notes.get("dangling", 0.0) + rank

    def on_round_end(self, number: int) -> None:
        notes, count = self.scratch, len(self.targets)
        base = (1.0 - DAMPING) / count + DAMPING * notes.pop("dangling", 0.0) / count
        for node, total in enumerate(notes.pop("sums")):
            self.emit((node, base + DAMPING * total))


class RankBatch(Rank):
    process = None  # type: ignore[assignment]

    def process_batch(self, items: list[tuple[int, float]]) -> None:
        notes, targets = self.scratch, self.targets
        sums = notes.get("sums") or notes.setdefault("sums", [0.0] * len(targets))
        dangling = 0.0
        for node, rank in items:
            if ahead := targets[node]:
                share = rank / len(ahead)
                for target in ahead:
                    sums[target] += share
            else:
                dangling += rank
        notes["dangling"] = notes.get("dangling", 0.0) + dangling


def equal_ranks(count: int) -> Iterator[tuple[int, float]]:
    yield from ((node, 1.0 / count) for node in range(count))


@cache
def pagerank_app(rounds: int) -> App:
    from benchmarks.loop_baselines import debian

    app = App("pagerank", limits=LIMITS)
    for operator in (Rank, RankBatch):
        entry = app.stream(operator.__name__, int, list).flat_map(equal_ranks)
        entry.iterate(lambda ranks, operator=operator: ranks.then(operator, debian()), rounds_max=rounds).collect()
    return app


async def pagerank(targets: Neighbours, rounds: int, operator: type[Operator]) -> tuple[int, float]:
    """Return (rounds, seconds)."""
    async with running(pagerank_app(rounds)) as client:
        started = perf_counter()
        ranks = dict(await client.request(operator.__name__, len(targets)))
        seconds = perf_counter() - started
    expected = ranks_of(targets, rounds)
    assert all(abs(ranks[node] - rank) < 1e-12 for node, rank in enumerate(expected))
    return rounds, seconds


class Pass(Operator):
    def process(self, item: int) -> int:
        return item - 1


class Back(Operator):
    def process(self, item: int) -> int | None:
        if item <= 1:
            return item
        self.feedback(item - 1)
        return None


hops_app = App("hops", limits=LIMITS)
_point: Any = hops_app.stream("forward", int, int)
for _ in range(HOPS):
    _point = _point.then(Pass)
hops_app.stream("when", int, int).then(Pass).feedback(when=lambda left: left > 0)
hops_app.stream("feedback", int, int).then(Back, feedback=True)


async def hops(stream: str, count: int) -> tuple[int, float]:
    """Return (hops, seconds) of single items that make a hundred hops each."""
    async with running(hops_app) as client:
        started = perf_counter()
        for _ in range(count // HOPS):
            await client.request(stream, HOPS)
        return count, perf_counter() - started


class Quiet(Operator):
    def process(self, item: int) -> int:
        return item

    def on_round_end(self, number: int) -> None:
        pass


@cache
def quiet_app(rounds: int, replicas: int) -> App:
    app = App("quiet", limits=LIMITS)
    app.stream("rounds", int, int).replay(
        lambda item: item.then(Quiet, replicas=replicas), fold=lambda total, vote: vote, rounds_max=rounds
    )
    return app


async def empty_rounds(rounds: int, replicas: int) -> tuple[int, float]:
    """Return (rounds, seconds) of rounds in which one item passes and every replica is told of the end."""
    async with running(quiet_app(rounds, replicas)) as client:
        started = perf_counter()
        assert await client.request("rounds", 1) == 1
        return rounds, perf_counter() - started


async def requests(count: int, *, at_once: bool) -> tuple[int, float]:
    """Return (requests, seconds) of requests that go round a hundred times each."""
    async with running(hops_app) as client:
        started = perf_counter()
        if at_once:
            await asyncio.gather(*(client.request("feedback", HOPS) for _ in range(count)))
        else:
            for _ in range(count):
                await client.request("feedback", HOPS)
        return count, perf_counter() - started
