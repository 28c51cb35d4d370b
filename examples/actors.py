"""Plain actors: ping-pong, and a ring. Actors are spawned by an operator and end with the request.

python -m examples.actors
"""

import asyncio

from actorflow import Address, App, Operator


class Player(Operator):
    """Sends the ball back until it has been played often enough."""

    def process(self, ball: tuple[int, Address]) -> str | None:
        left, partner = ball
        if left == 0:
            return "game over"  # what an actor returns goes where its operator's items go: here, to the reply
        self.tell(partner, (left - 1, self.address))
        return None


class Match(Operator):
    def process(self, shots: int) -> None:
        ping, pong = self.spawn(Player), self.spawn(Player)
        self.tell(ping, (shots, pong))


class Link(Operator):
    """One place in a ring: hands a token to the next until it has made its hops."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.next: Address | None = None

    def process(self, message: Address | int) -> str | None:
        if isinstance(message, Address):
            self.next = message
        elif message == 0:
            return f"the token ends at link {self.number}"
        elif self.next is not None:
            self.tell(self.next, message - 1)
        return None


class Ring(Operator):
    def __init__(self, size: int) -> None:
        self.size = size

    def process(self, hops: int) -> None:
        links = [self.spawn(Link, number) for number in range(self.size)]
        for link, following in zip(links, links[1:] + links[:1], strict=True):
            self.tell(link, following)
        self.tell(links[0], hops)


app = App("actors")
match = app.stream("match", int, str).then(Match)
ring = app.stream("ring", int, str).then(Ring, size=100)


async def main() -> None:
    async with app.local() as client:
        print(await client.request(match, 10_000))
        print(await client.request(ring, 12_345))


if __name__ == "__main__":
    asyncio.run(main())
