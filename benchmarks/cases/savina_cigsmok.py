"""Cigarette smokers: an arbiter gives ingredients to one smoker at a time, at random.

Shows a conversation in turns (give, started, give, …) and a skewed load: the suite's generator alternates between odd
and even numbers, so that half of the two hundred smokers never get anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash


@dataclass(slots=True)
class Evening:
    """How many cigarettes are handed out to how many smokers."""

    rounds: int
    smokers: int


@dataclass(slots=True)
class Ingredients:
    """What makes one cigarette, and how long it takes to smoke."""

    busy: int
    arbiter: Address


@dataclass(slots=True)
class Started:
    """The smoker has lit it: the arbiter may go on."""


@dataclass(slots=True)
class Exit:
    """Nothing more to smoke."""


class Smoker(Operator):
    """Smokes what it is given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.smoked = self.busy = 0

    def process(self, message: Ingredients | Exit) -> tuple[int, int, int] | None:
        match message:
            case Ingredients(busy, arbiter):
                self.tell(arbiter, Started())
                self.smoked += 1
                for _ in range(busy):
                    self.busy += 1
                return None
            case Exit():
                self.stop_actor()
                return self.number, self.smoked, self.busy


class Arbiter(Operator):
    """Chooses a smoker, waits until it has lit its cigarette, and chooses again."""

    def __init__(self, evening: Evening, smokers: list[Address]) -> None:
        self.left = evening.rounds
        self.smokers = smokers
        self.chance = SavinaLCG(evening.rounds * evening.smokers)

    def process(self, _: Started) -> None:
        if self.left:
            self.left -= 1
            chosen = self.smokers[self.chance.next_int() % len(self.smokers)]
            self.tell(chosen, Ingredients(self.chance.next_int(1000) + 10, self.address))
        else:
            for smoker in self.smokers:
                self.tell(smoker, Exit())


class Invite(Operator):
    """Brings arbiter and smokers together."""

    def process(self, evening: Evening) -> None:
        smokers = [self.spawn(Smoker, number) for number in range(evening.smokers)]
        self.tell(self.spawn(Arbiter, evening, smokers), Started())


def summary(smokers: list[tuple[int, int, int]]) -> dict[str, Any]:
    smoked = [count for _, count, _ in sorted(smokers)]
    return {
        "rounds": sum(smoked),
        "per_smoker_sha256": seq_hash(smoked),
        "max_for_one_smoker": max(smoked),
        "smokers_never_chosen": smoked.count(0),
        "sum_of_busy_wait": sum(busy for _, _, busy in smokers),
    }


app = App("savina-cigsmok")
cigsmok = app.stream("cigsmok", Evening, dict, timeout_s=60).then(Invite).collect().map(summary)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(cigsmok, Evening(rounds=params["R"], smokers=params["S"]))
