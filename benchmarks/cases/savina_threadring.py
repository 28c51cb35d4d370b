"""Thread ring: a token goes round a ring of a hundred actors until its count is used up.

Shows addresses as values (the ring is tied by telling the last actor where the first is), messages told apart by
`match`, and an orderly end: a second token goes round once and takes each actor with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator


@dataclass(slots=True)
class Ring:
    """How many actors, and how many times the token is handed on."""

    actors: int
    hops: int


@dataclass(slots=True)
class Link:
    """Ties the ring."""

    next: Address


@dataclass(slots=True)
class Token:
    """Goes round until nothing is left."""

    left: int


@dataclass(slots=True)
class Exit:
    """Goes round once; `left` actors are still to leave."""

    left: int


@dataclass(slots=True)
class Left:
    """What an actor says as it leaves."""

    pings: int
    last: int | None


class Member(Operator):
    """Hands the token on to the next."""

    next: Address

    def __init__(self, number: int, ring: Ring) -> None:
        self.number = number
        self.ring = ring
        self.pings = 0
        self.last: int | None = None

    def process(self, message: Link | Token | Exit) -> Left | None:
        match message:
            case Link(address):
                self.next = address
            case Token(left):
                assert self.number == (self.ring.hops - left) % self.ring.actors, "the token jumped"
                self.pings += 1
                if left:
                    self.tell(self.next, Token(left - 1))
                else:
                    self.last = self.number
                    self.tell(self.next, Exit(self.ring.actors))
            case Exit(left):
                if left > 1:
                    self.tell(self.next, Exit(left - 1))
                self.stop_actor()
                return Left(self.pings, self.last)
        return None


class Tie(Operator):
    """Makes the ring and lets the token in."""

    def process(self, ring: Ring) -> None:
        members = [self.spawn(Member, number, ring) for number in range(ring.actors)]
        for member, following in zip(members, members[1:] + members[:1], strict=True):
            self.tell(member, Link(following))
        self.tell(members[0], Token(ring.hops))


def summary(members: list[Left]) -> dict[str, int]:
    (last,) = [member.last for member in members if member.last is not None]
    return {
        "ping_messages_received": sum(member.pings for member in members),
        "last_actor": last,
        "actors_exited": len(members),
    }


app = App("savina-threadring")
threadring = app.stream("threadring", Ring, dict, timeout_s=60).then(Tie).collect().map(summary)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(threadring, Ring(actors=params["N"], hops=params["R"]))
