"""Savina 19, the published unbalanced tree search, as a loop: the children of a node go round, its visit goes on.

One item per node instead of one actor, and the same exact end: the fold is told when no node is left in the loop.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from actorflow import App, Client, Operator
from benchmarks.cases.savina_uts import Position, Tree, Visit


def root(tree: Tree) -> Position:
    """Return the node that all others are below."""
    return Position(tree, sha1(bytes(16) + tree.seed.to_bytes(4, "big")).digest(), 0)


class Explore(Operator):
    """Send the children of a node round and report the visit."""

    def process(self, here: Position) -> Visit:
        children = here.children()
        for child in children:
            self.feedback(child)
        return Visit(nodes=1, leaves=0 if children else 1, max_depth=here.level)


app = App("savina-uts-loop")
uts = app.stream("uts", Tree, Visit).map(root).then(Explore, feedback=True).fold(Visit(), Visit.__add__)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Search the tree of branching `b`, depth `depth` and seed `seed`."""
    seen = await client.request(uts, Tree(params["b"], params["depth"], params["seed"]))
    return {"nodes": seen.nodes, "leaves": seen.leaves, "max_depth": seen.max_depth}
