"""A polynomial over 64-bit numbers, evaluated by a module of a few dozen bytes that speaks no contract at all.

Shows a plain exported function as an operator, with numbers that wrap around at two to the 64.
"""

from __future__ import annotations

from typing import Any

from actorflow import App, Client
from actorflow.wasm import wasm
from benchmarks.cases.generators import SplitMix64, rows_hash

POLYNOMIAL = bytes.fromhex(
    "0061736d0100000001060160017e017e03020100070501016600000a12011000200020007e200042037e42077c7c0b"
)

app = App("wasm-poly")
values = (
    app.stream("values", list).flat_map(lambda numbers: numbers).then(wasm(POLYNOMIAL, "f", unsigned=True)).collect()
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Evaluate it for `n` numbers that follow from `seed`."""
    numbers = SplitMix64(params["seed"])
    asked = [numbers.next() for _ in range(params["n"])]
    answers = await client.request(values, asked)
    rows = [[index, str(x), str(y)] for index, (x, y) in enumerate(zip(asked, answers, strict=True))]
    return {"calls": len(rows), "rows_sha256": rows_hash(rows), "first2": rows[:2], "module_hex": POLYNOMIAL.hex()}
