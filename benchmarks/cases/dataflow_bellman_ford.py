"""Find the shortest distances from one node of a random graph with lengths, by Bellman and Ford's method.

Shows a delta iteration in synchronous rounds: each relaxes the edges of the nodes that the last one brought nearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from actorflow import App, Client, Rounds
from benchmarks.cases import flow
from benchmarks.cases.generators import SplitMix64, seq_hash

Edge: TypeAlias = tuple[int, int, int]
Distance: TypeAlias = tuple[int, int]

app = App("bellman-ford")


class Graph(msgspec.Struct, frozen=True):
    """A random graph, and the node to measure from."""

    nodes: int
    edges: int
    seed: int
    src: int = 0


def random_edges(graph: Graph) -> Iterator[Edge]:
    """Yield edges as source, target and length, from 1 to 100."""
    generator = SplitMix64(graph.seed)
    for _ in range(graph.edges):
        yield generator.below(graph.nodes), generator.below(graph.nodes), generator.below(100) + 1


def source(graph: Graph) -> Distance:
    """Return the one node whose distance is known."""
    return graph.src, 0


def relax(pair: tuple[Distance, Edge]) -> Distance:
    """Propose a distance for the target of an edge."""
    (_, distance), (_, target, length) = pair
    return target, distance + length


graphs = app.stream("bellman_ford", Graph, timeout_s=600)
edges = graphs.flat_map(random_edges)
distances = graphs.map(source).delta(lambda nearer: nearer.join(edges, itemgetter(0)).map(relax), rounds=Rounds())
answer = flow.record(distances=distances.collect().map(dict), rounds=distances.loop_end.map(lambda end: end.rounds))


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Measure a graph of `nodes` nodes and `edges` edges that `seed` decides."""
    graph = Graph(params["nodes"], params["edges"], params["seed"], params.get("src", 0))
    found = await client.request(answer, graph)
    distances: dict[int, int] = found["distances"]
    return {
        "reachable": len(distances),
        "sum": sum(distances.values()),
        "max": max(distances.values()),
        "rounds": found["rounds"],
        "sha256": seq_hash(distances.get(node) for node in range(graph.nodes)),
    }
