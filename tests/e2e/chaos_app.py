"""The app that is killed: transfers, trips, orders of many steps, registers, counters. Each step leaves a mark.

`CHAOS_KILL` has the process kill itself inside its store: `append-before:N`, `append-after:N`, `fold-before:N`,
`fold-after:N` at the N-th write, `sql:N` in the middle of a statement, after N looks at SQLite's virtual machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from actorflow import App, Limits, Operator
from actorflow.stores import sqlite

EXACT, EXACT_EACH = 1_000, 1_000_000
SCARCE, SCARCE_EACH = 100, 100
ROOMS, SEATS = 150, 120
SKUS, STOCK = 40, 1_000_000

app = App("chaos", limits=Limits(timeout_s=120.0, reruns=10_000))
exact_cell = app.table("exact", key="exact-account", value=int, key_type=int)
scarce_cell = app.table("scarce", key="scarce-account", value=int, key_type=int)
volume_cell = app.counter("volume")
moves_cell = app.log("moves")
rooms_cell = app.table("rooms", key="hotel", value=int, key_type=int)
seats_cell = app.table("seats", key="flight", value=int, key_type=int)
stock_cell = app.table("stock", key="sku", value=int, key_type=int)
marks_cell = app.table("marks", key="mark", value=int)
sold_cell = app.counter("sold")
paid_cell = app.counter("paid")
book_cell = app.log("book")
skus_cell = app.set("skus", int)
latest_cell = app.max("latest", int)
registers_cell = app.table("registers", key="register")
owned_counters = app.table("owned_counters", key="counter", value=int)
merged_counters = app.counter("merged_counters", key="counter")


class Declined(Exception):
    """A payment is not made: nothing of the step that asked for it stays."""


class Open(Operator):
    """Fills the tables, all rows in one transaction."""

    exact = exact_cell.exclusive()
    scarce = scarce_cell.exclusive()

    async def process(self, _: Any) -> int:
        exact = await self.exact.lock(*range(EXACT))
        scarce = await self.scarce.lock(*range(SCARCE))
        exact.update(dict.fromkeys(range(EXACT), EXACT_EACH))
        scarce.update(dict.fromkeys(range(SCARCE), SCARCE_EACH))
        return EXACT


class Move(Operator):
    """Moves money; how it locks, and how long it sleeps meanwhile, depends on the transfer."""

    concurrency = 64
    volume = volume_cell.merged()
    moves = moves_cell.merged()
    rows: Any

    async def process(self, transfer: list[int]) -> bool:
        number, src, dst, amount = transfer
        how = number % 4
        if how == 3:
            moved = await self.rows.transact([src, dst], lambda rows: self.move(rows, src, dst, amount))
        else:
            rows = await (self.rows.lock(src, dst) if how == 0 else self.rows.lock(src))
            if how:
                await asyncio.sleep(0.002 * how)
                rows = await self.rows.lock(src, dst)
            moved = self.move(rows, src, dst, amount)
            await asyncio.sleep(0.5 if number % 997 == 0 else 0)
        if moved:
            self.volume.add(amount)
            self.moves.append((self.kind, number))
        return moved

    kind = ""

    def move(self, rows: Any, src: int, dst: int, amount: int) -> bool:
        if rows[src] < amount:
            return False
        rows[src] -= amount
        rows[dst] += amount
        return True


class MoveExact(Move):
    rows = exact_cell.exclusive()
    kind = "exact"


class MoveScarce(Move):
    rows = scarce_cell.exclusive()
    kind = "scarce"


class Agency(Operator):
    """Books a room and a seat, both or none; which is locked first is told by the number of the trip."""

    concurrency = 32
    rooms = rooms_cell.exclusive()
    seats = seats_cell.exclusive()

    async def process(self, trip: list[int]) -> bool:
        number, hotel, flight = trip
        if number % 2:
            seats = await self.seats.lock(flight)
            await asyncio.sleep(0.001)
            rooms = await self.rooms.lock(hotel)
        else:
            rooms = await self.rooms.lock(hotel)
            await asyncio.sleep(0.001)
            seats = await self.seats.lock(flight)
        taken = rooms.get(hotel, 0), seats.get(flight, 0)
        if taken[0] >= ROOMS or taken[1] >= SEATS:
            return False
        rooms[hotel] = taken[0] + 1
        await asyncio.sleep(0)
        seats[flight] = taken[1] + 1
        return True


# -- an order: [number, parts, whether the last part is declined]


def lines(order: list[Any]) -> list[list[Any]]:
    """Return the lines of an order: number, part, sku, quantity, whether it is declined."""
    number, parts, declined = order
    return [
        [number, part, (number * 7 + part) % SKUS, 1 + (number + part) % 3, declined and part == parts - 1]
        for part in range(parts)
    ]


class Marks(Operator):
    marks = marks_cell.owned()

    def mark(self, *key: Any) -> None:
        self.marks[key] = self.marks.get(key, 0) + 1


class Reserve(Operator):
    """Takes stock in hand, has it paid by another stream, and writes that down."""

    concurrency = 16
    stock = stock_cell.owned()
    sold = sold_cell.merged()
    book = book_cell.merged()
    skus = skus_cell.merged()
    latest = latest_cell.merged()

    async def process(self, line: list[Any]) -> list[Any]:
        number, part, sku, quantity, declined = line
        before = self.stock.get(sku, STOCK)
        await asyncio.sleep(1.0 if number % 97 == 0 else 0.01 * (number % 5))
        self.stock[sku] = before - quantity
        self.sold.add(quantity)
        answer = await self.call("payment", [number, part, quantity, declined])
        assert answer == quantity * 100
        if number % 3 == 0:
            both = await asyncio.gather(*(self.call("stamp", [number, part, f"stamp {each}"]) for each in range(2)))
            assert both == [1, 1]
        self.book.append((number, part, self.uuid().hex))
        self.skus.add(sku)
        self.latest.put(number)
        return line


class Payment(Marks):
    concurrency = 32
    paid = paid_cell.merged()

    async def process(self, payment: list[Any]) -> int:
        number, part, quantity, declined = payment
        self.mark(number, part, "pay")
        self.paid.add(quantity * 100)
        await asyncio.sleep(0.7 if number % 89 == 0 else 0.005 * (number % 4))
        if declined:
            raise Declined(f"order {number}")
        return quantity * 100


class Stamp(Marks):
    concurrency = 8

    async def process(self, item: list[Any]) -> int:
        await asyncio.sleep(0.003)
        self.mark(*item)
        return self.marks[tuple(item)]


class Ship(Marks):
    """Sends notices: at once, later, and one that it calls off."""

    def process(self, line: list[Any]) -> Any:
        number, part = line[:2]
        self.mark(number, part, "ship")
        self.send("notice", [number, part, "now"])
        self.send("notice", [number, part, "later"], after_s=0.2 + (number % 10) / 5)
        self.cancel_send(self.send("notice", [number, part, "never"], after_s=0.3))
        yield line


class Waits(Marks):
    def process(self, line: list[Any]) -> Any:
        self.mark(line[0], line[1], "wait")
        if len(line) == 5:
            self.after(0.02 * (line[0] % 10), [*line, "due"])
            return None
        return line[:5]


class Notice(Marks):
    def process(self, item: list[Any]) -> None:
        self.mark(*item)


# -- histories


class Registers(Operator):
    rows = registers_cell.owned()
    concurrency = 20

    async def process(self, item: list[Any]) -> Any:
        key, do, *values = item
        now = self.rows.get(key)
        await asyncio.sleep(0.002)
        if do == "read":
            return [now]
        if do == "write":
            (self.rows[key],) = values
            return [None]
        old, new = values
        if now == old:
            self.rows[key] = new
        return [now == old]


class Looks(Operator):
    rows = registers_cell.snapshot()

    def process(self, item: list[Any]) -> Any:
        return [self.rows.get(item[0])]


class AddsOwned(Operator):
    rows = owned_counters.owned()
    concurrency = 20

    async def process(self, item: list[int]) -> int:
        key, count = item
        total = self.rows.get(key, 0)
        await asyncio.sleep(0.001)
        self.rows[key] = total + count
        return total + count


class AddsMerged(Operator):
    counters = merged_counters.merged()

    def process(self, item: list[int]) -> int:
        key, count = item
        self.counters[key].add(count)
        return self.counters[key].value()


class Audit(Operator):
    """Looks at everything in one instant."""

    exact = exact_cell.snapshot()
    scarce = scarce_cell.snapshot()
    volume = volume_cell.snapshot()
    rooms = rooms_cell.snapshot()
    seats = seats_cell.snapshot()
    stock = stock_cell.snapshot()
    sold = sold_cell.snapshot()

    def process(self, _: Any) -> dict[str, Any]:
        scarce = [balance for _, balance in self.scarce.items()]
        return {
            "exact": sum(balance for _, balance in self.exact.items()),
            "scarce": sum(scarce),
            "poorest": min(scarce),
            "volume": self.volume.value(),
            "rooms": sum(taken for _, taken in self.rooms.items()),
            "seats": sum(taken for _, taken in self.seats.items()),
            "gone": sum(STOCK - left for _, left in self.stock.items()),
            "sold": self.sold.value(),
        }


def mark_of(item: list[Any]) -> tuple[Any, ...]:
    return tuple(item[:3])


app.stream("open").then(Open)
app.stream("exact", list, bool).then(MoveExact)
app.stream("scarce", list, bool).then(MoveScarce)
app.stream("travel", list, bool).then(Agency)
app.stream("payment", list, int).key_by(lambda item: (*item[:2], "pay"), space="mark").then(Payment)
app.stream("stamp", list, int).key_by(mark_of, space="mark").then(Stamp)
app.stream("notice", list, replies="none").key_by(mark_of, space="mark").then(Notice)
(
    app.stream("order", list, int)
    .flat_map(lines)
    .key_by(lambda line: line[2], space="sku")
    .then(Reserve)
    .key_by(lambda line: (*line[:2], "ship"), space="mark")
    .then(Ship)
    .key_by(lambda line: (*line[:2], "wait"), space="mark")
    .then(Waits)
    .count()
)
_register = app.stream("register", list, list).route(
    lambda item: "look" if item[1] == "read" and item[0] % 2 else "change", "look", "change"
)
_register["look"].then(Looks)
_register["change"].key_by(lambda item: item[0], space="register").then(Registers)
_add_get = app.stream("add-get", list, int).route(lambda item: "owned" if item[0] % 2 else "merged", "owned", "merged")
_add_get["owned"].key_by(lambda item: item[0], space="counter").then(AddsOwned)
_add_get["merged"].then(AddsMerged)
app.stream("audit", int, dict).then(Audit)


# -- death inside the store


def die_in_store(wish: str) -> None:
    """Arrange that this process kills itself in its store."""
    where, _, left = wish.partition(":")
    counts = {"left": int(left)}

    def count(*_: Any) -> int:
        counts["left"] -= 1
        if counts["left"] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    if where == "sql":
        connect = sqlite._connect

        def connecting(*arguments: Any) -> Any:
            connection = connect(*arguments)
            connection.set_progress_handler(count, 7)
            return connection

        sqlite._connect = connecting
        return
    verb, _, when = where.partition("-")
    write = getattr(sqlite.SqliteStore, verb)

    def writing(*arguments: Any) -> None:
        if when == "before":
            count()
        write(*arguments)
        if when == "after":
            count()

    setattr(sqlite.SqliteStore, verb, writing)


if os.environ.get("CHAOS_KILL"):
    die_in_store(os.environ["CHAOS_KILL"])
