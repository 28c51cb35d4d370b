"""Big: everybody pings everybody, at random, and waits for each pong before the next ping.

Shows many-to-many traffic among 120 actors and a sink that notices when all are done; only then does each say how many
pings it has received, because until then another may still ping it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG, seq_hash


@dataclass(slots=True)
class Party:
    """How many pings each of how many actors sends."""

    pings: int
    actors: int


@dataclass(slots=True)
class Neighbours:
    """Everybody's address, and the sink's: the sign to begin."""

    everybody: list[Address]
    sink: Address


@dataclass(slots=True)
class Ping:
    """Wants a pong back."""

    sender: int


@dataclass(slots=True)
class Pong:
    """The answer to a ping."""

    sender: int


@dataclass(slots=True)
class Exit:
    """The party is over."""


class Guest(Operator):
    """Pings others one after the other, and answers whoever pings it."""

    everybody: list[Address]
    sink: Address

    def __init__(self, number: int, pings: int) -> None:
        self.number = number
        self.left = pings
        self.chance = SavinaLCG(number)
        self.pinged: int | None = None
        self.received = 0

    def process(self, message: Neighbours | Ping | Pong | Exit) -> tuple[int, int] | None:
        match message:
            case Ping(sender):
                self.received += 1
                self.tell(self.everybody[sender], Pong(self.number))
            case Pong(sender):
                assert sender == self.pinged, "a pong came from somebody else"
                self.go_on()
            case Neighbours(everybody, sink):
                self.everybody, self.sink = everybody, sink
                self.go_on()
            case Exit():
                self.stop_actor()
                return self.number, self.received
        return None

    def go_on(self) -> None:
        """Ping the next, or tell the sink that all pings were answered."""
        if not self.left:
            self.tell(self.sink, self.number)
            return
        self.left -= 1
        self.pinged = self.chance.next_int(len(self.everybody))
        self.tell(self.everybody[self.pinged], Ping(self.number))


class Sink(Operator):
    """Ends the party when everybody is done."""

    def __init__(self, guests: list[Address]) -> None:
        self.guests = guests
        self.busy = set(range(len(guests)))

    def process(self, guest: int) -> None:
        self.busy.remove(guest)
        if not self.busy:
            for address in self.guests:
                self.tell(address, Exit())


class Invite(Operator):
    """Makes everybody known to everybody."""

    def process(self, party: Party) -> None:
        guests = [self.spawn(Guest, number, party.pings) for number in range(party.actors)]
        sink = self.spawn(Sink, guests)
        for guest in guests:
            self.tell(guest, Neighbours(guests, sink))


def summary(guests: list[tuple[int, int]]) -> dict[str, Any]:
    received = [count for _, count in sorted(guests)]
    return {
        "pings_total": sum(received),
        "pings_received_per_actor_sha256": seq_hash(received),
        "pings_received_first_10": received[:10],
        "max_received": max(received),
        "min_received": min(received),
    }


app = App("savina-big")
big = app.stream("big", Party, dict, timeout_s=180).then(Invite).collect().map(summary)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(big, Party(pings=params["N"], actors=params["W"]))
