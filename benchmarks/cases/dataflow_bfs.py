"""Find how many edges each node of a graph is away from a root.

Shows a delta iteration: a loop that keeps one value per node, and sends on what has become better.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from actorflow import App, Client
from benchmarks.cases import flow
from benchmarks.cases.generators import rows_hash

Edge: TypeAlias = tuple[int, int]
Level: TypeAlias = tuple[int, int]

app = App("bfs")


class Search(msgspec.Struct, frozen=True):
    """Where to search, from where, and whether against the direction of the edges."""

    path: str
    root: int
    reverse: bool = False


def read_edges(search: Search) -> Iterator[Edge]:
    """Yield the edges of a graph in the direction of the search."""
    for edge in flow.edges(search.path):
        yield edge[::-1] if search.reverse else edge


def root(search: Search) -> Level:
    """Return the one node whose level is known."""
    return search.root, 0


def next_level(pair: tuple[Level, Edge]) -> Level:
    """Propose a level for the neighbour of a node."""
    (_, level), (_, neighbour) = pair
    return neighbour, level + 1


searches = app.stream("bfs", Search)
edges = searches.flat_map(read_edges)
levels = searches.map(root).delta(lambda reached: reached.join(edges, itemgetter(0)).map(next_level))

answer = flow.record(
    reached=levels.count(),
    level_sizes=levels.key_by(itemgetter(1)).count().sort().map(itemgetter(1)).collect(),
    rows_sha256=levels.collect().map(rows_hash),
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Search the graph in file `params["name"]` from node `root`, backwards with `reverse`."""
    search = Search(flow.path_of(params, "name"), params["root"], params.get("reverse", False))
    return await client.request(answer, search)
