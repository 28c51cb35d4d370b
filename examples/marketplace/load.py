"""Customers, sellers and drivers, all at once: a load on the marketplace, and an audit of its books while it lasts.

python -m examples.marketplace.load                                   64 customers, 5,000 requests, in this process
python -m examples.marketplace.load --requests 20000 --customers 200  more of both
python -m examples.marketplace.load --url http://127.0.0.1:7700       on a host that `actorflow run` has started
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median, quantiles

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from actorflow import Client, ConnectionLostError
from examples.marketplace import app as market
from examples.marketplace.goods import Books, Checkout, Choice, Item, Line, NewPrice, NewVersion, Offer

SELLERS, PRODUCTS, PIECES = 10, 10, 1000
MIX = {"shop": 30, "change_price": 3, "change_product": 2, "deliver": 60, "look": 5}
"""What people do, in percent: the mix of the Online Marketplace Benchmark."""


class Load:
    """A number of things to be done, shared by all who do them, and what came of them."""

    def __init__(self, client: Client, count: int, seed: int) -> None:
        self.client = client
        self.left: Iterator[int] = iter(range(count))
        self.random = random.Random(seed)
        self.first_order = time.time_ns() // 1000  # numbers of orders grow, from one run to the next too
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.outcomes: Counter[str] = Counter()
        self.audits = self.delivered = 0

    @property
    def done(self) -> int:
        return sum(map(len, self.seconds.values()))

    async def person(self, number: int) -> None:
        """Do one thing after the other, as long as something is left to be done."""
        for task in self.left:
            (what,) = self.random.choices(list(MIX), list(MIX.values()))
            began_s = time.perf_counter()
            if what == "shop":
                await self.shop(number, self.first_order + task)
            else:
                await getattr(self, what)(self.some_item())
            self.seconds[what].append(time.perf_counter() - began_s)

    def some_item(self) -> Item:
        return Item(self.random.randrange(SELLERS), self.random.randrange(PRODUCTS))

    async def shop(self, customer: int, order: int) -> None:
        for _ in range(self.random.randint(1, 10)):
            seen = await self.client.request(market.show, self.some_item())
            quantity, voucher = self.random.randint(1, 10), self.random.choice([0] * 19 + [100])
            line = Line(seen.seller, seen.product, quantity, seen.price, seen.freight, seen.version, voucher)
            await self.client.request(market.cart, Choice(customer, line))
        placed = await self.client.request(market.checkout, Checkout(order, customer))
        self.outcomes[placed.status] += 1

    async def change_price(self, item: Item) -> None:
        await self.client.request(market.new_price, NewPrice(item.seller, item.product, self.random.randint(100, 1100)))

    async def change_product(self, item: Item) -> None:
        seen = await self.client.request(market.show, item)
        await self.client.request(market.new_version, NewVersion(item.seller, item.product, seen.version + 1))

    async def deliver(self, _: Item) -> None:
        packages = await self.client.request(market.delivery, None)
        self.delivered += packages

    async def look(self, item: Item) -> None:
        seen = await self.client.request(market.dashboard, item.seller)
        if seen.owed != sum(entry.cents for entry in seen.entries):
            raise AssertionError(f"the dashboard shows {seen.owed} cents, and other entries: {seen}")

    async def audit(self) -> Books:
        books: Books = await self.client.request(market.books, None)
        self.audits += 1
        if books.faults:
            raise AssertionError("\n".join(books.faults))
        return books


async def run(load: Load, people: int, count: int, console: Console) -> Books:
    """Fill the shelves, let people do what they do, and audit the books all the while and in the end."""
    everything = [(seller, product) for seller in range(SELLERS) for product in range(PRODUCTS)]
    for item in everything:
        await load.client.request(market.offer, Offer(*item, load.random.randint(100, 1100), 50, PIECES))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TextColumn("{task.fields[state]}"), console=console) as progress:
        bar = progress.add_task("trading", total=count, state="")
        doing = asyncio.gather(*map(load.person, range(people)))
        try:
            while True:
                done = doing.done()
                books = await load.audit()
                state = f"{books.taken / 100:,.2f} € taken, {books.reserved} pieces reserved"
                progress.update(bar, completed=load.done, state=state)
                if done:
                    await doing
                    return books
                await asyncio.wait([doing], timeout=0.2)
        finally:
            doing.cancel()


def report(load: Load, books: Books, spent_s: float, console: Console) -> None:
    table = Table("what", "times", "per second", "median ms", "99 % ms", title="what people did")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, seconds in sorted(load.seconds.items()):
        slow = quantiles(seconds, n=100)[-1] if len(seconds) > 1 else seconds[0]
        took = f"{1000 * median(seconds):.1f}", f"{1000 * slow:.1f}"
        table.add_row(what.replace("_", " "), f"{len(seconds):,}", f"{len(seconds) / spent_s:,.0f}", *took)
    console.print(table)
    outcomes = (f"{outcome}: {times:,}" for outcome, times in sorted(load.outcomes.items()))
    console.print(f"checkouts: {'; '.join(outcomes)}. Packages delivered: {load.delivered:,}", soft_wrap=True)
    console.print(
        f"{books.taken / 100:,.2f} € taken = {books.owed / 100:,.2f} € owed + {books.earned / 100:,.2f} € earned; "
        f"{books.available:,} pieces there, {books.reserved:,} reserved, {books.sold:,} sold",
        soft_wrap=True,
    )
    console.print(f"[green]✓[/green] {load.audits} audits, {load.audits - 1} of them meanwhile: the books add up")


async def main() -> None:
    options = argparse.ArgumentParser(description="Put a load on the marketplace.")
    options.add_argument("--requests", type=int, default=5000, metavar="N", help="how many things people do")
    options.add_argument("--customers", type=int, default=64, metavar="N", help="how many people do them")
    options.add_argument("--seed", type=int, default=1, help="another seed, another day")
    options.add_argument("--url", help="a running host (default: the app runs in this process)")
    given = options.parse_args()
    console = Console()
    async with Client(given.url) if given.url else market.app.local() as client:
        load = Load(client, given.requests, given.seed)
        began_s = time.perf_counter()
        books = await run(load, given.customers, given.requests, console)
        report(load, books, time.perf_counter() - began_s, console)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(main())
        except AssertionError as error:
            sys.exit(f"the books do not add up:\n{error}")
        except ConnectionLostError as error:
            sys.exit(str(error))
