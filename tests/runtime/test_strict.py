"""Promise 6: same meaning near and far."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorflow import ActivationError, App, Operator


class Opaque:
    pass


class Spoils(Operator):
    def process(self, item: list[Any]) -> None:
        item.append("spoiled")


class Later(Operator):
    async def process(self, item: list[Any]) -> list[Any]:
        await asyncio.sleep(1)
        return item


@pytest.mark.parametrize("strict", [False, True])
def test_a_fan_out_gives_everyone_an_item_of_its_own(play, strict):
    app = App("t")
    one, two, three = app.stream("s", list).broadcast(3)
    one.then(Spoils)
    two.then(Spoils)
    three.then(Later)

    async def main(client, host):
        return await client.request("s", ["x"])

    assert play(app, main, strict=strict) == ["x"]


@pytest.mark.parametrize("way", ["emit", "tell", "send", "ask", "call", "reply", "spawn"])
def test_what_is_changed_after_it_was_handed_over_arrives_as_it_was(play, way):
    app = App("t")
    seen = []

    class Notes(Operator):
        def __init__(self, *first):
            seen.extend(first)

        def process(self, item):
            seen.append(item)
            return item

    class Changes(Operator):
        async def process(self, item):
            mine = ["x"]
            if way == "emit":
                self.emit(mine)
            elif way == "reply":
                self.reply(mine)
            elif way == "tell":
                self.tell(self.spawn(Notes), mine)
            elif way == "send":
                self.send("notes", mine)
            elif way == "ask":
                await self.ask(self.spawn(Notes), mine)
            elif way == "call":
                await self.call("notes", mine)
            else:
                self.spawn(Notes, mine)
            mine.append("changed")

    app.stream("notes", list).then(Notes)
    app.stream("s", int, replies="many").then(Changes).map(lambda item: seen.append(item) or item)

    async def main(client, host):
        replies = await client.request("s", 1)
        await asyncio.sleep(1)
        return replies

    replies = play(app, main, strict=True)

    if way != "reply":
        assert seen == [["x"]]
    if way in {"reply", "emit"}:
        assert replies == [["x"]]


@pytest.mark.parametrize("way", ["return", "reply", "defer"])
def test_an_actor_that_keeps_what_it_answered_does_not_share_it(play, way):
    app = App("t")

    class Keeps(Operator):
        def __init__(self):
            self.kept = ["x"]

        def process(self, item):
            if way == "reply":
                self.reply(self.kept)
            elif way == "defer":
                self.defer().reply(self.kept)
            return self.kept if way == "return" else None

    class Asks(Operator):
        async def process(self, item):
            keeper = self.spawn(Keeps)
            (await self.ask(keeper, 1)).append("spoiled")
            return await self.ask(keeper, 2)

    app.stream("s", int).then(Asks)

    async def main(client, host):
        return await client.request("s", 1)

    assert play(app, main, strict=True) == ["x"]


@pytest.mark.parametrize("way", ["emit", "tell", "ask", "send", "return"])
def test_an_item_that_cannot_travel_fails_its_request(play, way):
    app = App("t")

    class Sends(Operator):
        async def process(self, item):
            if way == "emit":
                self.emit(Opaque())
            elif way == "tell":
                self.tell(self.spawn(Spoils), Opaque())
            elif way == "ask":
                await self.ask(self.spawn(Spoils), Opaque())
            elif way == "send":
                self.send("sink", Opaque())
            return Opaque() if way == "return" else 1

    app.stream("sink", replies="none").then(Spoils)
    app.stream("s", int).then(Sends).then(Later)

    async def main(client, host):
        (answer,) = await asyncio.gather(client.request("s", 1), return_exceptions=True)
        letters = await client.dead_letters()
        return answer, letters

    answer, letters = play(app, main, strict=True)

    assert isinstance(answer, ActivationError) or (way == "send" and letters)
