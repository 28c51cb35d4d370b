"""What survives a restart, what waits until it is durable, and what is refused: a host after another on one store.

All of it in virtual time. A host is either stopped, or killed with `crash`, and the next one opens the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import itertools
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from actorflow import (
    App,
    Client,
    HostLostError,
    InvalidItemError,
    ItemBudgetError,
    Limits,
    Operator,
    ReplayError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
    TooManyRequestsError,
)
from actorflow.cli import main
from actorflow.local import LocalConnection
from actorflow.plan.app import AppPlan, OpenPlan
from actorflow.runtime.cells import SWEEP_MAX
from actorflow.runtime.host import Host
from actorflow.stores import MemoryStore, Store, open_store
from actorflow.testing import check_nothing_left, simulate

Open = Callable[[], Store]
Main = Callable[[], Awaitable[Any]]

STARTS = itertools.count()
"""No two hosts are of one incarnation."""


@pytest.fixture(autouse=True, scope="module")
def little_to_collect() -> Iterator[None]:
    """Let the collector look only at what the tests here make: `run` has it look after each."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextlib.asynccontextmanager
async def hosted(
    app: AppPlan, store: Store | None, *, kill: bool = False, clock_back_s: float = 0.0
) -> AsyncIterator[Client]:
    """Run an app on a store; at the end its host stops, or is killed as it stands."""
    host = Host(app, inline=False, watch=False, chance=random.Random(next(STARTS)), store=store)
    host._wall_offset_s -= clock_back_s
    await host.start()
    client = Client(LocalConnection(host))
    client.host = host  # type: ignore[attr-defined]
    try:
        yield client
    except BaseException:
        await crash(host, store)
        raise
    if kill:
        await crash(host, store)
    else:
        await host.stop()
        check_nothing_left(host)


async def crash(host: Host, store: Store | None) -> None:
    host.crash()
    if store is not None:
        store.close()
    await asyncio.sleep(0)


def run(main: Main) -> Any:
    """Run a test in virtual time; what a killed host leaves behind is cancelled."""

    async def body() -> Any:
        result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        gc.collect()  # here, and not while the checker of a later test parses: what it finalizes may print a traceback
        return result

    return simulate(body, time_max_s=1_000_000.0)


def ask(client: Client, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
    """Begin to ask, and do not wait for the answer."""
    return asyncio.get_running_loop().create_task(client.request(*arguments, **options))


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what gives every host the same store: one object in memory, or a file opened anew."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    return lambda: open_store(f"sqlite:///{tmp_path}/kept.db", sync=False)


def bank(*, limits: Limits | None = None, **cell: Any) -> App:
    """An app with accounts: "deposit" adds and answers the sum, "history" appends, "look" reads both."""
    app = App("bank", limits=limits or Limits())
    accounts_cell = app.table("accounts", key="account", **{"value": int, **cell})
    history_cell = app.log("history")

    class Deposit(Operator):
        accounts = accounts_cell.owned()
        history = history_cell.merged()

        def process(self, item: Any) -> int:
            account, amount = item
            self.accounts[account] = total = self.accounts.get(account, 0) + amount
            self.history.append((account, amount))
            return total

    class Look(Operator):
        accounts = accounts_cell.snapshot()
        history = history_cell.snapshot()

        def process(self, _: Any) -> Any:
            return dict(self.accounts.items()), [tuple(entry) for entry in self.history]

    app.stream("deposit").key_by(lambda item: item[0], space="account").then(Deposit)
    app.stream("look").then(Look)
    app.stream("double", int, int).map(lambda number: number * 2)
    return app


# -- state, answers and keys


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_was_acknowledged_is_there_after_a_restart(place: Open, kill: bool) -> None:
    async def main() -> Any:
        async with hosted(bank(), place(), kill=kill) as client:
            for amount in (1, 2, 3):
                await client.request("deposit", ["ann", amount])
            await client.request("deposit", [(1, "bob"), 5])
        async with hosted(bank(), place()) as client:
            return await client.request("look", None)

    accounts, history = run(main)

    assert accounts == {"ann": 6, (1, "bob"): 5}
    assert history == [("ann", 1), ("ann", 2), ("ann", 3), ((1, "bob"), 5)]


def test_what_was_folded_and_what_was_not_are_one_after_many_restarts(place: Open) -> None:
    async def main() -> Any:
        for start in range(6):
            async with hosted(bank(), place(), kill=start % 2 == 0) as client:
                assert await client.request("deposit", ["ann", 1]) == start + 1
                if start % 3 == 0:
                    await asyncio.sleep(5.0)  # it is idle, and folds
        async with hosted(bank(), place()) as client:
            return await client.request("look", None)

    assert run(main) == ({"ann": 6}, [("ann", 1)] * 6)


def test_every_kind_of_cell_is_after_a_restart_what_it_was(place: Open) -> None:
    def everything() -> App:
        app = App("kinds")
        cells = {
            "table": app.table("table", key="k"), "rate": app.value("rate"), "count": app.counter("count", key="k"),
            "most": app.max("most", int), "least": app.min("least", int), "names": app.set("names", key="k"),
            "grown": app.set("grown", grow_only=True), "last": app.register("last"), "fields": app.map("fields"),
            "book": app.log("book", key="k"),
        }  # fmt: skip
        changing = ("count", "most", "least", "names", "grown", "last", "fields", "book")

        class Write(Operator):
            async def process(self, key: Any) -> None:
                (await self.table.lock(key))[key] = {"list": [1, (2, None)], "bytes": b"\0"}
                await self.rate.lock()
                self.rate.set(0.5)
                self.count[key].add(3)
                for cell in (self.most, self.least, self.last):
                    cell.put(7)
                self.names[key].add("gone")
                self.names[key].discard("gone")
                self.names[key].add(("a", 1))
                self.grown.add("b")
                self.fields.put("kept", [1])
                self.fields.put("gone", 2)
                self.fields.discard("gone")
                self.book[key].append("first")
                self.book[key].append("second")

        for name in ("table", "rate"):
            setattr(Write, name, cells[name].exclusive())
        for name in changing:
            setattr(Write, name, cells[name].merged())
        app.stream("write", replies="none").then(Write)
        return app

    async def state(client: Client) -> Any:
        keyed = {name: await client.cell_range(name) for name in ("table", "count", "names", "book")}
        whole = {name: await client.cell(name) for name in ("rate", "most", "least", "grown", "last", "fields")}
        return keyed, whole

    async def main() -> Any:
        async with hosted(everything(), place()) as client:
            await client.request("write", ("x", 1))
            await client.request("write", "y")
            before = await state(client)
        async with hosted(everything(), place(), kill=True) as client:
            between = await state(client)
            await client.request("write", "y")
        async with hosted(everything(), place()) as client:
            return before, between, await state(client)

    before, between, after = run(main)

    assert between == before
    assert before[1] == {
        "rate": 0.5, "most": 7, "least": 7, "grown": ["b"], "last": 7, "fields": {"kept": [1]},
    }  # fmt: skip
    assert dict(before[0]["names"]) == {("x", 1): [("a", 1)], "y": [("a", 1)]}
    assert dict(after[0]["count"]) == {("x", 1): 3, "y": 6}
    assert dict(after[0]["book"])["y"] == ["first", "second", "first", "second"]


def test_what_is_put_in_after_a_restart_is_the_last_though_the_clock_was_set_back(place: Open) -> None:
    def last() -> App:
        app = App("last")
        last_cell, fields_cell, book_cell = app.register("last"), app.map("fields"), app.log("book")

        class Put(Operator):
            last, fields, book = last_cell.merged(), fields_cell.merged(), book_cell.merged()

            def process(self, item: str) -> str:
                self.last.put(item)
                self.fields.put("field", item)
                self.book.append(item)
                return item

        app.stream("put").then(Put)
        return app

    async def main() -> Any:
        async with hosted(last(), place()) as client:
            await asyncio.sleep(100.0)
            await client.request("put", "first")
        async with hosted(last(), place(), clock_back_s=50.0) as client:
            await client.request("put", "second")
            return [await client.cell(name) for name in ("last", "fields", "book")]

    assert run(main) == ["second", {"field": "second"}, ["first", "second"]]


def test_a_failed_activation_leaves_nothing_in_the_store(place: Open) -> None:
    def failing() -> App:
        app = bank()
        accounts_cell = app.cells["accounts"]

        class Fails(Operator):
            accounts = accounts_cell.owned()  # type: ignore[attr-defined]

            def process(self, account: Any) -> None:
                self.accounts[account] = 99
                raise ValueError("too late")

        app.stream("fails").key_by(space="account").then(Fails)
        return app

    async def main() -> Any:
        async with hosted(failing(), place(), kill=True) as client:
            await client.request("deposit", ["ann", 1])
            with pytest.raises(ValueError, match="too late"):
                await client.request("fails", "ann")
            with pytest.raises(ValueError, match="too late"):
                await client.request("fails", "bob")
        async with hosted(failing(), place()) as client:
            return await client.request("look", None)

    assert run(main)[0] == {"ann": 1}


def test_who_asks_again_with_a_key_gets_the_one_answer_also_after_a_restart(place: Open) -> None:
    async def main() -> Any:
        async with hosted(bank(), place(), kill=True) as client:
            first = [await client.request("deposit", ["ann", 5], key="k") for _ in range(2)]
        async with hosted(bank(), place()) as client:
            again = await client.request("deposit", ["ann", 5], key="k")
            return [*first, again], await client.request("look", None)

    answers, (accounts, history) = run(main)

    assert answers == [5, 5, 5]
    assert (accounts, history) == ({"ann": 5}, [("ann", 5)])


def test_an_error_is_the_one_answer_too_and_keeps_its_class_and_fields(place: Open) -> None:
    def failing() -> App:
        app = bank()
        accounts_cell = app.cells["accounts"]

        class Writes(Operator):
            accounts = accounts_cell.owned()  # type: ignore[attr-defined]

            def process(self, account: Any) -> Any:
                self.accounts[account] = self.accounts.get(account, 0) + 1
                return account

        class Fails(Operator):
            def process(self, account: Any) -> None:
                raise LookupError("no such thing")

        app.stream("fails").key_by(space="account").then(Writes).then(Fails)
        return app

    async def caught(client: Client) -> Any:
        with pytest.raises(LookupError, match="no such thing") as error:
            await client.request("fails", "ann", key="k")
        return error.value.operator, error.value.retryable, error.value.args  # type: ignore[attr-defined]

    async def main() -> Any:
        async with hosted(failing(), place(), kill=True) as client:
            first = await caught(client)
        async with hosted(failing(), place()) as client:
            return first, await caught(client), (await client.request("look", None))[0]

    first, again, accounts = run(main)

    assert first == again == ("Fails", False, ("no such thing",))
    assert accounts == {"ann": 1}


def test_two_that_ask_with_one_key_at_once_get_one_answer_of_one_run() -> None:
    async def main() -> Any:
        async with hosted(bank(), MemoryStore()) as client:
            answers = await asyncio.gather(*(client.request("deposit", ["ann", 5], key="k") for _ in range(3)))
            return answers, await client.request("look", None)

    assert run(main) == ([5, 5, 5], ({"ann": 5}, [("ann", 5)]))


@pytest.mark.parametrize("restart", [False, True], ids=["same-host", "after-a-restart"])
@pytest.mark.parametrize(("stream", "item"), [("deposit", ["ann", 6]), ("look", ["ann", 5])], ids=["item", "stream"])
def test_a_key_that_was_used_for_something_else_is_refused(restart: bool, stream: str, item: Any) -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(), store) as client:
            await client.request("deposit", ["ann", 5], key="k")
            if not restart:
                with pytest.raises(InvalidItemError, match="'k' was used for another stream or item: take a new key"):
                    await client.request(stream, item, key="k")
        async with hosted(bank(), store) as client:
            with pytest.raises(InvalidItemError, match="'k' was used for another stream or item: take a new key"):
                await client.request(stream, item, key="k")
            return await client.request("look", None)

    assert run(main) == ({"ann": 5}, [("ann", 5)])


@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_has_a_length(key: str) -> None:
    async def main() -> None:
        async with hosted(bank(), None) as client:
            with pytest.raises(InvalidItemError, match=f"1 to 256 characters, not {len(key)}"):
                await client.request("deposit", ["ann", 5], key=key)

    run(main)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_an_answer_that_its_caller_has_is_forgotten_also_by_the_store(kill: bool) -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(), store, kill=kill) as client:
            host: Host = client.host  # type: ignore[attr-defined]
            await client.request("deposit", ["ann", 5], key="k")
            host.answers.forget(["k", "never heard of"])
            await client.request("deposit", ["bob", 1])
        async with hosted(bank(), store) as client:
            return await client.request("deposit", ["ann", 5], key="k")

    assert run(main) == 10


@pytest.mark.parametrize("restart", [False, True], ids=["same-host", "after-a-restart"])
def test_an_answer_is_forgotten_when_its_time_is_over(restart: bool) -> None:
    limits = Limits(answers_kept=1, answers_kept_s=60.0)

    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(limits=limits), store) as client:
            await client.request("deposit", ["ann", 5], key="k")
            await asyncio.sleep(59.0)
            with pytest.raises(TooManyRequestsError, match=r"raise Limits\(answers_kept=…\)"):
                await client.request("deposit", ["ann", 5], key="other")
            if not restart:
                await asyncio.sleep(2.0)
                return await client.request("deposit", ["ann", 5], key="other")
        async with hosted(bank(limits=limits), store) as client:
            with pytest.raises(TooManyRequestsError, match="keeps 1 answers"):
                await client.request("deposit", ["ann", 5], key="other")
            await asyncio.sleep(2.0)
            return await client.request("deposit", ["ann", 5], key="other")

    assert run(main) == 10


# -- what waits until it is durable


def test_a_full_store_acknowledges_nothing_and_goes_on_when_there_is_room() -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(), store) as client:
            await client.request("deposit", ["ann", 1])
            room, store.bytes_max = store.bytes_max, 0
            asking = [ask(client, "deposit", ["ann", 1]) for _ in range(3)]
            sending = asyncio.create_task(client.send("deposit", ["ann", 1]))
            await asyncio.sleep(100.0)
            waiting = [not task.done() for task in (*asking, sending)]
            store.bytes_max = room
            return waiting, await asyncio.gather(*asking), bool(await sending)

    assert run(main) == ([True] * 4, [2, 3, 4], True)


def test_what_a_full_store_did_not_acknowledge_was_never_done_when_the_host_is_killed() -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(), store, kill=True) as client:
            await client.request("deposit", ["ann", 1])
            room, store.bytes_max = store.bytes_max, 0
            asking = ask(client, "deposit", ["ann", 1], key="k")
            await asyncio.sleep(10.0)
            assert not asking.done()
        store.bytes_max = room
        async with hosted(bank(), store) as client:
            look = await client.request("look", None)
            return look, await client.request("deposit", ["ann", 1], key="k")

    assert run(main) == (({"ann": 1}, [("ann", 1)]), 2)


def test_a_host_that_stops_with_a_full_store_tells_who_waits_that_the_outcome_is_unknown() -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(), store) as client:
            await client.request("deposit", ["ann", 1])
            room, store.bytes_max = store.bytes_max, 0
            asking = ask(client, "deposit", ["ann", 1])
            await asyncio.sleep(1.0)
        with pytest.raises(StoreFullError, match=r"the outcome of request .* is unknown") as caught:
            await asking
        assert not caught.value.retryable
        store.bytes_max = room
        async with hosted(bank(), store) as client:
            return await client.request("look", None)

    assert run(main) == ({"ann": 1}, [("ann", 1)])


class FailingStore(MemoryStore):
    """A store whose disk fails."""

    failing = False

    def append(self, number: int, blob: bytes) -> None:
        if self.failing:
            raise StoreError("memory: the disk fails")
        super().append(number, blob)


def test_a_store_that_fails_ends_what_waits_and_nothing_new_is_taken() -> None:
    async def main() -> Any:
        store = FailingStore()
        async with hosted(bank(), store, kill=True) as client:
            await client.request("deposit", ["ann", 1])
            store.failing = True
            with pytest.raises(StoreError, match=r"the outcome of request .* is unknown.*the disk fails") as caught:
                await client.request("deposit", ["ann", 1])
            assert not caught.value.retryable
            with pytest.raises(Exception, match="the disk fails") as refused:
                await client.request("deposit", ["ann", 1])
            assert refused.value.retryable  # type: ignore[attr-defined]
        store.failing = False
        async with hosted(bank(), store) as client:
            return await client.request("look", None)

    assert run(main) == ({"ann": 1}, [("ann", 1)])


def test_only_what_follows_from_something_that_is_not_durable_waits() -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(bank(), store) as client:
            await client.request("deposit", ["ann", 1])
            clean = ask(client, "look", None)
            await asyncio.sleep(0.0)
            await asyncio.sleep(0.0)
            assert (await clean)[0] == {"ann": 1}
            room, store.bytes_max = store.bytes_max, 0
            depositing = ask(client, "deposit", ["ann", 1])
            await asyncio.sleep(1.0)
            looking, doubling = ask(client, "look", None), ask(client, "double", 4)
            outside = asyncio.create_task(client.cell("accounts", "ann"))
            await asyncio.sleep(1.0)
            seen = [task.done() for task in (depositing, looking, outside, doubling)]
            store.bytes_max = room
            return seen, await doubling, (await looking)[0], await outside

    assert run(main) == ([False, False, False, True], 8, {"ann": 2}, 2)


def test_streamed_replies_of_a_pure_stream_do_not_wait_and_those_of_a_reading_one_do() -> None:
    def streams() -> App:
        app = bank()
        accounts_cell = app.cells["accounts"]

        class Look(Operator):
            accounts = accounts_cell.snapshot()

            def process(self, item: Any) -> Any:
                return self.accounts.get(item)

        app.stream("pures", replies="many").map(str)
        app.stream("looks", replies="many").then(Look)
        return app

    async def main() -> Any:
        store = MemoryStore()
        async with hosted(streams(), store) as client:
            room, store.bytes_max = store.bytes_max, 0
            depositing = ask(client, "deposit", ["ann", 1])
            await asyncio.sleep(1.0)

            async def replies(stream: str) -> list[Any]:
                return [reply async for reply in client.stream(stream, items=["ann"])]

            pure, looks = (asyncio.create_task(replies(stream)) for stream in ("pures", "looks"))
            await asyncio.sleep(1.0)
            seen = (depositing.done(), pure.done(), looks.done())
            store.bytes_max = room
            return seen, await pure, await looks, await depositing

    assert run(main) == ((False, True, False), ["ann"], [1], 1)


def let_out(op: Any, item: Any) -> None:
    op.send("note", item)


def hidden() -> App:
    """An app with effects that the source does not show: a call by another name, and a helper that sends."""
    app = App("hidden", limits=Limits(timeout_s=600.0))
    count_cell = app.counter("count")

    class Counts(Operator):
        count = count_cell.merged()

        def process(self, item: Any) -> Any:
            self.count.add()
            return item

    class Waits(Operator):
        async def process(self, item: Any) -> Any:
            await asyncio.sleep(10.0)
            return item

    class Renames(Operator):
        async def process(self, item: Any) -> Any:
            call = self.call
            await self.call("echo", item)
            return await call("child", item)

    class Helped(Operator):
        def process(self, item: Any) -> Any:
            let_out(self, item)
            return item

    app.stream("echo").map(lambda item: item)
    app.stream("child").then(Counts).then(Waits)
    app.stream("note", replies="none").then(Counts)
    app.stream("renames").then(Renames)
    app.stream("helped").then(Helped)
    return app


@pytest.mark.parametrize("stream", ["renames", "helped"])
def test_an_effect_that_the_source_does_not_show_is_durable_before_it_is_acknowledged(stream: str) -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(hidden(), store) as client:
            room, store.bytes_max = store.bytes_max, 0
            asking = ask(client, stream, "a")
            await asyncio.sleep(20.0)
            waited, store.bytes_max = not asking.done(), room
            return waited, await asking, await client.cell("count")

    assert run(main) == (True, "a", 1)


def test_a_host_starts_though_a_request_with_hidden_effects_was_under_way() -> None:
    store = half_done(hidden(), "renames")

    async def main() -> Any:
        async with hosted(hidden(), store) as client:
            return await client.request("renames", "a", key="k"), await client.cell("count")

    assert run(main) == ("a", 1)


# -- stores that a host does not start on


def refused(app: App, store: Store) -> StoreError:
    """Return the error with which an app does not start on a store."""

    async def main() -> StoreError:
        host = Host(app, inline=False, watch=False, store=store)
        with pytest.raises(StoreError) as caught:
            await host.start()
        return caught.value

    error: StoreError = run(main)
    return error


def filled(path: Path, app: App | None = None) -> Store:
    """Return a store in a file, in which ann has an account."""

    async def main() -> None:
        async with hosted(app or bank(), open_store(f"sqlite:///{path}", sync=False)) as client:
            await client.request("deposit", ["ann", 1])

    run(main)
    return open_store(f"sqlite:///{path}", sync=False)


def make_damaged(path: Path) -> None:
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE rows SET crc32 = crc32 + 1")
    connection.commit()
    connection.close()


def make_foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE guests (name TEXT)")
    connection.commit()
    connection.close()


def make_newer(path: Path) -> None:
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1000")
    connection.commit()
    connection.close()


def make_others(path: Path) -> None:
    app = bank()
    app.name = "shop"
    filled(path, app)


def make_text(path: Path) -> None:
    path.write_text("dear diary, today I made no backup, and tomorrow I may " * 20)


REFUSED: dict[str, tuple[Callable[[Path], None], type[StoreError], str]] = {
    "damaged": (make_damaged, StoreDamagedError, "checksum"),
    "text": (make_text, StoreError, "kept.db"),
    "foreign": (make_foreign, StoreError, "kept.db"),
    "newer": (make_newer, StoreVersionError, "newer"),
    "another app's": (make_others, StoreVersionError, "'shop'"),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.replace(" ", "-"))
def test_a_store_that_cannot_be_used_is_refused_by_its_own_error_and_left_alone(case: str, tmp_path: Path) -> None:
    make, kind, said = REFUSED[case]
    path = tmp_path / "kept.db"
    make(path)
    before = path.read_bytes()

    error = refused(bank(), open_store(f"sqlite:///{path}"))

    assert isinstance(error, kind)
    assert said in str(error)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["kept.db"]


def test_a_store_that_another_host_has_open_is_refused() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with hosted(bank(), store) as client:
            with pytest.raises(StoreLockedError, match="is open already"):
                await Host(bank(), inline=False, watch=False, store=store).start()
            assert await client.request("deposit", ["ann", 1]) == 1  # who has it goes on

    run(main)


PROGRAM = """
from actorflow import App
app = App("bank")
app.stream("double", int, int).map(lambda number: number * 2)
"""


@pytest.mark.parametrize("case", [*REFUSED, "locked", "no folder"], ids=lambda case: case.replace(" ", "-"))
def test_the_command_says_in_one_line_why_a_store_cannot_be_used_and_exits_with_1(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "durable_program.py").write_text(PROGRAM)
    (tmp_path / "stores").mkdir()
    path = tmp_path / "stores" / "kept.db"
    holder = open_store(f"sqlite:///{path}")
    if case == "locked":
        holder.open(app="bank")
    elif case == "no folder":
        path = tmp_path / "nowhere" / "kept.db"
    else:
        REFUSED[case][0](path)

    arguments = ("run", "durable_program:app", "--port", "0", "--store", f"sqlite:///{path}")
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": "1000"})
    holder.close()

    said = [line for line in result.output.splitlines() if line]
    assert result.exit_code == 1
    assert len(said) == 1, said
    assert said[0].startswith("Store")
    assert str(path) in said[0]


def test_the_command_refuses_the_url_of_no_store() -> None:
    result = CliRunner().invoke(main, ("run", "examples.shop:app", "--store", "shop.db"))

    assert result.exit_code == 2
    assert "sqlite:///relative.db" in " ".join(result.output.split())


# -- cells that have changed


def upgraded(version: int, value: Any, key: Any) -> Any:
    assert version == 1
    return value


def shop(**stock: Any) -> App:
    """An app with one table, as it is declared; "look" reads it, "put" writes a pair."""
    app = App("shop")
    stock_cell = app.table("stock", key="sku", **stock)

    class Put(Operator):
        stock = stock_cell.owned()

        def process(self, item: Any) -> Any:
            self.stock[item[0]] = item[1]
            return item[1]

    app.stream("put").key_by(lambda item: item[0], space="sku").then(Put)
    return app


def kept_by(app: App, *pairs: Any) -> MemoryStore:
    """Return a store in which an app has put pairs."""
    store = MemoryStore()

    async def main() -> None:
        async with hosted(app, store) as client:
            for pair in pairs:
                await client.request("put", pair)

    run(main)
    return store


def stock_of(app: App, store: Store) -> Any:
    async def main() -> Any:
        async with hosted(app, store) as client:
            return dict(await client.cell_range("stock"))

    return run(main)


def test_values_of_an_older_version_are_brought_up_to_date_once() -> None:
    store = kept_by(shop(), ("tea", 1), (("box", 2), 3))
    seen: list[Any] = []

    def migrate(version: int, key: Any, value: Any) -> Any:
        seen.append((version, key, value))
        return {"count": value}

    after = stock_of(shop(version=3, migrate=migrate), store)
    again = stock_of(shop(version=3, migrate=migrate), store)

    assert after == again == {"tea": {"count": 1}, ("box", 2): {"count": 3}}
    assert sorted(seen, key=repr) == [(1, "tea", 1), (1, ("box", 2), 3)]


def test_a_newer_version_without_a_way_to_it_is_refused_with_the_way_out() -> None:
    store = kept_by(shop(), ("tea", 1))

    error = refused(shop(version=2), store)

    assert isinstance(error, StoreVersionError)
    assert error.cell == "stock"
    assert "'stock' in version 1 of its schema, and the app declares version 2" in str(error)
    assert "declare how values of version 1 become version 2 (migrate=)" in str(error)
    assert stock_of(shop(), store) == {"tea": 1}


def test_an_older_version_than_the_store_has_is_refused() -> None:
    store = kept_by(shop(version=2), ("tea", 1))

    error = refused(shop(), store)

    assert isinstance(error, StoreVersionError)
    assert str(error).endswith("run the newer code")


def test_a_migration_that_raises_changes_nothing_and_is_named() -> None:
    store = kept_by(shop(value=int), ("tea", 1), ("ink", 2))

    def migrate(version: int, key: Any, value: Any) -> Any:
        if key == "tea":
            raise ZeroDivisionError("tea")
        return value + 1

    error = refused(shop(value=int, version=2, migrate=migrate), store)

    assert isinstance(error, StoreVersionError)
    assert "migrate(1, 'tea', …) raised ZeroDivisionError: tea; nothing was changed" in str(error)
    assert stock_of(shop(value=int), store) == {"tea": 1, "ink": 2}


def test_a_migration_to_a_value_of_the_wrong_type_is_refused() -> None:
    store = kept_by(shop(value=int), ("tea", 1))

    error = refused(shop(value=int, version=2, migrate=lambda version, key, value: str(value)), store)

    assert "takes a value of type int" in str(error)


def test_another_kind_of_cell_is_refused_as_long_as_the_old_one_has_entries() -> None:
    def counting() -> App:
        app = App("shop")
        app.counter("stock", key="sku")
        app.stream("s")
        return app

    error = refused(counting(), kept_by(shop(), ("tea", 1)))

    assert isinstance(error, StoreVersionError)
    assert "'stock' as a table, and the app declares a counter: give the new one another name" in str(error)
    assert stock_of(counting(), kept_by(shop())) == {}


def test_a_time_to_live_that_comes_later_is_refused_as_long_as_there_are_entries() -> None:
    error = refused(shop(ttl_s=5.0), kept_by(shop(), ("tea", 1)))

    assert "'stock' as a table, and the app declares a table with ttl_s" in str(error)


def test_a_cell_that_is_gone_is_refused_as_long_as_it_has_entries() -> None:
    def without() -> App:
        app = App("shop")
        app.stream("s")
        return app

    store, emptied = kept_by(shop(), ("tea", 1), ("ink", 1)), kept_by(shop())

    error = refused(without(), store)

    assert isinstance(error, StoreVersionError)
    assert error.cell == "stock"
    assert "the store has 2 entries of table 'stock', and app 'shop' declares no such cell" in str(error)
    assert stock_of(shop(), store) == {"tea": 1, "ink": 1}

    async def empty() -> None:
        async with hosted(without(), emptied):
            pass

    run(empty)


# -- requests that were not finished


def steps(*, done: list[Any], more: bool = False, stream: str = "order", other: str = "Ships") -> App:
    """An app whose stream "order" books (a write) and then takes ten seconds to ship; `done` notes what runs."""
    app = App("orders", limits=Limits(timeout_s=600.0))
    booked_cell = app.table("booked", key="order", value=int)

    class Books(Operator):
        booked = booked_cell.owned()

        def process(self, order: Any) -> Any:
            done.append(("book", order))
            self.booked[order] = self.booked.get(order, 0) + 1
            return order

    class Ships(Operator):
        concurrency = 10

        async def process(self, order: Any) -> Any:
            done.append(("ship", order))
            await asyncio.sleep(10.0)
            return f"shipped {order}"

    point: Any = app.stream(stream).key_by(space="order").then(Books).then(Ships, name=other)
    if more:
        point.map(str.upper)
    return app


def test_a_request_goes_on_after_a_restart_where_it_was(place: Open) -> None:
    done: list[Any] = []

    async def main() -> Any:
        async with hosted(steps(done=done), place(), kill=True) as client:
            ask(client, "order", "a", key="k")
            await asyncio.sleep(5.0)
        async with hosted(steps(done=done), place()) as client:
            return await client.request("order", "a", key="k"), await client.cell("booked", "a")

    assert run(main) == ("shipped a", 1)
    assert done == [("book", "a"), ("ship", "a"), ("ship", "a")]


def test_a_request_goes_on_after_a_host_was_stopped_under_it() -> None:
    done: list[Any] = []

    async def main() -> Any:
        store = MemoryStore()
        async with hosted(steps(done=done), store) as client:
            asking = ask(client, "order", "a", key="k")
            await asyncio.sleep(5.0)
        with contextlib.suppress(Exception):
            await asking
        async with hosted(steps(done=done), store) as client:
            return await client.request("order", "a", key="k"), await client.cell("booked", "a")

    assert run(main) == ("shipped a", 1)


def half_done(app: App, stream: str = "order") -> MemoryStore:
    """Return a store with a request of which something has been done."""
    store = MemoryStore()

    async def main() -> None:
        async with hosted(app, store, kill=True) as client:
            ask(client, stream, "a", key="k")
            await asyncio.sleep(5.0)

    run(main)
    return store


def test_where_apps_are_deployed_a_half_done_request_whose_stream_was_replaced_ends_with_an_error() -> None:
    done: list[Any] = []
    store = half_done(steps(done=done))

    async def main() -> Any:
        async with hosted(opened(steps(done=done, more=True)), store) as client:
            with pytest.raises(HostLostError, match="replaced while it was under way"):
                await client.request("order", "a", key="k")
            return await client.request("order", "b"), await client.cell("booked", "a")

    assert run(main) == ("SHIPPED B", 1)


def test_where_apps_are_deployed_a_request_waits_for_a_start_with_its_stream() -> None:
    done: list[Any] = []
    store = half_done(steps(done=done))

    async def main() -> Any:
        async with hosted(OpenPlan("orders"), store):
            await asyncio.sleep(5.0)
        async with hosted(opened(steps(done=done)), store) as client:
            return await client.request("order", "a", key="k"), await client.cell("booked", "a")

    assert run(main) == ("shipped a", 1)


@pytest.mark.parametrize("half", [True, False], ids=["half-done", "as-it-came"])
def test_where_apps_are_deployed_a_request_waits_for_its_stream_to_be_deployed(half: bool) -> None:
    done: list[Any] = []
    store = half_done(steps(done=done) if half else slow())

    async def main() -> Any:
        async with hosted(OpenPlan("orders"), store) as client:
            await client.host.changes.bring(steps(done=done))
            if half:
                with pytest.raises(HostLostError, match="its stream was not there"):
                    await client.request("order", "a", key="k")
            else:
                assert await client.request("order", "a", key="k") == "shipped a"
            first = await client.request("order", "b"), await client.cell("booked", "a")
        async with hosted(opened(steps(done=done)), store) as client:
            return first, await client.cell("booked", "a")

    assert run(main) == (("shipped b", 1), 1)
    assert done.count(("book", "a")) == 1


def slow() -> App:
    """An app whose stream "order" has written nothing for ten seconds."""
    app = App("orders", limits=Limits(timeout_s=600.0))

    class Thinks(Operator):
        async def process(self, order: Any) -> Any:
            await asyncio.sleep(10.0)
            return order

    app.stream("order").then(Thinks)
    return app


def opened(app: App) -> OpenPlan:
    """Return what a host runs to which an app was deployed."""
    plan = OpenPlan(app.name)
    plan.take_in(app)
    return plan


@pytest.mark.parametrize("change", [{"more": True}, {"other": "Delivers"}], ids=["another-step", "another-name"])
def test_a_half_done_request_whose_stream_has_other_steps_is_refused_with_the_way_out(change: Any) -> None:
    done: list[Any] = []
    store = half_done(steps(done=done))

    error = refused(steps(done=done, **change), store)

    assert isinstance(error, StoreVersionError)
    assert "of stream 'order' is half done, and the stream has other steps now" in str(error)
    assert "start the code that began it, and drain (Ctrl-C, or SIGTERM) before it is changed" in str(error)

    async def original() -> Any:
        async with hosted(steps(done=done), store) as client:
            return await client.request("order", "a", key="k")

    assert run(original) == "shipped a"


def test_a_request_whose_stream_is_gone_is_refused_with_the_way_out() -> None:
    store = half_done(steps(done=[]))

    error = refused(steps(done=[], stream="orders"), store)

    assert isinstance(error, StoreVersionError)
    assert "of stream 'order' is not finished, and the app has no such stream: start the code that began it" in str(
        error
    )


def test_a_request_of_which_nothing_was_done_begins_again_with_the_steps_of_now() -> None:
    def early(more: bool) -> App:
        app = App("orders", limits=Limits(timeout_s=600.0))
        booked_cell = app.counter("booked")

        class Thinks(Operator):
            booked = booked_cell.merged()

            async def process(self, order: Any) -> Any:
                await asyncio.sleep(10.0)
                self.booked.add()
                return f"thought of {order}"

        point = app.stream("order").then(Thinks)
        if more:
            point.map(str.upper)
        return app

    store = half_done(early(more=False))

    async def main() -> Any:
        async with hosted(early(more=True), store) as client:
            return await client.request("order", "a", key="k"), await client.cell("booked")

    assert run(main) == ("THOUGHT OF A", 1)


def test_a_request_has_after_a_restart_the_deadline_that_it_had() -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(steps(done=[]), store, kill=True) as client:
            ask(client, "order", "a", key="k", timeout_s=8.0)
            await asyncio.sleep(5.0)
        async with hosted(steps(done=[]), store) as client:
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(Exception, match="did not end within 8 s") as caught:
                await client.request("order", "a", key="k", timeout_s=8.0)
            return type(caught.value).__name__, asyncio.get_running_loop().time() - began_s

    name, spent_s = run(main)

    assert name == "DeadlineExceededError"
    assert spent_s == pytest.approx(3.0, abs=0.1)


def test_a_request_keeps_its_id_over_a_restart_and_can_be_cancelled_by_it() -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(steps(done=[]), store, kill=True) as client:
            request_id = await client.send("order", "a")
        async with hosted(steps(done=[]), store) as client:
            await asyncio.sleep(1.0)
            host: Host = client.host  # type: ignore[attr-defined]
            found = host.find(request_id)
            assert found is not None
            assert found.id == request_id
            first = await client.cancel(request_id)
            letters = await client.dead_letters()
            return request_id, first, await client.cancel(request_id), [letter["request_id"] for letter in letters]

    request_id, first, second, letters = run(main)

    assert (first, second) == (True, False)
    assert letters == [request_id]


class Waits(Operator):
    """An actor that takes its time."""

    async def process(self, item: Any) -> Any:
        await asyncio.sleep(100.0)
        return item


def in_memory(operator: type[Operator], *, write: bool = True) -> App:
    """An app whose stream "order" may book before it does what only memory has."""
    app = App("orders", limits=Limits(timeout_s=600.0))
    booked_cell = app.table("booked", key="order", value=int)

    class Books(Operator):
        booked = booked_cell.owned()

        def process(self, order: Any) -> Any:
            self.booked[order] = self.booked.get(order, 0) + 1
            return order

    point: Any = app.stream("order")
    if write:
        point = point.key_by(space="order").then(Books)
    point.then(operator)
    return app


class Spawns(Operator):
    def process(self, order: Any) -> None:
        self.tell(self.spawn(Waits), order)


class Asks(Operator):
    async def process(self, order: Any) -> Any:
        return await self.ask(self.spawn(Waits), order)


class Defers(Operator):
    def process(self, order: Any) -> None:
        self.scratch["later"] = self.defer()


@pytest.mark.parametrize(
    ("operator", "said"),
    [(Spawns, "it has actors"), (Asks, "it has actors"), (Defers, "it has deferred an answer")],
    ids=["actors", "asks", "deferred"],
)
def test_a_request_that_has_written_and_lives_in_memory_is_lost_with_its_host_and_says_why(
    operator: type[Operator], said: str
) -> None:
    async def main() -> Any:
        store = MemoryStore()
        async with hosted(in_memory(operator), store, kill=True) as client:
            request_id = await client.send("order", "a")
            await asyncio.sleep(5.0)
        async with hosted(in_memory(operator), store) as client:
            await asyncio.sleep(1.0)
            (letter,) = await client.dead_letters()
            return request_id, letter, await client.cell("booked", "a")

    request_id, letter, booked = run(main)

    assert letter["error"]["type"] == HostLostError.__name__
    assert f"request {request_id} of stream order was lost with its host ({said})" in letter["error"]["message"]
    assert "what it had written stays, and the rest of it was not done" in letter["error"]["message"]
    assert booked == 1


@pytest.mark.parametrize("operator", [Spawns, Asks, Defers], ids=["actors", "asks", "deferred"])
def test_a_lost_request_is_not_done_again_for_who_asks_again_with_its_key(operator: type[Operator]) -> None:
    store = half_done(in_memory(operator))

    async def main() -> Any:
        errors = []
        for _ in range(2):
            async with hosted(in_memory(operator), store, kill=True) as client:
                with pytest.raises(HostLostError, match="was lost with its host") as caught:
                    await client.request("order", "a", key="k")
                errors.append((caught.value.stream, caught.value.retryable))
                booked = await client.cell("booked", "a")
        return errors, booked

    assert run(main) == ([("order", False)] * 2, 1)


@pytest.mark.parametrize("operator", [Spawns, Asks], ids=["actors", "asks"])
def test_a_request_in_memory_that_has_written_nothing_begins_again(operator: type[Operator]) -> None:
    store = half_done(in_memory(operator, write=False))

    async def main() -> Any:
        async with hosted(in_memory(operator, write=False), store) as client:
            return await client.request("order", "a", key="k")

    assert run(main) == "a"


# -- later, and by the clock


def sending(done: list[Any]) -> App:
    """An app that sends later: "later" takes (delay, item) and answers the ticket, "never" calls one off."""
    app = App("later")
    called_off_cell = app.counter("called_off")

    class Sends(Operator):
        def process(self, item: Any) -> str:
            return self.send("work", item[1], after_s=item[0])

    class Cancels(Operator):
        called_off = called_off_cell.merged()

        def process(self, ticket: str) -> str:
            self.cancel_send(ticket)
            self.called_off.add()
            return ticket

    class Works(Operator):
        def process(self, item: Any) -> None:
            done.append((item, asyncio.get_running_loop().time()))

    app.stream("later").then(Sends)
    app.stream("never").then(Cancels)
    app.stream("work", replies="none").then(Works)
    return app


def test_sends_with_a_delay_begin_in_their_time_also_after_a_restart(place: Open) -> None:
    done: list[Any] = []

    async def main() -> float:
        async with hosted(sending(done), place(), kill=True) as client:
            for delay_s in (10.0, 3.0, 30.0):
                await client.request("later", (delay_s, delay_s))
            await asyncio.sleep(5.0)
        async with hosted(sending(done), place()):
            await asyncio.sleep(100.0)
        return 0.0

    run(main)

    assert [item for item, _ in done] == [3.0, 10.0, 30.0]
    assert [at_s for _, at_s in done] == pytest.approx([3.0, 10.0, 30.0], abs=0.1)


def test_a_send_that_was_due_while_no_host_ran_begins_at_the_start_and_once(place: Open) -> None:
    done: list[Any] = []

    async def main() -> None:
        async with hosted(sending(done), place(), kill=True) as client:
            await client.request("later", (10.0, "overdue"))
        await asyncio.sleep(50.0)
        for _ in range(2):
            async with hosted(sending(done), place(), kill=True):
                await asyncio.sleep(1.0)

    run(main)

    assert [item for item, _ in done] == ["overdue"]
    assert done[0][1] == pytest.approx(50.0, abs=0.1)


def test_a_send_that_was_called_off_never_begins(place: Open) -> None:
    done: list[Any] = []

    async def main() -> None:
        async with hosted(sending(done), place(), kill=True) as client:
            first, second = [await client.request("later", (10.0, number)) for number in range(2)]
            await client.request("never", first)
        async with hosted(sending(done), place()) as client:
            await client.request("never", second)
            await client.request("never", second)
        async with hosted(sending(done), place()):
            await asyncio.sleep(100.0)

    run(main)

    assert done == []


def test_calling_off_a_send_is_not_acknowledged_before_it_is_durable() -> None:
    done: list[Any] = []
    app = sending(done)

    class OnlyCancels(Operator):
        def process(self, ticket: str) -> str:
            self.cancel_send(ticket)
            return ticket

    app.stream("off").then(OnlyCancels)

    async def main() -> Any:
        store = MemoryStore()
        async with hosted(app, store) as client:
            ticket = await client.request("later", (10.0, "x"))
            room, store.bytes_max = store.bytes_max, 0
            asking = ask(client, "off", ticket)
            await asyncio.sleep(1.0)
            waited, store.bytes_max = not asking.done(), room
            return waited, await asking == ticket

    assert run(main) == (True, True)


def test_a_send_that_waits_for_a_stream_that_is_gone_is_refused_with_the_way_out() -> None:
    done: list[Any] = []
    store = MemoryStore()

    async def begin() -> None:
        async with hosted(sending(done), store, kill=True) as client:
            await client.request("later", (10.0, "x"))

    async def go_on() -> None:
        async with hosted(sending(done), store):
            await asyncio.sleep(20.0)

    without = App("later")
    without.counter("called_off")
    without.stream("other")
    run(begin)

    error = refused(without, store)

    assert isinstance(error, StoreVersionError)
    assert "a send to stream 'work' waits for its time, and the app has no such stream" in str(error)
    run(go_on)
    assert [item for item, _ in done] == ["x"], "it is still there for the code that has the stream"


def test_a_send_of_an_activation_that_fails_never_begins() -> None:
    done: list[Any] = []
    app = sending(done)

    class Fails(Operator):
        def process(self, item: Any) -> None:
            self.send("work", item, after_s=1.0)
            raise ValueError("no")

    app.stream("fails").then(Fails)

    async def main() -> None:
        async with hosted(app, MemoryStore()) as client:
            with pytest.raises(ValueError, match="no"):
                await client.request("fails", 1)
            await asyncio.sleep(10.0)

    run(main)

    assert done == []


def scheduled(done: list[float], **when: Any) -> App:
    app = App("clock")

    class Ticks(Operator):
        def process(self, item: Any) -> None:
            assert item == "tick"
            done.append(asyncio.get_running_loop().time())

    app.stream("ticks", replies="none").then(Ticks)
    app.schedule("often", "ticks", "tick", **when)
    return app


@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["without-a-store", "with-one"])
def test_a_schedule_begins_every_so_many_seconds(store: Store | None) -> None:
    done: list[float] = []

    async def main() -> None:
        async with hosted(scheduled(done, every_s=10.0), store):
            await asyncio.sleep(35.0)

    run(main)

    assert done == pytest.approx([10.0, 20.0, 30.0], abs=0.1)


def test_a_cron_expression_begins_when_it_says() -> None:
    done: list[float] = []

    async def main() -> None:
        async with hosted(scheduled(done, cron="*/5 * * * *"), MemoryStore()):  # the clock begins with 1970
            await asyncio.sleep(1000.0)

    run(main)

    assert done == pytest.approx([300.0, 600.0, 900.0], abs=0.1)


@pytest.mark.parametrize(
    ("when", "expected"),
    [({"every_s": 10.0}, [10.0, 57.0, 67.0]), ({"cron": "* * * * *"}, [60.0, 307.0, 360.0])],
    ids=["every", "cron"],
)
def test_a_schedule_that_was_missed_begins_once_at_the_start_and_then_goes_on(when: Any, expected: Any) -> None:
    done: list[float] = []
    period_s = expected[0]

    async def main() -> None:
        store = MemoryStore()
        async with hosted(scheduled(done, **when), store, kill=True):
            await asyncio.sleep(period_s + 2.0)
        await asyncio.sleep(expected[1] - period_s - 2.0)
        async with hosted(scheduled(done, **when), store):
            await asyncio.sleep(expected[2] - expected[1] + 1.0)

    run(main)

    assert done == pytest.approx(expected, abs=0.1)


def test_a_schedule_that_was_not_missed_keeps_its_time_over_a_restart() -> None:
    done: list[float] = []

    async def main() -> None:
        store = MemoryStore()
        for _ in range(4):
            async with hosted(scheduled(done, every_s=10.0), store, kill=True):
                await asyncio.sleep(6.0)

    run(main)

    assert done == pytest.approx([10.0, 20.0], abs=0.1)


# -- rows that vanish, and room


def test_a_row_vanishes_its_time_after_it_was_last_written(place: Open) -> None:
    async def main() -> Any:
        seen = []
        async with hosted(bank(ttl_s=10.0), place()) as client:
            await client.request("deposit", ["ann", 1])
            await asyncio.sleep(6.0)
            await client.request("deposit", ["ann", 1])
            await client.request("deposit", ["bob", 1])
            await asyncio.sleep(6.0)
            seen.append((await client.request("look", None))[0])
            await asyncio.sleep(6.0)
            seen.append((await client.request("look", None))[0])
            seen.append(await client.request("deposit", ["ann", 1]))
        return seen

    assert run(main) == [{"ann": 2, "bob": 1}, {}, 1]


def test_more_rows_than_one_sweep_removes_vanish_all(place: Open) -> None:
    async def main() -> Any:
        async with hosted(bank(ttl_s=10.0), place()) as client:
            await asyncio.gather(*(client.request("deposit", [f"n{i}", 1]) for i in range(SWEEP_MAX * 2 + 1)))
            before = len((await client.request("look", None))[0])
            await asyncio.sleep(11.0)
            return before, (await client.request("look", None))[0]

    assert run(main) == (SWEEP_MAX * 2 + 1, {})


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_row_vanishes_in_its_time_over_a_restart(place: Open, kill: bool) -> None:
    async def main() -> Any:
        seen = []
        async with hosted(bank(ttl_s=10.0), place(), kill=kill) as client:
            await client.request("deposit", ["ann", 1])
            await asyncio.sleep(4.0)
            await client.request("deposit", ["bob", 1])
        await asyncio.sleep(3.0)
        async with hosted(bank(ttl_s=10.0), place(), kill=kill) as client:
            seen.append((await client.request("look", None))[0])
            await asyncio.sleep(4.0)
            seen.append((await client.request("look", None))[0])
        await asyncio.sleep(20.0)
        async with hosted(bank(ttl_s=10.0), place()) as client:
            seen.append((await client.request("look", None))[0])
            seen.append((await client.cells())[0]["entries"])
        return seen

    assert run(main) == [{"ann": 1, "bob": 1}, {"bob": 1}, {}, 0]


def test_a_full_cell_refuses_new_rows_and_takes_changes_of_those_it_has(place: Open) -> None:
    async def main() -> Any:
        async with hosted(bank(entries_max=2), place(), kill=True) as client:
            for account in ("ann", "bob"):
                await client.request("deposit", [account, 1])
            with pytest.raises(Exception, match="has 2 entries, its limit") as caught:
                await client.request("deposit", ["eve", 1])
            assert caught.value.overloaded  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        async with hosted(bank(entries_max=2), place()) as client:
            with pytest.raises(Exception, match="raise entries_max="):
                await client.request("deposit", ["eve", 1])
            return await client.request("deposit", ["ann", 1]), await client.request("look", None)

    assert run(main) == (2, ({"ann": 2, "bob": 1}, [("ann", 1), ("bob", 1), ("ann", 1)]))


# -- run again


def locking(before: Callable[[Any], Awaitable[Any]]) -> App:
    """An app whose stream "both" locks two keys one after the other; `before(self)` is awaited first."""
    app = App("locks", limits=Limits(timeout_s=600.0))
    rows_cell = app.table("rows", key="row", value=int)

    class Both(Operator):
        rows = rows_cell.exclusive()
        concurrency = 10

        async def process(self, keys: Any) -> Any:
            noted = await before(self)
            for key in keys:
                rows = await self.rows.lock(key)
                await asyncio.sleep(1.0)
            for key in keys:
                rows[key] = rows.get(key, 0) + 1
            return noted

    app.stream("echo").map(lambda item: item)
    app.stream("both").then(Both)
    return app


def test_time_chance_and_uuids_are_the_same_when_a_deadlock_victim_runs_again() -> None:
    runs: list[Any] = []

    async def before(op: Any) -> Any:
        seen = (op.now_s, op.random.random(), str(op.uuid()), op.random.random(), str(op.uuid()))
        runs.append(seen)
        return seen

    async def main() -> Any:
        async with hosted(locking(before), None) as client:
            return await asyncio.gather(client.request("both", "ab"), client.request("both", "ba"))

    first, second = run(main)

    assert len(runs) == 3, "one of the two was the victim"
    assert set(runs) == {first, second}
    assert len({*first, *second}) == 9  # of the same moment, and else all different


def test_time_and_chance_are_the_same_when_a_request_goes_on_after_a_restart() -> None:
    runs: list[Any] = []

    def app() -> App:
        made = App("again", limits=Limits(timeout_s=600.0))
        count_cell = made.counter("count")

        class Writes(Operator):
            count = count_cell.merged()

            def process(self, item: Any) -> Any:
                self.count.add()
                return item

        class Draws(Operator):
            async def process(self, item: Any) -> Any:
                drawn = (self.now_s, self.random.random(), str(self.uuid()))
                runs.append(drawn)
                await self.call("echo", 1)
                await asyncio.sleep(10.0)
                return drawn

        made.stream("echo").map(lambda item: item)
        made.stream("order").then(Writes).then(Draws)
        return made

    store = half_done(app())

    async def main() -> Any:
        async with hosted(app(), store) as client:
            return await client.request("order", "a", key="k")

    answer = run(main)

    assert runs == [answer, answer]


def test_a_second_run_is_given_the_answers_of_the_first_and_its_calls_are_not_made_again() -> None:
    asked: list[Any] = []

    def app() -> App:
        async def before(op: Any) -> Any:
            return await op.call("note", 5), await op.call("note", 5)

        made = locking(before)

        class Notes(Operator):
            def process(self, item: Any) -> Any:
                asked.append(item)
                return len(asked)

        made.stream("note").then(Notes)
        return made

    async def main() -> Any:
        async with hosted(app(), None) as client:
            return await asyncio.gather(client.request("both", "ab"), client.request("both", "ba"))

    answers = run(main)

    assert len(asked) == 4
    assert sorted(number for pair in answers for number in pair) == [1, 2, 3, 4]


def test_a_second_run_that_asks_for_something_else_is_refused() -> None:
    numbers = iter(range(100))

    async def before(op: Any) -> Any:
        return await op.call("echo", next(numbers))

    async def main() -> Any:
        async with hosted(locking(before), None) as client:
            asking = (client.request("both", "ab"), client.request("both", "ba"))
            answers = await asyncio.gather(*asking, return_exceptions=True)
            return answers, await client.cell_range("rows")

    answers, rows = run(main)

    (error,) = [answer for answer in answers if isinstance(answer, Exception)]
    assert isinstance(error, ReplayError)
    assert "Both was run again and did not ask echo for 1 as its first run did" in str(error)
    assert "what it asks must follow from its item" in str(error)
    assert error.operator == "Both"
    assert rows == [("a", 1), ("b", 1)], "nothing of it stays"


# -- generators that write


def generating(*, fail_at: int | None = None, limits: Limits | None = None, slow: bool = False) -> App:
    """An app whose stream "count" writes each number that it yields."""
    app = App("generators", limits=limits or Limits())
    last_cell = app.table("last", key="name", value=int)

    class Counts(Operator):
        last = last_cell.owned()

        def process(self, item: Any) -> Any:
            for number in range(item[1]):
                self.last[item[0]] = number
                if number == fail_at:
                    raise ValueError("half way")
                yield number

    class SlowCounts(Operator):
        last = last_cell.owned()

        async def process(self, item: Any) -> Any:
            for number in range(item[1]):
                self.last[item[0]] = number
                await asyncio.sleep(1.0)
                if number == fail_at:
                    raise ValueError("half way")
                yield number

    app.stream("count", replies="many", on_error="set_aside").key_by(lambda item: item[0], space="name").then(
        SlowCounts if slow else Counts
    )
    return app


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
def test_a_generator_that_writes_and_fails_leaves_neither_rows_nor_items(slow: bool) -> None:
    async def main() -> Any:
        async with hosted(generating(fail_at=3, slow=slow), MemoryStore()) as client:
            replies = await client.request("count", ("a", 10))
            return replies, await client.request("count", ("a", 2)), await client.cell_range("last")

    assert run(main) == ([], [0, 1], [("a", 1)])


def test_a_generator_that_writes_lets_nobody_see_half_of_it() -> None:
    async def main() -> Any:
        async with hosted(generating(slow=True), MemoryStore()) as client:
            asking = ask(client, "count", ("a", 5))
            seen = []
            for _ in range(7):
                seen.append(await client.cell_range("last"))
                await asyncio.sleep(1.0)
            return await asking, seen

    replies, seen = run(main)

    assert replies == [0, 1, 2, 3, 4]
    assert [rows for rows in seen if rows not in ([], [("a", 4)])] == []
    assert seen[-1] == [("a", 4)]


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
def test_a_generator_that_writes_holds_no_more_items_than_its_limit(slow: bool) -> None:
    async def main() -> Any:
        async with hosted(generating(limits=Limits(items_ahead=10), slow=slow), MemoryStore()) as client:
            fits = await client.request("count", ("a", 10))
            too_many = await client.request("count", ("b", 11))
            (letter,) = await client.dead_letters()
            return fits, too_many, letter["error"], await client.cell_range("last")

    fits, too_many, error, rows = run(main)

    assert (fits, too_many, rows) == (list(range(10)), [], [("a", 9)])
    assert error["type"] == ItemBudgetError.__name__
    assert "yields more than 10 items in one activation" in error["message"]
    assert "raise Limits(items_ahead=…)" in error["message"]


# -- a store that fails, a start that fails


class Failing(MemoryStore):
    """A store that keeps nothing more once it fails."""

    fails = False

    def append(self, number: int, blob: bytes) -> None:
        if self.fails:
            raise StoreError("the disk is gone")
        super().append(number, blob)


def test_whoever_waits_when_the_store_fails_is_told_also_when_a_request_ends_later() -> None:
    app = App("rows")
    rows_cell = app.table("rows", key="row", value=int)

    class Put(Operator):
        rows = rows_cell.owned()
        concurrency = 2

        async def process(self, item: str) -> str:
            self.rows[item] = 1
            await asyncio.sleep(10.0 if item == "slow" else 0.0)
            return item

    app.stream("put", str, str).key_by(space="row").then(Put)

    async def main() -> list[Any]:
        store = Failing()
        host = Host(app, inline=False, watch=False, store=store)
        await host.start()
        client = Client(LocalConnection(host))
        slow = asyncio.ensure_future(client.request("put", "slow", timeout_s=60.0))
        await asyncio.sleep(1.0)
        store.fails = True
        quick = asyncio.ensure_future(client.request("put", "quick", timeout_s=60.0))
        told = await asyncio.gather(quick, slow, return_exceptions=True)
        await host.stop()
        return told

    told = simulate(main, time_max_s=50.0)

    assert [type(error) for error in told] == [StoreError, StoreError]
    assert all("the outcome of request" in str(error) and "the disk is gone" in str(error) for error in told)


def test_a_migration_that_fails_changes_nothing_of_other_cells_either() -> None:
    def two(version: int = 1, first: Any = None, second: Any = None) -> App:
        app = App("two")
        one_cell = app.table("one", key="row", version=version, migrate=first)
        other_cell = app.table("other", key="row", version=version, migrate=second)

        class Put(Operator):
            one, other = one_cell.owned(), other_cell.owned()

            def process(self, row: str) -> None:
                self.one[row] = self.other[row] = 1

        app.stream("put", str, replies="none").key_by(space="row").then(Put)
        return app

    def ten_more(version: int, key: Any, value: int) -> int:
        return value + 10

    def cannot(version: int, key: Any, value: int) -> int:
        raise ValueError("cannot")

    async def main() -> list[Any]:
        store = MemoryStore()
        async with two().local(inline=False, watch=False, store=store) as client:
            await client.request("put", "a")
        with pytest.raises(StoreVersionError, match="nothing was changed"):
            async with two(2, ten_more, cannot).local(inline=False, watch=False, store=store):
                pass
        async with two(2, ten_more, ten_more).local(inline=False, watch=False, store=store) as client:
            return [await client.cell("one", "a"), await client.cell("other", "a")]

    assert simulate(main) == [11, 11]


ROOT = Path(__file__).parent.parent.parent
NESTED = """
import asyncio, sys
from dataclasses import dataclass
from actorflow import App, Operator

@dataclass(frozen=True)
class Line:
    sku: str

@dataclass(frozen=True)
class Hidden:
    text: str

@dataclass(frozen=True)
class Cart:
    lines: tuple[Line, ...] = ()

app = App("nested")
carts = app.table("carts", key="customer", value=Cart)
loose = app.table("loose", key="customer")

class Add(Operator):
    carts = carts.owned()
    loose = loose.owned()

    def process(self, customer: str) -> Cart:
        self.carts[customer] = Cart((*self.carts.get(customer, Cart()).lines, Line("tea")))
        self.loose[customer] = {"kept": (Hidden("x"),)}
        return self.carts[customer]

add = app.stream("add", str, Cart).key_by(space="customer").then(Add)

async def main():
    async with app.local(store=sys.argv[1]) as client:
        print(len((await client.request(add, "ada", key=sys.argv[2])).lines), await client.cell("loose", "ada"))

asyncio.run(main())
"""


def test_what_classes_are_inside_of_is_read_again_by_a_process_that_has_not_seen_them(tmp_path: Path) -> None:
    (tmp_path / "nested.py").write_text(NESTED)
    said = [
        subprocess.run(
            [sys.executable, "nested.py", f"sqlite:///{tmp_path}/n.db", key],
            cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for key in ("one", "one", "two")
    ]  # fmt: skip

    assert [each.stdout.split()[0] for each in said] == ["1", "1", "2"], [each.stderr[-500:] for each in said]
    assert "Hidden(text='x')" in said[2].stdout


async def test_a_cell_whose_type_is_another_now_is_not_served(tmp_path: Path) -> None:
    def shelf(kind: Any) -> Any:
        app = App("shelf")
        app.table("rows", key="row", value=kind, key_type=str)

        class Put(Operator):
            rows = app.cells["rows"].owned()

            def process(self, key: str) -> str:
                self.rows[key] = 1 if kind is int else "one"
                return key

        app.stream("put", str, str).key_by(space="row").then(Put)
        return app

    url = f"sqlite:///{tmp_path}/s.db"
    async with shelf(int).local(store=url) as client:
        await client.request("put", "a")

    with pytest.raises(StoreVersionError, match=r"'rows' are not of the types declared now: .*version=2 "):
        async with shelf(str).local(store=url):
            pass


class Letter(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


@dataclass(frozen=True)
class Spot:
    x: float
    y: float


SPELLED = [
    (1, 1.0), (1, True), (0.0, -0.0), (Decimal("1.0"), 1), (Decimal("0.5"), 0.5), (Fraction(1, 2), 0.5),
    (2**70, 2.0**70),
    ((1, "a"), (True, "a")), (frozenset({"ann", "bob"}), frozenset({"bob", "ann"})), ("a", Letter.A), (1, Number.ONE),
    (Spot(1, 2.0), Spot(1.0, 2)),
    (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SPELLED)
@pytest.mark.parametrize("kind", ["table", "set"])
async def test_equal_keys_have_one_row_however_they_are_spelled(
    one: Any, other: Any, kind: str, tmp_path: Path
) -> None:
    """What was deleted under one spelling does not come back under the other."""
    assert one == other
    url = f"sqlite:///{tmp_path}/k.db"

    def bank() -> Any:
        app = App("bank")
        rows = app.table("rows", key="row") if kind == "table" else app.set("rows", key="row")

        class Change(Operator):
            rows_ = rows.exclusive() if kind == "table" else rows.merged()

            async def process(self, change: tuple[Any, Any]) -> int:
                key, value = change
                if kind == "set":
                    (self.rows_["all"].discard if value is None else self.rows_["all"].add)(key)
                    return 1
                held = await self.rows_.lock(key)
                if value is None:
                    del held[key]
                else:
                    held[key] = value
                return 1

        app.stream("change", tuple, int).then(Change)
        return app

    async def left() -> Any:
        async with bank().local(store=url) as client:
            found = await client.cell_range("rows")
        return [key for _, content in found for key in content] if kind == "set" else found

    async with bank().local(store=url) as client:
        await client.request("change", (one, 1))
    async with bank().local(store=url) as client:
        await client.request("change", (other, 2))
    changed = await left()
    async with bank().local(store=url) as client:
        await client.request("change", (one, None))

    assert changed in ([one], [(one, 2)])
    assert await left() == []


async def test_keys_come_back_as_the_type_that_is_declared(tmp_path: Path) -> None:
    app = App("floats")
    rows = app.table("rows", key="row", key_type=float, value=int)

    class Put(Operator):
        rows_ = rows.exclusive()

        async def process(self, key: Any) -> int:
            (await self.rows_.lock(key))[key] = 1
            return 1

    app.stream("put", float, int).then(Put)
    async with app.local(store=f"sqlite:///{tmp_path}/f.db") as client:
        await client.request("put", 2.0)
    async with app.local(store=f"sqlite:///{tmp_path}/f.db") as client:
        ((key, _),) = await client.cell_range("rows")

    assert type(key) is float


async def test_a_start_that_is_given_up_lets_go_of_the_store(tmp_path: Path) -> None:
    app = App("late")
    app.stream("echo", int, int).map(int)
    url = f"sqlite:///{tmp_path}/late.db"
    for delay_s in (0.0, 0.0003, 0.0006, 0.001):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s), app.local(store=url) as client:
                await client.request("echo", 1)

    async with app.local(store=url) as client:
        assert await client.request("echo", 2) == 2


async def test_the_same_question_in_another_order_is_the_same_question(tmp_path: Path) -> None:
    app = App("echo")
    app.stream("echo", object, object).map(lambda each: each)
    async with app.local() as client:
        assert await client.request("echo", {"a": 1, "b": 2}, key="k") == {"a": 1, "b": 2}
        assert await client.request("echo", {"b": 2, "a": 1}, key="k") == {"a": 1, "b": 2}
