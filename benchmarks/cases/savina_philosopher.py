"""Dining philosophers: twenty philosophers eat, and each needs the two forks between its neighbours and itself.

Shows a small lock manager written with `defer`: who cannot eat yet gets the answer later, in the order of asking. Both
forks are granted at once, so there is no deadlock; who waits longer goes before, so there is no starvation.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator, Pending


@dataclass(slots=True)
class Dinner:
    """How many philosophers have how many meals each."""

    philosophers: int
    meals: int


@dataclass(slots=True)
class Hungry:
    """Asks for both forks; answered when they are granted."""

    seat: int


@dataclass(slots=True)
class Sated:
    """Gives both forks back."""

    seat: int


@dataclass(slots=True)
class Over:
    """Asks how many forks are held."""


class Table(Operator):
    """Grants forks in pairs, first come first served."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.eating: set[int] = set()
        self.hungry: dict[int, Pending] = {}

    def process(self, message: Hungry | Sated | Over) -> int | None:
        match message:
            case Hungry(seat):
                self.hungry[seat] = self.defer()
            case Sated(seat):
                self.eating.remove(seat)
            case Over():
                return 2 * len(self.eating)
        self.serve()
        return None

    def serve(self) -> None:
        """Let everybody eat whose forks are free and not wanted by one who has waited longer."""
        taken = {fork for seat in self.eating for fork in self.forks(seat)}
        for seat, pending in list(self.hungry.items()):
            wanted = self.forks(seat)
            if taken.isdisjoint(wanted):
                assert self.eating.isdisjoint({(seat - 1) % self.seats, (seat + 1) % self.seats}), "neighbours eat"
                self.eating.add(seat)
                del self.hungry[seat]
                pending.reply(None)
            taken |= wanted

    def forks(self, seat: int) -> set[int]:
        """Return the numbers of the two forks beside a seat."""
        return {seat, (seat + 1) % self.seats}


class Philosopher(Operator):
    """Thinks, is hungry, eats."""

    def __init__(self, seat: int, table: Address) -> None:
        self.seat = seat
        self.table = table

    async def process(self, meals: int) -> int:
        for _ in range(meals):
            await self.ask(self.table, Hungry(self.seat))
            await self.ask(self.table, Sated(self.seat))
        return meals


class Host(Operator):
    """Seats the philosophers and waits until all have finished."""

    async def process(self, dinner: Dinner) -> dict[str, int]:
        table = self.spawn(Table, dinner.philosophers)
        philosophers = [self.spawn(Philosopher, seat, table) for seat in range(dinner.philosophers)]
        meals = await asyncio.gather(*(self.ask(philosopher, dinner.meals) for philosopher in philosophers))
        return {
            "meals_total": sum(meals),
            "meals_per_philosopher": min(meals),
            "forks_held_at_end": await self.ask(table, Over()),
        }


app = App("savina-philosopher")
philosopher = app.stream("philosopher", Dinner, dict, timeout_s=180).then(Host)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(philosopher, Dinner(params["N"], params["M"]))
