"""What shared state costs: owned access, transfers under locks, durability, size.

python -m benchmarks.state [--quick]

Baselines. *dict*: the same handler, with its dict behind methods, called without actorflow. *locks*: hand-written
asyncio, one `asyncio.Lock` per account and, as servers do, one task per transfer; *bare locks*: the same without the
task, so that nothing is ever in flight. *commit*: an SQLite insert with `synchronous=FULL`, alone. All else is
actorflow against itself: state reached by message, skewed keys, with and without a store, few and many keys.
"""

from __future__ import annotations

import asyncio
import bisect
import gc
import random
import sqlite3
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from actorflow import App, Operator
from actorflow.runtime.host import Host
from actorflow.stores import open_store
from benchmarks.harness import Goal, measure, parse_options, publish

ACCOUNTS, IN_FLIGHT, MONEY = 10_000, 256, 1_000
QUICK = "--quick" in sys.argv  # the sizes of what follows depend on it
TRANSFERS = 5_000 if QUICK else 30_000
ACCESSES = 20_000 if QUICK else 200_000
REPEATS = 3 if QUICK else 7


# -- owned access


class Shelf:
    """A dict behind methods: what a program without actorflow has."""

    def __init__(self) -> None:
        self._rows: dict[Any, int] = {}

    def get(self, key: Any, default: int) -> int:
        return self._rows.get(key, default)

    def set(self, key: Any, value: int) -> None:
        self._rows[key] = value


KEYS = [f"k{number}" for number in range(1_000)]
ACCESS_EACH = 50
"""Read-modify-writes per activation, so that what an activation costs is not counted."""


def dict_accesses() -> tuple[int, float]:
    shelf = Shelf()

    def handler(key: str) -> int:
        for _ in range(ACCESS_EACH):
            shelf.set(key, shelf.get(key, 0) + 1)
        return 1

    began = time.perf_counter()
    for number in range(ACCESSES // ACCESS_EACH):
        handler(KEYS[number % 1_000])
    return ACCESSES, time.perf_counter() - began


def counting(name: str, operator: Any) -> Any:
    app = App(name)
    rows = app.table("rows", key="row", value=int)
    return app, app.stream("count", str, int).key_by(space="row").then(operator(rows)).fold(
        0, lambda total, one: total + one
    )


def owner(cell: Any) -> type[Operator]:
    class Owner(Operator):
        rows = cell.owned()

        def process(self, key: str) -> int:
            rows = self.rows
            for _ in range(ACCESS_EACH):
                rows[key] = rows.get(key, 0) + 1
            return 1

    return Owner


class Keeper(Operator):
    """A state actor: it has the rows, and is sent a message for each access."""

    def __init__(self) -> None:
        self.rows: dict[Any, int] = {}

    def process(self, key: str) -> int:
        self.rows[key] = count = self.rows.get(key, 0) + 1
        return count


def asker(_: Any) -> type[Operator]:
    class Asker(Operator):
        keeper: Any = None

        async def process(self, key: str) -> int:
            if self.keeper is None:
                self.keeper = self.spawn_detached(Keeper)
            for _ in range(ACCESS_EACH):
                await self.ask(self.keeper, key)
            return 1

    return Asker


async def accesses(make: Any, *, count: int = ACCESSES) -> tuple[int, float]:
    app, stream = counting("accesses", make)
    items = [KEYS[number % 1_000] for number in range(count // ACCESS_EACH)]
    async with app.local() as client:
        began = time.perf_counter()
        async for _ in client.stream(stream, items=items):
            pass
        return count, time.perf_counter() - began


# -- transfers


def operations(count: int, *, theta: float = 0.0, accounts: int = ACCOUNTS) -> list[tuple[int, int]]:
    chance = random.Random(count)
    weights, total = [], 0.0
    for rank in range(1, accounts + 1):
        total += 1.0 / rank**theta
        weights.append(total)
    made = []
    for _ in range(count):
        one = chance.randrange(accounts)
        other = bisect.bisect_left(weights, chance.random() * total) if theta else chance.randrange(accounts)
        made.append((one, other if other != one else (one + 1) % accounts))
    return made


UNIFORM, SKEWED = operations(TRANSFERS), operations(TRANSFERS, theta=0.99)


def bank() -> tuple[App, Any]:
    app = App("bank")
    accounts = app.table("accounts", key="account", value=int)
    cell = accounts

    class Transfer(Operator):
        accounts = cell.exclusive()
        concurrency = IN_FLIGHT

        async def process(self, pair: tuple[int, int]) -> bool:
            one, other = pair
            rows = await self.accounts.lock(one, other)
            rows[one] = rows.get(one, MONEY) - 1
            rows[other] = rows.get(other, MONEY) + 1
            return True

    return app, app.stream("transfer", tuple, bool).then(Transfer)


async def in_flight(work: Any, made: list[Any]) -> tuple[int, float]:
    ahead = iter(made)

    async def one_by_one() -> None:
        for each in ahead:
            await work(each)

    began = time.perf_counter()
    await asyncio.gather(*(one_by_one() for _ in range(IN_FLIGHT)))
    return len(made), time.perf_counter() - began


async def transfers(made: list[Any] = UNIFORM, store: str | None = None) -> tuple[int, float]:
    app, stream = bank()
    async with app.local(store=store) as client:
        return await in_flight(lambda pair: client.request(stream, pair), made)


async def durable_transfers() -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        return await transfers(UNIFORM, f"sqlite:///{folder}/bank.db")


async def lock_transfers(*, tasks: bool = True) -> tuple[int, float]:
    locks = {account: asyncio.Lock() for account in range(ACCOUNTS)}
    balances = dict.fromkeys(range(ACCOUNTS), MONEY)
    loop = asyncio.get_running_loop()

    async def transfer(pair: tuple[int, int]) -> bool:
        one, other = pair
        first, second = (one, other) if one < other else (other, one)
        async with locks[first], locks[second]:
            balances[one] = balances.get(one, MONEY) - 1
            balances[other] = balances.get(other, MONEY) + 1
        return True

    if tasks:
        return await in_flight(lambda pair: loop.create_task(transfer(pair)), UNIFORM)
    return await in_flight(transfer, UNIFORM)


# -- durability


async def durable_latency() -> tuple[int, float]:
    count = 100 if QUICK else 400
    app, stream = bank()
    with tempfile.TemporaryDirectory() as folder:
        async with app.local(store=f"sqlite:///{folder}/bank.db") as client:
            await client.request(stream, UNIFORM[0])
            began = time.perf_counter()
            for pair in UNIFORM[:count]:
                await client.request(stream, pair)
            return count, time.perf_counter() - began


def commit_latency() -> tuple[int, float]:
    count = 100 if QUICK else 400
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(f"{folder}/bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE epochs (number INTEGER PRIMARY KEY, blob BLOB)")
        began = time.perf_counter()
        for number in range(count):
            connection.execute("INSERT INTO epochs VALUES (?, ?)", (number, random.randbytes(200)))
        spent = time.perf_counter() - began
        connection.close()
    return count, spent


TEXT = ("the quick brown fox jumps over the lazy dog and runs through the wood " * 40 + "\n") * (20 if QUICK else 360)


def words() -> tuple[App, Any]:
    app = App("words")
    return app, app.stream("words", str, list).flat_map(str.split).key_by().count().top(
        3, lambda pair: (pair[1], pair[0])
    ).collect()


async def word_count(store: str | None = None) -> tuple[int, float]:
    app, stream = words()
    lines = TEXT.splitlines()
    async with app.local(store=store) as client:
        began = time.perf_counter()
        texts = ["\n".join(lines[start : start + 40]) for start in range(0, len(lines), 40)]
        repeat = 1 if QUICK else 50
        async for _ in client.stream(stream, items=(text for _ in range(repeat) for text in texts)):
            pass
        return len(TEXT) * repeat, time.perf_counter() - began


async def stored_word_count() -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        return await word_count(f"sqlite:///{folder}/words.db")


# -- size


async def sized(keys: int) -> tuple[int, float]:
    app, stream = bank()
    async with app.local() as client:
        host: Host = client._connection._host  # type: ignore[attr-defined]
        entries = host.cells["accounts"]
        for key in range(keys):
            entries.put(key, MONEY)
        made = operations(TRANSFERS, accounts=keys)
        return await in_flight(lambda pair: client.request(stream, pair), made)


async def restart(keys: int) -> tuple[float, float]:
    """Return seconds from opening a store to ready, and bytes a key above the data itself."""
    app, _ = bank()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bank.db'}"
        async with app.local(store=url) as client:
            host: Host = client._connection._host  # type: ignore[attr-defined]
            entries = host.cells["accounts"]
            for key in range(keys):
                entries.put(key, key)
                entries.note(key)
            assert host.journal is not None
            await host.journal.settled()
        gc.collect()
        host = Host(bank()[0], store=open_store(url))
        began = time.perf_counter()
        await host.start()
        spent = time.perf_counter() - began
        assert host.cells["accounts"].size == keys
        await host.stop()
        del host, client, entries
        gc.collect()
        tracemalloc.start()
        host = Host(bank()[0], store=open_store(url))
        await host.start()
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        bare = 36 * 2  # two integers
        await host.stop()
        return spent, used / keys - bare


def main() -> None:
    parse_options(__doc__)
    access = measure(
        "owned access",
        sides={
            "dict": dict_accesses,
            "owned": lambda: accesses(owner),
            "message": lambda: accesses(asker, count=ACCESSES // 10),
        },
        ratios={
            "owned / dict": Goal("owned", "dict", 1 / 3),
            "owned / message": Goal("owned", "message", 5.0),
        },
        unit="accesses/s",
        repeats=REPEATS,
    )
    moving = measure(
        "transfers, 2 reads and 2 writes, 256 in flight",
        sides={
            "locks": lock_transfers,
            "bare locks": lambda: lock_transfers(tasks=False),
            "uniform": transfers,
            "zipf": lambda: transfers(SKEWED),
            "durable": durable_transfers,
        },
        ratios={
            "uniform / locks": Goal("uniform", "locks", 0.4),
            "uniform / bare locks": Goal("uniform", "bare locks", 0.0),
            "zipf / uniform": Goal("zipf", "uniform", 0.35),
            "durable / uniform": Goal("durable", "uniform", 0.5),
        },
        unit="transfers/s",
        repeats=REPEATS,
    )
    keeping = measure(
        "durable, one in flight",
        sides={"commit": commit_latency, "request": durable_latency},
        ratios={"request / commit": Goal("request", "commit", 0.5)},
        unit="commits/s",
        repeats=REPEATS,
    )
    counting_words = measure(
        "word count, a pure stream",
        sides={"without": word_count, "with a store": stored_word_count},
        ratios={"with / without": Goal("with a store", "without", 0.9)},
        unit="characters/s",
        repeats=3,
    )
    growing = measure(
        "keys",
        sides={"1 k": lambda: sized(1_000), "1 M": lambda: sized(100_000 if QUICK else 1_000_000)},
        ratios={"1 M / 1 k": Goal("1 M", "1 k", 0.8)},
        unit="transfers/s",
        repeats=3,
    )
    keys = 100_000 if QUICK else 1_000_000
    spent, above = asyncio.run(restart(keys))
    print(f"restart with {keys:,} keys: {spent:.2f} s to ready (at most 3)")
    print(f"memory: {above:.0f} bytes a key above the data (at most 400)")
    publish("state", access, moving, keeping, counting_words, growing)


if __name__ == "__main__":
    main()
