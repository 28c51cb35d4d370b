"""What the NEXMark programs share: the auction site's events as a source, and every way a query is asked.

Every query is declared once per number of replicas, and asked with events in order and with events that arrive up to
two seconds late. The answer must always be the same.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from actorflow import Client, Stream
from benchmarks.cases.generators import SplitMix64

REPLICAS = (1, 2, 5)
DISORDERS_MS = (0, 2_000)

Event = dict[str, Any]


class Feed(msgspec.Struct, frozen=True):
    """Which events to read: the first `count` of a file, each late by a random time below `disorder_ms`."""

    path: str
    count: int
    seed: int
    disorder_ms: int


def events(feed: Feed) -> Iterator[Event]:
    """Yield persons, auctions and bids in order of arrival."""
    with gzip.open(feed.path, "rb") as file:
        in_order = map(msgspec.json.Decoder(Event).decode, islice(file, feed.count))
        yield from _arriving(in_order, feed) if feed.disorder_ms else in_order


def _arriving(in_order: Iterable[Event], feed: Feed) -> list[Event]:
    random = SplitMix64(feed.seed)
    arrivals = [(event["ts"] + random.below(feed.disorder_ms + 1), event) for event in in_order]
    return [event for _, event in sorted(arrivals, key=lambda arrival: arrival[0])]


def is_bid(event: Event) -> bool:
    """Return whether an event is a bid."""
    return bool(event["type"] == "bid")


def declare(query: Callable[[int], Stream[Any, Any]]) -> list[Stream[Any, Any]]:
    """Declare a query once per number of replicas."""
    return [query(replicas) for replicas in REPLICAS]


async def ask(client: Client, streams: list[Stream[Any, Any]], params: dict[str, Any]) -> dict[str, Any]:
    """Ask a query in every way, and return the one answer.

    Raises: AssertionError when two answers differ.
    """
    path = str(Path(params["data"]) / f"nexmark_s{params['seed']}.jsonl.gz")
    answers = [
        await client.request(stream, Feed(path, params["count"], params["seed"], disorder_ms))
        for disorder_ms in DISORDERS_MS
        for stream in streams
    ]
    assert all(answer == answers[0] for answer in answers), "the answer depends on replicas or on the order of arrival"
    return dict(answers[0])
