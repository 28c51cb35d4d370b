"""A shop: two streams that call each other's work, errors that keep their class, and a reply that passes back.

python -m examples.shop
actorflow run examples.shop:app, then: actorflow call checkout '{"sku": "tea", "quantity": 2, "card": "4711"}'
"""

import asyncio
from dataclasses import dataclass

from actorflow import App, Operator, Outcome


@dataclass(frozen=True)
class Order:
    sku: str
    quantity: int
    card: str


@dataclass(frozen=True)
class Payment:
    card: str
    cents: int


@dataclass(frozen=True)
class Receipt:
    sku: str
    quantity: int
    cents: int
    authorisation: str


PRICES = {"tea": 450, "cup": 1200}


class OutOfStock(Exception):
    """There is less of it than was ordered."""


class CardRefused(Exception):
    """The bank said no."""


app = App("shop")


class Shelf(Operator):
    """Keeps the stock, one item at a time. Gives back what was not paid for."""

    def __init__(self, **stock: int) -> None:
        self.stock = stock

    def process(self, order: Order) -> Order:
        left = self.stock.get(order.sku, 0) - order.quantity
        if left < 0:
            raise OutOfStock(f"{self.stock.get(order.sku, 0)} of {order.sku} left")
        self.stock[order.sku] = left
        return order

    def on_reply(self, outcome: Outcome, order: Order) -> Receipt:
        if not outcome.ok:
            self.stock[order.sku] += order.quantity
        receipt: Receipt = outcome.result()
        return receipt


class Pay(Operator):
    """Asks the other stream for the money; many orders may wait for the bank at once."""

    concurrency = 100

    async def process(self, order: Order) -> Receipt:
        cents = PRICES[order.sku] * order.quantity
        authorisation = await self.call("payment", Payment(order.card, cents))
        return Receipt(order.sku, order.quantity, cents, authorisation)


class Bank(Operator):
    concurrency = 100

    async def process(self, payment: Payment) -> str:
        await asyncio.sleep(0.01)  # the bank is far away
        if payment.card == "0000":
            raise CardRefused(f"card {payment.card}")
        return f"ok-{payment.card}-{payment.cents}"


checkout = app.stream("checkout", Order, Receipt).then(Shelf, tea=10, cup=2).then(Pay)
payment = app.stream("payment", Payment, str).filter(lambda payment: payment.cents > 0).then(Bank)


async def main() -> None:
    async with app.local() as client:
        print(await client.request(checkout, Order("tea", 2, "4711")))
        for order in (Order("cup", 3, "4711"), Order("cup", 2, "0000")):
            try:
                await client.request(checkout, order)
            except (OutOfStock, CardRefused) as error:
                print(f"{order.sku}: {type(error).__name__}: {error}")
        print(await client.request(checkout, Order("cup", 2, "4711")))


if __name__ == "__main__":
    asyncio.run(main())
