"""Signals: once drains, twice stops at once, and a start that hangs can be given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = """
import asyncio
from actorflow import App, Operator

class Sleeps(Operator):
    async def process(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

class NeverStarts(Sleeps):
    async def start(self) -> None:
        print("starting", flush=True)
        await asyncio.sleep(1000)

class Begins(Operator):
    def process(self, item: int) -> None:
        self.send("sleeps", 1000.0)

slow = App("slow")
slow.stream("sleeps", float, float, timeout_s=2000).then(Sleeps)
slow.stream("begin", replies="none").then(Begins)
stuck = App("stuck")
stuck.stream("never").then(NeverStarts)
"""

Run = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "programs.py").write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def start(app: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "actorflow", "run", f"programs:{app}", "--port", "0"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_until(process: subprocess.Popen[str], said: str) -> str:
    assert process.stdout is not None
    seen = ""
    while said not in seen:
        line = process.stdout.readline()
        assert line, f"it ended without saying {said!r}: {seen}"
        seen += line
    return seen


def test_a_second_signal_stops_at_once_what_a_first_one_drains(run: Run) -> None:
    process = run("slow")
    url = read_until(process, "answers on").split("http://")[1].split()[0]
    subprocess.run(
        [sys.executable, "-m", "actorflow", "call", "begin", "1", "--url", f"http://{url}"], check=True, timeout=30
    )

    process.send_signal(signal.SIGINT)
    read_until(process, "draining: 1 requests")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()

    assert process.wait(timeout=20) == 130
    assert time.monotonic() - began < 10


def test_a_start_that_hangs_is_given_up_on_the_first_signal(run: Run) -> None:
    process = run("stuck")
    read_until(process, "starting")

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=20) == 0
