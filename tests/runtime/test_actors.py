"""Plain actors: spawn, tell, ask, deferred answers, timers, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actorflow import ActorGoneError, App, DroppedReplyError, Operator


class Echo(Operator):
    def process(self, item: Any) -> Any:
        return item


class EchoLater(Operator):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(1)
        return item


def test_an_address_travels_in_items(play):
    app = App("t")

    class Spawns(Operator):
        def process(self, item):
            return {"to": [self.spawn(Echo)], "item": item}

    class Asks(Operator):
        async def process(self, parcel):
            return await self.ask(parcel["to"][0], parcel["item"])

    app.stream("s", int).then(Spawns).then(Asks)

    async def main(client, host):
        return await client.request("s", 7)

    assert play(app, main) == 7


def test_what_an_actor_emits_enters_the_stream_where_its_parent_does(play):
    app = App("t")

    class Child(Operator):
        def process(self, n):
            if n:
                self.tell(self.spawn(Child), n - 1)
            return n

    class Parent(Operator):
        def process(self, n):
            self.tell(self.spawn(Child), n)

    app.stream("s", int).then(Parent).map(lambda n: n * 10).collect().map(sorted)

    async def main(client, host):
        return await client.request("s", 5), dict(host.actors)

    assert play(app, main) == ([0, 10, 20, 30, 40, 50], {})


def test_stop_actor_lets_it_finish_what_it_has_received(play):
    app = App("t")
    heard = []

    class Hears(Operator):
        async def process(self, item):
            await asyncio.sleep(0.1)
            heard.append(item)

        def stop(self):
            heard.append("stopped")

    class Parent(Operator):
        def process(self, n):
            child = self.spawn(Hears)
            for i in range(n):
                self.tell(child, i)
            self.stop_actor(child)
            self.tell(child, "too late")
            return n

    app.stream("s", int).then(Parent)

    async def main(client, host):
        answer = await client.request("s", 3)
        letters = await client.dead_letters()
        await asyncio.sleep(1)
        return answer, [letter["error"]["type"] for letter in letters]

    assert play(app, main) == (3, ["ActorGoneError"])
    assert heard == [0, 1, 2, "stopped"]


def test_a_gone_actor_is_named_to_whoever_asks_it(play):
    app = App("t")

    class Parent(Operator):
        async def process(self, item):
            child = self.spawn(Echo)
            await self.ask(child, 1)
            self.stop_actor(child)
            return child

    class Asks(Operator):
        async def process(self, child):
            return await self.ask(child, 2)

    app.stream("s", int).then(Parent).then(Asks)

    async def main(client, host):
        with pytest.raises(ActorGoneError, match="Echo"):
            await client.request("s", 1)
        return host.now_s()

    assert play(app, main) < 1


@pytest.mark.parametrize("busy", [False, True])
def test_an_ask_of_an_actor_whose_request_ends_is_told_so(play, busy):
    app = App("t")
    known: list[Any] = []

    class Slow(Operator):
        async def process(self, item):
            await asyncio.sleep(20)
            return item

    class Owner(Operator):
        async def process(self, item):
            known.append(self.spawn(Slow))
            if not busy:
                self.tell(known[0], 0)
                self.emit("x")
                return
            await asyncio.sleep(2)
            return

    class Asks(Operator):
        async def process(self, item):
            return await self.ask(known[0], item)

    app.stream("owner", int, replies="many").then(Owner)
    app.stream("asks", int).then(Asks)

    async def main(client, host):
        owner = asyncio.ensure_future(client.request("owner", 1, timeout_s=2.0))
        await asyncio.sleep(1)
        asking = client.request("asks", 1, timeout_s=9.0)
        answer, _ = await asyncio.gather(asking, owner, return_exceptions=True)
        return answer, host.now_s()

    answer, ended_s = play(app, main)

    assert isinstance(answer, ActorGoneError)
    assert ended_s == pytest.approx(2.0, abs=0.1)


def test_an_item_told_to_an_actor_that_ends_with_its_request_does_not_hang_the_teller(play):
    app = App("t")
    known: list[Any] = []

    class Slow(Operator):
        async def process(self, item):
            await asyncio.sleep(20)

    class Owner(Operator):
        async def process(self, item):
            known.append(self.spawn(Slow))
            await self.ask(known[0], 0)

    class Tells(Operator):
        def process(self, item):
            self.tell(known[0], item)
            return item

    app.stream("owner", int).then(Owner)
    app.stream("tells", int).then(Tells)

    async def main(client, host):
        owner = asyncio.ensure_future(client.request("owner", 1, timeout_s=2.0))
        await asyncio.sleep(1)
        telling = client.request("tells", 5, timeout_s=9.0)
        answer, _ = await asyncio.gather(telling, owner, return_exceptions=True)
        return answer, host.now_s()

    assert play(app, main) == (5, pytest.approx(2.0, abs=0.1))


def test_a_detached_actor_outlives_its_request_and_keeps_what_it_knows(play):
    app = App("t")
    known: list[Any] = []

    class Counter(Operator):
        total = 0

        def process(self, n):
            self.total += n
            return self.total

    class Adds(Operator):
        async def process(self, n):
            if not known:
                known.append(self.spawn_detached(Counter))
            return await self.ask(known[0], n)

    class Ends(Operator):
        def process(self, item):
            self.stop_actor(known[0])
            return True

    app.stream("add", int).then(Adds)
    app.stream("end", int).then(Ends)

    async def main(client, host):
        sums = [await client.request("add", n) for n in (1, 2, 3)]
        alive = len(host.actors)
        await client.request("end", 0)
        return sums, alive, len(host.actors)

    assert play(app, main) == ([1, 3, 6], 1, 0)


class Box(Operator):
    """Answers every request for an item when one has been put."""

    def __init__(self) -> None:
        self.takers: list[Any] = []
        self.fail_next = False

    def process(self, item: Any) -> Any:
        if item == "take":
            self.takers.append(self.defer())
        elif item == "drop":
            self.takers.clear()
        elif item == "fail":
            self.takers[0].reply("never seen")
            raise ValueError(item)
        elif self.takers:
            self.takers.pop(0).reply(item)
        return None


class ViaBox(Operator):
    box: Any = None

    async def process(self, item: Any) -> Any:
        self.__dict__.setdefault("boxes", [])
        if not self.boxes:
            self.boxes.append(self.spawn_detached(Box))
        return await self.ask(self.boxes[0], item)


def _box() -> App:
    app = App("t")
    app.stream("s", str, replies="many").then(ViaBox, concurrency=100)
    return app


async def _end(client: Any, host: Any) -> None:
    for replica in list(host.actors.values()):
        replica.close()


def test_a_deferred_answer_is_given_by_another_activation(play):
    async def main(client, host):
        taking = [asyncio.ensure_future(client.request("s", "take")) for _ in range(3)]
        await asyncio.sleep(1)
        for item in "abc":
            await client.request("s", item)
        answers = await asyncio.gather(*taking)
        await _end(client, host)
        return sorted(answers)

    assert play(_box(), main) == [["a"], ["b"], ["c"]]


def test_a_deferred_answer_that_is_dropped_is_an_error_at_once(play):
    async def main(client, host):
        taking = asyncio.ensure_future(client.request("s", "take"))
        await asyncio.sleep(1)
        await client.request("s", "drop")
        (answer,) = await asyncio.gather(taking, return_exceptions=True)
        await _end(client, host)
        return answer, host.now_s()

    answer, ended_s = play(_box(), main)

    assert isinstance(answer, DroppedReplyError)
    assert ended_s < 2


def test_a_deferred_answer_of_a_stream_that_is_dropped_is_an_error_at_once(play):
    app = App("t")

    class Drops(Operator):
        def process(self, item):
            self.defer()

    app.stream("s", int).then(Drops)

    async def main(client, host):
        with pytest.raises(DroppedReplyError):
            await client.request("s", 1)
        return host.now_s()

    assert play(app, main) < 1


def test_a_deferred_answer_given_by_a_failed_activation_was_not_given(play):
    async def main(client, host):
        taking = asyncio.ensure_future(client.request("s", "take"))
        await asyncio.sleep(1)
        (failed,) = await asyncio.gather(client.request("s", "fail"), return_exceptions=True)
        waiting = not taking.done()
        await client.request("s", "a")
        answer = await taking
        await _end(client, host)
        return type(failed).__name__, waiting, answer, host.now_s()

    assert play(_box(), main) == ("ValueError", True, ["a"], pytest.approx(1.0, abs=0.5))


def test_a_deferred_answer_is_taken_back_when_the_activation_that_deferred_fails(play):
    app = App("t")
    kept = []

    class Defers(Operator):
        def process(self, item):
            kept.append(self.defer())
            raise ValueError(item)

    app.stream("s", int).then(Defers)

    async def main(client, host):
        with pytest.raises(ValueError, match="1"):
            await client.request("s", 1)
        kept[0].reply(5)

    play(app, main)


def test_timers_hold_their_request_open_and_end_with_it(play):
    app = App("t")
    fired = []

    class Later(Operator):
        def process(self, item):
            if isinstance(item, tuple):
                fired.append(item)
                return item[0]
            self.after(5.0, (item,))
            return None

    app.stream("s", int).then(Later)

    async def main(client, host):
        answer, answered_s = await client.request("s", 1), host.now_s()
        asking = asyncio.ensure_future(client.request("s", 2))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.sleep(100)
        return answer, answered_s

    assert play(app, main) == (1, pytest.approx(5.0))
    assert fired == [(1,)]


@pytest.mark.parametrize("seed", range(20))
def test_rings_of_actors_end_with_their_requests(play, seed):
    app = App("t")

    class Node(Operator):
        after_me: Any = None

        def process(self, item):
            if not isinstance(item, int):
                self.after_me = item
            elif item:
                self.tell(self.after_me, item - 1)
            else:
                self.emit("done")

    class NodeLater(Node):
        async def process(self, item):
            await asyncio.sleep(0)
            Node.process(self, item)

    class Ring(Operator):
        def process(self, n):
            nodes = [self.spawn(Node if i % 2 else NodeLater) for i in range(5)]
            for one, other in zip(nodes, nodes[1:] + nodes[:1], strict=True):
                self.tell(one, other)
            self.tell(nodes[0], n)

    app.stream("s", int).then(Ring)

    async def main(client, host):
        return await asyncio.gather(*(client.request("s", n) for n in (0, 7, 50))), dict(host.actors)

    assert play(app, main, seed=seed) == (["done"] * 3, {})


@pytest.mark.parametrize("size", [2, 32, 200])
async def test_actors_that_emit_while_others_wait_their_turn_all_run(local, size):
    app = App("t")

    class Node(Operator):
        def process(self, item):
            return item

    class Crowd(Operator):
        def process(self, count):
            nodes = [self.spawn(Node) for _ in range(count)]
            for node in nodes:
                self.tell(node, 1)
            self.tell(nodes[0], 2)

    app.stream("crowd", int, int).then(Crowd).fold(0, lambda total, item: total + item)
    client = await local(app)

    assert await client.request("crowd", size, timeout_s=5.0) == size + 2
