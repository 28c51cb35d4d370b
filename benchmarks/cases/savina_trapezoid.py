"""Savina 21, the trapezoid rule: scatter an integral over a hundred workers and add up.

It shows the shortest form of master and workers: spawn, tell, and let the stream fold what the workers return.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from actorflow import App, Client, Operator


@dataclass(frozen=True, slots=True)
class Integral:
    """The area from `left` to `right` in `pieces` strips, by so many workers."""

    left: float
    right: float
    pieces: int
    workers: int


@dataclass(frozen=True, slots=True)
class Strips:
    """One worker's share: the strips `first` up to (not including) `last` of those that begin at `left`."""

    left: float
    width: float
    first: int
    last: int


class Scatter(Operator):
    """Give each worker its share of the strips."""

    def process(self, task: Integral) -> None:
        width = (task.right - task.left) / task.pieces
        bounds = [task.pieces * index // task.workers for index in range(task.workers + 1)]
        for first, last in pairwise(bounds):
            self.tell(self.spawn(Worker), Strips(task.left, width, first, last))


class Worker(Operator):
    """Return the area of some strips."""

    def process(self, share: Strips) -> float:
        heights = [height(share.left + index * share.width) for index in range(share.first, share.last + 1)]
        self.stop_actor()
        return (math.fsum(heights) - (heights[0] + heights[-1]) / 2) * share.width


def height(x: float) -> float:
    """Return the function to integrate at `x`."""
    return math.sin(x**3 - 1) / (x + 1) * math.sqrt(1 + math.exp(math.sqrt(2 * x)))


app = App("savina-trapezoid")
trapezoid = app.stream("trapezoid", Integral, float).then(Scatter).collect().map(math.fsum)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Integrate from `L` to `R` in `N` strips by `W` workers."""
    area = await client.request(trapezoid, Integral(params["L"], params["R"], params["N"], params["W"]))
    return {"area": area}
