"""Rank the nodes of a graph by PageRank, for a number of rounds or until the ranks hardly change.

Shows a loop whose items, the nodes, are the same in every round, and whose state is their ranks. The last operator of
its body knows what the request asks for, and so whether this was the last round.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import Any, TypeAlias

import msgspec

from actorflow import App, Client, Operator
from benchmarks.cases import flow

Edge: TypeAlias = tuple[int, int]
Ranked: TypeAlias = tuple[int, float, int]  # number, rank and number of targets of a node

app = App("pagerank")


class Node(msgspec.Struct, frozen=True):
    """A node of a graph: who links to it, to how many it links itself, and its rank before the first round."""

    number: int
    sources: list[int]
    targets: int
    rank: float


class Ranks(msgspec.Struct, frozen=True):
    """The ranks after a round, what each target gets of them, and the sum of those that have no target to give to."""

    ranks: list[float]
    shares: list[float]
    dangling: float
    change: float
    settled: bool


def nodes_of(edges: list[Edge]) -> Iterator[Node]:
    """Yield the nodes of a graph, whose numbers begin at 0."""
    count = 1 + max(map(max, edges))
    sources: list[list[int]] = [[] for _ in range(count)]
    targets = [0] * count
    for source, target in edges:
        sources[target].append(source)
        targets[source] += 1
    for number in range(count):
        yield Node(number, sources[number], targets[number], 1 / count)


class Rank(Operator):
    """Rank a node by what its sources give it. The first round deals out the ranks to begin with."""

    def process(self, node: Node) -> Ranked:
        before: Ranks | None = self.loop_state
        if before is None:
            return node.number, node.rank, node.targets
        damping = self.request.attributes["damping"]
        to_all = (1 - damping) / len(before.ranks) + damping * before.dangling / len(before.ranks)
        rank = to_all + damping * fsum(before.shares[source] for source in node.sources)
        return node.number, rank, node.targets


class Settle(Operator):
    """Look at all ranks of a round: how much have they changed, and is that little enough?"""

    def process(self, ranked: list[Ranked]) -> Ranks:
        ranked = sorted(ranked)
        ranks = [rank for _, rank, _ in ranked]
        before = self.loop_state.ranks if self.loop_state else ranks
        change = fsum(abs(old - new) for old, new in zip(before, ranks, strict=True))
        rounds, least = self.request.attributes.get("iters"), self.request.attributes.get("tol")
        return Ranks(
            ranks,
            shares=[rank / targets if targets else 0.0 for _, rank, targets in ranked],
            dangling=fsum(rank for _, rank, targets in ranked if not targets),
            change=change,
            settled=self.round > 0 and bool(self.round == rounds or (least and change < least)),
        )


edges = app.stream("pagerank", str, timeout_s=600).flat_map(flow.edges)
ranks = (
    edges.collect()
    .flat_map(nodes_of)
    .replay(
        lambda nodes: nodes.then(Rank).collect().then(Settle),
        fold=lambda _, after: after,
        until=lambda ranks: ranks.settled,
    )
)
answer = flow.record(edges=edges.count(), ranks=ranks, iterations=ranks.loop_end.map(lambda end: end.rounds - 1))


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Rank the nodes of graph `params["name"]`, for `iters` rounds or until they change by less than `tol`."""
    found = await client.request(answer, flow.path_of(params, "name"), attributes=params)
    ranks: list[float] = found["ranks"].ranks
    top = sorted(range(len(ranks)), key=lambda node: (-ranks[node], node))[:20]
    return {
        "nodes": len(ranks),
        "edges": found["edges"],
        "iterations": found["iterations"],
        "sum": fsum(ranks),
        "top20": [[node, ranks[node]] for node in top],
        "rank_of_node_0": ranks[0],
        "l1_last_change": found["ranks"].change,
    }
