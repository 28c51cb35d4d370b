"""Histories: clients far away work on shared state at once, write down when they asked and were answered, and a judge
(`check/wgl.py`) looks for an order in which one after the other could have had these answers.

Some requests have a deadline that they may miss: nobody knows whether they took effect, and the history leaves it open.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actorflow import App, Client, DeadlineExceededError, Operator
from actorflow.gateway import serving
from actorflow.testing import check_nothing_left
from tests.cases.given import case, wgl

History = list[dict[str, Any]]
Ask = Callable[[Client, Any], Awaitable[Any]]

UNKNOWN = 0.02
"""Share of requests whose deadline is so near that they may miss it."""


async def record(app: App, scripts: list[list[Any]], ask: Ask) -> History:
    """Let one client for each script ask its way through it, all at once; return what they saw, and when."""
    history: History = []
    async with serving(app, port=0) as gateway:

        async def play(number: int, script: list[Any]) -> None:
            async with Client(gateway.url) as client:
                for operation in script:
                    asked_s, answered_s, output = time.perf_counter(), None, None
                    try:
                        output = await ask(client, operation)
                        answered_s = time.perf_counter()
                    except DeadlineExceededError:
                        pass
                    history.append({
                        "call": asked_s, "ret": answered_s, "input": operation[1:], "output": output,
                        "key": operation[0], "proc": number,
                    })  # fmt: skip

        async with asyncio.TaskGroup() as group:
            for number, script in enumerate(scripts):
                group.create_task(play(number, script))
        for _ in range(100):
            if not gateway._host.requests:
                break
            await asyncio.sleep(0.01)
        check_nothing_left(gateway._host)
        assert all(locks.idle for locks in gateway._host.spaces.values())
    assert len(history) == sum(map(len, scripts))
    return history


def shares(operations: list[Any], clients: int) -> list[list[Any]]:
    return [operations[number::clients] for number in range(clients)]


def verdict(history: History, model: Any) -> Any:
    """Return True when every key has an order of its own; one that is never answered and only looks is no matter."""
    told = [op for op in history if op["ret"] is not None or op["input"][0] not in {"read", "get"}]
    return wgl.check_partitioned(told, model, lambda op: op["key"])


def deadline_s(chance: random.Random) -> float | None:
    return 0.002 if chance.random() < UNKNOWN else None


# -- registers


def registers(how: str) -> App:
    """Return an app whose stream "register" reads, writes, or compares and sets a register."""
    app = App("registers")
    rows = app.table("rows", key="register")

    class Owns(Operator):
        rows_ = rows.owned()
        concurrency = 20

        async def process(self, item: list[Any]) -> Any:
            key, do, *values = item
            now = self.rows_.get(key)
            await asyncio.sleep(0)
            if do == "read":
                return [now]
            if do == "write":
                (self.rows_[key],) = values
                return [None]
            old, new = values
            if now == old:
                self.rows_[key] = new
            return [now == old]

    class Locks(Operator):
        rows_ = rows.exclusive()
        concurrency = 20

        async def process(self, item: list[Any]) -> Any:
            key, do, *values = item
            locked = await self.rows_.lock(key, shared=do != "write")
            now = locked.get(key)
            await asyncio.sleep(0)
            if do == "read":
                return [now]
            if do == "write":
                (locked[key],) = values
                return [None]
            old, new = values
            if now == old:
                await self.rows_.lock(key)  # looks under a shared lock first: two that do so wait for each other
                locked[key] = new
            return [now == old]

    class Reads(Operator):
        rows_ = rows.snapshot()

        def process(self, item: list[Any]) -> Any:
            return [self.rows_.get(item[0])]

    keyed = app.stream("register", list, list).route(
        lambda item: "snapshot" if how == "snapshots" and item[1] == "read" else "change", "snapshot", "change"
    )
    keyed["snapshot"].then(Reads)
    if how == "locks":
        keyed["change"].then(Locks)
    else:
        keyed["change"].key_by(lambda item: item[0], space="register").then(Owns)
    return app


@pytest.mark.parametrize("how", ["owned", "snapshots", "locks"])
async def test_registers_are_linearizable(how: str) -> None:
    params = case("history-01-register")["params"]
    chance = random.Random(how)
    operations: list[tuple[Any, ...]] = []
    for _ in range(params["ops"]):
        key, kind = chance.randrange(params["keys"]), chance.randrange(100)
        if kind < 50:
            operations.append((key, "read"))
        elif kind < 80:
            operations.append((key, "write", chance.randrange(5)))
        else:
            operations.append((key, "cas", chance.randrange(5), chance.randrange(5)))

    async def ask(client: Client, operation: Any) -> Any:
        (answer,) = await client.request("register", list(operation), timeout_s=deadline_s(chance))
        return answer

    history = await record(registers(how), shares(operations, params["clients"]), ask)

    assert verdict(history, wgl.Register()) is True
    assert {op["key"] for op in history} == set(range(params["keys"]))


# -- counters


def counters(how: str) -> App:
    """Return an app whose stream "add-get" adds to a counter and answers what it is then."""
    app = App("counters")
    merged = app.counter("merged", key="counter")
    rows = app.table("rows", key="counter", value=int)

    class Merges(Operator):
        merged_ = merged.merged()

        def process(self, item: list[int]) -> int:
            key, count = item
            self.merged_[key].add(count)
            return self.merged_[key].value()

    class Owns(Operator):
        rows_ = rows.owned()
        concurrency = 20

        async def process(self, item: list[int]) -> int:
            key, count = item
            total = self.rows_.get(key, 0)
            await asyncio.sleep(0)
            self.rows_[key] = total + count
            return total + count

    class Transacts(Operator):
        rows_ = rows.exclusive()
        concurrency = 20

        async def process(self, item: list[int]) -> int:
            key, count = item

            async def add(locked: Any) -> int:
                total = locked.setdefault(key, 0) + count
                await asyncio.sleep(0)
                locked[key] = total
                return total

            return await self.rows_.transact([key], add)

    entry = app.stream("add-get", list, int)
    if how == "owned":
        entry.key_by(lambda item: item[0], space="counter").then(Owns)
    else:
        entry.then(Merges if how == "merged" else Transacts)
    return app


@pytest.mark.parametrize("how", ["merged", "owned", "transact"])
async def test_what_counters_answer_is_linearizable(how: str) -> None:
    params = case("history-02-counter")["params"]
    chance = random.Random(how)
    operations = [
        (chance.randrange(params["counters"]), "add_get", chance.randrange(1, 10)) for _ in range(params["ops"])
    ]

    async def ask(client: Client, operation: Any) -> Any:
        key, _, count = operation
        return await client.request("add-get", [key, count])

    history = await record(counters(how), shares(operations, params["clients"]), ask)

    assert verdict(history, wgl.Counter()) is True
    assert all(op["ret"] is not None for op in history)


# -- a queue


def queue(how: str) -> App:
    """Return an app with the streams "put" and "get" of one queue."""
    app = App("queue")
    whole = app.value("whole", tuple)
    rows = app.table("rows", key="queue", value=list)

    class Put(Operator):
        whole_ = whole.exclusive()
        concurrency = 20

        async def process(self, value: int) -> bool:
            before = await self.whole_.lock() or ()
            await asyncio.sleep(0)
            self.whole_.set((*before, value))
            return True

    class Get(Operator):
        whole_ = whole.exclusive()
        concurrency = 20

        async def process(self, _: int) -> Any:
            before = await self.whole_.lock() or ()
            await asyncio.sleep(0)
            if not before:
                return ["empty"]
            self.whole_.set(before[1:])
            return [before[0]]

    class PutRow(Operator):
        rows_ = rows.owned()

        def process(self, value: int) -> bool:
            self.rows_.setdefault("only", [])
            with self.rows_.edit("only") as row:
                row.append(value)
            return True

    class GetRow(Operator):
        rows_ = rows.owned()

        async def process(self, _: int) -> Any:
            if not self.rows_.get("only"):
                return ["empty"]
            with self.rows_.edit("only") as row:
                first = row.pop(0)
            await asyncio.sleep(0)
            return [first]

    put, get = app.stream("put", int, bool), app.stream("get", int, list)
    if how == "value":
        put.then(Put)
        get.then(Get)
    else:
        put.key_by(lambda _: "only", space="queue").then(PutRow)
        get.key_by(lambda _: "only", space="queue").then(GetRow)
    return app


@pytest.mark.parametrize("how", ["value", "row"])
async def test_a_queue_is_first_in_first_out(how: str) -> None:
    params = case("history-02-queue-small")["params"]
    chance = random.Random(how)
    operations: list[tuple[Any, ...]] = [
        ("queue", "put", number) if chance.random() < 0.5 else ("queue", "get") for number in range(params["ops"])
    ]

    async def ask(client: Client, operation: Any) -> Any:
        if operation[1] == "put":
            assert await client.request("put", operation[2]) is True
            return None
        (answer,) = await client.request("get", 0)
        return answer

    history = await record(queue(how), shares(operations, params["clients"]), ask)

    assert verdict(history, wgl.Fifo()) is True
    taken = [op["output"] for op in history if op["input"][0] == "get" and op["output"] != "empty"]
    put = {op["input"][1] for op in history if op["input"][0] == "put"}
    assert len(taken) == len(set(taken)), "something was taken twice"
    assert set(taken) <= put


# -- the judge is awake


@pytest.mark.parametrize("stale", [False, True])
def test_the_judge_sees_a_read_of_what_was_overwritten(stale: bool) -> None:
    history = [
        {"call": 0.0, "ret": 1.0, "input": ("write", 1), "output": None, "key": 0},
        {"call": 2.0, "ret": 3.0, "input": ("write", 2), "output": None, "key": 0},
        {"call": 4.0, "ret": 5.0, "input": ("read",), "output": 1 if stale else 2, "key": 0},
    ]

    assert verdict(history, wgl.Register()) is not stale
