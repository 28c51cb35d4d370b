"""The case programs under `benchmarks/cases`, each against the facts that its case gives.

A case is a file in `show/`: what to run, with which parameters, and what must come out. Its program is the module
`benchmarks.cases.{family}_{workload}`. Others are, where they exist, `…_loop`, the same with feedback edges, rounds or
recursion, and `…_wasm`, with functions in WASM. `ACTORFLOW_STRICT=1` sends every item through the codec.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from actorflow.runtime.host import Host
from actorflow.testing import check_nothing_left

HERE = Path(__file__).parent
ELSEWHERE = (  # test_market_cases.py plays on an example; test_{state,interpreter,history}_cases.py on cells
    "market-", "history-", "state-01-", "state-02-", "state-03-", "state-04-", "state-06-", "state-12-", "state-13-",
    "state-14-", "state-15-",
)  # fmt: skip
CASES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((HERE / "show").glob("*.json"))
    if not path.stem.startswith(ELSEWHERE)
}
STRICT = os.environ.get("ACTORFLOW_STRICT", "") == "1"

SLOW = {  # about five seconds and more, if only in strict mode
    "flow-11-collatz",
    "flow-11-collatz-wasm",
    "savina-14-logmap-default",
    "savina-23-fib-default",
    "savina-23-fib-default-loop",
    "savina-25-quicksort-million",
    "savina-25-quicksort-million-loop",
    "savina-26-apsp-default",
    "savina-26-apsp-default-loop",
    "state-09-scatter-wide",
}

# numbers that a case quotes from its source and says cannot be met
QUOTED = {"savina-27-sor": {"suite_ref_val"}, "state-16-wasm": {"note"}}


def parameters() -> list[Any]:
    """Return each case with each of its programs, the others under the case's name and "-loop" or "-wasm"."""
    return [
        pytest.param(case, program, id=run, marks=[pytest.mark.slow] if run in SLOW else [])
        for name, case in CASES.items()
        for program, run in programs_of(name, case)
    ]


def programs_of(name: str, case: dict[str, Any]) -> Iterator[tuple[str, str]]:
    plain = f"benchmarks.cases.{case['family']}_{case['workload']}"
    yield plain, name
    for other in ("loop", "wasm"):
        if importlib.util.find_spec(f"{plain}_{other}") is not None:
            yield f"{plain}_{other}", f"{name}-{other}"


@pytest.mark.parametrize(("case", "program_name"), parameters())
async def test_a_program_gives_what_its_case_expects_and_leaves_nothing_behind(
    case: dict[str, Any], program_name: str
) -> None:
    program = program_of(case, program_name)
    tasks_before = asyncio.all_tasks()
    params = {**case["params"], "data": str(HERE / "data")}
    local = program.app.local(strict=STRICT)

    started_s = time.perf_counter()
    async with local as client, asyncio.timeout(case["time_limit_s"]):
        result = await program.run(client, params)
        taken_s = time.perf_counter() - started_s
        assert local.host is not None
        await assert_nothing_is_left(local.host)

    assert asyncio.all_tasks() == tasks_before
    assert_as_expected(case, json.loads(json.dumps(result)))
    assert taken_s <= case["time_limit_s"]


def program_of(case: dict[str, Any], name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        pytest.fail(f"case {case['id']} needs the module {name}, which does not exist yet", pytrace=False)


async def assert_nothing_is_left(host: Host) -> None:
    """What has ended may take a few turns of the event loop to be cleared away."""
    for _ in range(10):
        if not host.requests and not host.actors and not host.ready:
            break
        await asyncio.sleep(0)
    check_nothing_left(host)
    assert not host.actors, f"{len(host.actors)} detached actors are left"
    assert not host.dead_letters.list(), "there are dead letters"


def assert_as_expected(case: dict[str, Any], result: dict[str, Any]) -> None:
    expected = {key: value for key, value in case["expected"].items() if key not in QUOTED.get(case["id"], ())}
    mode = case["compare"]["mode"]
    if mode == "invariant":  # the program has asserted what must hold; compare what is determined
        expected = {key: value for key, value in expected.items() if key in result}
    assert not expected.keys() - result.keys(), f"missing in the result: {sorted(expected.keys() - result.keys())}"
    seen = {key: result[key] for key in expected}
    if mode == "float":
        assert_close(seen, expected, relative=case["compare"]["relative"], where="result")
    else:
        assert mode in {"exact", "digits", "invariant"}, f"unknown comparison {mode!r}"
        assert seen == expected


def assert_close(seen: Any, expected: Any, *, relative: float, where: str) -> None:
    if isinstance(expected, float):
        assert math.isclose(seen, expected, rel_tol=relative), f"{where}: {seen!r} is not close to {expected!r}"
    elif isinstance(expected, list):
        assert len(seen) == len(expected), f"{where}: {len(seen)} values, not {len(expected)}"
        for index, (one, other) in enumerate(zip(seen, expected, strict=True)):
            assert_close(one, other, relative=relative, where=f"{where}[{index}]")
    elif isinstance(expected, dict):
        assert seen.keys() >= expected.keys(), f"{where}: {sorted(expected.keys() - seen.keys())} are missing"
        for key, value in expected.items():
            assert_close(seen[key], value, relative=relative, where=f"{where}.{key}")
    else:
        assert seen == expected, f"{where}: {seen!r} is not {expected!r}"
