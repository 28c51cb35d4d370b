"""Fork-join creation: forty thousand actors live for one message each.

Shows that an actor is cheap, that `stop_actor` ends it, and that nothing of it stays: the test holds weak references to
all actors and looks for them, and for left-over tasks, when the request has been answered.
"""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from typing import Any

from actorflow import App, Client, Operator

alive: weakref.WeakSet[Operator] = weakref.WeakSet()


class Mayfly(Operator):
    """Works on one message, and ends."""

    def __init__(self) -> None:
        alive.add(self)

    def process(self, angle: float) -> float:
        self.stop_actor()
        return math.sin(angle)


class Fork(Operator):
    """Creates the actors."""

    def process(self, actors: int) -> None:
        for _ in range(actors):
            self.tell(self.spawn(Mayfly), 37.2)
        assert len(alive) == actors, "not every actor was created"


app = App("savina-fjcreate")
fjcreate = app.stream("fjcreate", int, int, timeout_s=120).then(Fork).count()


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    tasks = len(asyncio.all_tasks())
    processed = await client.request(fjcreate, params["N"])
    for _ in range(1000):  # the answer overtakes the turns in which the last actors end
        if not alive:
            break
        await asyncio.sleep(0)
    gc.collect()
    assert len(asyncio.all_tasks()) == tasks, "a task was left behind"
    return {"actors_created": params["N"], "messages_processed": processed, "actors_alive_at_end": len(alive)}
