"""Fork-join throughput: one operator sends sixty actors ten thousand messages each, in turn.

Shows many mailboxes under one request. Nobody counts what is still to come: each worker says its number when its last
message is there, and `collect` ends exactly when nothing of the request is anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actorflow import App, Client, Operator


@dataclass(slots=True)
class Load:
    """How many messages for each of how many actors."""

    messages: int
    actors: int


class Worker(Operator):
    """Computes a little for every message and emits how many there were after the last."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.done = 0

    def process(self, angle: float) -> int | None:
        assert math.sin(angle) ** 2 <= 1.0
        self.done += 1
        return self.done if self.done == self.messages else None


class Fork(Operator):
    """Sends to all workers in turn."""

    def process(self, load: Load) -> Iterator[None]:
        workers = [self.spawn(Worker, load.messages) for _ in range(load.actors)]
        for _ in range(load.messages):
            for worker in workers:
                self.tell(worker, 37.2)
            yield


def join(counts: list[int]) -> dict[str, int]:
    assert len(set(counts)) == 1, "the workers were not served alike"
    return {"messages_total": sum(counts), "messages_per_actor": counts[0], "actors": len(counts)}


app = App("savina-fjthrput")
fjthrput = app.stream("fjthrput", Load, dict, timeout_s=180).then(Fork).collect().map(join)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(fjthrput, Load(messages=params["N"], actors=params["A"]))
