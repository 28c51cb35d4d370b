"""Find the connected components of a graph: each node takes over the lowest label among its neighbours.

Shows a delta iteration in synchronous rounds, which only touches the nodes whose label has changed.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, TypeAlias

from actorflow import App, Client, Rounds
from benchmarks.cases import flow
from benchmarks.cases.generators import seq_hash

Edge: TypeAlias = tuple[int, int]
Label: TypeAlias = tuple[int, int]

app = App("components")


def both_ways(edge: Edge) -> set[Edge]:
    """Return an edge in both directions."""
    return {edge, edge[::-1]}


def labels_to_begin_with(highest: int) -> list[Label]:
    """Label each node up to the highest with its own number."""
    return [(node, node) for node in range(highest + 1)]


def hand_over(pair: tuple[Label, Edge]) -> Label:
    """Propose the label of a node to its neighbour."""
    (_, label), (_, neighbour) = pair
    return neighbour, label


edges = app.stream("components", str).flat_map(flow.edges).flat_map(both_ways).distinct()
nodes = edges.map(max).fold(-1, max).flat_map(labels_to_begin_with)
labels = nodes.delta(lambda changed: changed.join(edges, itemgetter(0)).map(hand_over), rounds=Rounds())
sizes = labels.key_by(itemgetter(1)).count().map(itemgetter(1))

answer = flow.record(
    nodes=nodes.count(),
    undirected_edges=edges.count().map(lambda count: count // 2),
    components=sizes.count(),
    largest=sizes.reduce(max),
    isolated=sizes.filter(lambda size: size == 1).count(),
    rounds=labels.loop_end.map(lambda end: end.rounds),
    labels_sha256=labels.sort().map(itemgetter(1)).collect().map(seq_hash),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Describe the components of the graph in file `params["name"]`."""
    return await client.request(answer, flow.path_of(params, "name"))
