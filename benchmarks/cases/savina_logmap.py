"""Logistic map: ten series, each of which asks an actor of its own for its next term, again and again.

Shows `ask` inside a handler. While a series waits for its term, its further messages wait in its mailbox (an actor
handles one at a time, across awaits too), and all other actors go on: what other systems call a stash is the default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from actorflow import Address, App, Client, Operator


@dataclass(slots=True)
class Plan:
    """How many terms of how many series; series i begins at i times the increment, with the rate raised by as much."""

    terms: int
    series: int
    rate: float
    increment: float


class RateComputer(Operator):
    """Knows the rate of one series."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def process(self, term: float) -> float:
        return self.rate * term * (1 - term)


class Series(Operator):
    """Knows the current term of one series."""

    def __init__(self, number: int, term: float, computer: Address) -> None:
        self.number = number
        self.term = term
        self.computer = computer
        self.computing = False

    async def process(self, message: Literal["next", "get"]) -> tuple[int, float] | None:
        assert not self.computing, "two terms of one series at the same time"
        if message == "get":
            return self.number, self.term
        self.computing = True
        self.term = await self.ask(self.computer, self.term)
        self.computing = False
        return None


class Master(Operator):
    """Asks all series for all terms without waiting, and then for the last."""

    def process(self, plan: Plan) -> Iterator[None]:
        series = [self.start_series(plan, number) for number in range(plan.series)]
        for _ in range(plan.terms):
            for each in series:
                self.tell(each, "next")
            yield
        for each in series:
            self.tell(each, "get")

    def start_series(self, plan: Plan, number: int) -> Address:
        """Spawn one series and its computer."""
        offset = number * plan.increment
        return self.spawn(Series, number, offset, self.spawn(RateComputer, plan.rate + offset))


def summary(series: list[tuple[int, float]]) -> dict[str, Any]:
    terms = [term for _, term in series]
    return {"per_series_repr": [repr(term) for term in terms], "terms_sum": math.fsum(terms)}


app = App("savina-logmap")
logmap = app.stream("logmap", Plan, dict, timeout_s=300).then(Master).sort().collect().map(summary)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(logmap, Plan(params["terms"], params["series"], params["rate"], params["inc"]))
