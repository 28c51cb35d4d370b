"""The inputs of the dataflow benchmarks, the same on every machine, and the plain loops over them."""

import os
import random
import tempfile
from collections import Counter
from functools import cache
from itertools import accumulate
from pathlib import Path
from time import perf_counter

SEED = 20_261_122
TEXT_BYTES = 50_000_000
VOCABULARY_SIZE = 50_000
WORDS_PER_LINE = 12
EVENT_COUNT = 1_000_000
KEY_COUNT = 10_000


def zipf_text(*, text_bytes: int = TEXT_BYTES) -> Path:
    """Return the file of a text of at least `text_bytes`, whose words follow Zipf's law; made once, then cached.

    The n-th most frequent of 50,000 words has weight 1/n. Lines have twelve words and end with a newline.
    """
    path = Path(tempfile.gettempdir()) / f"actorflow-zipf-{SEED}-{text_bytes}.txt"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")  # renamed when whole: an interrupted run leaves no half text
        _write_zipf_text(unfinished, text_bytes=text_bytes)
        unfinished.replace(path)
    return path


def _write_zipf_text(path: Path, *, text_bytes: int) -> None:
    rng = random.Random(SEED)
    words = _vocabulary(rng)
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    written = 0
    with path.open("w", encoding="ascii") as file:
        while written < text_bytes:
            drawn = rng.choices(words, cum_weights=weights, k=1_000 * WORDS_PER_LINE)
            for first in range(0, len(drawn), WORDS_PER_LINE):
                line = " ".join(drawn[first : first + WORDS_PER_LINE]) + "\n"
                written += file.write(line)
                if written >= text_bytes:
                    break


def _vocabulary(rng: random.Random) -> list[str]:
    """Return distinct words; the frequent ones are shorter, as in a language."""
    words: dict[str, None] = {}
    while len(words) < VOCABULARY_SIZE:
        length = rng.randint(2, 4) + len(words).bit_length() // 3
        words["".join(rng.choices("etaoinshrdlucmfwygpbvk", k=length))] = None
    return list(words)


@cache
def keyed_events(*, count: int = EVENT_COUNT, keys: int = KEY_COUNT) -> list[tuple[str, int]]:
    """Return `count` events (key, value): keys drawn evenly from `keys` strings, values from 1 to 100."""
    rng = random.Random(SEED)
    names = [f"key-{number:05d}" for number in range(keys)]
    return list(zip(rng.choices(names, k=count), rng.choices(range(1, 101), k=count), strict=True))


@cache
def word_count_of(path: Path) -> int:
    """Return the number of words in a text: the operations that its word count is measured in."""
    with path.open(encoding="ascii") as file:
        return sum(len(line.split()) for line in file)


def count_words(path: Path) -> Counter[str]:
    """Count words the way a Python programmer does."""
    with path.open(encoding="ascii") as file:
        return Counter(word for line in file for word in line.split())


def sum_by_key(events: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the running sum of an event's key after each event, in the order of the events."""
    totals: dict[str, int] = {}
    updates: list[tuple[str, int]] = []
    emit = updates.append
    for key, value in events:
        total = totals[key] = totals.get(key, 0) + value
        emit((key, total))
    return updates


def word_count(path: Path) -> tuple[int, float]:
    """Return (words, seconds) of the plain word count."""
    words = word_count_of(path)
    started = perf_counter()
    counts = count_words(path)
    seconds = perf_counter() - started
    assert counts.total() == words
    return words, seconds


def keyed_sum(events: list[tuple[str, int]]) -> tuple[int, float]:
    """Return (events, seconds) of the plain running sum."""
    started = perf_counter()
    updates = sum_by_key(events)
    seconds = perf_counter() - started
    assert len(updates) == len(events)
    return len(events), seconds
