"""Count the words of a text, with 1, 2 and 5 replicas of the operator that cuts lines into words.

Shows a generator as the source of a request, replicas of a stateless operator, keyed and total folds over the items of
one request, and one point of a stream that several steps follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from actorflow import App, Client, Operator, Stream
from benchmarks.cases import flow
from benchmarks.cases.generators import rows_hash

WORD = re.compile("[a-z]+")

app = App("wordcount")


class Words(Operator):
    """Cut a line into words of lower-case ASCII letters."""

    def process(self, line: str) -> Iterator[str]:
        yield from WORD.findall(line.lower())


def most_frequent(count: tuple[str, int]) -> tuple[int, str]:
    """Order words by frequency, then by spelling."""
    return -count[1], count[0]


def count_words(replicas: int) -> Stream[str, dict[str, Any]]:
    """Declare the stream: from the path of a text to what there is to say about its words."""
    lines = app.stream(f"wordcount_{replicas}", str).flat_map(flow.lines)
    words = lines.then(Words, replicas=replicas)
    counts = words.key_by().count()
    return flow.record(
        lines=lines.filter(lambda line: line.endswith("\n")).count(),
        total_words=words.count(),
        distinct_words=counts.count(),
        top20=counts.top(20, by=most_frequent, reverse=False).collect(),
        rows_sha256=counts.collect().map(rows_hash),
    )


streams = [count_words(replicas) for replicas in (1, 2, 5)]


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Count the words of `params["file"]` with each number of replicas; all must agree."""
    path = flow.path_of(params, "file")
    answers = [await client.request(stream, path) for stream in streams]
    assert all(answer == answers[0] for answer in answers), "the counts depend on the number of replicas"
    return answers[0]
