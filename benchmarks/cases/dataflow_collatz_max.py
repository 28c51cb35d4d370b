"""Which number takes the most steps to reach 1, when even ones are halved and odd ones tripled and raised by one?

Shows a feedback edge over stateless functions: millions of trips round a loop, each number making as many as it needs,
and a `reduce` behind the loop that is told when the last number has left it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from actorflow import App, Client

Walk: TypeAlias = tuple[int, int, int]
"""The steps taken, the number at the beginning, the number now."""

STEPS_MAX = 1000


def walks(limit: int) -> Iterator[Walk]:
    """Yield a walk for each number below the limit, before its first step."""
    for number in range(1, limit):
        yield 0, number, number


def step(walk: Walk) -> Walk:
    """Take one step."""
    steps, start, number = walk
    return steps + 1, start, 3 * number + 1 if number & 1 else number >> 1


def goes_on(walk: Walk) -> bool:
    """Return whether a walk has neither arrived nor become too long."""
    return walk[2] > 1 and walk[0] < STEPS_MAX


app = App("collatz-max")
collatz = app.stream("collatz-max", int, timeout_s=180).flat_map(walks).map(step).feedback(when=goes_on).reduce(max)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Find the longest walk that begins below `limit`."""
    steps, start, _ = await client.request(collatz, params["limit"])
    return {"best_steps": steps, "best_n": start}
