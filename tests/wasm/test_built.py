"""The committed guests are those that the sources beside them say, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from actorflow import App
from actorflow.wasm import wasm
from examples.wasm import build

COMMITTED = sorted(name for name in build.GUESTS if name != build.LARGE)
TEXTS = ["The Quick brown-fox, it's 12 o'clock", "", "  ", "größe ÄÖ x_y", "a", "漢字 (漢)", "tail9"]


def test_committed_guests_have_the_sums_that_are_written_down() -> None:
    written = [line.split() for line in build.SUMS.read_text().splitlines()]

    assert {name: digest for digest, name in written} == build.sums()


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_guest_is_small(name: str) -> None:
    assert (build.BUILT / name).stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITTED)
def test_the_source_of_a_guest_compiles_to_the_committed_bytes(name: str, tmp_path: Path) -> None:
    try:
        file = build.build(name, tmp_path)
    except build.MissingToolError as missing:
        pytest.skip(f"NOT COMPARED: {name}: {missing}")

    assert file.read_bytes() == (build.BUILT / name).read_bytes(), "run `make wasm`, and commit what it built"


def words(line: str) -> list[str]:
    """Return the words of a line, as a loop over its bytes finds them."""
    found, word = [], bytearray()
    for byte in line.encode() + b" ":
        if byte >= 0x80 or chr(byte).isalnum():
            word += bytes((byte,))
        elif word:
            found.append(bytes(byte | 32 if 65 <= byte <= 90 else byte for byte in word).decode())
            word.clear()
    return found


async def test_words_in_c_and_their_filter_in_assemblyscript_are_those_of_python(local) -> None:
    app = App("t")
    tokens = wasm(build.BUILT / "c-tokens.wasm", "tokenise")
    keep = wasm(build.BUILT / "assemblyscript-filter.wasm", "keep")
    app.stream("s", list, replies="many").flat_map(lambda lines: lines).flat_map(tokens).filter(keep)
    client = await local(app)

    kept = [word async for word in client.stream("s", [*TEXTS, "the and ox größe üb you this"])]

    stop = {"the", "and", "for", "are", "was", "not", "you", "with", "that", "this", "from"}
    every = [word for line in [*TEXTS, "the and ox größe üb you this"] for word in words(line)]
    assert kept == [word for word in every if len(word) >= 3 and word not in stop]
