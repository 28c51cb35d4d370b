"""Cases of the Savina suite, written with cells and locks, and what may go wrong while keys are held."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from actorflow import (
    AccessError,
    ActivationError,
    ActorflowError,
    App,
    CallCycleError,
    CellTypeError,
    DeadlineExceededError,
    Limits,
    Operator,
    TopologyError,
)
from actorflow.testing import simulate
from tests.cases.given import case, checks, common, savina
from tests.cases.lock_programs import (
    Load,
    Payment,
    Seat,
    banking,
    bounded_buffer,
    dictionary,
    philosophers,
    sorted_list,
)
from tests.cases.running import breath, meanwhile, running, running_simulated
from tests.cases.test_state_cases import stumbling

SEEDS = range(int(os.environ.get("SEEDS", "4")))


# -- philosophers


async def dinner(client: Any, count: int, meals: int) -> dict[str, Any]:
    eaten = await asyncio.gather(*(client.request("dine", Seat(number, count, meals)) for number in range(count)))
    return {
        "meals_total": sum(eaten),
        "meals_per_philosopher": min(eaten),
        "forks_held_at_end": sum(len(space["holders"]) for space in await client.locks()),
    }


def table_log() -> tuple[list[tuple[int, str, int]], Callable[[str, int], None]]:
    entries: list[tuple[int, str, int]] = []
    return entries, lambda what, seat: entries.append((len(entries), what, seat))


@pytest.mark.parametrize("how", ["together", pytest.param("left-first", marks=pytest.mark.slow)])
async def test_philosophers_all_finish_and_neighbours_never_eat_together(how: str) -> None:
    params, expected = case("savina-11-philosopher")["params"], case("savina-11-philosopher")["expected"]
    log, note = table_log()

    async with running(philosophers(how, note, pause=breath)) as client:
        result = await dinner(client, params["N"], params["M"])
        uses = dict(await client.cell_range("forks"))
        eaten = dict(await client.cell_range("eaten"))

    assert result == expected
    assert checks.meals(log, params["N"]) == []
    assert eaten == dict.fromkeys(range(params["N"]), params["M"])
    assert uses == dict.fromkeys(range(params["N"]), 2 * params["M"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["together", "left-first"])
def test_few_philosophers_finish_in_every_order_of_events(how: str, seed: int) -> None:
    log, note = table_log()

    async def system() -> None:
        async with running_simulated(philosophers(how, note, pause=stumbling(seed))) as client:
            result = await dinner(client, 5, 6)
            eaten = dict(await client.cell_range("eaten"))
        assert result == savina.philosopher(5, 6)
        assert eaten == dict.fromkeys(range(5), 6)

    simulate(system, seed=seed, jitter_s=0.0005)
    assert checks.meals(log, 5) == []


# -- banking


def payments(accounts: int, count: int) -> list[Payment]:
    chance = common.SavinaLCG(123456)
    found = []
    for number in range(count):
        src = chance.next_int(accounts // 10 * 8)
        dst = src + (chance.next_int(accounts - src) or 1)
        found.append(Payment(number, src, dst, 1000 * 10**6 // (chance.next_long() + 1)))
    return found


async def pay_all(app: App, orders: list[Payment], streams: int, context: Any = running) -> tuple[list[int], Any]:
    """Pay by several streams of payments at once; return who paid, and balances. Sums in between are nothing."""
    async with context(app) as client:
        paid: list[int] = []

        async def pay(part: list[Payment]) -> None:
            paid.extend([number async for number in client.stream("pay", items=part)])

        async def total() -> int:
            return await client.request("sum", 0)

        async with meanwhile(total) as sums:
            await asyncio.gather(*(pay(orders[number::streams]) for number in range(streams)))
        net = dict(await client.cell_range("accounts", limit=10_000))
    assert set(sums) == {0}, "the sum of balances has changed"
    return paid, net


def one_at_a_time() -> Callable[[int, int], None]:
    paying: Counter[int] = Counter()

    def at_once(account: int, change: int) -> None:
        paying[account] += change
        assert paying[account] <= 1, f"account {account} pays twice at once"

    return at_once


@pytest.mark.parametrize(
    "pause", [pytest.param(None, id="at-once"), pytest.param(breath, id="suspended", marks=pytest.mark.slow)]
)
async def test_a_bank_pays_one_transfer_at_a_time_per_account(pause: Any) -> None:
    params, expected = case("savina-15-banking")["params"], case("savina-15-banking")["expected"]
    orders = payments(params["A"], params["N"])
    options = {"pause": pause} if pause is not None else {}

    paid, balances = await pay_all(banking(one_at_a_time(), **options), orders, streams=8)

    net = [balances.get(number, 0) for number in range(params["A"])]
    assert sorted(paid) == list(range(params["N"]))
    assert {
        "transactions": len(paid), "sum_of_net": sum(net), "moved_total": sum(order.amount for order in orders),
        "net_sha256": common.seq_hash(net)[1], "accounts_touched": sum(map(bool, net)), "min_net": min(net),
        "max_net": max(net),
    } == expected  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_bank_pays_in_every_order_of_events(seed: int) -> None:
    orders = payments(10, 100)

    async def system() -> None:
        app = banking(one_at_a_time(), pause=stumbling(seed))
        paid, balances = await pay_all(app, orders, streams=4, context=running_simulated)
        net = [balances.get(number, 0) for number in range(10)]
        assert sorted(paid) == list(range(100))
        assert common.seq_hash(net)[1] == savina.banking(10, 100)["net_sha256"]

    simulate(system, seed=seed, jitter_s=0.0005)


# -- dictionary and sorted list


@pytest.mark.parametrize("messages", [300, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_a_dictionary_keeps_what_one_of_its_writers_wrote_last(messages: int) -> None:
    workers, writes = 20, 10  # savina-08: the suite's numbers; 10,000 messages are its default
    expected = savina.concdict(workers, messages, writes)

    async with running(dictionary(pause=breath)) as client:
        loads = [Load(number, messages, writes) for number in range(workers)]
        done = await asyncio.gather(*(client.request("work", load, timeout_s=120) for load in loads))
        rows = dict(await client.cell_range("rows", limit=10_000))

    assert sum(each[0] for each in done) == expected["writes"]
    assert sum(each[1] for each in done) == expected["reads"]
    assert len(rows) == expected["keys_written"]
    last, writers = last_written(workers, messages, writes)
    assert all(value in [last[key, worker] for worker in writers[key]] for key, value in rows.items())
    single = sorted((key, rows[key]) for key, who in writers.items() if len(who) == 1)
    assert len(single) == expected["keys_with_one_writer"]
    assert common.rows_hash(single)[1] == expected["one_writer_final_sha256"]


def last_written(workers: int, messages: int, writes: int) -> tuple[dict[tuple[int, int], int], dict[int, set[int]]]:
    last: dict[tuple[int, int], int] = {}
    writers: dict[int, set[int]] = {}
    for worker in range(workers):
        chance = common.SavinaLCG(worker + messages + writes)
        for number in range(messages):
            if chance.next_int(100) < writes:
                key = chance.next_int(1000)
                last[key, worker] = chance.next_long() * 1_000_000 + number
                writers.setdefault(key, set()).add(worker)
            else:
                chance.next_int(1000)
    return last, writers


@pytest.mark.parametrize(
    "name", ["savina-09-concsll", pytest.param("savina-09-concsll-default", marks=pytest.mark.slow)]
)
async def test_a_sorted_list_has_all_that_was_written_in_order(name: str) -> None:
    params, expected = case(name)["params"], case(name)["expected"]

    async with running(sorted_list(pause=breath)) as client:
        loads = [Load(number, params["M"], params["W"], params["S"]) for number in range(params["E"])]
        await asyncio.gather(*(client.request("work", load, timeout_s=120) for load in loads))
        counts: list[tuple[int, int]] = []
        while part := await client.cell_range("values", counts[-1][0] + 1 if counts else None, limit=10_000):
            counts += part
        length, asked = await client.cell("length"), dict(await client.cell_range("asked"))

    values = [value for value, count in counts for _ in range(count)]
    assert values == sorted(values)
    assert length == len(values)
    assert {
        "final_size": len(values), "size_requests": asked.get("size", 0), "contains_requests": asked["contains"],
        "final_sorted_list_sha256": common.seq_hash(values)[1], "min": values[0], "max": values[-1],
        "sum": sum(values),
    } == expected  # fmt: skip


# -- a bounded buffer


async def fill_and_empty(client: Any, items: list[list[float]], takers: int) -> list[float]:
    async def producing(own: list[float]) -> None:
        for item in own:
            await client.request("put", item)

    total = sum(map(len, items))
    numbers = iter(range(total))
    taken: list[float] = []

    async def consuming() -> None:
        taken.extend([await client.request("take", number) for number in numbers])

    await asyncio.gather(*map(producing, items), *(consuming() for _ in range(takers)))
    return taken


@pytest.mark.slow
async def test_a_bounded_buffer_is_never_fuller_than_allowed_and_each_item_is_taken_once() -> None:
    facts = case("savina-10-bndbuffer")
    params, expected = facts["params"], facts["expected"]
    item, own = 0.0, []
    for _ in range(params["ipp"]):
        item = savina._process_item(item, params["pc"])
        own.append(item)
    fullest: list[int] = [0]

    def seen(count: int) -> None:
        fullest[0] = max(fullest[0], count)

    async with running(bounded_buffer(params["bb"], seen)) as client:
        taken = await fill_and_empty(client, [own] * params["np"], params["nc"])

    assert 0 < fullest[0] <= expected["buffer_never_above"]
    assert len(taken) == expected["items_consumed"]
    assert Counter(taken) == Counter(own * params["np"])
    relative = facts["compare"]["relative"]
    assert sum(taken) == pytest.approx(expected["sum_of_data"], rel=relative)
    assert own[-1] == pytest.approx(expected["last_item_of_each_producer"], rel=relative)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_buffer_holds_in_every_order_of_events(seed: int) -> None:
    fullest: list[int] = []

    async def system() -> None:
        async with running_simulated(bounded_buffer(3, fullest.append, pause=stumbling(seed))) as client:
            items = [[float(10 * producer + number) for number in range(8)] for producer in range(4)]
            taken = await fill_and_empty(client, items, 3)
        assert sorted(taken) == sorted(itertools.chain(*items))

    simulate(system, seed=seed, jitter_s=0.0005)
    assert max(fullest) <= 3


# -- while keys are held


def ledger() -> tuple[App, Any, Any]:
    app = App("ledger", limits=Limits(timeout_s=5.0))
    rows = app.table("rows", key="row", value=int)
    return app, rows, app.counter("written")


class Halfway(Exception):
    """Raised in the middle of a transaction."""


async def test_an_activation_that_raises_in_the_middle_leaves_no_trace_in_any_kind_of_operator() -> None:
    app, rows, written = ledger()

    class Writes(Operator):
        mine = rows.owned()
        count = written.merged()

        def write(self, item: dict[str, Any]) -> None:
            self.mine[item["row"]] = 1
            self.count.add()
            del self.mine[item["row"]]
            self.mine[item["row"]] = 2
            if item["fail"]:
                raise Halfway

    class Plain(Writes):
        def process(self, item: dict[str, Any]) -> int:
            self.write(item)
            return item["row"]

    class Async(Writes):
        async def process(self, item: dict[str, Any]) -> int:
            self.write(item)
            await asyncio.sleep(0)
            return item["row"]

    class Generator(Writes):
        def process(self, item: dict[str, Any]) -> Any:
            yield item["row"]
            self.write(item)

    class AsyncGenerator(Writes):
        async def process(self, item: dict[str, Any]) -> Any:
            yield item["row"]
            await asyncio.sleep(0)
            self.write(item)

    class Batch(Writes):
        def process_batch(self, items: list[dict[str, Any]]) -> list[int]:
            for item in items:
                self.write(item)
            return [item["row"] for item in items]

    class Locked(Operator):
        theirs = rows.exclusive()
        count = written.merged()

        async def process(self, item: dict[str, Any]) -> int:
            locked = await self.theirs.lock(item["row"])
            locked[item["row"]] = 2
            self.count.add()
            await asyncio.sleep(0)
            if item["fail"]:
                raise Halfway
            return item["row"]

    class Transact(Operator):
        theirs = rows.exclusive()
        count = written.merged()

        async def process(self, item: dict[str, Any]) -> int:
            def write(locked: Any) -> None:
                locked[item["row"]] = 2
                if item["fail"]:
                    raise Halfway

            await self.theirs.transact([item["row"]], write)
            self.count.add()
            return item["row"]

    kinds = (Plain, Async, Generator, AsyncGenerator, Batch, Locked, Transact)
    for kind in kinds:
        app.stream(kind.__name__, dict, int).key_by(lambda item: item["row"], space="row").then(kind)

    async with running(app) as client:
        for row, kind in enumerate(kinds):
            with pytest.raises(Halfway):
                await client.request(kind.__name__, {"row": row, "fail": True})
        after_failures = await client.cell_range("rows"), await client.cell("written")
        for row, kind in enumerate(kinds):
            assert await client.request(kind.__name__, {"row": row, "fail": False}) == row
        after_all = await client.cell_range("rows"), await client.cell("written")

    assert after_failures == ([], 0)
    assert after_all == ([(row, 2) for row in range(len(kinds))], len(kinds))


async def test_a_deadline_and_a_caller_that_leaves_free_what_was_locked_and_write_nothing() -> None:
    app, rows, _ = ledger()

    class Holds(Operator):
        theirs = rows.exclusive()
        concurrency = 8

        async def process(self, key: int) -> int:
            locked = await self.theirs.lock(key, key + 1)
            locked[key] = 1
            await asyncio.sleep(30)
            return key

    class Writes(Operator):
        mine = rows.owned()

        def process(self, key: int) -> int:
            self.mine[key] = 2
            return key

    app.stream("holds", int, int).then(Holds)
    app.stream("writes", int, int).key_by(space="row").then(Writes)

    async with running(app) as client:
        leaving = asyncio.create_task(client.request("holds", 10))
        with pytest.raises(DeadlineExceededError):
            await client.request("holds", 1, timeout_s=0.05)
        waiting = asyncio.create_task(client.request("holds", 11))  # behind 10, which has 11 too
        with pytest.raises(DeadlineExceededError):
            await client.request("writes", 10, timeout_s=0.05)
        leaving.cancel()
        waiting.cancel()
        await asyncio.gather(leaving, waiting, return_exceptions=True)
        written = [await client.request("writes", key) for key in (1, 2, 10, 11, 12)]
        left = dict(await client.cell_range("rows"))

    assert written == [1, 2, 10, 11, 12]
    assert left == dict.fromkeys(written, 2)


async def test_of_two_that_lock_in_opposite_order_the_younger_begins_again_and_both_are_answered() -> None:
    app, rows, written = ledger()
    begun: list[int] = []

    class Both(Operator):
        theirs = rows.exclusive()
        count = written.merged()
        concurrency = 2

        async def process(self, item: dict[str, int]) -> int:
            begun.append(item["id"])
            locked = await self.theirs.lock(item["first"])
            locked[item["first"]] = item["id"]
            self.count.add()
            await asyncio.sleep(0.01)
            await self.theirs.lock(item["second"])
            locked[item["second"]] = item["id"]
            return item["id"]

    app.stream("both", dict, int).then(Both)

    async with running(app) as client:
        older = asyncio.create_task(client.request("both", {"id": 1, "first": 1, "second": 2}))
        await asyncio.sleep(0)
        younger = asyncio.create_task(client.request("both", {"id": 2, "first": 2, "second": 1}))
        answers = await asyncio.gather(older, younger)
        left, count = dict(await client.cell_range("rows")), await client.cell("written")

    assert answers == [1, 2]
    assert begun == [1, 2, 2]
    assert left == {1: 2, 2: 2}
    assert count == 2


@pytest.mark.parametrize("inner", ["owns", "owns-async", "locks", "nested"])
async def test_a_request_that_waits_for_a_key_it_holds_is_told_so_at_once(inner: str) -> None:
    app, rows, _ = ledger()

    class Outer(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            locked = await self.theirs.lock(key)
            locked[key] = 1
            if inner == "nested":
                await self.theirs.transact([key], lambda mine: mine.update({key: 2}))
            else:
                await self.call(inner, key)
            return key

    class Owns(Operator):
        mine = rows.owned()

        def process(self, key: int) -> int:
            self.mine[key] = 3
            return key

    class OwnsAsync(Operator):
        mine = rows.owned()
        concurrency = 2

        async def process(self, key: int) -> int:
            self.mine[key] = 3
            return key

    class LocksToo(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            (await self.theirs.lock(key))[key] = 3
            return key

    app.stream("outer", int, int).then(Outer)
    app.stream("owns", int, int).key_by(space="row").then(Owns)
    app.stream("owns-async", int, int).key_by(space="row").then(OwnsAsync)
    app.stream("locks", int, int).then(LocksToo)

    async with running(app) as client:
        with pytest.raises(CallCycleError) as caught:
            await asyncio.wait_for(client.request("outer", 7), 2.0)
        left = await client.cell_range("rows")

    assert isinstance(caught.value, ActivationError)
    assert any("Outer" in name for name in caught.value.circle)
    assert left == []


async def test_what_was_not_declared_or_not_locked_is_refused_with_the_way_out() -> None:
    app, rows, _ = ledger()

    class Undeclared(Operator):
        def process(self, key: int) -> int:
            return rows.get(key)

    class Elsewhere(Operator):
        mine = rows.owned()

        def process(self, key: int) -> int:
            self.mine[key + 1] = 1
            return key

    class ElsewhereAsync(Operator):
        mine = rows.owned()

        async def process(self, key: int) -> int:
            self.mine[key + 1] = 1
            return key

    class Unlocked(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            await self.theirs.lock(key)
            return self.theirs.get(key + 1)

    class SharedOnly(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            locked = await self.theirs.lock(key, shared=True)
            locked[key] = 1
            return key

    class WrongType(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            locked = await self.theirs.lock(key)
            locked[key] = "one"
            return key

    refusals: dict[type[Operator], tuple[type[ActorflowError], str]] = {
        Undeclared: (AccessError, "without a declared access"),
        Elsewhere: (AccessError, "the key in hand is 1"),
        ElsewhereAsync: (AccessError, "the key in hand is 1"),
        Unlocked: (AccessError, r"await self.theirs.lock\(2\) first"),
        SharedOnly: (AccessError, "lock it without shared=True"),
        WrongType: (CellTypeError, "type int"),
    }
    for kind in refusals:
        app.stream(kind.__name__, int, int).key_by(space="row").then(kind)

    async with running(app) as client:
        for kind, (error, message) in refusals.items():
            with pytest.raises(error, match=message):
                await client.request(kind.__name__, 1)
        left = await client.cell_range("rows")

    assert left == []


async def test_an_owner_whose_edge_has_another_key_is_refused_before_anything_starts() -> None:
    app, rows, _ = ledger()

    class Owns(Operator):
        mine = rows.owned()

        def process(self, key: int) -> int:
            return self.mine[key]

    app.stream("other-key", int, int).key_by(space="column").then(Owns)
    app.stream("no-key", int, int).then(Owns, name="Unkeyed")

    with pytest.raises(TopologyError) as caught:
        async with app.local():
            pass

    assert len(caught.value.faults) == 2
    assert all("key the edge by row" in fault for fault in caught.value.faults)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("reruns", [1, 3])
def test_a_circle_that_is_not_broken_by_another_run_is_broken_by_an_error_and_never_by_a_deadline(
    reruns: int, seed: int
) -> None:
    app = App("upgrades", limits=Limits(reruns=reruns, timeout_s=1000.0))
    rows = app.table("rows", key="row", value=int)
    chance = random.Random(seed)
    ends: Counter[str] = Counter()

    class Upgrade(Operator):
        theirs = rows.exclusive()
        concurrency = 100

        async def process(self, keys: list[int]) -> list[int]:
            await self.theirs.lock(keys[0], shared=True)
            await asyncio.sleep(chance.choice([0.0, 0.001, 0.01]))
            await self.theirs.lock(*keys)
            return keys

    app.stream("upgrade", list, list).then(Upgrade)

    async def system() -> None:
        async with running_simulated(app) as client:

            async def upgrade() -> None:
                for _ in range(4):
                    try:
                        await client.request("upgrade", chance.sample(range(3), 2))
                        ends["answered"] += 1
                    except CallCycleError:
                        ends["circle"] += 1

            await asyncio.gather(*(upgrade() for _ in range(8)))

    simulate(system, seed=seed)
    assert ends["answered"] + ends["circle"] == 32
    assert ends["answered"]


# -- what was once wrong


async def test_async_batches_of_a_keyed_operator_run_side_by_side() -> None:
    app, rows, _ = ledger()

    class Together(Operator):
        mine = rows.owned()
        concurrency = 2

        async def process_batch(self, items: list[dict[str, int]]) -> list[int]:
            for item in items:
                self.mine[item["row"]] = 1
            return [item["row"] for item in items]

    app.stream("together", list, list).flat_map(iter).key_by(lambda item: item["row"], space="row").then(
        Together
    ).collect()

    async with running(app) as client:
        assert await client.request("together", [{"row": 1}, {"row": 2}]) == [1, 2]


async def test_who_begins_again_is_not_held_up_by_an_item_that_was_dropped() -> None:
    app, rows, _ = ledger()

    class Forth(Operator):
        theirs = rows.exclusive()

        async def process(self, item: int) -> int:
            await self.theirs.lock(1)
            await asyncio.sleep(0.05)
            await self.theirs.lock(2)
            return item

    class Back(Operator):
        theirs = rows.exclusive()

        async def process(self, item: int) -> int:
            await self.theirs.lock(2)
            await asyncio.sleep(0.1)
            await self.theirs.lock(1)
            return item

    app.stream("forth", int, int).then(Forth)
    app.stream("back", int, int).then(Back)

    async with running(app) as client:
        older = asyncio.create_task(client.request("forth", 1))
        await asyncio.sleep(0)
        younger = asyncio.create_task(client.request("back", 2, timeout_s=1.0))
        await asyncio.sleep(0.02)
        leaving = asyncio.create_task(client.request("back", 3))
        await asyncio.sleep(0.02)
        leaving.cancel()
        assert await asyncio.gather(older, younger) == [1, 2]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_compensation_is_made_though_the_deadline_passes_while_it_waits(kind: str) -> None:
    app, rows, _ = ledger()

    class Reserve(Operator):
        mine = rows.owned()

        def process(self, key: int) -> int:
            self.mine[key] = self.mine.get(key, 1) - 1
            return key

        def give_back(self, outcome: Any, key: int) -> Any:
            if outcome.ok:
                return outcome.value
            self.mine[key] += 1
            return None

    class Plain(Reserve):
        def on_reply(self, outcome: Any, key: int) -> Any:
            return self.give_back(outcome, key)

    class Async(Reserve):
        async def on_reply(self, outcome: Any, key: int) -> Any:
            return self.give_back(outcome, key)

    class Fails(Operator):
        async def process(self, key: int) -> int:
            await asyncio.sleep(0.03)
            raise Halfway

    class Counts(Operator):
        mine = rows.owned()

        async def process(self, key: int) -> int:
            await asyncio.sleep(0.1)  # has the key, for which on_reply waits
            return self.mine[key]

    app.stream("buy", int, int).key_by(space="row").then(Plain if kind == "plain" else Async).then(Fails)
    app.stream("counts", int, int).key_by(space="row").then(Counts)

    async with running(app) as client:
        buying = asyncio.create_task(client.request("buy", 7, timeout_s=0.06))
        await asyncio.sleep(0.01)
        assert await client.request("counts", 7) == 0
        with pytest.raises(ActorflowError):
            await buying
        await asyncio.sleep(0.05)
        assert await client.request("counts", 7, timeout_s=0.5) == 1


async def test_a_compensation_that_meets_a_deadlock_is_made() -> None:
    app, rows, _ = ledger()

    class Reserve(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            locked = await self.theirs.lock(key)
            locked[key] = locked.get(key, 1) - 1
            return key

        async def on_reply(self, outcome: Any, key: int) -> Any:
            if outcome.ok:
                return outcome.value
            locked = await self.theirs.lock(key)
            locked[key] += 1
            await asyncio.sleep(0.05)
            await self.theirs.lock(key - 1)
            return None

    class Fails(Operator):
        def process(self, key: int) -> int:
            raise Halfway

    class Counts(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            await self.theirs.lock(key)
            await asyncio.sleep(0.02)
            await self.theirs.lock(key + 1)
            return key

    app.stream("buy", int, int).then(Reserve).then(Fails)
    app.stream("counts", int, int).then(Counts)

    async with running(app) as client:
        counting = asyncio.create_task(client.request("counts", 1))
        await asyncio.sleep(0)
        with pytest.raises(Halfway):
            await client.request("buy", 2)
        assert await counting == 1
        assert await client.cell("rows", 2) == 1


async def test_an_activation_may_wait_twice_for_the_same_key() -> None:
    app, rows, _ = ledger()

    class Holds(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            await self.theirs.lock(key)
            await asyncio.sleep(0.02)
            return key

    class Twice(Operator):
        theirs = rows.exclusive()

        async def process(self, key: int) -> int:
            await asyncio.gather(self.theirs.lock(key, key + 1), self.theirs.lock(key, key + 2))
            return key

    app.stream("holds", int, int).then(Holds)
    app.stream("twice", int, int).then(Twice)

    async with running(app) as client:
        assert await asyncio.gather(client.request("holds", 1), client.request("twice", 1, timeout_s=0.5)) == [1, 1]
