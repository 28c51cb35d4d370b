"""Savina 18, the sieve of Eratosthenes: a pipeline that grows while numbers flow through it.

Each filter keeps up to `primes_per_filter` primes and hands on what none of them divides; when it is full, the next
survivor makes it spawn its successor. It shows actors that create others as data demands, and an end mark that cannot
overtake the numbers before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import Address, App, Client, Operator


@dataclass(frozen=True, slots=True)
class Range:
    """Find the primes below `below`, with so many per filter."""

    below: int
    primes_per_filter: int


@dataclass(frozen=True, slots=True)
class Primes:
    """What the filters up to here have found; it travels down the pipeline as its end mark."""

    count: int = 0
    filters: int = 0
    largest: int = 0


class Candidates(Operator):
    """Send two, the odd numbers and the end mark to the first filter."""

    def process(self, task: Range) -> None:
        first = self.spawn(Filter, task.primes_per_filter)
        if task.below > 2:
            self.tell(first, 2)
        for candidate in range(3, task.below, 2):
            self.tell(first, candidate)
        self.tell(first, Primes())


class Filter(Operator):
    """Keep the first primes to arrive here and let pass what may be a larger one."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.primes: list[int] = []
        self.successor: Address | None = None

    def process(self, item: int | Primes) -> Primes | None:
        if isinstance(item, Primes):
            return self.end(item)
        if self.survives(item):
            if len(self.primes) < self.capacity:
                self.primes.append(item)
            else:
                if self.successor is None:
                    self.successor = self.spawn(Filter, self.capacity)
                self.tell(self.successor, item)
        return None

    def survives(self, candidate: int) -> bool:
        """Return whether no prime of this filter divides the candidate; none beyond its square root needs a try."""
        for prime in self.primes:
            if candidate % prime == 0:
                return False
            if prime * prime > candidate:
                break
        return True

    def end(self, before: Primes) -> Primes | None:
        """Add what was found here; the last filter answers the request."""
        found = Primes(before.count + len(self.primes), before.filters + 1, max([before.largest, *self.primes[-1:]]))
        self.stop_actor()
        if self.successor is None:
            return found
        self.tell(self.successor, found)
        return None


app = App("savina-sieve")
sieve = app.stream("sieve", Range, Primes).then(Candidates)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Find the primes below `N` with `M` of them per filter."""
    primes = await client.request(sieve, Range(params["N"], params["M"]))
    return {"primes_below_N": primes.count, "filter_actors": primes.filters, "largest": primes.largest}
