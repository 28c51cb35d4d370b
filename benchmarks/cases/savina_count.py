"""Count: one actor sends another a million increments without waiting, then asks for the sum.

Shows the raw throughput of a mailbox, FIFO per sender and receiver (the question comes last, so it is answered last),
and bounded memory: the producer is a generator, so its tells leave batch by batch and it pauses when too many wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from actorflow import App, Client, Operator


class Counter(Operator):
    """Counts, and says the count when it is asked for."""

    def __init__(self) -> None:
        self.count = 0

    def process(self, message: Literal["increment", "retrieve"]) -> int | None:
        if message == "increment":
            self.count += 1
            return None
        return self.count


class Producer(Operator):
    """Sends the increments and then the question."""

    def process(self, increments: int) -> Iterator[None]:
        counter = self.spawn(Counter)
        for _ in range(increments):
            self.tell(counter, "increment")
            yield
        self.tell(counter, "retrieve")


app = App("savina-count")
count = app.stream("count", int, int, timeout_s=180).then(Producer)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return {"count": await client.request(count, params["N"])}
