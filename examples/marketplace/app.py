"""The application: its shared state, the operators that touch it, the streams that ask for it.

Every operator declares how it touches which cell. That is why it is safe, although thousands of requests are under way
at once and all of them get at the same state directly:

owned()      A cart by its customer, a product by seller and number, an order by its number. The stream is keyed as the
             table is, so work on one key is done one after the other.
exclusive()  The cart and all the products of an order at once. They are locked until the activation ends, against
             those who own one of them, too.
merged()     Payments, takings, what sellers are owed. Entries and additions may come in any order.
snapshot()   Dashboards, tracking, the books. They read what is committed, and write nothing.

An activation is a transaction: all that one call of `process` writes, to whatever cells, is seen together or never.
`actorflow check examples.marketplace.app:app` says the same of each operator and cell, and would say what is not safe.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import add
from typing import Any

from actorflow import App, Operator, Outcome
from actorflow.plan.cells import Log, MergedCell, MergedMap, Table
from examples.marketplace.goods import (
    Bill,
    Books,
    Checkout,
    Choice,
    Dashboard,
    Entry,
    Item,
    ItemKey,
    Line,
    NewPrice,
    NewVersion,
    Offer,
    Order,
    Parcel,
    Payment,
    Product,
    Tracking,
    item_of,
)

MANY = 1000  # orders may wait for the bank, or for one another, at once
PARCELS = 10  # that one round of deliveries takes along


class UnknownProduct(Exception):
    """No seller offers it."""


class UnknownOrder(Exception):
    """Nobody has ordered it."""


class OrderExists(Exception):
    """The number was used before."""


class PaymentRefused(Exception):
    """The bank said no."""


app = App("marketplace")

# -- the shared state

stock: Table[ItemKey, Product] = app.table("stock", key="item", value=Product)
carts: Table[int, tuple[Line, ...]] = app.table("carts", key="customer", value=tuple)
orders: Table[int, Order] = app.table("orders", key="order", value=Order)
parcels: Table[int, tuple[int, ...]] = app.table("parcels", key="order", value=tuple)  # sellers yet to deliver

payments: MergedCell[Log[Payment]] = app.log("payments", Payment, key="customer")
takings = app.counter("takings")  # the sum of all payments
entries: MergedCell[MergedMap[Entry]] = app.map("entries", Entry, key="seller")  # sold, and not delivered yet
owed = app.counter("owed", key="seller")  # the sum of these entries
earned = app.counter("earned", key="seller")  # and of those before


# -- sellers and their products


class Change(Operator):
    """Puts another value in the place of a product. It is the key in hand, so nobody else is at it."""

    stock = stock.owned()

    def __init__(self, change: Callable[[Product, Any], Product]) -> None:
        self.change = change

    def process(self, asked: Any) -> Product:
        item = item_of(asked)
        if item in self.stock:
            product = self.stock[item]
        elif isinstance(asked, Offer):
            product = Product(asked.seller, asked.product, asked.price, asked.freight)
        else:
            raise UnknownProduct(f"seller {asked.seller} has no product {asked.product}")
        self.stock[item] = changed = self.change(product, asked)
        return changed


def with_more(product: Product, offer: Offer) -> Product:
    more = {"received": product.received + offer.quantity, "available": product.available + offer.quantity}
    return replace(product, price=offer.price, freight=offer.freight, on_sale=True, **more)


def with_price(product: Product, new: NewPrice) -> Product:
    return replace(product, price=new.price)


def with_version(product: Product, new: NewVersion) -> Product:
    return replace(product, version=max(product.version, new.version))  # one that was overtaken changes nothing


def off_sale(product: Product, _: Item) -> Product:
    return replace(product, on_sale=False)


class Show(Operator):
    stock = stock.snapshot()

    def process(self, item: Item) -> Product:
        if item_of(item) not in self.stock:
            raise UnknownProduct(f"seller {item.seller} has no product {item.product}")
        return self.stock[item_of(item)]


# -- customers, their carts and their orders


class PutInCart(Operator):
    carts = carts.owned()

    def process(self, choice: Choice) -> int:
        others = (line for line in self.carts.get(choice.customer, ()) if item_of(line) != item_of(choice.line))
        cart = (*others, *([choice.line] if choice.line.quantity else []))
        self.carts[choice.customer] = cart
        return sum(line.cents for line in cart)


class Reserve(Operator):
    """Makes an order of what is there of a cart: the cart, all its products and the order change together.

    The order is the key in hand; the cart, and then the products, in their order, are locked: always one after the
    other in this way, so nobody waits in a circle. (If somebody did, one of them would be run again.)

    What happens to the order later comes back through here, be it a reply, an error, the deadline or a caller that has
    gone: unless the order was placed, its goods go back.
    """

    concurrency = MANY
    orders = orders.owned()
    carts = carts.exclusive()
    stock = stock.exclusive()

    async def process(self, checkout: Checkout) -> Order | None:
        if checkout.id in self.orders:
            raise OrderExists(f"there is an order {checkout.id}")
        cart = (await self.carts.lock(checkout.customer)).pop(checkout.customer, ())
        stock = await self.stock.lock(*map(item_of, cart))
        lines = tuple(line for line in cart if item_of(line) in stock and stock[item_of(line)].covers(line))
        cents = sum(line.cents for line in lines)
        order = Order(checkout.id, checkout.customer, checkout.pay, lines, cents, "reserved", self.request.id)
        if not lines:
            self.reply(replace(order, status="nothing left"))
            return None
        for line in lines:
            stock[item_of(line)] = stock[item_of(line)].reserve(line.quantity)
        self.orders[order.id] = order
        return order

    async def on_reply(self, outcome: Outcome, checkout: Checkout) -> Any:
        order = self.orders.get(checkout.id)
        if outcome.ok or order is None or order.status != "reserved" or order.request != self.request.id:
            return outcome.value  # of an error there is none, and it goes on
        stock = await self.stock.lock(*map(item_of, order.lines))
        for line in order.lines:
            stock[item_of(line)] = stock[item_of(line)].give_back(line.quantity)
        refused = isinstance(outcome.error, PaymentRefused)
        self.orders[order.id] = undone = replace(order, status="payment failed" if refused else "cancelled")
        return undone if refused else None


class Pay(Operator):
    """Asks another stream for the money. Meanwhile nothing is locked: the goods are reserved."""

    concurrency = MANY

    async def process(self, order: Order) -> Order:
        await self.call(payment, Bill(order.id, order.customer, order.cents))
        return order


class Bank(Operator):
    """Stands for a bank: it is far away, and refuses one payment in twenty, always the same ones."""

    concurrency = MANY

    async def process(self, bill: Bill) -> str:
        await asyncio.sleep(0.01)
        if (bill.customer * 1_000_003 + bill.order) % 20 == 7:
            raise PaymentRefused(f"{bill.cents} cents for order {bill.order}")
        return f"paid-{bill.order}"


class Place(Operator):
    """Places an order that is paid for. All that this means for stock, sellers and money is one transaction."""

    concurrency = MANY
    orders = orders.owned()
    parcels = parcels.owned()
    stock = stock.exclusive()
    payments = payments.merged()
    takings = takings.merged()
    entries = entries.merged()
    owed = owed.merged()

    async def process(self, order: Order) -> Order:
        stock = await self.stock.lock(*map(item_of, order.lines))
        self.orders[order.id] = order = replace(order, status="ready for shipment")
        self.parcels[order.id] = tuple(sorted({line.seller for line in order.lines}))
        paid = self.payments[order.customer]
        paid.append(Payment(order.id, order.pay, order.cents))
        self.takings.add(order.cents)
        for line in order.lines:
            stock[item_of(line)] = stock[item_of(line)].sell(line.quantity)
            entry = Entry(order.id, line.product, line.quantity, line.cents)
            self.entries[line.seller].put((order.id, line.product), entry)
            self.owed[line.seller].add(line.cents)
            if line.discount:
                paid.append(Payment(order.id, "voucher", line.discount))
        return order


class Track(Operator):
    orders = orders.snapshot()
    parcels = parcels.snapshot()
    payments = payments.snapshot()

    def process(self, number: int) -> Tracking:
        if number not in self.orders:
            raise UnknownOrder(f"there is no order {number}")
        order = self.orders[number]
        paid = tuple(payment for payment in self.payments[order.customer] if payment.order == number)
        return Tracking(order, paid, self.parcels.get(number, ()))


# -- deliveries


class Oldest(Operator):
    """Looks for the oldest parcel of each seller. Others may look at the same time, and find the same parcels."""

    parcels = parcels.snapshot()

    def process(self, _: None) -> Iterator[Parcel]:
        seen: set[int] = set()
        for order, sellers in self.parcels.items():  # in order of their numbers
            for seller in sellers:
                if seller not in seen:
                    seen.add(seller)
                    yield Parcel(order, seller)
                if len(seen) == PARCELS:
                    return


class Deliver(Operator):
    """Hands over a parcel, unless somebody has done so by now. With the last parcel the whole order is delivered."""

    orders = orders.owned()
    parcels = parcels.owned()
    entries = entries.merged()
    owed = owed.merged()
    earned = earned.merged()

    def process(self, parcel: Parcel) -> int:
        under_way = self.parcels.get(parcel.order, ())
        if parcel.seller not in under_way:
            return 0
        order = self.orders[parcel.order]
        if len(under_way) > 1:
            self.parcels[order.id] = tuple(seller for seller in under_way if seller != parcel.seller)
        else:
            del self.parcels[order.id]
            self.orders[order.id] = replace(order, status="delivered")
            for line in order.lines:
                self.entries[line.seller].discard((order.id, line.product))
                self.owed[line.seller].add(-line.cents)
                self.earned[line.seller].add(line.cents)
        return sum(line.seller == parcel.seller for line in order.lines)


# -- looking at it


class Look(Operator):
    """What a seller wants to see: the entries and their sum are of the same moment."""

    entries = entries.snapshot()
    owed = owed.snapshot()
    earned = earned.snapshot()

    def process(self, seller: int) -> Dashboard:
        listed = tuple(sorted((entry for _, entry in self.entries[seller].items()), key=lambda entry: entry.order))
        return Dashboard(seller, self.owed[seller].value(), self.earned[seller].value(), listed)


class Audit(Operator):
    """Adds up everything, while everything goes on: what is committed is right at every moment."""

    stock = stock.snapshot()
    orders = orders.snapshot()
    payments = payments.snapshot()
    takings = takings.snapshot()
    owed = owed.snapshot()
    earned = earned.snapshot()

    def process(self, _: None) -> Books:
        ordered = [order for _, order in self.orders.items()]
        products = dict(self.stock.items())
        placed = [order for order in ordered if order.status in {"ready for shipment", "delivered"}]
        held = [order for order in ordered if order.status == "reserved"]
        sold, reserved = pieces_of(placed), pieces_of(held)
        sellers = {seller for seller, _ in products}
        owing = sum(self.owed[seller].value() for seller in sellers)
        earnings = sum(self.earned[seller].value() for seller in sellers)
        paid = [payment for customer in {order.customer for order in placed} for payment in self.payments[customer]]
        taken = self.takings.value()
        sums = {
            "what was paid": sum(payment.cents for payment in paid if payment.means != "voucher"),
            "what was ordered": sum(order.cents for order in placed),
            "what sellers are owed or have earned": owing + earnings,
        }
        faults = [f"{taken} cents taken, but {what} is {cents}" for what, cents in sums.items() if cents != taken]
        for item, product in products.items():
            if product.reserved != reserved[item]:
                faults.append(f"{item}: {product.reserved} reserved, {reserved[item]} in orders")
            if product.available + sold[item] != product.received or product.available < product.reserved:
                faults.append(f"{item}: {product.received} received, {product.available} there, {sold[item]} sold")
        return Books(
            orders=dict(Counter(order.status for order in ordered)),
            taken=taken,
            owed=owing,
            earned=earnings,
            available=sum(product.available for product in products.values()),
            reserved=reserved.total(),
            sold=sold.total(),
            faults=tuple(faults),
        )


def pieces_of(orders: list[Order]) -> Counter[ItemKey]:
    pieces: Counter[ItemKey] = Counter()
    for order in orders:
        for line in order.lines:
            pieces[item_of(line)] += line.quantity
    return pieces


# -- the streams

offer = app.stream("offer", Offer, Product).key_by(item_of, space="item").then(Change, with_more)
new_price = app.stream("price", NewPrice, Product).key_by(item_of, space="item").then(Change, with_price)
new_version = app.stream("version", NewVersion, Product).key_by(item_of, space="item").then(Change, with_version)
withdraw = app.stream("withdraw", Item, Product).key_by(item_of, space="item").then(Change, off_sale)
show = app.stream("show", Item, Product).then(Show)

cart = app.stream("cart", Choice, int).key_by("customer").then(PutInCart)
checkout = (
    app.stream("checkout", Checkout, Order)
    .key_by("id", space="order").then(Reserve)
    .then(Pay)
    .key_by("id", space="order").then(Place)
)  # fmt: skip
payment = app.stream("payment", Bill, str).then(Bank)
track = app.stream("track", int, Tracking).then(Track)

delivery = app.stream("delivery", None, int).then(Oldest).key_by("order").then(Deliver).fold(0, add)

dashboard = app.stream("dashboard", int, Dashboard).then(Look)
books = app.stream("books", None, Books).then(Audit)
