"""Ackermann's function by a stream that calls itself for its argument, and then for its value.

Shows deep recursion through a stream: the first call's answer is an argument of the second, so an operator awaits both.
Whatever waits at any depth does so in the one replica of the operator, which is why it lets so many items wait at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import App, Client, Operator


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the function is asked for."""

    m: int
    n: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A value, and the runs of the stream that it took to find it."""

    value: int
    runs: int


class Ackermann(Operator):
    """Answer at once, or call the stream for what it takes."""

    concurrency = 10_000

    async def process(self, asked: Arguments) -> Answer:
        m, n = asked.m, asked.n
        if m == 0:
            return Answer(n + 1, 1)
        inner: Answer = await self.call(ackermann, Arguments(m, n - 1)) if n else Answer(1, 0)
        outer: Answer = await self.call(ackermann, Arguments(m - 1, inner.value))
        return Answer(outer.value, inner.runs + outer.runs + 1)


app = App("ackermann")
ackermann = app.stream("ackermann", Arguments, Answer, timeout_s=120).then(Ackermann)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask for the value at `m` and `n`."""
    answer = await client.request(ackermann, Arguments(params["m"], params["n"]))
    return {"value": answer.value, "invocations": answer.runs}
