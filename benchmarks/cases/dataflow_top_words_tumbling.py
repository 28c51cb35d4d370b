"""The most frequent words of every thousand lines of a text: tumbling windows by count.

Shows attributes of a request as its parameters, keys of several fields, a fold that feeds another fold, and replies
that are streamed in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from actorflow import App, Client, Operator
from benchmarks.cases import flow
from benchmarks.cases.generators import seq_hash

WORD = re.compile("[a-z]+")

app = App("top-words")


def numbered_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers."""
    yield from enumerate(flow.lines(path))


class Words(Operator):
    """Cut a line into words, each with the window it falls in."""

    def process(self, line: tuple[int, str]) -> Iterator[tuple[int, str]]:
        number, text = line
        window = number // self.request.attributes["lines_per_window"]
        for word in WORD.findall(text.lower()):
            yield window, word


class Top(Operator):
    """Rank the counts `((window, word), count)` of one window."""

    def process(self, window: tuple[int, list[Any]]) -> list[Any]:
        number, counts = window
        ranked = sorted((-count, word) for (_, word), count in counts)
        return [number, [[word, -count] for count, word in ranked[: self.request.attributes["k"]]]]


def window_of(count: tuple[tuple[int, str], int]) -> int:
    """Return the window of a count."""
    return count[0][0]


top_words = (
    app.stream("top_words", str, replies="many")
    .flat_map(numbered_lines)
    .then(Words)
    .key_by()
    .count()
    .key_by(window_of)
    .collect()
    .then(Top)
    .sort(itemgetter(0))
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask for the top `k` words of every window of `lines_per_window` lines."""
    windows = [window async for window in client.stream(top_words, flow.path_of(params, "file"), attributes=params)]
    assert [number for number, _ in windows] == list(range(len(windows))), "the windows are out of order"
    return {
        "windows": len(windows),
        "first": windows[0],
        "last": windows[-1],
        "sequence_sha256": seq_hash(windows),
    }
