"""The longest Collatz walk, with each step taken by a function in C that sends walks round again itself.

Shows the feedback of a WASM operator: a loop whose body is one function, and whose end is counted as any loop's.
"""

from __future__ import annotations

from typing import Any

from actorflow import App, Client
from benchmarks.cases.dataflow_collatz_max import walks
from benchmarks.cases.wasm_modules import built

app = App("collatz-max")
collatz = (
    app.stream("collatz-max", int, timeout_s=180)
    .flat_map(walks)
    .then(built("c-collatz", "step"), feedback=True)
    .reduce(max)
)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Find the longest walk that begins below `limit`."""
    steps, start, _ = await client.request(collatz, params["limit"])
    return {"best_steps": steps, "best_n": start}
