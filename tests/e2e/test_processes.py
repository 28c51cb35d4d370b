"""Real processes: the host drains on a signal, a killed host is noticed, the command line works end to end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from actorflow import Client, ConnectionLostError

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import asyncio
from actorflow import App, Operator

class Sleeps(Operator):
    concurrency = 50
    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

app = App("slow")
app.stream("sleeps", float, float).then(Sleeps)
app.stream("upper", str, str, replies="many").map(str.upper)
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (tmp_path / "slow.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "-m", "actorflow", "run", "slow:app", "--port", "0"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    while "answers on" not in line:
        assert line, "the host did not start"
        line = process.stderr.readline()
    found = re.search(r"http://[\d.]+:\d+", line)
    assert found is not None
    yield process, found.group()
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stderr.close()


Running = tuple[subprocess.Popen[str], str]


async def in_flight(url: str) -> None:
    """Wait until the host works on a request, however slow the machine is."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while True:
            async with session.get(f"{url}/streams") as answer:
                if any(stream["in_flight"] for stream in await answer.json()):
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_what_is_in_flight_and_exits_with_zero(host: Running, number: signal.Signals) -> None:
    process, url = host
    async with Client(url) as client:
        asking = asyncio.create_task(client.request("sleeps", 2.0))
        await in_flight(url)

        process.send_signal(number)

        assert await asking == 2.0
    assert await asyncio.to_thread(process.wait, 10) == 0


async def test_a_killed_host_is_an_error_at_once_and_not_a_hang(host: Running) -> None:
    process, url = host
    async with Client(url) as client:
        asking = asyncio.create_task(client.request("sleeps", 60.0))
        await in_flight(url)

        process.kill()

        async with asyncio.timeout(5):
            with pytest.raises(ConnectionLostError, match="outcome is unknown"):
                await asking


def call(url: str, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actorflow", "call", *arguments, "--url", url],
        cwd=ROOT, input=given, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_the_command_line_calls_a_host(host: Running, tmp_path: Path) -> None:
    _, url = host
    (tmp_path / "item.json").write_text("0.01")

    assert call(url, "sleeps", "0.01").stdout == "0.01\n"
    assert call(url, "sleeps", "-", given="0.02").stdout == "0.02\n"
    assert call(url, "sleeps", f"@{tmp_path / 'item.json'}").stdout == "0.01\n"
    assert call(url, "upper", "-", "--lines", given="tea\ncup\n").stdout == '"TEA"\n"CUP"\n'
    assert call(url, "upper", "-", "--many", given='"tea"\n"cup"\n').stdout == '"TEA"\n"CUP"\n'
    failed = call(url, "sleeps", '"long"')
    assert failed.returncode == 1
    assert "takes float" in failed.stderr
