"""A bank under the simulated loop, touched in every way that cells allow, while all goes wrong that can.

Every account has two pockets. Whatever an activation does leaves the sum of all money as it is, notes what it moved in
a log and adds it to a counter, in one transaction. So whoever reads what is committed, at any instant, must find all
money, and log and counter that agree. After each run nobody holds a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import Any

import pytest

from actorflow import ActorflowError, App, Limits, Operator, Outcome
from actorflow.runtime.host import Host
from actorflow.runtime.request import Request
from actorflow.testing import check_nothing_left, simulate, simulated

SEEDS = int(os.environ.get("SEEDS", "40"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))

ACCOUNTS = 6
INITIAL = (50, 50)
TOTAL = ACCOUNTS * sum(INITIAL)

Move = dict[str, Any]
"""{"id", "src", "dst", "amount"}"""


class Trouble(Exception):
    """What operators raise here."""


class Chance:
    """The chances of one run, shared by its operators: set by the test, drawn in simulated order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fail = self.random.choice([0.0, 0.0, 0.02, 0.1, 0.3])
        self.wait = self.random.choice([0.1, 0.4, 0.6])
        self.torn: list[str] = []

    def maybe_fail(self) -> None:
        if self.random.random() < self.fail:
            raise Trouble("by chance")

    async def maybe_wait(self) -> None:
        while self.random.random() < self.wait:
            await asyncio.sleep(self.random.choice([0.0, 0.0, 0.001, 0.1, 3.0]))


def system(chance: Chance) -> App:
    """Return an app with a stream for each way to touch the accounts."""
    app = App("bank", limits=Limits(timeout_s=60.0, unwind_timeout_s=1000.0, reruns=chance.random.choice([1, 3, 1000])))
    the_money = app.table("money", key="account", value=tuple)
    the_owed = app.table("owed", key="account", value=tuple)
    the_transit = app.table("transit", key="transfer", value=int)
    the_moved = app.counter("moved")
    the_trail = app.log("trail")
    the_switch = app.value("switch", int)
    draw = chance.random

    def same(where: str, before: Any, after: Any) -> None:
        if before != after:
            chance.torn.append(f"{where}: {before} became {after} under its lock")

    class Notes(Operator):
        moved = the_moved.merged()
        trail = the_trail.merged()

        def note(self, move: Move) -> None:
            self.trail.append(move["amount"])
            chance.maybe_fail()
            self.moved.add(move["amount"])

    class Locks(Notes):
        """Locks both accounts by one call or by two, in the order of the item."""

        money = the_money.exclusive()
        concurrency = draw.choice([1, 2, 8])

        async def process(self, move: Move) -> Move:
            if draw.random() < 0.5:
                rows = await self.money.lock(move["src"], move["dst"])
            else:
                rows = await self.money.lock(move["src"])
                await chance.maybe_wait()
                await self.money.lock(move["dst"])
            before = rows[move["src"]], rows[move["dst"]]
            await chance.maybe_wait()
            same("Locks", before, (rows[move["src"]], rows[move["dst"]]))
            transfer(rows, move, chance)
            await chance.maybe_wait()
            self.note(move)
            return move

    class Shares(Notes):
        """Reads under a shared lock, and then wants to write."""

        money = the_money.exclusive()
        concurrency = draw.choice([1, 3])

        async def process(self, move: Move) -> Move:
            rows = await self.money.lock(move["src"], shared=True)
            before = rows[move["src"]]
            await chance.maybe_wait()
            rows = await self.money.lock(move["src"], move["dst"])
            same("Shares", before, rows[move["src"]])
            transfer(rows, move, chance)
            self.note(move)
            return move

    class Transacts(Operator):
        """Each transfer is a transaction of its own, whatever becomes of the activation."""

        money = the_money.exclusive()
        concurrency = draw.choice([1, 3])

        async def process(self, move: Move) -> Move:
            async def there_and_back(rows: Any) -> None:
                transfer(rows, move, chance)
                await chance.maybe_wait()
                transfer(rows, {**move, "src": move["dst"], "dst": move["src"]}, chance)

            keys = [move["src"], move["dst"]]
            await self.money.transact(keys, lambda rows: transfer(rows, move, chance))
            await chance.maybe_wait()
            await self.money.transact(reversed(keys), there_and_back)
            chance.maybe_fail()
            return move

    class Pockets(Notes):
        """Plain, owns the account: moves money between its pockets, in place."""

        money = the_money.owned()

        def process(self, move: Move) -> Move:
            one, other = self.money[move["src"]]
            self.money[move["src"]] = (one - move["amount"], other)
            chance.maybe_fail()
            self.note(move)
            self.money[move["src"]] = (one - move["amount"], other + move["amount"])
            chance.maybe_fail()
            return move

    class SlowPockets(Notes):
        """The same, suspended in the middle of it."""

        money = the_money.owned()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Move:
            one, other = self.money[move["src"]]
            self.money[move["src"]] = (one - move["amount"], other)
            await chance.maybe_wait()
            same("SlowPockets", (one - move["amount"], other), self.money[move["src"]])
            self.money[move["src"]] = (one - move["amount"], other + move["amount"])
            self.note(move)
            chance.maybe_fail()
            return move

    class PocketParts(Notes):
        """A generator, which commits once, at its end."""

        money = the_money.owned()

        def process(self, move: Move) -> Any:
            one, other = self.money[move["src"]]
            self.money[move["src"]] = (one - move["amount"], other)
            yield move
            chance.maybe_fail()
            with contextlib.suppress(KeyError):
                del self.money[move["src"]]
            self.money[move["src"]] = (one - move["amount"], other + move["amount"])
            self.note(move)

    class SlowPocketParts(Notes):
        """An async generator, which commits once, at its end."""

        money = the_money.owned()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Any:
            one, other = self.money.pop(move["src"])
            await chance.maybe_wait()
            self.money[move["src"]] = (one, other - move["amount"])
            yield move
            await chance.maybe_wait()
            self.money[move["src"]] = (one + move["amount"], other - move["amount"])
            self.note(move)

    class Together(Notes):
        """A batch: all keys of its items are in hand, so money may go from one to the next."""

        money = the_money.owned()

        def process_batch(self, moves: list[Move]) -> list[Move]:
            for one, other in zip(moves, moves[1:] + moves[:1], strict=True):
                transfer(self.money, {**one, "dst": other["src"]}, chance)
                self.note(one)
            return moves

    class SlowTogether(Notes):
        money = the_money.owned()
        concurrency = draw.choice([1, 3])

        async def process_batch(self, moves: list[Move]) -> list[Move]:
            for one, other in zip(moves, moves[1:] + moves[:1], strict=True):
                transfer(self.money, {**one, "dst": other["src"]}, chance)
                await chance.maybe_wait()
                self.note(one)
            return moves

    class Both(Notes):
        """Owns the account in hand and locks the other one."""

        mine = the_money.owned()
        theirs = the_money.exclusive()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Move:
            one, other = self.mine[move["src"]]
            await chance.maybe_wait()
            rows = await self.theirs.lock(move["dst"])
            same("Both", (one, other), self.mine[move["src"]])
            if move["src"] != move["dst"]:
                self.mine[move["src"]] = (one - move["amount"], other)
                chance.maybe_fail()
                first, second = rows[move["dst"]]
                rows[move["dst"]] = (first + move["amount"], second)
            self.note(move)
            return move

    class Calls(Notes):
        """Keeps its account while another stream works on others; when that wants this one, it waits for itself."""

        money = the_money.owned()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Move:
            one, other = self.money[move["src"]]
            self.money[move["src"]] = (one + 1, other - 1)
            way = draw.choice(["locks", "pockets", "slow_pockets", "both"])
            child = {**move, "src": move["dst"], "dst": (move["dst"] + 1) % ACCOUNTS}
            with contextlib.suppress(Trouble):
                await self.call(way, child)
            same("Calls", (one + 1, other - 1), self.money[move["src"]])
            self.note(move)
            return move

    class Debit(Operator):
        """Takes the money; when the request fails after that, puts it back, unless it has arrived."""

        money = the_money.owned()
        others = the_money.exclusive()
        transit = the_transit.exclusive()

        async def process(self, move: Move) -> Move:
            rows = await self.transit.lock(move["id"])
            one, other = self.money[move["src"]]
            rows[move["id"]] = move["amount"]
            await chance.maybe_wait()
            self.money[move["src"]] = (one - move["amount"], other)
            chance.maybe_fail()
            return move

        async def on_reply(self, outcome: Outcome, move: Move) -> Any:
            if outcome.ok:
                return outcome.value
            rows = await self.transit.lock(move["id"])
            if move["id"] in rows:
                one, other = self.money[move["src"]]
                self.money[move["src"]] = (one + rows.pop(move["id"]), other)
                await asyncio.sleep(draw.choice([0.0, 0.5]))
                if draw.random() < 0.5:
                    await self.others.lock(move["dst"])  # two that do so may wait for each other
            return None

    class PlainDebit(Operator):
        """The same in place: what is on its way is noted under the account that it comes from."""

        money = the_money.owned()
        owed = the_owed.owned()

        def process(self, move: Move) -> Move:
            one, other = self.money[move["src"]]
            self.money[move["src"]] = (one - move["amount"], other)
            chance.maybe_fail()
            self.owed[move["src"]] = (*self.owed.get(move["src"], ()), (move["id"], move["amount"]))
            chance.maybe_fail()
            return move

        def on_reply(self, outcome: Outcome, move: Move) -> Any:
            if outcome.ok:
                return outcome.value
            owed = dict(self.owed.get(move["src"], ()))
            if move["id"] in owed:
                one, other = self.money[move["src"]]
                self.money[move["src"]] = (one + owed.pop(move["id"]), other)
                self.owed[move["src"]] = tuple(owed.items())
            return None

    class SlowCredit(Operator):
        money = the_money.exclusive()
        owed = the_owed.exclusive()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Move:
            rows = await self.money.lock(move["dst"])
            await chance.maybe_wait()
            table = await self.owed.lock(move["src"])
            owed = dict(table[move["src"]])
            one, other = rows[move["dst"]]
            rows[move["dst"]] = (one + owed.pop(move["id"]), other)
            table[move["src"]] = tuple(owed.items())
            await chance.maybe_wait()
            chance.maybe_fail()
            return move

    class Rounds(Notes):
        """Plain, and sends its item round a few times: each trip is a transaction."""

        money = the_money.owned()

        def process(self, move: Move) -> Move | None:
            one, other = self.money[move["src"]]
            self.money[move["src"]] = (one - 1, other)
            chance.maybe_fail()
            self.note(move)
            self.money[move["src"]] = (one - 1, other + 1)
            if self.round == 3:
                return move
            self.feedback(move)
            return None

    class Credit(Operator):
        money = the_money.exclusive()
        transit = the_transit.exclusive()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Move:
            rows = await self.money.lock(move["dst"])
            transit = await self.transit.lock(move["id"])
            chance.maybe_fail()
            one, other = rows[move["dst"]]
            rows[move["dst"]] = (one, other + transit.pop(move["id"]))
            await chance.maybe_wait()
            chance.maybe_fail()
            return move

    class Switch(Operator):
        value = the_switch.exclusive()
        concurrency = draw.choice([1, 4])

        async def process(self, move: Move) -> Move:
            now = await self.value.lock(shared=draw.random() < 0.5) or 0
            await chance.maybe_wait()
            same("Switch", now, self.value.get(0))
            now = await self.value.lock() or 0
            self.value.set(now + 1)
            self.value.set(now)
            chance.maybe_fail()
            return move

    class Reads(Operator):
        money = the_money.snapshot()
        transit = the_transit.snapshot()
        owed = the_owed.snapshot()
        moved = the_moved.snapshot()
        trail = the_trail.snapshot()

        def process(self, _: Any) -> tuple[int, int, int]:
            held = sum(sum(row) for _, row in self.money.items()) + sum(row for _, row in self.transit.items())
            held += sum(amount for _, row in self.owed.items() for _, amount in row)
            return held, self.moved.value(), sum(self.trail)

    class Opens(Operator):
        money = the_money.owned()

        def process(self, account: int) -> int:
            self.money[account] = INITIAL
            return account

    app.stream("open", int, int).key_by(space="account").then(Opens)
    app.stream("reads", int, tuple, replies="many").then(Reads)
    for operator in (Locks, Shares, Transacts, Switch):
        app.stream(operator.__name__.lower(), dict, dict).then(operator)
    for operator in (Pockets, SlowPockets, PocketParts, SlowPocketParts, Both, Calls):
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in operator.__name__).lstrip("_")
        app.stream(name, dict, dict).key_by(lambda move: move["src"], space="account").then(operator)
    for name, operator in (("together", Together), ("slow_together", SlowTogether)):
        app.stream(name, list, list).flat_map(iter).key_by(lambda move: move["src"], space="account").then(
            operator
        ).collect()
    app.stream("sends", dict, dict).key_by(lambda move: move["src"], space="account").then(Debit).then(Credit)
    app.stream("plain_sends", dict, dict).key_by(lambda move: move["src"], space="account").then(PlainDebit).then(
        SlowCredit
    )
    by_account = app.stream("rounds", dict, dict).key_by(lambda move: move["src"], space="account")
    by_account.then(Rounds, feedback=by_account)
    return app


def transfer(rows: Any, move: Move, chance: Chance) -> None:
    """Move money between the first pockets of two accounts, with a moment in between at which it is nowhere."""
    one, other = rows[move["src"]]
    rows[move["src"]] = (one - move["amount"], other)
    chance.maybe_fail()
    one, other = rows[move["dst"]]
    rows[move["dst"]] = (one + move["amount"], other)
    chance.maybe_fail()


async def one_run(seed: int) -> None:
    chance = Chance(seed)
    draw = chance.random
    requests: list[Request] = []
    ends: dict[Request, int] = {}
    app = system(chance)
    async with simulated(app, strict=draw.random() < 0.5, inline=draw.random() < 0.3) as (client, host):
        count_ends(host, requests, ends)
        for account in range(ACCOUNTS):
            await client.request("open", account)
        ways = [name for name in app.streams if name not in {"open", "reads"}]
        ways = draw.sample(ways, draw.randrange(1, len(ways) + 1))

        def move(number: int) -> Move:
            src = draw.randrange(ACCOUNTS)
            dst = (src + draw.randrange(1, ACCOUNTS)) % ACCOUNTS
            return {"id": number, "src": src, "dst": dst, "amount": draw.randrange(1, 20)}

        async def ask(number: int) -> None:
            way = draw.choice(ways)
            item: Any = move(number)
            if way.endswith("together"):
                item = [move(number) for _ in range(draw.randrange(1, 5))]
            timeout_s = draw.choice([None, None, 0.05, 1.0, 10.0])
            asking = asyncio.ensure_future(client.request(way, item, timeout_s=timeout_s))
            if draw.random() < 0.15:
                await asyncio.sleep(draw.choice([0.0, 0.01, 1.0]))
                asking.cancel()
            with contextlib.suppress(ActorflowError, asyncio.CancelledError):
                await asking
                assert asking.result() in (item, None) or way.endswith("together")
            if not asking.cancelled() and (error := asking.exception()) is not None:
                known = {"Trouble", "DeadlineExceededError", "CallCycleError", "RequestCancelledError"}
                assert type(error).__name__ in known, repr(error)

        async def read() -> None:
            async def times() -> Any:
                for number in range(30):
                    yield number
                    await asyncio.sleep(draw.choice([0.0, 0.01, 0.5]))

            async for held, moved, noted in client.stream("reads", items=times(), timeout_s=60.0):
                assert held == TOTAL, f"{held} of {TOTAL} is there"
                assert moved == noted, f"the counter says {moved}, the log {noted}"

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            for number in range(draw.randrange(1, 40)):
                group.create_task(ask(number))
                await asyncio.sleep(draw.choice([0.0, 0.0, 0.01, 1.0]))
        for request in requests:  # children of what was cancelled, and clean-up
            while not request.state:
                await asyncio.sleep(1.0)
        await asyncio.sleep(30.0)
        (last,) = [each async for each in client.stream("reads", 0)]
        assert last[0] == TOTAL
        assert not await client.cell_range("transit"), "money is still on its way"
        assert not any(row for _, row in await client.cell_range("owed")), "money is still owed"
        assert all(locks.idle for locks in host.spaces.values()), await client.locks()
    assert not chance.torn
    check_nothing_left(host, requests)
    assert all(count == 1 for count in ends.values()), "a request ended twice"


def count_ends(host: Host, requests: list[Request], ends: dict[Request, int]) -> None:
    """Keep all requests that a host opens, and count how often each ends."""
    original, ended = host.open, host.ended

    def opened(*arguments: Any, **named: Any) -> Request:
        request = original(*arguments, **named)
        requests.append(request)
        return request

    def count_end(request: Request) -> None:
        ends[request] = ends.get(request, 0) + 1
        ended(request)

    host.open, host.ended = opened, count_end  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_no_money_is_lost_however_accounts_are_touched(seed: int) -> None:
    simulate(lambda: one_run(seed), seed=seed, jitter_s=0.0005, time_max_s=100_000.0)
