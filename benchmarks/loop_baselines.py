"""The plain Python loops that loops of the runtime are measured against, and the graphs that both work on."""

import asyncio
import gzip
import random
from functools import cache
from pathlib import Path
from time import perf_counter

DEBIAN = Path(__file__).parent.parent / "tests" / "cases" / "data" / "debian_python.edges.gz"
DAMPING = 0.85
SEED = 20_261_125

Neighbours = list[list[int]]


def collatz(limit: int) -> tuple[int, float]:
    """Return (steps, seconds) of taking every number from 1 to `limit` down to 1."""
    started = perf_counter()
    steps = 0
    for number in range(1, limit + 1):
        value = number
        while value != 1:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            steps += 1
    return steps, perf_counter() - started


@cache
def collatz_steps(limit: int) -> int:
    """Return how many steps that takes."""
    return collatz(limit)[0]


@cache
def random_graph(nodes: int, edges: int) -> Neighbours:
    """Return the neighbours of each node of an undirected random graph."""
    rng = random.Random(SEED)
    neighbours: list[set[int]] = [set() for _ in range(nodes)]
    for _ in range(edges):
        one, other = rng.randrange(nodes), rng.randrange(nodes)
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    return [sorted(each) for each in neighbours]


def labels_of(neighbours: Neighbours) -> list[int]:
    """Label each node with the smallest one that it is connected to: the frontier of changed nodes goes on."""
    labels = list(range(len(neighbours)))
    frontier: dict[int, int] = dict(enumerate(labels))
    while frontier:
        better: dict[int, int] = {}
        for node, label in frontier.items():
            for other in neighbours[node]:
                if label < labels[other] and label < better.get(other, labels[other]):
                    better[other] = label
        for node, label in better.items():
            labels[node] = label
        frontier = better
    return labels


def components(neighbours: Neighbours) -> tuple[int, float]:
    """Return (1 run, seconds) of finding connected components."""
    started = perf_counter()
    labels_of(neighbours)
    return 1, perf_counter() - started


@cache
def debian() -> Neighbours:
    """Return what each package of the Debian dependency graph depends on."""
    with gzip.open(DEBIAN, "rt") as file:
        pairs = [(int(one), int(other)) for one, other in map(str.split, file)]
    targets: Neighbours = [[] for _ in range(max(map(max, pairs)) + 1)]
    for one, other in pairs:
        targets[one].append(other)
    return targets


def ranks_of(targets: Neighbours, rounds: int) -> list[float]:
    """Return the PageRank of each node after some rounds; what a node without targets has goes to all alike."""
    count = len(targets)
    ranks = [1.0 / count] * count
    for _ in range(rounds):
        sums = [0.0] * count
        dangling = 0.0
        for node, rank in enumerate(ranks):
            if ahead := targets[node]:
                share = rank / len(ahead)
                for target in ahead:
                    sums[target] += share
            else:
                dangling += rank
        base = (1.0 - DAMPING) / count + DAMPING * dangling / count
        ranks = [base + DAMPING * total for total in sums]
    return ranks


def pagerank(targets: Neighbours, rounds: int) -> tuple[int, float]:
    """Return (rounds, seconds)."""
    started = perf_counter()
    ranks_of(targets, rounds)
    return rounds, perf_counter() - started


class Quiet:
    def on_round_end(self, number: int) -> None:
        pass


async def empty_rounds(count: int, replicas: int) -> tuple[int, float]:
    """Return (rounds, seconds) of calling so many objects and letting the event loop turn once."""
    loop = asyncio.get_running_loop()
    objects = [Quiet() for _ in range(replicas)]
    started = perf_counter()
    for number in range(count):
        for each in objects:
            each.on_round_end(number)
        turned: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned
    return count, perf_counter() - started
