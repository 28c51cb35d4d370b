"""Savina 28, guided search, as a loop in order of priority: of all steps that wait, the most promising is taken first.

The master's queue is the operator's mailbox, which is ordered by the distance to the target, and the workers are the
trips round the loop. The stream replies early: whoever asked has the path while the steps that still wait are let pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from actorflow import App, Client, Operator
from benchmarks.cases.generators import seq_hash
from benchmarks.cases.savina_astar import Grid, hops_from_root, neighbours


@dataclass(frozen=True, slots=True)
class Step:
    """The step to a node from the one before it, of which the root has none."""

    grid: Grid
    node: int
    before: int | None = None

    def distance(self) -> float:
        """Return how far it is from here to the target."""
        return self.grid.distance_to_target(self.node)


class Search(Operator):
    """Note how a node was reached first, and send the steps from it round; answer at the target."""

    def process(self, step: Step) -> list[int] | None:
        came_from, target = self.scratch, step.grid.target
        if step.node in came_from or target in came_from:
            return None
        came_from[step.node] = step.before
        if step.node == target:
            return path_to(target, came_from)
        for other in neighbours(step.grid)[step.node]:
            if other not in came_from:
                self.feedback(Step(step.grid, other, step.node))
        return None


def path_to(node: int | None, came_from: dict[int, int | None]) -> list[int]:
    """Return the nodes from the root to this one."""
    path: list[int] = []
    while node is not None:
        path.append(node)
        node = came_from[node]
    return path[::-1]


app = App("savina-astar-loop")
astar = (
    app.stream("astar", Grid, list[int], early=True)
    .map(lambda grid: Step(grid, 0))
    .then(Search, feedback=True, priority=Step.distance)
)


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
