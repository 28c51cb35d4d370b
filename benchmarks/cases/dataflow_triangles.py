"""Count the triangles of an undirected graph by joining its edges with themselves, twice.

Shows a join of a point with itself and of a join's output with its own input, all within one request.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, TypeAlias

from actorflow import App, Client
from benchmarks.cases import flow

Edge: TypeAlias = tuple[int, int]

app = App("triangles")


def upward(edge: Edge) -> Edge:
    """Return the edge from its lower to its higher node."""
    return min(edge), max(edge)


def opens_upward(pair: tuple[Edge, Edge]) -> bool:
    """Keep one of the two orders in which a pair of edges meets, and no edge with itself."""
    return pair[0][1] < pair[1][1]


def ends(wedge: tuple[Edge, Edge]) -> Edge:
    """Return the edge that would close a wedge."""
    return wedge[0][1], wedge[1][1]


def itself(edge: Edge) -> Edge:
    """Return the edge: it is its own key."""
    return edge


edges = app.stream("triangles", str).flat_map(flow.edges).filter(lambda edge: edge[0] != edge[1]).map(upward).distinct()
wedges = edges.join(edges, itemgetter(0)).filter(opens_upward)
triangles = flow.record(edges=edges.count(), triangles=wedges.join(edges, ends, itself).count())


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Count the edges and triangles of the graph in file `params["name"]`."""
    return await client.request(triangles, flow.path_of(params, "name"))
