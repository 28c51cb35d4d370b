"""A function means the same in every language: the same tests for a Python operator and for guests in each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actorflow import AccessError, ActivationError, ActorflowError, App, Operator, TrapError, WasmTimeoutError
from actorflow.testing import simulate, simulated
from actorflow.wasm.function import Guests
from actorflow.wasm.hosting import NOBODY
from tests.wasm.languages import GUESTS, LANGUAGES, Guest, Language, python_batch

EDGES = [sign * (1 << bits) + near for bits in (5, 7, 8, 15, 16, 31, 32, 63) for sign in (1, -1) for near in (-1, 0, 1)]
INTEGERS = [0, 1, -1, (1 << 64) - 1, *(edge for edge in EDGES if -(1 << 63) <= edge < 1 << 64)]
"""At all boundaries of MessagePack's forms."""
LENGTHS = (0, 1, 31, 32, 255, 256, 65_535, 65_536)
VALUES: list[Any] = [
    None,
    True,
    False,
    *INTEGERS,
    *(0.0, -0.0, 1.5, -2.25, 1e308, 5e-324, float("inf"), float("-inf"), 2.0**53),
    *("x" * length for length in LENGTHS),
    "größe 漢字 😀\0",
    *(bytes(length) for length in LENGTHS),
    bytes(range(256)),
    *(list(range(length)) for length in (0, 1, 15, 16, 65_535, 65_536)),
    *({str(n): n for n in range(length)} for length in (0, 1, 15, 16, 65_536)),
    [[], [[]], {"a": {"b": [None, {"c": []}]}}, ["x", b"y", 1.0]],
    {"name": "tea", 7: [1, 2, 3], "": {}},
]


SMALL = {"component-of-python": {"memory_bytes": 64 << 20}}


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> Language:
    return LANGUAGES[request.param]


@pytest.fixture(params=GUESTS)
def guest(request: pytest.FixtureRequest) -> Guest:
    return GUESTS[request.param]


@pytest.fixture(params=[name for name in GUESTS if not name.startswith("component")])
def module(request: pytest.FixtureRequest) -> Guest:
    return GUESTS[request.param]


@pytest.fixture(params=["strict", "inline"])
def play(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return `play(app, main)`: run `main(client)` in virtual time, with each item through the codec, or as it is."""
    strict = request.param == "strict"

    def run(app: App, main: Callable[..., Any]) -> Any:
        async def body() -> Any:
            async with simulated(app, strict=strict, inline=not strict) as (client, _):
                return await main(client)

        return simulate(body)

    return run


async def ask(client: Any, items: list[Any], stream: str = "s", **options: Any) -> list[Any]:
    return [reply async for reply in client.stream(stream, items, **options)]


def one_step(operator: type[Operator], **options: Any) -> App:
    app = App("t")
    app.stream("s", list, replies="many", **options).flat_map(lambda items: items).then(operator)
    return app


# -- bytes


def test_every_kind_of_value_comes_back_as_it_went_in_its_shortest_form(language):
    batch = language.begin()

    for value in VALUES:
        sent = msgspec.msgpack.encode([["echo", value]])

        assert batch(sent) == msgspec.msgpack.encode([[0, [value]]]), repr(value)[:80]


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 1_000])
def test_a_batch_of_any_size_has_as_many_outcomes_in_order(language, count):
    sent = msgspec.msgpack.encode([["echo", n] for n in range(count)])

    assert msgspec.msgpack.decode(language.begin()(sent)) == [[0, [n]] for n in range(count)]


def test_outcomes_are_the_same_bytes_as_those_of_python(language):
    items = [
        *(["bare", value] for value in (7, -1, 0.5, "x", b"", True, {"a": [1]})),
        ["nothing", None],
        ["several", 0],
        ["several", 300],
        ["reply", [1, {"a": None}]],
        ["collatz", [1, 3]],
        ["collatz", [27, 0]],
        ["collatz", [1 << 40, 200]],
        ["error", "spoilt"],
        ["typed_error", ["OutOfStock", "tea"]],
        ["log", "line"],
        ["put", ["stock", "tea", 1]],
        ["delete", ["stock", ["a", 1]]],
        ["add", ["seen", None, "x"]],
        ["remove", ["seen", None, "x"]],
        ["another", None],
        ["another", ["a", "b"]],
    ]

    sent = msgspec.msgpack.encode(items)

    assert language.begin()(sent) == python_batch(sent)


def test_an_item_of_a_megabyte_comes_back(language):
    sent = msgspec.msgpack.encode([["echo", "x" * (1 << 20)], ["echo", bytes(1 << 20)]])

    assert language.begin()(sent) == python_batch(sent)


def test_memory_grows_for_a_large_batch_and_not_for_many(module):
    guests = Guests(module.function())
    small = msgspec.msgpack.encode([["echo", n] for n in range(100)])
    large = msgspec.msgpack.encode([["echo", "x" * (1 << 20)]])
    sizes = []

    for data, times in ((small, 10), (small, 10_000), (large, 20), (small, 10), (large, 20)):
        for _ in range(times):
            place = guests.take(NOBODY, 30.0)
            place.batch("process", data)
        sizes.append(place.memory_bytes())

    before, after_many, after_large, *later = sizes
    assert before == after_many
    assert later == [after_large, after_large]
    assert after_large < before + (64 << 20)


def test_a_guest_works_on_more_than_its_memory_holds(guest):
    guests = Guests(guest.function(**SMALL.get(guest.name, {"memory_bytes": 2 << 20})))
    batch = msgspec.msgpack.encode([["echo", "x" * 100_000]])
    given = msgspec.msgpack.encode([[0, ["x" * 100_000]]])

    assert all(guests.take(NOBODY, 30.0).batch("process", batch) == given for _ in range(100))


# -- items


def test_nothing_one_and_several_items_come_of_an_item(language, play):
    app = one_step(language.operator())

    async def main(client):
        return await ask(client, [["nothing", None], ["echo", 1], ["bare", 2], ["several", 3], ["nothing", None]])

    assert play(app, main) == [1, 2, 0, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 1_000])
def test_items_leave_in_the_order_in_which_they_came(language, play, count):
    app = one_step(language.operator())

    async def main(client):
        return await ask(client, [["echo", n] for n in range(count)])

    assert play(app, main) == list(range(count))


def test_a_reply_answers_past_the_steps_that_follow(language, play):
    app = App("t")
    app.stream("s", list).then(language.operator()).map(lambda item: ["passed", item])

    async def main(client):
        return await client.request("s", ["reply", {"a": 1}]), await client.request("s", ["echo", 1])

    assert play(app, main) == ({"a": 1}, ["passed", 1])


def test_an_item_goes_round_a_loop_as_often_as_it_needs(language, play):
    app = App("t")
    app.stream("s", list, int).then(language.operator(loops=True), feedback=True)

    async def main(client):
        return await asyncio.gather(*(client.request("s", ["collatz", [n, 0]]) for n in (1, 27, 97, 871)))

    assert play(app, main) == [0, 111, 118, 178]


def test_a_function_knows_its_round(language, play):
    app = App("t")
    app.stream("s", list, int).then(language.operator(loops=True), feedback=True)

    async def main(client):
        return await asyncio.gather(*(client.request("s", ["trips", n]) for n in (0, 1, 7)))

    assert play(app, main) == [0, 1, 7]


# -- errors


def test_an_error_of_one_item_is_that_of_its_request_and_says_what_the_function_said(language, play):
    app = one_step(language.operator())

    async def main(client):
        with pytest.raises(ActivationError, match="spoilt") as caught:
            await ask(client, [["echo", 1], ["error", "spoilt"], ["echo", 2]])
        with pytest.raises(ActivationError, match="no tea"):
            await ask(client, [["typed_error", ["OutOfStock", "no tea"]]])
        return caught.value.stream, await ask(client, [["echo", 3]])

    assert play(app, main) == ("s", [3])


def test_the_others_of_a_batch_stand_where_failed_items_are_set_aside(language, play):
    app = one_step(language.operator(), on_error="set_aside")
    items = [["echo", 1], ["error", "one"], ["several", 2], ["typed_error", ["Bad", "two"]], ["reply", 4], ["bare", 3]]

    async def main(client):
        return await ask(client, items), len(await client.dead_letters())

    replies, letters = play(app, main)

    assert sorted(replies) == [0, 1, 1, 3, 4]  # the reply may be ahead
    assert letters == 2


def test_a_trap_ends_its_item_only(guest, play):
    app = one_step(guest.operator(), on_error="set_aside")

    async def main(client):
        return await ask(client, [["echo", 1], ["trap", None], ["echo", 2]]), await ask(client, [["echo", 3]])

    assert play(app, main) == ([1, 2], [3])


def test_a_trap_is_a_typed_error(guest, play):
    app = one_step(guest.operator())

    async def main(client):
        with pytest.raises(TrapError) as caught:
            await ask(client, [["trap", None]])
        return await ask(client, [["echo", 3]]), bool(caught.value.trap)

    assert play(app, main) == ([3], True)


def test_what_never_ends_is_ended(guest):
    app = one_step(guest.operator(batch_s=0.1, slice_s=0.01))

    async def main():
        async with app.local() as client:
            with pytest.raises(WasmTimeoutError):
                await ask(client, [["spin", None]])
            return await ask(client, [["echo", 3]])

    assert asyncio.run(main()) == [3]


# -- what the host offers


@pytest.mark.parametrize("command", ["log", "host_log"])
def test_lines_go_into_the_log_with_the_request_that_they_are_of(language, play, caplog, command):
    app = one_step(language.operator())

    async def main(client):
        with caplog.at_level(logging.INFO, "actorflow.wasm"):
            return await ask(client, [[command, "größe"]])

    assert play(app, main) == []
    (line,) = [record for record in caplog.records if record.name == "actorflow.wasm"]
    assert line.getMessage() == "größe"
    assert line.request_id


def test_the_clock_is_that_of_the_simulation(language, play):
    app = one_step(language.operator())

    async def main(client):
        (before,) = await ask(client, [["clock", None]])
        await asyncio.sleep(3_600)
        (after,) = await ask(client, [["clock", None]])
        return after - before

    assert play(app, main) == pytest.approx(3_600, abs=0.01)


def test_a_function_knows_how_long_its_request_may_take(language, play):
    app = one_step(language.operator())

    async def main(client):
        return await ask(client, [["deadline", None]], timeout_s=40)

    assert play(app, main) == pytest.approx([40], abs=0.01)


def test_a_function_knows_the_id_of_its_request(language, play):
    app = App("t")

    class Beside(Operator):
        def process(self, item):
            return item, self.request.id

    app.stream("s", list, tuple).then(language.operator()).then(Beside)

    async def main(client):
        return [await client.request("s", ["request_id", None]) for _ in range(3)]

    ids = play(app, main)

    assert all(said == known for said, known in ids)
    assert len(set(ids)) == 3


# -- cells


def shop(language: Language, **options: Any) -> App:
    """Return an app with an owned table: the key in hand is the one of the command."""
    app = App("t")
    stock = app.table("stock", key="sku", value=Any)
    operator = language.operator({"stock": stock.owned()})
    app.stream("s", list, replies="many", **options).flat_map(lambda items: items).key_by(
        lambda item: item[1][1], space="sku"
    ).then(operator)
    return app


@pytest.mark.parametrize("way", ["", "host_"])
def test_rows_are_put_and_deleted_by_verbs_and_by_host_functions(language, play, way):
    app = shop(language)

    async def main(client):
        await ask(client, [[f"{way}put", ["stock", sku, {"left": n}]] for n, sku in enumerate(("tea", "ink", "cup"))])
        await ask(client, [[f"{way}delete", ["stock", "ink"]], [f"{way}delete", ["stock", "never"]]])
        return await client.cell_range("stock")

    assert play(app, main) == [("cup", {"left": 2}), ("tea", {"left": 0})]


def test_get_gives_what_is_there_however_large(language, play):
    app = shop(language)
    values = [None, 0, "", "x" * 14, "x" * 15, "x" * 16, "x" * 40_000, [1, [2]], {"a": b"b"}, 1.5]

    async def main(client):
        given = []
        for value in values:
            given += await ask(client, [["host_put", ["stock", "tea", value]], ["get", ["stock", "tea"]]])
        return given, await ask(client, [["get", ["stock", "none"]]])

    assert play(app, main) == (values, ["absent"])


def test_get_writes_only_what_fits(language, play):
    app = shop(language)

    async def main(client):
        await ask(client, [["put", ["stock", "tea", "1234567"]]])
        return await ask(client, [["room", ["stock", "tea", room]] for room in (0, 7, 8, 9)]) + await ask(
            client, [["room", ["stock", "none", 8]]]
        )

    assert play(app, main) == [[8, False], [8, False], [8, True], [8, True], [-1, False]]


def test_a_sum_for_each_key_is_that_of_python(language, play):
    app = shop(language)
    items = [["sum", ["stock", f"k{n % 7}", n * n - 500]] for n in range(400)]
    expected: dict[str, int] = {}
    steps = []
    for _, (_, key, n) in items:
        expected[key] = expected.get(key, 0) + n
        steps.append([key, expected[key]])

    async def main(client):
        return await ask(client, items), await client.cell_range("stock")

    given, rows = play(app, main)

    assert sorted(given) == sorted(steps)
    assert dict(rows) == expected


def test_what_an_item_put_is_not_there_when_it_fails(language, play):
    app = shop(language)

    async def main(client):
        await ask(client, [["put", ["stock", "tea", 1]]])
        for sku in ("tea", "ink"):
            with pytest.raises(ActivationError, match="after"):
                await ask(client, [["put_then_error", ["stock", sku, 2]]])
        return await client.cell_range("stock"), await ask(client, [["get", ["stock", "tea"]]])

    assert play(app, main) == ([("tea", 1)], [1])


@pytest.mark.parametrize("command", ["put", "host_put"])
def test_another_key_than_the_one_in_hand_is_refused(language, play, command):
    app = App("t")
    stock = app.table("stock", key="sku", value=Any)
    operator = language.operator({"stock": stock.owned()})
    app.stream("s", list, replies="many").key_by(lambda _: "tea", space="sku").then(operator)

    async def main(client):
        with pytest.raises(AccessError):
            await client.request("s", [command, ["stock", "ink", 1]])
        return await client.cell_range("stock")

    assert play(app, main) == []


@pytest.mark.parametrize("command", ["put", "host_put", "add", "host_add", "get"])
def test_a_cell_that_is_not_declared_is_refused(guest, play, command):
    app = shop(guest)
    app.table("secrets", key="sku", value=Any)
    argument = ["secrets", "tea"] if command == "get" else ["secrets", "tea", 1]

    async def main(client):
        with pytest.raises(AccessError, match="does not declare"):
            await ask(client, [[command, argument]])

    play(app, main)


@pytest.mark.parametrize("command", ["put", "host_put", "delete", "host_delete"])
def test_a_snapshot_is_read_and_never_written(language, play, command):
    app = shop(language)
    stock = app.cells["stock"]
    look = language.operator({"stock": stock.snapshot()})
    app.stream("look", list, replies="many").then(look)
    argument = ["stock", "tea"] if command.endswith("delete") else ["stock", "tea", 2]

    async def main(client):
        await ask(client, [["put", ["stock", "tea", 1]]])
        seen = await client.request("look", ["get", ["stock", "tea"]])
        with pytest.raises(ActorflowError):
            await client.request("look", [command, argument])
        return seen, await client.cell_range("stock")

    assert play(app, main) == ([1], [("tea", 1)])


@pytest.mark.parametrize("way", ["", "host_"])
def test_merged_cells_take_what_many_give_them(language, play, way):
    app = App("t")
    cells = {
        "hits": app.counter("hits").merged(),
        "by": app.counter("by", key="sku").merged(),
        "most": app.max("most", int).merged(),
        "seen": app.set("seen", str).merged(),
        "last": app.map("last", int).merged(),
        "lines": app.log("lines", str).merged(),
    }
    app.stream("s", list, replies="many").flat_map(lambda items: items).then(language.operator(cells))
    add, remove = f"{way}add", f"{way}remove"

    async def main(client):
        await ask(client, [[add, ["hits", None, n]] for n in range(10)] + [[add, ["by", "tea", 2]]] * 3)
        await ask(client, [[add, ["most", None, n]] for n in (3, 9, 4)])
        await ask(client, [[add, ["seen", None, word]] for word in "abca"] + [[remove, ["seen", None, "b"]]])
        await ask(client, [[add, ["last", None, [word, n]]] for n, word in enumerate("aba")])
        await ask(client, [[remove, ["last", None, "b"]], [add, ["lines", None, "one"]], [add, ["lines", None, "two"]]])
        found = await ask(client, [["get", [name, "tea" if name == "by" else None]] for name in cells])
        return dict(zip(cells, found, strict=True))

    found = play(app, main)

    assert sorted(found.pop("seen")) == ["a", "c"]
    assert found == {"hits": 45, "by": 6, "most": 9, "last": {"a": 2}, "lines": ["one", "two"]}
