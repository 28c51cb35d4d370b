"""Savina 28, guided search: twenty workers look for a path, and the first to find one ends it.

The master keeps the nodes still to be searched, nearest to the target first, and how each node was reached. Workers
explore a stretch from a node and report what they have seen. The stream replies early: whoever asked has the path while
the workers still finish what they were at, and what they tell thereafter is let pass.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from itertools import pairwise, product
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import JavaRandom, seq_hash

SEED = 123456
STRETCH = 64
WORKERS = 20


@dataclass(frozen=True, slots=True)
class Grid:
    """A random graph on the points of a cube; every host makes the same edges of the same side."""

    side: int

    @property
    def target(self) -> int:
        """Return the node to reach from node 0: four fifths of the way along the diagonal."""
        return self.number(*[int(0.8 * self.side)] * 3)

    def number(self, i: int, j: int, k: int) -> int:
        """Return the number of the node at a place."""
        return (i * self.side + j) * self.side + k

    def distance_to_target(self, node: int) -> float:
        """Return the distance as the crow flies."""
        i, rest = divmod(node, self.side**2)
        return math.dist((i, *divmod(rest, self.side)), [int(0.8 * self.side)] * 3)


@cache
def neighbours(grid: Grid) -> list[list[int]]:
    """Return where one can go from each node: a random choice of the corners of the cube that begins there."""
    random = JavaRandom(SEED)
    last = grid.side - 1
    corners = list(product((0, 1), repeat=3))[1:-1]
    edges: list[list[int]] = []
    for node, (i, j, k) in enumerate(product(range(grid.side), repeat=3)):
        reached: list[int] = []
        for corner in corners:
            forced = corner == corners[-1] and not reached
            if forced or random.next_boolean():
                a, b, c = corner
                other = grid.number(min(last, i + a), min(last, j + b), min(last, k + c))
                if other != node and other not in reached:
                    reached.append(other)
        edges.append(reached)
    return edges


@dataclass(frozen=True, slots=True)
class Explore:
    """Look around from a node, and tell the master."""

    grid: Grid
    node: int
    master: Address


@dataclass(frozen=True, slots=True)
class Explored:
    """The steps `(from, to)` that a worker took, in order, and the nodes that it leaves to others."""

    worker: Address
    steps: list[tuple[int, int]]
    left_over: list[int]


class Search(Operator):
    """Give each request a master."""

    def process(self, grid: Grid) -> None:
        self.tell(self.spawn(Master, grid), grid)


class Master(Operator):
    """Send idle workers to the most promising nodes; answer once."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.came_from: dict[int, int | None] = {0: None}
        self.promising: list[tuple[float, int]] = []
        self.queued: set[int] = set()
        self.idle: list[Address] = []
        self.answered = False

    def process(self, item: Grid | Explored) -> list[int] | None:
        if self.answered:
            return None
        if isinstance(item, Explored):
            for start, end in item.steps:
                self.came_from.setdefault(end, start)
            self.idle.append(item.worker)
            self.queue(item.left_over)
        else:
            self.idle = [self.spawn(Worker) for _ in range(WORKERS)]
            self.queue([0])
        if self.grid.target in self.came_from:
            return self.answer(self.path())
        while self.promising and self.idle:
            self.tell(self.idle.pop(), Explore(self.grid, heappop(self.promising)[1], self.address))
        return self.answer([]) if len(self.idle) == WORKERS else None

    def queue(self, nodes: list[int]) -> None:
        """Remember nodes to search from, each once."""
        for node in nodes:
            if node not in self.queued:
                self.queued.add(node)
                heappush(self.promising, (self.grid.distance_to_target(node), node))

    def path(self) -> list[int]:
        """Return the nodes from the root to the target."""
        node: int | None = self.grid.target
        path: list[int] = []
        while node is not None:
            path.append(node)
            node = self.came_from[node]
        return path[::-1]

    def answer(self, path: list[int]) -> list[int]:
        """Give the path (an empty one where there is none), and ignore what is still under way."""
        self.answered = True
        return path


class Worker(Operator):
    """Explore a stretch, nearest to the target first."""

    def process(self, task: Explore) -> None:
        grid, edges = task.grid, neighbours(task.grid)
        steps: list[tuple[int, int]] = []
        seen = {task.node}
        ahead = [(grid.distance_to_target(task.node), task.node)]
        for _ in range(STRETCH):
            if not ahead or grid.target in seen:
                break
            _, node = heappop(ahead)
            for other in edges[node]:
                if other not in seen:
                    seen.add(other)
                    steps.append((node, other))
                    heappush(ahead, (grid.distance_to_target(other), other))
        self.tell(task.master, Explored(self.address, steps, [node for _, node in ahead]))


app = App("savina-astar")
astar = app.stream("astar", Grid, list[int], early=True).then(Search)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Search the grid of side `g`, and hold the path found against a breadth-first count of hops."""
    grid = Grid(params["g"])
    path = await client.request(astar, grid)
    edges = neighbours(grid)
    hops = hops_from_root(edges)
    assert (path[0], path[-1]) == (0, grid.target), f"the path leads from {path[0]} to {path[-1]}"
    assert all(end in edges[start] for start, end in pairwise(path)), "the path leaves the graph"
    assert len(path) - 1 >= hops[grid.target], "the path is shorter than the shortest"
    return {
        "nodes": len(edges),
        "edges": sum(map(len, edges)),
        "target": path[-1],
        "reachable_from_root": len(hops),
        "target_reachable": grid.target in hops,
        "min_hops_to_target": hops[grid.target],
        "graph_sha256": seq_hash(edges),
        "hops": len(path) - 1,
    }


def hops_from_root(edges: list[list[int]]) -> dict[int, int]:
    """Return the number of hops to each node that can be reached."""
    hops = {0: 0}
    waiting = deque([0])
    while waiting:
        node = waiting.popleft()
        for other in edges[node]:
            if other not in hops:
                hops[other] = hops[node] + 1
                waiting.append(other)
    return hops
