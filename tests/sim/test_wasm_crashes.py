"""A WASM operator that owns rows, on hosts that are killed at any moment: each request is done once, and answered."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from actorflow import App
from actorflow.client import Client
from actorflow.local import LocalConnection
from actorflow.runtime.host import Host
from actorflow.testing import check_nothing_left, simulate

SEEDS = int(os.environ.get("CRASH_SEEDS", "40"))
KEYS, REQUESTS = 5, 60
GUESTS = Path(__file__).resolve().parents[2] / "examples" / "wasm" / "built"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crashing_of_wasm", Path(__file__).with_name("crashing.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crashing = _load()


def system() -> App:
    from actorflow.wasm import wasm

    app = App("wasm")
    table = app.table("rows", key="row")
    summing = wasm(GUESTS / "zig-conformance.wasm", "process", cells={"rows": table.owned()})
    app.stream("sum", list).key_by(lambda item: item[1][1], space="row").then(summing)
    return app


async def one_run(seed: int) -> None:
    chance = random.Random(f"wasm {seed}")
    host: Host = None  # type: ignore[assignment]

    def crash() -> None:
        if not host.crashed:
            host.crash()

    store = crashing.CrashingStore(crash)
    up = asyncio.Event()

    async def start() -> None:
        nonlocal host
        host = Host(
            system(), inline=False, shuffle=True, watch=False, chance=random.Random(chance.random()), store=store
        )
        store.crashed, store.left = False, None
        await host.start()
        up.set()

    async def ask(number: int) -> Any:
        while True:
            await up.wait()
            mine = host
            asking = asyncio.ensure_future(
                Client(LocalConnection(mine)).request("sum", ["sum", ["rows", number % KEYS, number]], key=f"r{number}")
            )
            while not asking.done() and not mine.crashed:
                await asyncio.wait({asking}, timeout=0.01)
            if not mine.crashed:
                return asking.result()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(0.01)

    await start()
    asked = [asyncio.ensure_future(ask(number)) for number in range(REQUESTS)]
    for _ in range(chance.randrange(1, 4)):
        store.after = chance.random() < 0.5
        store.left = chance.randrange(1, 8) if chance.random() < 0.7 else None
        for _ in range(chance.randrange(1, 60)):
            if host.crashed:
                break
            await asyncio.sleep(0.001)
        up.clear()
        crash()
        store.close()
        await asyncio.sleep(0.01)
        await start()
    answers = await asyncio.gather(*asked)
    rows = dict(await Client(LocalConnection(host)).cell_range("rows"))
    await host.stop()
    check_nothing_left(host)

    for key in range(KEYS):
        mine = sorted(total for found, total in answers if found == key)
        assert rows[key] == sum(number for number in range(REQUESTS) if number % KEYS == key)
        assert mine[-1] == rows[key]
        assert len(mine) == REQUESTS // KEYS


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_what_a_wasm_operator_adds_up_survives_its_host(first: int) -> None:
    pytest.importorskip("wasmtime", reason="wasmtime is not installed (pip install 'actorflow[wasm]')")
    for seed in range(first, min(first + 20, SEEDS)):
        try:
            simulate(lambda: one_run(seed), seed=seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
