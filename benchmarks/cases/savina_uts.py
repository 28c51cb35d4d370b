"""Savina 19, "uct" as the published unbalanced tree search: an actor for each node of a tree nobody knows beforehand.

A node's children follow from a SHA-1 hash, so the tree is as lopsided as chance wants it and nobody can say when it has
been seen whole. Nobody has to: each node emits one `Visit` into the stream, and the fold that follows is told by exact
progress counts that no further one can come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from actorflow import App, Client, Operator

CHILDREN_MAX = 100


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree whose nodes have `branching` children on average, down to level `depth`."""

    branching: int
    depth: int
    seed: int


@dataclass(frozen=True, slots=True)
class Position:
    """A node: its tree, its hash, from which all below it follows, and its level."""

    tree: Tree
    state: bytes
    level: int

    def children(self) -> list[Position]:
        """Return the nodes below, their number drawn from a geometric distribution."""
        if self.level >= self.tree.depth:
            return []
        chance = (int.from_bytes(self.state[-4:], "big") & 0x7FFFFFFF) / 2**31
        stop = 1 / (1 + self.tree.branching)
        count = min(CHILDREN_MAX, math.floor(math.log(1 - chance) / math.log(1 - stop)))
        return [
            Position(self.tree, sha1(self.state + index.to_bytes(4, "big")).digest(), self.level + 1)
            for index in range(count)
        ]


@dataclass(frozen=True, slots=True)
class Visit:
    """What was seen so far: of one node, or of many."""

    nodes: int = 0
    leaves: int = 0
    max_depth: int = 0

    def __add__(self, other: Visit) -> Visit:
        return Visit(self.nodes + other.nodes, self.leaves + other.leaves, max(self.max_depth, other.max_depth))


class Search(Operator):
    """Plant the root."""

    def process(self, tree: Tree) -> None:
        state = sha1(bytes(16) + tree.seed.to_bytes(4, "big")).digest()
        self.tell(self.spawn(Node), Position(tree, state, 0))


class Node(Operator):
    """Spawn an actor for each child, report the own visit, and be gone."""

    def process(self, here: Position) -> Visit:
        children = here.children()
        for child in children:
            self.tell(self.spawn(Node), child)
        self.stop_actor()
        return Visit(nodes=1, leaves=0 if children else 1, max_depth=here.level)


app = App("savina-uts")
uts = app.stream("uts", Tree, Visit).then(Search).fold(Visit(), Visit.__add__)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Search the tree of branching `b`, depth `depth` and seed `seed`."""
    seen = await client.request(uts, Tree(params["b"], params["depth"], params["seed"]))
    return {"nodes": seen.nodes, "leaves": seen.leaves, "max_depth": seen.max_depth}
