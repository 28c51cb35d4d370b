"""What the case programs share: the generators that make their inputs and the hashes that judge their results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

BITS_48 = (1 << 48) - 1
BITS_64 = (1 << 64) - 1


class SavinaLCG:
    """The generator of the Savina suite: linear congruential, 16 bits."""

    __slots__ = ("value",)

    def __init__(self, seed: int = 74755) -> None:
        self.value = seed

    def next_long(self) -> int:
        """Return the next value, from 0 to 65535."""
        self.value = (self.value * 1309 + 13849) & 0xFFFF
        return self.value

    def next_int(self, bound: int | None = None) -> int:
        """Return the next value, below `bound` where one is given."""
        value = self.next_long()
        return value if bound is None else value % bound

    def next_double(self) -> float:
        """Return one over the next value plus one: in (0, 1]."""
        return 1.0 / (self.next_long() + 1)


class JavaRandom:
    """The generator of `java.util.Random`: linear congruential, 48 bits."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        self.state = (seed ^ 0x5DEECE66D) & BITS_48

    def bits(self, count: int) -> int:
        """Return the upper `count` bits of the next state, unsigned."""
        self.state = (self.state * 0x5DEECE66D + 0xB) & BITS_48
        return self.state >> (48 - count)

    def next_int(self, bound: int | None = None) -> int:
        """Return a signed 32-bit integer or, with a bound, one from 0 to `bound - 1`."""
        if bound is None:
            value = self.bits(32)
            return value - (1 << 32) if value >> 31 else value
        if bound & (bound - 1) == 0:
            return (bound * self.bits(31)) >> 31
        while True:
            value = self.bits(31)
            remainder = value % bound
            if value - remainder + bound - 1 < 1 << 31:  # else from the last, incomplete run of remainders: draw again
                return remainder

    def next_boolean(self) -> bool:
        """Return one random bit."""
        return self.bits(1) == 1


class SplitMix64:
    """Steele, Lea and Flood's SplitMix64: the generator of the workloads that are not from another suite."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        self.state = seed & BITS_64

    def next(self) -> int:
        """Return the next unsigned 64-bit integer."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & BITS_64
        mixed = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & BITS_64
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & BITS_64
        return mixed ^ (mixed >> 31)

    def below(self, bound: int) -> int:
        """Return a value from 0 to `bound - 1` (by remainder, which is easy to port and nearly even)."""
        return self.next() % bound

    def unit(self) -> float:
        """Return a float in [0, 1)."""
        return (self.next() >> 11) / (1 << 53)

    def chance(self, numerator: int, denominator: int) -> bool:
        """Return True in `numerator` of `denominator` cases."""
        return self.below(denominator) < numerator


def canonical(row: Any) -> str:
    """Return the one JSON text of a row: keys sorted, no spaces, ASCII only."""
    return json.dumps(row, separators=(",", ":"), ensure_ascii=True, sort_keys=True)


def seq_hash(rows: Iterable[Any]) -> str:
    """Return the SHA-256 of the rows in the order given."""
    return _hash(map(canonical, rows))


def rows_hash(rows: Iterable[Any]) -> str:
    """Return the SHA-256 of the rows in the order of their texts: the same for any order given."""
    return _hash(sorted(map(canonical, rows)))


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()
