"""Savina programs whose trouble is shared state, written with cells. Those with actors are in benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from actorflow import App, Limits, Operator
from tests.cases.given import common
from tests.cases.running import Pause, no_pause

# -- philosophers


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a philosopher sits, how many sit there, and how many meals there are."""

    number: int
    of: int
    meals: int


def philosophers(how: str, log: Callable[[str, int], None], *, pause: Pause = no_pause) -> App:
    """Return a dinner whose stream "dine" answers the number of meals eaten at a seat.

    how: takes both forks "together"; or "left-first", which is how they starve: all have the left one and wait for the
    right one, until the youngest puts its own back and begins again.
    """
    app = App("philosophers", limits=Limits(reruns=100_000))
    forks = app.table("forks", key="fork", value=int)
    eaten = app.counter("eaten", key="seat")

    class Eat(Operator):
        forks_ = forks.exclusive()
        eaten_ = eaten.merged()
        concurrency = 1000

        async def process(self, seat: Seat) -> int:
            left, right = seat.number, (seat.number + 1) % seat.of
            if how == "together":
                rows = await self.forks_.lock(left, right)
            else:
                rows = await self.forks_.lock(left)
                await pause()
                await self.forks_.lock(right)
            log("start", seat.number)
            try:
                for fork in (left, right):
                    rows[fork] = rows.get(fork, 0) + 1  # how often it was used
                await pause()
            finally:
                log("end", seat.number)
            self.eaten_[seat.number].add()
            return seat.number

    class Dine(Operator):
        concurrency = 1000

        async def process(self, seat: Seat) -> int:
            for _ in range(seat.meals):
                await self.call("eat", seat)
            return seat.meals

    app.stream("eat", Seat, int).then(Eat)
    app.stream("dine", Seat, int).then(Dine)
    return app


# -- banking


@dataclass(frozen=True, slots=True)
class Payment:
    """Moves an amount of micro-units between two accounts."""

    number: int
    src: int
    dst: int
    amount: int


def banking(at_once: Callable[[int, int], None], *, pause: Pause = no_pause) -> App:
    """Return a bank whose stream "pay" answers the payment's number; accounts begin at nothing and may be overdrawn."""
    app = App("banking")
    accounts = app.table("accounts", key="account", value=int)

    class Pay(Operator):
        accounts_ = accounts.exclusive()
        concurrency = 64

        async def process(self, payment: Payment) -> int:
            rows = await self.accounts_.lock(payment.src, payment.dst)
            at_once(payment.src, 1)
            try:
                rows[payment.src] = rows.get(payment.src, 0) - payment.amount
                await pause()
                rows[payment.dst] = rows.get(payment.dst, 0) + payment.amount
            finally:
                at_once(payment.src, -1)
            return payment.number

    class Sum(Operator):
        accounts_ = accounts.snapshot()

        def process(self, _: int) -> int:
            return sum(balance for _, balance in self.accounts_.items())

    app.stream("pay", Payment, int, replies="many").then(Pay)
    app.stream("sum", int, int).then(Sum)
    return app


# -- a dictionary, and a sorted list


@dataclass(frozen=True, slots=True)
class Load:
    """One worker's share: by its own generator it writes so many of a hundred messages, and asks for the size."""

    worker: int
    messages: int
    writes: int
    sizes: int = 0


def dictionary(*, pause: Pause = no_pause) -> App:
    """Return an app whose stream "work" writes to and reads from one dictionary; answers (writes, reads)."""
    app = App("dictionary")
    rows = app.table("rows", key="key", key_type=int, value=int)

    class Write(Operator):
        rows_ = rows.owned()

        def process(self, item: dict[str, int]) -> int:
            self.rows_[item["key"]] = item["value"]
            return item["value"]

    class Read(Operator):
        rows_ = rows.snapshot()

        def process(self, key: int) -> int:
            return self.rows_.get(key, -1)

    class Work(Operator):
        concurrency = 100

        async def process(self, load: Load) -> tuple[int, int]:
            chance = common.SavinaLCG(load.worker + load.messages + load.writes)
            writes = 0
            for number in range(load.messages):
                if chance.next_int(100) < load.writes:
                    key, value = chance.next_int(1000), chance.next_long() * 1_000_000 + number
                    await self.call("write", {"key": key, "value": value})
                    writes += 1
                else:
                    await self.call("read", chance.next_int(1000))
                await pause()
            return writes, load.messages - writes

    app.stream("write", dict, int).key_by(lambda item: item["key"], space="key").then(Write)
    app.stream("read", int, int).then(Read)
    app.stream("work", Load, tuple).then(Work)
    return app


def sorted_list(*, pause: Pause = no_pause) -> App:
    """Return an app whose stream "work" shares one sorted list: a table of values with how often each is in it.

    A table is read in the order of its keys; a counter, changed by the same activation, knows the length.
    """
    app = App("sorted-list")
    values = app.table("values", key="value", key_type=int, value=int)
    length = app.counter("length")
    asked = app.counter("asked", key="question")

    class Write(Operator):
        values_ = values.owned()
        length_ = length.merged()

        def process(self, value: int) -> int:
            self.values_[value] = self.values_.get(value, 0) + 1
            self.length_.add()
            return value

    class Ask(Operator):
        values_ = values.snapshot()
        length_ = length.snapshot()
        asked_ = asked.merged()

        def process(self, value: int | None) -> int:
            self.asked_["size" if value is None else "contains"].add()
            return self.length_.value() if value is None else value in self.values_

    class Work(Operator):
        concurrency = 100

        async def process(self, load: Load) -> int:
            chance = common.SavinaLCG(load.worker + load.messages + load.writes + load.sizes)
            size = 0
            for _ in range(load.messages):
                action = chance.next_int(100)
                if action < load.sizes:
                    before, size = size, await self.call("ask", None)
                    assert size >= before, "the list has shrunk"
                elif action < load.sizes + load.writes:
                    value = await self.call("write", chance.next_int())
                    assert await self.call("holds", value), "what was written is not there"
                else:
                    await self.call("ask", chance.next_int())
                await pause()
            return size

    class Holds(Operator):
        values_ = values.snapshot()

        def process(self, value: int) -> bool:
            return value in self.values_

    app.stream("write", int, int).key_by(space="value").then(Write)
    app.stream("ask").then(Ask)
    app.stream("holds", int, bool).then(Holds)
    app.stream("work", Load, int).then(Work)
    return app


# -- a bounded buffer


def bounded_buffer(capacity: int, seen: Callable[[int], None], *, pause: Pause = no_pause) -> App:
    """Return an app with the streams "put" (an item) and "take", which ask again later where there is no room, or item.

    The buffer is one value that is locked. Who holds a lock must not wait for somebody who needs it: so an activation
    that finds the buffer full ends, and `after` a moment another one looks again, within the same request.
    """
    app = App("buffer", limits=Limits(timeout_s=60.0))
    buffer = app.value("buffer", tuple)

    class Put(Operator):
        buffer_ = buffer.exclusive()
        concurrency = 100

        async def process(self, item: float) -> int | None:
            items = await self.buffer_.lock() or ()
            if len(items) == capacity:
                self.after(0.001, item)
                return None
            await pause()
            self.buffer_.set((*items, item))
            seen(len(items) + 1)
            return len(items) + 1

    class Take(Operator):
        buffer_ = buffer.exclusive()
        concurrency = 100

        async def process(self, number: int) -> float | None:
            items = await self.buffer_.lock() or ()
            if not items:
                self.after(0.001, number)
                return None
            await pause()
            self.buffer_.set(items[1:])
            return items[0]

    app.stream("put", float, int).then(Put)
    app.stream("take", int, float).then(Take)
    return app
