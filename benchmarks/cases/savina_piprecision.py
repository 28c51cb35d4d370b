"""Savina 22, digits of pi: a series whose terms are handed out on demand.

The master gives each idle worker the next term of the Bailey-Borwein-Plouffe series and stops when a term has become
too small to matter. It shows demand-driven work between actors that answer to an address in the message, and integers
of any size as items.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator

GUARD_DIGITS = 20
WORKERS = 20


@dataclass(frozen=True, slots=True)
class Compute:
    """Ask a worker for term `index`, as a multiple of 1 / `one`."""

    index: int
    one: int
    master: Address


@dataclass(frozen=True, slots=True)
class Term:
    """A term, and the worker that is idle again."""

    value: int
    worker: Address


class Pi(Operator):
    """Give each request a master."""

    def process(self, digits: int) -> None:
        self.tell(self.spawn(Master), digits)


class Master(Operator):
    """Hand out terms until they vanish; answer when the last one is back."""

    def __init__(self) -> None:
        self.one = self.total = self.next_index = self.under_way = 0
        self.done = False

    def process(self, item: int | Term) -> str | None:
        if isinstance(item, Term):
            self.under_way -= 1
            self.total += item.value
            self.done = self.done or item.value == 0
            self.hand_out(item.worker)
        else:
            self.one = 10 ** (item + GUARD_DIGITS)
            for _ in range(WORKERS):
                self.hand_out(self.spawn(Worker))
        return None if self.under_way else str(self.total // 10**GUARD_DIGITS)

    def hand_out(self, worker: Address) -> None:
        """Give a worker the next term, or its leave."""
        if self.done:
            self.stop_actor(worker)
            return
        self.tell(worker, Compute(self.next_index, self.one, self.address))
        self.next_index += 1
        self.under_way += 1


class Worker(Operator):
    """Compute the terms that are asked of it."""

    def process(self, task: Compute) -> None:
        k = task.index
        numerator = 120 * k**2 + 151 * k + 47
        denominator = 512 * k**4 + 1024 * k**3 + 712 * k**2 + 194 * k + 15
        self.tell(task.master, Term(task.one * numerator // (denominator << 4 * k), self.address))


app = App("savina-piprecision")
piprecision = app.stream("piprecision", int, str).then(Pi)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Compute `P` digits after the point."""
    digits = await client.request(piprecision, params["P"])
    certain = digits[:-20]
    return {
        "digits_after_point": len(digits) - 1,
        "first_50": digits[:51],
        "digits_sha256_all_but_last_20": hashlib.sha256(certain.encode()).hexdigest(),
        "last_40_of_those": certain[-40:],
    }
