"""The mixed example as README has it: a bare host, an app shipped to it by the command, called with curl."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import HERE, Shell, said_by

STOPPED = {"the", "and", "for", "are", "was", "not", "you", "with", "that", "this", "from"}
"""What the filter in AssemblyScript leaves out, besides words of less than three letters."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(HERE, ACTORFLOW_DEPLOY_TOKEN="secret", ACTORFLOW_CACHE=str(tmp_path / "cache"))
    yield shell
    for process in shell.started:
        process.kill()
        process.wait()


def curl(url: str, data: str) -> Any:
    done = subprocess.run(
        ["curl", "-sS", url, "--data-binary", "@-"], input=data, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def words(text: str) -> list[str]:
    """Return the words that are counted, as plain Python finds them."""
    found, word = [], bytearray()
    for byte in text.encode() + b" ":
        if byte >= 0x80 or chr(byte).isalnum():
            word.append(byte | 32 if 65 <= byte <= 90 else byte)
        elif word:
            found.append(word.decode())
            word.clear()
    return [each for each in found if len(each) >= 3 and each not in STOPPED]


def test_an_app_of_four_languages_is_deployed_by_the_command_and_called_with_curl(shell: Shell) -> None:
    host = shell.start("host", "--allow-python", "--port", "0", "--drain-s", "1")
    url = said_by(host, "answers on ").split()[0]
    with gzip.open(HERE / "examples" / "texts" / "jargon.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()[:200_000]
    wanted = Counter(word[0] if word[0].isascii() else "" for word in words(text))

    deployed = shell.run("deploy", "examples/mixed/app.yaml", "--url", url)
    count = curl(f"{url}/streams/count", json.dumps(text))
    letters = curl(f"{url}/streams/letters", "null")
    again = shell.run("deploy", "examples/mixed/app.yaml", "--url", url)
    listed = shell.run("apps", "--url", url, "--json")
    gone = shell.run("undeploy", "mixed", "--url", url)
    nothing = curl(f"{url}/streams/count", '"x"')
    host.send_signal(signal.SIGINT)

    assert deployed.returncode == 0, deployed.stderr
    assert "mixed version 1 runs on" in deployed.stderr
    assert count == sum(wanted.values())
    assert letters == {letter: number for letter, number in wanted.items() if letter}
    assert "it runs already" in again.stderr
    assert [each["app"] for each in json.loads(listed.stdout)] == ["mixed"]
    assert gone.returncode == 0
    assert nothing["title"] == "UnknownStreamError"
    assert host.wait(timeout=20) == 0


def test_deploying_says_what_is_wrong_in_a_line_and_a_status(shell: Shell, tmp_path: Path) -> None:
    host = shell.start("host", "--port", "0")
    url = said_by(host, "answers on ").split()[0]
    broken = tmp_path / "broken.yaml"
    broken.write_text("app: broken\nstreams:\n  s:\n    steps:\n      - map: wasm:none.wasm#f\n")
    module = tmp_path / "none.wasm"

    missing = shell.run("deploy", str(broken), "--url", url)
    module.write_bytes(b"text")
    text = shell.run("deploy", str(broken), "--url", url)
    python = shell.run("deploy", "examples/mixed/app.yaml", "--url", url)
    nobody = shell.run("deploy", str(broken), "--url", "http://127.0.0.1:1")
    none = shell.run("undeploy", "nothing", "--url", url)

    assert [each.returncode for each in (missing, text, python, nobody, none)] == [1] * 5
    assert "none.wasm cannot be read" in missing.stderr
    assert "line 5" in text.stderr
    assert "is not a WASM module" in text.stderr
    assert "names Python" in python.stderr
    assert "actorflow host" in nobody.stderr
    assert "does not run here" in none.stderr
    assert not any("Traceback" in each.stderr for each in (missing, text, python, nobody, none))
