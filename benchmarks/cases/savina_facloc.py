"""Savina 20, online facility location: a tree of quadrants that divide while customers arrive.

A quadrant keeps its customers and what it costs them to reach the nearest facility; when that is too much it opens a
facility of its own and gives its customers to four smaller quadrants. News of a facility goes up to the root by its
address and down to every leaf. How many facilities open depends on timing; that no customer is lost does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator
from benchmarks.cases.generators import SavinaLCG

GRID_SIDE = 500.0
COST_MAX = 2.0 * math.sqrt(2) * GRID_SIDE
DEPTH_MAX = 12

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who wants to be near a facility."""

    number: int
    at: Point


@dataclass(frozen=True, slots=True)
class Facility:
    """A facility has opened; told to the root by who opened it, and by a quadrant to those in it."""

    at: Point


@dataclass(frozen=True, slots=True)
class Closing:
    """No customer comes any more: leaves are to report."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The customers of a leaf, and how many facilities it knows."""

    customers: list[int]
    facilities: int


@dataclass(frozen=True, slots=True)
class Box:
    """A square, its border included: a customer on a border belongs to the quadrants on both sides."""

    left: float
    bottom: float
    side: float

    def __contains__(self, point: Point) -> bool:
        x, y = point
        return self.left <= x <= self.left + self.side and self.bottom <= y <= self.bottom + self.side

    @property
    def centre(self) -> Point:
        """Return the point in the middle."""
        return self.left + self.side / 2, self.bottom + self.side / 2

    def quarters(self) -> list[Box]:
        """Return the four squares of half the side."""
        x, y = self.centre
        return [Box(left, bottom, self.side / 2) for left in (self.left, x) for bottom in (self.bottom, y)]


class Arrivals(Operator):
    """Send the customers to the root quadrant, then close."""

    def process(self, points: list[Point]) -> None:
        box = Box(0.0, 0.0, GRID_SIDE)
        root = self.spawn(Quadrant, box, (box.centre,))
        for number, point in enumerate(points):
            self.tell(root, Customer(number, point))
        self.tell(root, Closing())


class Quadrant(Operator):
    """A square of the grid: a leaf at first, later the root of four smaller ones."""

    def __init__(self, box: Box, facilities: tuple[Point, ...], depth: int = 0, root: Address | None = None) -> None:
        self.box = box
        self.facilities = set(facilities)
        self.depth = depth
        self.root = root
        self.customers: list[Customer] = []
        self.cost = 0.0
        self.children: list[tuple[Box, Address]] = []

    def process(self, item: Customer | Facility | Closing) -> Leaf | None:
        match item:
            case Facility():
                self.facilities.add(item.at)
                self.tell_children(item)
            case Customer() if self.children:
                self.hand_down(item)
            case Customer():
                self.admit(item)
            case Closing() if self.children:
                self.tell_children(item)
            case Closing():
                return Leaf([customer.number for customer in self.customers], len(self.facilities))
        return None

    def admit(self, customer: Customer) -> None:
        """Serve a customer from the nearest facility; divide when that has become too costly."""
        assert customer.at in self.box, f"{customer} does not belong in {self.box}"
        self.customers.append(customer)
        self.cost += min(math.dist(customer.at, facility) for facility in self.facilities)
        if self.cost > COST_MAX and self.depth < DEPTH_MAX:
            self.divide()

    def divide(self) -> None:
        """Open a facility in the middle and give the customers to four new quadrants."""
        self.facilities.add(self.box.centre)
        root = self.root or self.address
        known = tuple(self.facilities)
        self.children = [(box, self.spawn(Quadrant, box, known, self.depth + 1, root)) for box in self.box.quarters()]
        self.tell(root, Facility(self.box.centre))
        for customer in self.customers:
            self.hand_down(customer)
        self.customers.clear()

    def hand_down(self, customer: Customer) -> None:
        """Tell a customer to each child that it belongs to."""
        for box, child in self.children:
            if customer.at in box:
                self.tell(child, customer)

    def tell_children(self, item: Facility | Closing) -> None:
        """Tell all four children."""
        for _, child in self.children:
            self.tell(child, item)


app = App("savina-facloc")
facloc = app.stream("facloc", list[Point], list[Leaf]).then(Arrivals).collect()


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Place facilities for `points` customers."""
    generator = SavinaLCG()
    count = params["points"]
    points = [(generator.next_double() * GRID_SIDE, generator.next_double() * GRID_SIDE) for _ in range(count)]
    leaves = await client.request(facloc, points)
    served = {number for leaf in leaves for number in leaf.customers}
    assert served == set(range(count)), f"{count - len(served)} of {count} customers are in no leaf"
    assert sum(len(leaf.customers) for leaf in leaves) >= count
    return {
        "every point is counted": len(served),
        "leaves": len(leaves),
        "facilities": max(leaf.facilities for leaf in leaves),
    }
