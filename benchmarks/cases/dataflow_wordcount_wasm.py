"""Count the words of a text, cut into words by a function in C: otherwise as `dataflow_wordcount`.

Shows a WASM function where a Python operator stands, with replicas.
"""

from __future__ import annotations

from typing import Any

from actorflow import App, Client, Stream
from benchmarks.cases import flow
from benchmarks.cases.dataflow_wordcount import most_frequent
from benchmarks.cases.generators import rows_hash
from benchmarks.cases.wasm_modules import built

app = App("wordcount")


def count_words(replicas: int) -> Stream[str, dict[str, Any]]:
    """Declare the stream: from the path of a text to what there is to say about its words."""
    lines = app.stream(f"wordcount_{replicas}", str).flat_map(flow.lines)
    words = lines.then(built("c-tokens", "letters"), replicas=replicas)
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
