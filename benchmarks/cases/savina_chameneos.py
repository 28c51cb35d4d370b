"""Chameneos: creatures meet two by two in a mall and change to the colour that completes theirs.

Shows an actor that everybody contends for, a conversation of three (the mall introduces, the two talk directly), and
symmetric state: each creature changes its own colour only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from actorflow import Address, App, Client, Operator


class Colour(IntEnum):
    """The three colours. They add up to 3, so the third of two different ones is what is missing to 3."""

    BLUE = 0
    RED = 1
    YELLOW = 2

    def complement(self, other: Colour) -> Colour:
        """Return this colour where both are equal, else the third."""
        return self if self is other else Colour(3 - self - other)


@dataclass(slots=True)
class Visit:
    """How many creatures come, and how many meetings there will be."""

    creatures: int
    meetings: int


@dataclass(slots=True)
class Meet:
    """`sender`, of this colour, wants to meet somebody."""

    colour: Colour
    sender: Address


@dataclass(slots=True)
class Change:
    """The answer of who was met: change to this colour."""

    colour: Colour


@dataclass(slots=True)
class Closed:
    """The mall's answer once all meetings have taken place."""


class Mall(Operator):
    """Lets the first of two wait for the second, so many times."""

    def __init__(self, meetings: int) -> None:
        self.meetings = meetings
        self.waiting: Address | None = None

    def process(self, meet: Meet) -> None:
        if not self.meetings:
            self.tell(meet.sender, Closed())
        elif self.waiting is None:
            self.waiting = meet.sender
        else:
            self.tell(self.waiting, meet)
            self.waiting = None
            self.meetings -= 1


class Creature(Operator):
    """Meets others until the mall closes, then fades and says how many it has met."""

    def __init__(self, colour: Colour, mall: Address) -> None:
        self.colour = colour
        self.mall = mall
        self.met = 0

    def process(self, message: Meet | Change | Closed | None) -> int | None:
        match message:
            case Meet(colour, other):
                assert other != self.address, "a creature met itself"
                self.colour = self.colour.complement(colour)
                self.tell(other, Change(self.colour))
                self.met += 1
            case Change(colour):
                self.colour = colour
                self.met += 1
            case Closed():
                self.stop_actor()
                return self.met
        self.tell(self.mall, Meet(self.colour, self.address))
        return None


class Open(Operator):
    """Opens the mall and sends the creatures in, a third of each colour."""

    def process(self, visit: Visit) -> None:
        mall = self.spawn(Mall, visit.meetings)
        for number in range(visit.creatures):
            self.tell(self.spawn(Creature, Colour(number % 3), mall), None)


def summary(met: list[int]) -> dict[str, int]:
    total = sum(met)
    return {"sum_of_meeting_counts": total, "meetings": total // 2, "faded": len(met)}


app = App("savina-chameneos")
chameneos = app.stream("chameneos", Visit, dict, timeout_s=180).then(Open).collect().map(summary)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    result = await client.request(chameneos, Visit(params["chameneos"], params["meetings"]))
    assert result["sum_of_meeting_counts"] == 2 * params["meetings"]
    return result
