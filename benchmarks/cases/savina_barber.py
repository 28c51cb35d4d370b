"""Sleeping barber: customers wait in a small room, or come back later when it is full; without any the barber sleeps.

Shows two kinds of waiting by `defer` in one plain actor (customers wait for their haircut, the barber for a customer),
and an actor that waits by the clock. The room closes itself after the last haircut, so the request can complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from actorflow import Address, App, Client, Operator, Pending

BACK_S = 0.01


@dataclass(slots=True)
class Day:
    """How many customers come, and how many of them fit in the waiting room."""

    customers: int
    seats: int


class WaitingRoom(Operator):
    """Knows who waits, who is in the chair, and whether the barber sleeps.

    "enter" is answered with True after the haircut, or with False at once when the room is full. "next" says that the
    one in the chair is done; it is answered with True when the next has sat down, or with False at the end of the day.
    """

    def __init__(self, day: Day) -> None:
        self.left = day.customers
        self.seats = day.seats
        self.waiting: deque[Pending] = deque()
        self.chair: Pending | None = None
        self.sleeper: Pending | None = None

    def process(self, message: Literal["enter", "next"]) -> bool | None:
        if message == "enter":
            if self.sleeper is None and len(self.waiting) == self.seats:
                return False
            self.waiting.append(self.defer())
            assert len(self.waiting) <= self.seats, "too many in the room"
        else:
            if self.chair is not None:
                self.chair.reply(True)
                self.chair = None
                self.left -= 1
            self.sleeper = self.defer()
        self.call_next()
        return None

    def call_next(self) -> None:
        """Wake the barber when there is a customer, or to go home."""
        if self.sleeper is not None and (self.waiting or not self.left):
            self.chair = self.waiting.popleft() if self.waiting else None
            self.sleeper.reply(self.chair is not None)
            self.sleeper = None


class Barber(Operator):
    """Cuts hair as long as somebody comes; ends with the number of haircuts."""

    def __init__(self, room: Address) -> None:
        self.room = room

    async def process(self, haircuts: int) -> tuple[str, int]:
        while await self.ask(self.room, "next"):
            haircuts += 1
        return "haircuts", haircuts


class Customer(Operator):
    """Tries until it is served, each time after twice as long; ends with the number of times it was turned away."""

    def __init__(self, room: Address) -> None:
        self.room = room

    async def process(self, turned_away: int) -> tuple[str, int]:
        while not await self.ask(self.room, "enter"):
            await asyncio.sleep(BACK_S * 2**turned_away)
            turned_away += 1
        return "turned away", turned_away


class Shop(Operator):
    """Opens the shop; all customers come at once."""

    def process(self, day: Day) -> None:
        room = self.spawn(WaitingRoom, day)
        self.tell(self.spawn(Barber, room), 0)
        for _ in range(day.customers):
            self.tell(self.spawn(Customer, room), 0)


app = App("savina-barber")
barber = app.stream("barber", Day, list, timeout_s=120).then(Shop).collect()


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    day = Day(params["N"], params["W"])
    reports = await client.request(barber, day)
    (haircuts,) = [count for what, count in reports if what == "haircuts"]
    turned_away = [count for what, count in reports if what == "turned away"]
    assert len(turned_away) == day.customers, "a customer did not come back"
    return {"haircuts": haircuts, "room_never_above": day.seats, "turned_away": sum(turned_away)}
