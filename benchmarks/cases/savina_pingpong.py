"""Ping-pong: two actors throw one ball back and forth.

Shows `spawn` and `tell` between two actors, an address that travels in a message, and how what actors return enters the
stream at the operator that spawned them: each counts its own side, `collect` waits until both have said their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator


@dataclass(slots=True)
class Ball:
    """The one message in play."""

    number: int
    sender: Address


@dataclass(slots=True)
class GameOver:
    """Tells a player to say how many balls it has hit."""


class Ping(Operator):
    """Serves, and serves again whenever the ball comes back."""

    def __init__(self, balls: int, opponent: Address) -> None:
        self.balls = balls
        self.opponent = opponent
        self.served = 0

    def process(self, ball: Ball | None) -> tuple[str, int] | None:
        assert self.served == (0 if ball is None else ball.number + 1), "the ball came back out of turn"
        if self.served == self.balls:
            self.tell(self.opponent, GameOver())
            return "pings", self.served
        self.tell(self.opponent, Ball(self.served, self.address))
        self.served += 1
        return None


class Pong(Operator):
    """Returns every ball to who threw it."""

    def __init__(self) -> None:
        self.returned = 0

    def process(self, message: Ball | GameOver) -> tuple[str, int] | None:
        if isinstance(message, GameOver):
            return "pongs", self.returned
        assert message.number == self.returned, "a ball was skipped"
        self.returned += 1
        self.tell(message.sender, Ball(message.number, self.address))
        return None


class Match(Operator):
    """Brings the players together."""

    def process(self, balls: int) -> None:
        pong = self.spawn(Pong)
        self.tell(self.spawn(Ping, balls, pong), None)


app = App("savina-pingpong")
pingpong = app.stream("pingpong", int, dict, timeout_s=60).then(Match).collect().map(dict)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    return await client.request(pingpong, params["N"])
