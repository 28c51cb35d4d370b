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

    class Changes(Operator):
        def __init__(self):
            self.mine = ["x"]

        async def process(self, item):
            if item == "change":
                self.mine.append("changed")
            elif way == "emit":
                self.emit(self.mine)
            elif way == "reply":
                self.reply(self.mine)
            elif way == "tell":
                self.tell(self.spawn(Notes), self.mine)
            elif way == "send":
                self.send("notes", self.mine)
            elif way == "ask":
                await self.ask(self.spawn(Notes), self.mine)
            elif way == "call":
                await self.call("notes", self.mine)
            else:
                self.spawn(Notes, self.mine)

    app.stream("notes", list, replies="none").then(Notes)
    app.stream("s", str, replies="many").then(Changes)

    async def main(client, host):
        replies = await client.request("s", "hand over")
        await asyncio.sleep(1)
        await client.request("s", "change")
        return replies

    replies = play(app, main, strict=True)

    assert [*seen, *replies] == [["x"]]


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


@pytest.mark.parametrize(
    "way",
    [
        "emit",
        "tell",
        "ask",
        pytest.param(
            "send",
        ),
        "return",
    ],
)
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


def test_an_activation_whose_last_item_cannot_travel_leaves_nothing_of_the_others(play):
    app = App("t")
    told = []

    class Told(Operator):
        def process(self, item):
            told.append(item)

    class Sends(Operator):
        async def process(self, item):
            self.tell(self.spawn(Told), 1)
            self.send("sink", Opaque())

    app.stream("sink", replies="none").then(Spoils)
    app.stream("s", int, replies="none", on_error="set_aside").then(Sends)

    async def main(client, host):
        await asyncio.gather(client.request("s", 1), return_exceptions=True)
        await asyncio.sleep(1)

    play(app, main, strict=True)

    assert told == []
