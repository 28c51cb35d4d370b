"""The `actorflow` command, run in a folder as a person would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent


class Shell:
    """Runs commands in a folder, and ends what is still running."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {**os.environ, "COLUMNS": "160", "PYTHONPATH": str(HERE), **environment}

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "actorflow", *arguments],
            cwd=self.folder, input=given, capture_output=True, text=True, env=self.environment, timeout=60,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "actorflow", *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment,
        )  # fmt: skip
        self.started.append(process)
        return process

    def serve(self, *options: str, app: str = "tools:app") -> str:
        """Start an app and return where it answers."""
        return said_by(self.start("run", app, *options), "answers on ").split()[0]


def said_by(process: subprocess.Popen[str], words: str) -> str:
    """Return what follows some words in the next line that has them."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line.partition(words)[2]
    raise AssertionError(f"it never said {words!r}: {seen}")


def eventually(found: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 20
    while not found():
        assert time.monotonic() < ends_s
        time.sleep(0.05)
