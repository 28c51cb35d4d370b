"""A slice of `tests/wasm/fuzz.py`, each time with another seed."""

from __future__ import annotations

import random

from tests.wasm import fuzz


def test_no_bytes_bring_the_host_to_anything_but_typed_errors() -> None:
    seed = random.randrange(1 << 32)

    assert fuzz.run(400, seed) == [], f"repeat with: python tests/wasm/fuzz.py --tries 400 --seed {seed}"
