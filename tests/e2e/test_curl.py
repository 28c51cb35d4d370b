"""Every command of `examples/curl.md` prints what stands below it, when a real host is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "examples" / "curl.md"
PROGRAM = re.compile(r"```python\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"```sh\n(.*?)```\n```text\n(.*?)```", re.DOTALL)
END = "== end of a command =="


@contextmanager
def host(folder: Path, **environment: str) -> Iterator[str]:
    """Run the host of the document, and yield its address and port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "actorflow", "run", "kiosk:app", "--port", "0", "--drain-s", "1"],
        cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the host did not start"
            found = re.search(r"answers on http://([\d.]+:\d+)", line)
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return what the commands print, all in one shell."""
    missing = [name for name in ("curl", "bash") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: examples/curl.md is not tested")
    folder = tmp_path_factory.mktemp("kiosk")
    text = DOCUMENT.read_text()
    (folder / "kiosk.py").write_text(PROGRAM.findall(text)[0])
    script = "".join(f"{command}\nprintf '%s' '{END}'\n" for command, _ in COMMAND.findall(text))
    with host(folder) as place, host(folder, ACTORFLOW_TOKEN="secret") as secured:
        script = script.replace("localhost:7700", place).replace("localhost:7701", secured)
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace("\r\n", "\n").replace(place, "localhost:7700").replace(secured, "localhost:7701")
    return said.split(END)[:-1]


@pytest.mark.parametrize(
    ("number", "command", "expected"),
    [(number, *pair) for number, pair in enumerate(COMMAND.findall(DOCUMENT.read_text()))],
    ids=lambda part: re.sub(r"\W+", "-", part)[:60] if isinstance(part, str) and part.startswith("curl") else "",
)
def test_a_command_prints_what_the_document_says(printed: list[str], number: int, command: str, expected: str) -> None:
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))

    assert re.fullmatch(pattern, printed[number].strip(), re.DOTALL), f"{command}printed {printed[number]}"
