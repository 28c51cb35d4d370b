"""Streams that trigger streams: what is sent is done once, what is called off never, also when hosts are killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from actorflow import Client
from actorflow.testing import simulate
from tests.cases.given import case, common, tx
from tests.cases.interpreter import LATER_S, Job, interpreter
from tests.cases.running import by_many, running, running_simulated
from tests.cases.test_state_cases import SEEDS
from tests.e2e.chaos import HostProcess, Tally


async def play(client: Client, program: list[dict[str, Any]], *, callers: int) -> list[int]:
    """Run all jobs; return their replies once nothing that they have sent is left."""

    async def run(numbered: tuple[int, dict[str, Any]]) -> int:
        number, job = numbered
        return int(await client.request("run", Job(job["target"], job["cmds"]), key=f"job {number}", timeout_s=120))

    replies = await by_many(callers, enumerate(program), run)
    seen = None
    while seen != (seen := await state_of(client)):
        await asyncio.sleep(20 * LATER_S)
    return replies


async def state_of(client: Client) -> tuple[dict[int, int], int]:
    counts = {cell: dict(await client.cell_range(cell, limit=10_000)) for cell in ("merged", "owned")}
    return counts["merged"] or counts["owned"], len(await client.cell("egress") or ())


def expected_of(seed: int, instances: int, messages: int) -> dict[str, Any]:
    expected: dict[str, Any] = tx.interpreter(seed, instances, messages)
    return expected


async def check(client: Client, replies: list[int], expected: dict[str, Any], instances: int) -> None:
    counts, egress = await state_of(client)
    assert sum(counts.values()) == expected["sum_of_counters"]
    assert max(counts.values()) == expected["max_counter"]
    assert common.seq_hash([counts.get(each, 0) for each in range(instances)])[1] == expected["counters_sha256"]
    assert egress == expected["egress_messages"]
    assert common.seq_hash(replies)[1] == expected["reply_to_message_i_sha256"]


@pytest.mark.parametrize("how", ["merged", "owned"])
async def test_what_streams_trigger_is_done_once_and_what_is_called_off_never(how: str) -> None:
    params, expected = case("state-03-interpreter")["params"], case("state-03-interpreter")["expected"]
    program = tx.program(**params)

    async with running(interpreter(how)) as client:
        replies = await play(client, program, callers=64)
        await check(client, replies, expected, params["instances"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["merged", "owned"])
def test_a_small_program_holds_in_every_order_of_events(how: str, seed: int) -> None:
    expected = expected_of(seed, 5, 100)

    async def system() -> None:
        async with running_simulated(interpreter(how)) as client:
            replies = await play(client, tx.program(seed, 5, 100), callers=10)
            await check(client, replies, expected, 5)

    simulate(system, seed=seed, jitter_s=0.0005)


@pytest.mark.parametrize("how", ["app", "owning_app"])
async def test_programs_go_on_where_they_were_when_their_host_was_killed(how: str, tmp_path: Path) -> None:
    params, expected = case("state-03-interpreter")["params"], case("state-03-interpreter")["expected"]
    host = HostProcess(tmp_path, Tally(), app=f"tests.cases.interpreter:{how}")

    async def killed(client: Client, *shares: float) -> None:
        for share in shares:
            while (await state_of(client))[1] < share * expected["egress_messages"]:
                await asyncio.sleep(0.01)
            host.signal(signal.SIGKILL)
            await host.wait()
            host.spawn()
            assert await host.ready()

    host.spawn()
    try:
        assert await host.ready()
        async with Client(host.url) as client, asyncio.timeout(100), asyncio.TaskGroup() as group:
            group.create_task(killed(client, 0.3, 0.6))
            replies = await play(client, tx.program(**params), callers=64)
            await check(client, replies, expected, params["instances"])
    finally:
        host.end()
