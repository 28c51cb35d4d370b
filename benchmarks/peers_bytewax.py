"""Word count and keyed running sum on Bytewax 0.21, one worker in this process, as its documentation writes them.

Items enter in batches of 1,000: the default of Bytewax's `FileSource`, and kinder than the 1 of its `TestingSource`.
The functions block and want the main thread, so they are plain sides.
"""

from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.data import word_count_of
from benchmarks.peers_actors import peer

BATCH_SIZE = 1_000


def word_count(path: Path) -> tuple[int, float]:
    """Return (words, seconds) of counting the words of a text file.

    Raises:
        SkipSide: Bytewax is not installed.
    """
    op, dataflow, testing = _bytewax()
    files: Any = peer("bytewax.connectors.files")
    words = word_count_of(path)
    counts: list[tuple[str, int]] = []
    flow = dataflow.Dataflow("word_count")
    lines = op.input("lines", flow, files.FileSource(path, batch_size=BATCH_SIZE))
    tokens = op.flat_map("words", lines, str.split)
    op.output("out", op.count_final("count", tokens, lambda word: word), testing.TestingSink(counts))
    started = perf_counter()
    testing.run_main(flow)
    seconds = perf_counter() - started
    assert sum(count for _, count in counts) == words
    return words, seconds


def keyed_sum(events: list[tuple[str, int]]) -> tuple[int, float]:
    """Return (events, seconds) of the running sum per key, every update emitted.

    Raises:
        SkipSide: Bytewax is not installed.
    """
    op, dataflow, testing = _bytewax()
    updates: list[tuple[str, int]] = []
    flow = dataflow.Dataflow("keyed_sum")
    keyed = op.input("events", flow, testing.TestingSource(events, batch_size=BATCH_SIZE))
    op.output("out", op.stateful_map("sum", keyed, _add), testing.TestingSink(updates))
    started = perf_counter()
    testing.run_main(flow)
    seconds = perf_counter() - started
    assert len(updates) == len(events)
    return len(events), seconds


def _add(total: int | None, value: int) -> tuple[int, int]:
    total = value if total is None else total + value
    return total, total


def _bytewax() -> tuple[Any, Any, Any]:
    return peer("bytewax.operators"), peer("bytewax.dataflow"), peer("bytewax.testing")
