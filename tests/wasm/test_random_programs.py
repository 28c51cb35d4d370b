"""Random programs of the subset: the same bits, or the same exception on the same line, as Python with 64-bit ints.

`COMPILER_PROGRAMS=20000 pytest tests/wasm/test_random_programs.py` runs as many as one likes; `COMPILER_FIRST` is the
first seed. A program that fails is in the message of its test.
"""

from __future__ import annotations

import os

import pytest

from tests.wasm.programs import draw_program
from tests.wasm.running import compared

PROGRAMS = int(os.environ.get("COMPILER_PROGRAMS", "300"))
FIRST = int(os.environ.get("COMPILER_FIRST", "0"))
CHUNK = 100


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")  # ~True
@pytest.mark.parametrize("first", range(FIRST, FIRST + PROGRAMS, CHUNK))
def test_a_program_does_what_it_does_in_python(first: int) -> None:
    for seed in range(first, min(first + CHUNK, FIRST + PROGRAMS)):
        text, inputs = draw_program(seed)

        compared(f"# seed {seed}\n{text}", "f", *inputs)
