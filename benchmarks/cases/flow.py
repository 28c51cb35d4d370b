"""What the dataflow programs share: reading their inputs, and one reply that is made of several results."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from actorflow import Stream


class Flight(msgspec.Struct, frozen=True):
    """One departure from New York; `delay_min` is None when the flight was cancelled. Times are in seconds."""

    time_s: int
    carrier: str
    tailnum: str
    origin: str
    delay_min: int | None

    @property
    def cancelled(self) -> bool:
        """Return whether the flight never left."""
        return self.delay_min is None


def path_of(params: dict[str, Any], name: str) -> str:
    """Return the path of the input file that a parameter names."""
    return str(Path(params["data"]) / params[name])


def lines(path: str) -> Iterator[str]:
    """Yield the lines of a gzipped text, each with its newline; only "\\n" ends a line."""
    with gzip.open(path, "rt", encoding="latin-1", newline="\n") as file:
        yield from file


def edges(path: str) -> Iterator[tuple[int, int]]:
    """Yield the edges of a graph, one pair of node numbers per line."""
    for line in lines(path):
        source, target = line.split()
        yield int(source), int(target)


def rows(path: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a gzipped CSV file with a header."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def flights(path: str) -> Iterator[Flight]:
    """Yield the flights of a file, in its order."""
    for row in rows(path):
        delay = row["dep_delay"]
        yield Flight(int(row["ts"]), row["carrier"], row["tailnum"], row["origin"], int(delay) if delay else None)


def record(**points: Stream[Any, Any]) -> Stream[Any, dict[str, Any]]:
    """Bring several results of a request together: one dict, with the item of each point under its name."""
    first, *others = (point.map(partial(_named, name), name=name) for name, point in points.items())
    return first.merge(*others).collect().map(dict)


def _named(name: str, value: Any) -> tuple[str, Any]:
    return name, value
