"""Find all pairs of nodes of a graph of which one can be reached from the other: a recursive join.

Shows a delta iteration whose body joins what is new with what is given: each round prolongs the paths that the last one
found by an edge.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, TypeAlias

from actorflow import App, Client, LoopEnd, Rounds
from benchmarks.cases import flow
from benchmarks.cases.generators import rows_hash

Edge: TypeAlias = tuple[int, int]
Path: TypeAlias = tuple[tuple[int, int], int]  # its ends, and how many edges it has

app = App("closure")


def is_open(edge: Edge) -> bool:
    """Return whether an edge leads to another node."""
    return edge[0] != edge[1]


def path(edge: Edge) -> Path:
    """Return the path that an edge is."""
    return edge, 1


def prolonged(pair: tuple[Path, Edge]) -> Path:
    """Return the path that goes on along an edge."""
    ((start, _), length), (_, end) = pair
    return (start, end), length + 1


def rounds(_: int, end: LoopEnd) -> int:
    """Return how many rounds it took."""
    return end.rounds


edges = app.stream("closure", str, timeout_s=600).flat_map(flow.edges).filter(is_open).distinct()
paths = edges.map(path).delta(
    lambda new: (
        new.join(edges, lambda path: path[0][1], itemgetter(0)).map(prolonged).filter(lambda path: is_open(path[0]))
    ),
    rounds=Rounds(),
)

answer = flow.record(
    direct_pairs=edges.count(),
    closure_pairs=paths.count(),
    rounds=paths.loop_end.fold(1, rounds),  # a graph without edges has no loop to end; one look tells so
    rows_sha256=paths.map(itemgetter(0)).collect().map(rows_hash),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Find the pairs of the graph in file `params["name"]`."""
    return await client.request(answer, flow.path_of(params, "name"))
