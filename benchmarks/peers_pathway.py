"""Item-wise loops on Pathway 0.33 by its `iterate`, in a process of its own: it keeps global state between runs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import SkipSide
from benchmarks.loop_baselines import Neighbours, collatz_steps

PYTHON = os.environ.get("PATHWAY_PYTHON", sys.executable)

_COLLATZ = """
import json, sys, time
import pathway as pw

limit = json.load(open(sys.argv[1]))

def turn(numbers):
    value = pw.this.value
    return numbers.select(
        value=pw.if_else(value == 1, 1, pw.if_else(value % 2 == 0, value // 2, 3 * value + 1))
    )

table = pw.debug.table_from_rows(pw.schema_from_types(value=int), [(n,) for n in range(1, limit + 1)])
result = pw.iterate(lambda numbers: dict(numbers=turn(numbers)), numbers=table).numbers
started = time.perf_counter()
_, columns = pw.debug.table_to_dicts(result)
seconds = time.perf_counter() - started
assert set(columns["value"].values()) == {1}
print(seconds)
"""

_COMPONENTS = """
import json, sys, time
import pathway as pw

neighbours = json.load(open(sys.argv[1]))
edges = pw.debug.table_from_rows(
    pw.schema_from_types(u=int, v=int), [(u, v) for u, others in enumerate(neighbours) for v in others]
)
nodes = pw.debug.table_from_rows(
    pw.schema_from_types(node=int, label=int), [(n, n) for n in range(len(neighbours))]
)

def turn(labels, edges):
    proposed = edges.join(labels, pw.left.u == pw.right.node).select(node=pw.left.v, label=pw.right.label)
    return labels.concat_reindex(proposed).groupby(pw.this.node).reduce(
        node=pw.this.node, label=pw.reducers.min(pw.this.label)
    ).with_universe_of(labels)

first = nodes.groupby(pw.this.node).reduce(node=pw.this.node, label=pw.reducers.min(pw.this.label))
result = pw.iterate(lambda labels, edges: dict(labels=turn(labels, edges)), labels=first, edges=edges).labels
started = time.perf_counter()
_, columns = pw.debug.table_to_dicts(result)
seconds = time.perf_counter() - started
assert len(columns["node"]) == len(neighbours)
print(seconds)
"""


def collatz(limit: int) -> tuple[int, float]:
    """Return (steps, seconds) of taking every number from 1 to `limit` down to 1. Raises: SkipSide."""
    return collatz_steps(limit), _run(_COLLATZ, limit)


def components(neighbours: Neighbours) -> tuple[int, float]:
    """Return (1 run, seconds) of connected components. Raises: SkipSide."""
    return 1, _run(_COMPONENTS, neighbours)


def _run(program: str, given: int | Sequence[Sequence[int]]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "input.json")
        path.write_text(json.dumps(given))
        done = subprocess.run(
            [PYTHON, "-c", program, str(path)],
            capture_output=True, text=True, timeout=600, check=False,
            env={**os.environ, "PATHWAY_MONITORING_LEVEL": "none"},
        )  # fmt: skip
    if "ModuleNotFoundError: No module named 'pathway'" in done.stderr:
        raise SkipSide("Pathway is not installed: pip install pathway, or name a Python with it in PATHWAY_PYTHON")
    if done.returncode:
        raise RuntimeError(f"pathway failed: {done.stderr[-2000:]}")
    return float(done.stdout.strip().splitlines()[-1])
