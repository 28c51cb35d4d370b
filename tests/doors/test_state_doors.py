"""State seen from outside: over HTTP, by clients near and far, from the command line; keys of requests; stores."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from actorflow import App, Client, InvalidItemError, Operator, UnknownStreamError
from actorflow.cli import main
from actorflow.gateway import Gateway, serving
from actorflow.local import LocalConnection
from actorflow.runtime import journal
from actorflow.runtime.host import Host
from actorflow.stores import MemoryStore, Store, open_store

SEATS = [(1, "a"), (1, "b"), (2, "a")]


def make_app(release: asyncio.Event | None = None) -> App:
    """Return an app whose state is filled by the stream "fill"; "hold" locks a number until it is released."""
    app = App("state")
    numbers_cell = app.table("numbers", key="number", key_type=int)
    names_cell = app.table("names", key="name", key_type=str)
    seats_cell = app.table("seats", key="seat")
    mixed_cell = app.table("mixed", key="mixed")
    rate_cell = app.value("rate")
    total_cell = app.counter("total")
    tags_cell = app.set("tags", str, key="name")
    fields_cell = app.map("fields", key="name")
    book_cell = app.log("book", key="name")

    class Fill(Operator):
        numbers, names, seats = numbers_cell.exclusive(), names_cell.exclusive(), seats_cell.exclusive()
        mixed, rate, total = mixed_cell.exclusive(), rate_cell.exclusive(), total_cell.merged()
        tags, fields, book = tags_cell.merged(), fields_cell.merged(), book_cell.merged()

        async def process(self, _: Any) -> None:
            (await self.numbers.lock(*range(12))).update({number: number * number for number in range(12)})
            names = ("ann", "5", "a/b", "ü &?", "null")
            (await self.names.lock(*names)).update({name: {"name": name} for name in names})
            (await self.seats.lock(*SEATS)).update({seat: list(seat) for seat in SEATS})
            (await self.mixed.lock(5, "5", True)).update({5: "number", "5": "text"})
            await self.rate.lock()
            self.rate.set([1, 2])
            self.total.add(7)
            self.tags["ann"].add("new")
            self.fields["ann"].put("size", 3)
            self.book["ann"].append("first")
            self.book["ann"].append("second")

    class Hold(Operator):
        numbers = numbers_cell.exclusive()
        concurrency = 10

        async def process(self, number: int) -> int:
            await self.numbers.lock(number)
            assert release is not None
            await release.wait()
            return number

    class Add(Operator):
        total = total_cell.merged()

        async def process(self, number: int) -> int:
            await asyncio.sleep(0.01)
            self.total.add(number)
            if number < 0:
                raise ValueError("negative")
            return number

    class Range(Operator):
        total = total_cell.merged()

        def process(self, number: int) -> Iterator[int]:
            self.total.add(number)
            yield from range(number)

    app.stream("fill", replies="none").then(Fill)
    app.stream("hold", int, int).then(Hold)
    app.stream("add", int, int).then(Add)
    app.stream("range", int, int, replies="many").then(Range)
    app.stream("slow", float, float).map(asyncio.sleep)
    return app


Door = tuple[aiohttp.ClientSession, Gateway]


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    async with serving(make_app(), port=0, store=MemoryStore()) as gateway:
        await Client(LocalConnection(gateway._host)).request("fill", None)
        async with aiohttp.ClientSession(gateway.url) as session:
            yield session, gateway


async def get(door: Door, path: str) -> tuple[int, Any]:
    async with door[0].get(path) as answer:
        return answer.status, await answer.json(content_type=None)


# -- HTTP


async def test_all_cells_are_listed_with_kind_key_space_and_size(door: Door) -> None:
    status, cells = await get(door, "/cells")

    found = {cell["name"]: (cell["kind"], cell["key"], cell["entries"]) for cell in cells}
    assert status == 200
    assert found == {
        "numbers": ("table", "number", 12), "names": ("table", "name", 5), "seats": ("table", "seat", 3),
        "mixed": ("table", "mixed", 2), "rate": ("value", None, 1), "total": ("counter", None, 1),
        "tags": ("set", "name", 1), "fields": ("map", "name", 1), "book": ("log", "name", 2),
    }  # fmt: skip
    assert all((cell["locked"], cell["waiting"]) == (0, 0) for cell in cells)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("numbers/5", 25),
        ("names/ann", {"name": "ann"}),
        ("names/5", {"name": "5"}),
        ("names/null", {"name": "null"}),
        ("names/a/b", {"name": "a/b"}),
        ("names/" + quote("ü &?"), {"name": "ü &?"}),
        ("seats/" + quote('[1,"a"]'), [1, "a"]),
        ("mixed/5", "number"),
        ("mixed/" + quote('"5"'), "text"),
        ("rate", [1, 2]),
        ("total", 7),
        ("tags/ann", ["new"]),
        ("fields/ann", {"size": 3}),
        ("book/ann", ["first", "second"]),
    ],
)
async def test_an_entry_is_told_under_its_key(door: Door, path: str, value: Any) -> None:
    assert await get(door, f"/cells/{path}") == (200, value)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("nowhere", 404, "there is no cell 'nowhere' (cells: numbers, names"),
        ("nowhere/5", 404, "there is no cell 'nowhere'"),
        ("numbers/99", 404, "table 'numbers' has nothing under key 99"),
        ("names/bob", 404, "table 'names' has nothing under key 'bob'"),
        ("tags/bob", 404, "set 'tags' has nothing under key 'bob'"),
        ("numbers/five", 422, "'five' is no key of 'numbers'"),
        ("seats/" + quote('{"row": 1}'), 422, "cannot be a key"),
        ("rate/5", 422, "value 'rate' has no keys"),
        ("total/5", 422, "counter 'total' has no keys"),
        ("numbers?limit=0", 422, "limit='0' is not a whole number from 1 to 10000"),
        ("numbers?limit=10001", 422, "limit='10001' is not a whole number from 1 to 10000"),
        ("numbers?limit=-1", 422, "limit='-1' is not a whole number"),
        ("numbers?limit=many", 422, "limit='many' is not a whole number"),
        ("numbers?start=ten", 422, "'ten' is no key of 'numbers'"),
        ("seats?start=x", 422, "cannot be compared with the keys"),
    ],
)
async def test_what_is_not_there_or_makes_no_sense_gets_a_problem_document(
    door: Door, path: str, status: int, said: str
) -> None:
    found, problem = await get(door, f"/cells/{path}")

    assert found == status
    assert said in problem["detail"]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", list(range(12))),
        ("?start=9", [9, 10, 11]),
        ("?end=2", [0, 1]),
        ("?start=3&end=6", [3, 4, 5]),
        ("?start=3&limit=2", [3, 4]),
        ("?start=6&end=3", []),
        ("?start=100", []),
        ("?start=-5&end=1", [0]),
    ],
)
async def test_a_range_is_in_order_of_the_keys_from_start_up_to_end(door: Door, query: str, keys: list[int]) -> None:
    status, entries = await get(door, f"/cells/numbers{query}")

    assert status == 200
    assert entries == [{"key": key, "value": key * key} for key in keys]


async def test_a_range_of_keys_of_several_parts_begins_in_the_middle_of_them(door: Door) -> None:
    _, entries = await get(door, "/cells/seats?start=" + quote('[1,"b"]'))

    assert [entry["key"] for entry in entries] == [[1, "b"], [2, "a"]]


async def test_a_range_of_collections_has_each_as_a_whole(door: Door) -> None:
    assert await get(door, "/cells/book") == (200, [{"key": "ann", "value": ["first", "second"]}])


async def test_a_host_without_cells_has_none() -> None:
    app = App("none")
    app.stream("echo")
    async with serving(app, port=0) as gateway, aiohttp.ClientSession(gateway.url) as session:
        assert await get((session, gateway), "/cells") == (200, [])
        assert await get((session, gateway), "/locks") == (200, [])
        status, problem = await get((session, gateway), "/cells/stock")

    assert status == 404
    assert "cells: none" in problem["detail"]


async def test_state_needs_the_token_like_everything_else() -> None:
    async with serving(make_app(), port=0, token="secret") as gateway, aiohttp.ClientSession(gateway.url) as session:
        for path in ("/cells", "/cells/numbers", "/cells/numbers/5", "/locks"):
            assert (await get((session, gateway), path))[0] == 401


@contextlib.asynccontextmanager
async def holding(count: int) -> AsyncIterator[Gateway]:
    """Run the app while so many requests want number 5: one of them has it."""
    release = asyncio.Event()
    async with serving(make_app(release), port=0) as gateway:
        client = Client(LocalConnection(gateway._host))
        asking = [asyncio.create_task(client.request("hold", 5)) for _ in range(count)]
        while sum(1 for _ in gateway._host.spaces["number"].wanted()) < count - 1:
            await asyncio.sleep(0)
        yield gateway
        release.set()
        assert await asyncio.gather(*asking) == [5] * count


async def test_locks_are_told_with_who_has_them_and_who_waits() -> None:
    async with holding(3) as gateway, aiohttp.ClientSession(gateway.url) as session:
        _, locks = await get((session, gateway), "/locks")
        _, cells = await get((session, gateway), "/cells")

    (lock,) = locks
    assert (lock["space"], lock["key"]) == ("number", "5")
    assert len(lock["holders"]) == 1
    assert len(lock["waiting"]) == 2
    owners = [*lock["holders"], *(waiting["who"] for waiting in lock["waiting"])]
    assert all(owner.startswith("hold/Hold (request state-") for owner in owners)
    assert len(set(owners)) == 3
    assert all(0 <= waiting["for_s"] < 10 for waiting in lock["waiting"])
    assert (cells[0]["locked"], cells[0]["waiting"]) == (1, 2)


async def test_what_is_only_in_the_memory_of_the_host_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FULL_RETRY_S", 0.01)
    store = MemoryStore()
    async with serving(make_app(), port=0, store=store) as gateway, aiohttp.ClientSession(gateway.url) as session:
        host: Host = gateway._host
        room, store.bytes_max = store.bytes_max, 0
        host.begin(host.stream("fill"), None)
        paths = ("/cells", "/cells/numbers", "/cells/numbers/5", "/locks")
        asking = [asyncio.create_task(get((session, gateway), path)) for path in paths]
        _, pending = await asyncio.wait(asking, timeout=0.05)
        store.bytes_max = room
        answers = await asyncio.gather(*asking)

    assert len(pending) == len(paths)
    assert [status for status, _ in answers] == [200] * len(paths)


# -- the header Idempotency-Key


async def post(door: Door, stream: str, body: Any, key: str | None, **headers: str) -> tuple[int, Any]:
    if key is not None:
        headers["Idempotency-Key"] = key
    async with door[0].post(f"/streams/{stream}", json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_posts_with_one_key_are_one_request(door: Door) -> None:
    at_once = await asyncio.gather(*(post(door, "add", 3, "k") for _ in range(3)))
    later = await post(door, "add", 3, "k")

    assert [*at_once, later] == [(200, 3)] * 4
    assert await get(door, "/cells/total") == (200, 10)


async def test_posts_without_a_key_are_as_many_requests(door: Door) -> None:
    await asyncio.gather(*(post(door, "add", 3, None) for _ in range(3)))

    assert await get(door, "/cells/total") == (200, 16)


async def test_a_list_of_replies_is_kept_under_its_key(door: Door) -> None:
    answers = [await post(door, "range", 3, "k") for _ in range(2)]

    assert answers == [(200, [0, 1, 2])] * 2
    assert await get(door, "/cells/total") == (200, 10)


async def test_a_key_that_was_used_for_something_else_is_422(door: Door) -> None:
    await post(door, "add", 3, "k")

    for stream, item in (("add", 4), ("range", 3)):
        status, problem = await post(door, stream, item, "k")
        assert status == 422
        assert "'k' was used for another stream or item" in problem["detail"]
    assert await get(door, "/cells/total") == (200, 10)


@pytest.mark.parametrize("key", ["", "k" * 257], ids=["empty", "too-long"])
async def test_a_key_that_is_none_is_422(door: Door, key: str) -> None:
    status, problem = await post(door, "add", 3, key)

    assert status == 422
    assert "1 to 256 characters" in problem["detail"]


async def test_a_caller_that_left_gets_the_answer_when_it_asks_again() -> None:
    release = asyncio.Event()
    async with serving(make_app(release), port=0) as gateway, aiohttp.ClientSession(gateway.url) as session:
        asking = asyncio.create_task(post((session, gateway), "hold", 5, "k"))
        while not gateway._host.requests:
            await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(0.02)
        (request,) = gateway._host.requests.values()
        release.set()

        assert await post((session, gateway), "hold", 5, "k") == (200, 5)
        assert request.state


async def test_an_answer_is_the_same_over_http_and_for_a_client_with_the_same_key(door: Door) -> None:
    async with Client(door[1].url) as client:
        assert await client.request("add", 3, key="k") == 3
    assert await post(door, "add", 3, "k") == (200, 3)
    assert await get(door, "/cells/total") == (200, 10)


async def test_an_answer_that_a_client_far_away_has_is_forgotten(door: Door) -> None:
    host = door[1]._host
    async with Client(door[1].url) as client:
        await client.request("add", 3)
        await client.request("add", 3, key="its own")
    while len(host.answers) > 1:
        await asyncio.sleep(0.001)

    assert await get(door, "/cells/total") == (200, 13)
    assert len(host.answers) == 1  # that of a key of the caller's own, who may ask again


# -- after a restart


def kept_in(path: Path) -> Store:
    return open_store(f"sqlite:///{path}/kept.db", sync=False)


@contextlib.asynccontextmanager
async def kept_door(path: Path, release: asyncio.Event | None = None) -> AsyncIterator[Door]:
    """Open a door to a host with the store of a folder."""
    async with (
        serving(make_app(release), port=0, store=kept_in(path)) as gateway,
        aiohttp.ClientSession(gateway.url) as session,
    ):
        yield session, gateway


async def test_a_request_is_found_by_its_id_after_a_restart(tmp_path: Path) -> None:
    async with serving(make_app(asyncio.Event()), port=0, store=kept_in(tmp_path)) as gateway:
        async with Client(gateway.url) as client:
            request_id = await client.send("hold", 5)
        first = gateway._host
        first.crash()
        assert first.journal is not None
        first.journal.store.close()
    release = asyncio.Event()
    async with kept_door(tmp_path, release) as door:
        status, seen = await get(door, f"/requests/{request_id}")
        release.set()
        while (await get(door, f"/requests/{request_id}"))[0] == 200:
            await asyncio.sleep(0.001)

    assert status == 200
    assert (seen["id"], seen["stream"], seen["state"], seen["outstanding"]) == (request_id, "hold", "running", 1)
    assert 0 < seen["deadline_in_s"] <= 30


async def test_state_and_answers_are_there_when_a_door_opens_again(tmp_path: Path) -> None:
    paths = ("/cells/total", "/cells/seats", "/cells/book")
    async with kept_door(tmp_path) as door:
        assert await post(door, "add", 3, "k") == (200, 3)
        await post(door, "fill", None, None)
        before = [await get(door, path) for path in paths]
    async with kept_door(tmp_path) as door:
        assert await post(door, "add", 3, "k") == (200, 3)
        after = [await get(door, path) for path in paths]

    assert after == before


async def test_a_client_far_away_gets_the_one_answer_from_the_next_host(tmp_path: Path, unused_tcp_port: int) -> None:
    release = asyncio.Event()
    app = make_app(release)
    async with serving(app, port=unused_tcp_port, store=kept_in(tmp_path)) as gateway:
        client = Client(gateway.url)
        asking = asyncio.create_task(client.request("hold", 5))
        while not gateway._host.requests:
            await asyncio.sleep(0.001)
    release.set()
    async with serving(app, port=unused_tcp_port, store=kept_in(tmp_path)):
        assert await asyncio.wait_for(asking, 5.0) == 5
        await client.close()


# -- clients near and far


Ask = Callable[[Client], Awaitable[Any]]

QUESTIONS: dict[str, Ask] = {
    "cells": lambda client: client.cells(),
    "a number": lambda client: client.cell("numbers", 5),
    "a name": lambda client: client.cell("names", "5"),
    "a pair": lambda client: client.cell("seats", (1, "a")),
    "a value": lambda client: client.cell("rate"),
    "a counter": lambda client: client.cell("total"),
    "a set": lambda client: client.cell("tags", "ann"),
    "a map": lambda client: client.cell("fields", "ann"),
    "a log": lambda client: client.cell("book", "ann"),
    "a range": lambda client: client.cell_range("numbers", 3, 6),
    "a range from": lambda client: client.cell_range("numbers", 9),
    "a range to": lambda client: client.cell_range("numbers", end=2, limit=1),
    "a range of pairs": lambda client: client.cell_range("seats", (1, "b")),
    "locks": lambda client: client.locks(),
}
WRONG: dict[str, tuple[Ask, type[Exception], str]] = {
    "no cell": (lambda client: client.cell("nowhere", 5), UnknownStreamError, "there is no cell 'nowhere'"),
    "no entry": (lambda client: client.cell("numbers", 99), UnknownStreamError, "nothing under key 99"),
    "no key": (lambda client: client.cell("numbers"), InvalidItemError, "has keys: name one, or ask for a range"),
    "a key too many": (lambda client: client.cell("rate", 5), InvalidItemError, "has no keys"),
    "no keys": (lambda client: client.cell_range("rate"), InvalidItemError, "has no keys, and no range"),
    "no limit": (lambda client: client.cell_range("numbers", limit=0), InvalidItemError, "limit=0"),
    "too much": (lambda client: client.cell_range("numbers", limit=10_001), InvalidItemError, "1 to 10000 entries"),
    "apples and pears": (lambda client: client.cell_range("numbers", "a"), InvalidItemError, "cannot be compared"),
    "an unhashable key": (lambda client: client.cell("seats", {"row": 1}), InvalidItemError, "cannot be a key"),
}


async def near_and_far(gateway: Gateway, question: Ask) -> tuple[Any, Any]:
    near = await question(Client(LocalConnection(gateway._host)))
    async with Client(gateway.url) as client:
        return near, await question(client)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.replace(" ", "-"))
async def test_state_is_the_same_for_a_client_near_and_far(door: Door, question: str) -> None:
    near, far = await near_and_far(door[1], QUESTIONS[question])

    assert near == far
    assert near is not None


async def test_a_range_is_pairs_of_keys_and_values(door: Door) -> None:
    near, far = await near_and_far(door[1], QUESTIONS["a range of pairs"])

    assert near == far == [((1, "b"), [1, "b"]), ((2, "a"), [2, "a"])]


@pytest.mark.parametrize("question", WRONG, ids=lambda question: question.replace(" ", "-"))
async def test_a_wrong_question_has_the_same_answer_near_and_far(door: Door, question: str) -> None:
    ask, kind, said = WRONG[question]

    with pytest.raises(kind, match=said) as near:
        await ask(Client(LocalConnection(door[1]._host)))
    async with Client(door[1].url) as client:
        with pytest.raises(kind) as far:
            await ask(client)

    assert str(far.value) == str(near.value)


async def test_locks_are_the_same_near_and_far() -> None:
    async with holding(2) as gateway:
        near, far = await near_and_far(gateway, lambda client: client.locks())

    for waiting in (near[0]["waiting"][0], far[0]["waiting"][0]):
        assert waiting.pop("for_s") >= 0
    assert near == far
    assert [(lock["space"], len(lock["holders"]), len(lock["waiting"])) for lock in near] == [("number", 1, 1)]


async def test_what_a_client_is_told_it_may_change(door: Door) -> None:
    client = Client(LocalConnection(door[1]._host))

    (await client.cell("rate")).append("mine")

    assert await client.cell("rate") == [1, 2]


# -- the command line


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "200"})


async def state(door: Door, *arguments: str) -> Result:
    """Run `actorflow state` against the door, in a thread, for it has an event loop of its own."""
    return await asyncio.to_thread(invoke, "state", *arguments, "--url", door[1].url)


async def test_the_command_shows_all_cells_as_a_table(door: Door) -> None:
    result = await state(door)

    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()]
    assert any("numbers" in row and "table" in row and "12" in row for row in rows)
    assert any("rate" in row and "value" in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("numbers", "5"), [25]),
        (("names", "ann"), [{"name": "ann"}]),
        (("names", "5"), [{"name": "5"}]),
        (("seats", '[1,"a"]'), [[1, "a"]]),
        (("rate",), [[1, 2]]),
        (("total",), [7]),
        (("numbers", "--start", "3", "--end", "5"), [[3, 9], [4, 16]]),
        (("numbers", "--limit", "1"), [[0, 0]]),
        (("seats", "--start", '[2,"a"]'), [[[2, "a"], [2, "a"]]]),
        (("book",), [["ann", ["first", "second"]]]),
    ],
)
async def test_the_command_prints_entries_as_lines_of_json(
    door: Door, arguments: tuple[str, ...], said: list[Any]
) -> None:
    result = await state(door, *arguments)

    assert result.exit_code == 0, result.output
    assert [json.loads(line) for line in result.stdout.splitlines()] == said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere",), 1, "there is no cell 'nowhere'"),
        (("numbers", "99"), 1, "has nothing under key 99"),
        (("numbers", "--limit", "0"), 2, "--limit"),
        (("rate", "5"), 1, "has no keys"),
    ],
    ids=["no-cell", "no-entry", "no-limit", "no-keys"],
)
async def test_the_command_says_in_one_sentence_what_is_not_there(
    door: Door, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = await state(door, *arguments)

    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output


def test_the_command_says_that_no_host_answers() -> None:
    result = invoke("state", "--url", "http://127.0.0.1:9")

    assert result.exit_code == 1
    assert "no host answers" in result.output


# -- looking after a store


def fill(path: Path) -> None:
    """Make a store with 300 rows of a cell in it, at a path."""
    store = open_store(f"sqlite:///{path}", sync=False)
    store.open(app="state")
    for number in range(1, 4):
        store.append(number, bytes(100_000))
    store.fold(3, [("cell:numbers", b"%04d" % number, bytes(1000)) for number in range(300)])
    store.fold(3, [("cell:numbers", b"%04d" % number, None) for number in range(100, 300)])
    store.close()


def test_a_sound_store_is_checked_also_while_a_host_has_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    fill(path)
    store = open_store(f"sqlite:///{path}")
    store.open(app="state")

    result = invoke("store", "check", f"sqlite:///{path}")
    store.close()

    assert result.exit_code == 0
    assert "bytes, tables cell:numbers" in result.output


def test_a_damaged_store_is_told_and_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    fill(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE rows SET crc32 = crc32 + 1 WHERE key = ?", (b"0042",))
        connection.commit()

    result = invoke("store", "check", f"sqlite:///{path}")

    assert result.exit_code == 1
    assert "0042" in result.output
    assert "Traceback" not in result.output


def test_a_copy_is_made_while_a_host_has_the_store_and_is_sound(tmp_path: Path) -> None:
    path, copy = tmp_path / "kept.db", tmp_path / "copy.db"
    fill(path)
    store = open_store(f"sqlite:///{path}")
    store.open(app="state")

    result = invoke("store", "backup", f"sqlite:///{path}", str(copy))
    store.close()

    assert result.exit_code == 0
    assert str(copy) in result.output
    assert invoke("store", "check", f"sqlite:///{copy}").exit_code == 0


def test_a_copy_is_never_made_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    fill(path)
    (tmp_path / "copy.db").write_text("precious")

    result = invoke("store", "backup", f"sqlite:///{path}", str(tmp_path / "copy.db"))

    assert result.exit_code == 1
    assert "is there already" in result.output
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_compacting_gives_back_room_and_keeps_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    fill(path)
    before = path.stat().st_size

    result = invoke("store", "compact", f"sqlite:///{path}")

    assert result.exit_code == 0
    assert result.output.startswith("gave back ")
    assert path.stat().st_size < before
    assert "cell:numbers" in invoke("store", "check", f"sqlite:///{path}").output


def test_a_store_that_a_host_has_is_not_compacted(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    fill(path)
    store = open_store(f"sqlite:///{path}")
    store.open(app="state")

    result = invoke("store", "compact", f"sqlite:///{path}")
    store.close()

    assert result.exit_code == 1
    assert "a store has one host" in result.output


@pytest.mark.parametrize("verb", ["check", "backup", "compact"])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{path}/nothing.db", "nothing.db"),
        ("memory:", "cannot be read from another one"),
        ("shop.db", "sqlite:///relative.db"),
    ],
    ids=["nothing", "memory", "no-url"],
)
def test_what_is_no_store_is_told_in_a_sentence(tmp_path: Path, verb: str, url: str, said: str) -> None:
    copy = (str(tmp_path / "copy.db"),) if verb == "backup" else ()

    result = invoke("store", verb, url.format(path=tmp_path), *copy)

    assert result.exit_code in {1, 2}
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


# -- the line that a host starts with


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., str]:
    """Return `start("--store", …)`: runs an app until it answers, drains it, and returns all that it said."""
    (tmp_path / "door_program.py").write_text("from actorflow import App\napp = App('shop')\napp.stream('echo')\n")

    def run(*arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "actorflow", "run", "door_program:app", "--port", "0", *arguments],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            said = ""
            while "Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            process.send_signal(signal.SIGINT)
            said += process.communicate(timeout=20)[0]
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        return said

    return run


def test_a_host_without_a_store_says_that_a_restart_forgets(start: Callable[..., str]) -> None:
    said = start()

    assert "shop answers on http://127.0.0.1:" in said
    assert "(in memory: a restart forgets)" in said


def test_a_host_with_a_store_says_where_it_keeps_what_it_does(start: Callable[..., str], tmp_path: Path) -> None:
    said = start("--store", "sqlite:///shop.db", "--sync", "off")

    assert "(kept in sqlite:///shop.db)" in said
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix not in {".py", ""}) == ["shop.db"]
    assert invoke("store", "check", f"sqlite:///{tmp_path}/shop.db").exit_code == 0
