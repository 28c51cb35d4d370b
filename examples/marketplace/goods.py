"""What is bought and sold. Nothing here ever changes: a change is a new value. All amounts are whole cents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

ItemKey = tuple[int, int]
"""A seller, and the number of one of its products."""

Status = Literal["nothing left", "reserved", "payment failed", "cancelled", "ready for shipment", "delivered"]


class Traded(Protocol):
    """Whatever is about one product of one seller."""

    @property
    def seller(self) -> int: ...
    @property
    def product(self) -> int: ...


def item_of(traded: Traded) -> ItemKey:
    return traded.seller, traded.product


# -- what sellers ask for


@dataclass(frozen=True)
class Offer:
    """So many pieces more of a product, which may be a new one."""

    seller: int
    product: int
    price: int
    freight: int
    quantity: int

    def __post_init__(self) -> None:
        if min(self.price, self.freight, self.quantity) < 0:
            raise ValueError("price, freight and quantity are not negative")


@dataclass(frozen=True)
class NewPrice:
    seller: int
    product: int
    price: int


@dataclass(frozen=True)
class NewVersion:
    """The product is another one now: what customers saw of it before does not count any more."""

    seller: int
    product: int
    version: int


@dataclass(frozen=True)
class Item:
    """Just which product."""

    seller: int
    product: int


# -- what customers ask for


@dataclass(frozen=True)
class Line:
    """Some pieces of a product, at the price and in the version that the customer saw. A voucher lowers the price."""

    seller: int
    product: int
    quantity: int
    price: int
    freight: int
    version: int = 1
    voucher: int = 0

    def __post_init__(self) -> None:
        if min(self.quantity, self.price, self.freight, self.voucher) < 0:
            raise ValueError("quantity, price, freight and voucher are not negative")

    @property
    def discount(self) -> int:
        return min(self.voucher, self.price * self.quantity)

    @property
    def cents(self) -> int:
        return self.price * self.quantity - self.discount + self.freight


@dataclass(frozen=True)
class Choice:
    """What a customer puts in the cart. A line replaces an earlier one of the same product; none of it removes it."""

    customer: int
    line: Line


@dataclass(frozen=True)
class Checkout:
    """Order what is in the cart. Who asks chooses the number of the order, which can be used once."""

    id: int
    customer: int
    pay: str = "card"


# -- what comes of it


@dataclass(frozen=True)
class Product:
    """A product on the shelf. Reserved pieces are among the available ones until they are paid for."""

    seller: int
    product: int
    price: int
    freight: int
    received: int = 0
    available: int = 0
    reserved: int = 0
    version: int = 1
    on_sale: bool = True

    def covers(self, line: Line) -> bool:
        """Return whether this is what the customer saw, and whether there is enough of it."""
        seen = self.on_sale and self.version == line.version
        return seen and self.reserved + line.quantity <= self.available

    def reserve(self, quantity: int) -> Product:
        return replace(self, reserved=self.reserved + quantity)

    def give_back(self, quantity: int) -> Product:
        return replace(self, reserved=self.reserved - quantity)

    def sell(self, quantity: int) -> Product:
        return replace(self, reserved=self.reserved - quantity, available=self.available - quantity)


@dataclass(frozen=True)
class Order:
    """What became of a cart. request: the one that has made it, and may undo it."""

    id: int
    customer: int
    pay: str
    lines: tuple[Line, ...]
    cents: int
    status: Status
    request: str


@dataclass(frozen=True)
class Bill:
    order: int
    customer: int
    cents: int


@dataclass(frozen=True)
class Payment:
    """What was paid for an order by one means: a card, a bank slip (boleto), a voucher."""

    order: int
    means: str
    cents: int


@dataclass(frozen=True)
class Parcel:
    """All that one seller sends for one order."""

    order: int
    seller: int


@dataclass(frozen=True)
class Entry:
    """A line of an order that is not delivered in full, as the seller sees it."""

    order: int
    product: int
    quantity: int
    cents: int


@dataclass(frozen=True)
class Dashboard:
    """owed: what the seller gets once the entries are delivered.   earned: what it has got for all before."""

    seller: int
    owed: int
    earned: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Tracking:
    """An order, what was paid for it, and the sellers whose parcels are on their way."""

    order: Order
    payments: tuple[Payment, ...]
    under_way: tuple[int, ...]


@dataclass(frozen=True)
class Books:
    """All that there is, at one moment. faults: what does not add up, which is nothing."""

    orders: dict[str, int]
    taken: int
    owed: int
    earned: int
    available: int
    reserved: int
    sold: int
    faults: tuple[str, ...]
