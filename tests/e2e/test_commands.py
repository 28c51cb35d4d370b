"""The command in a real terminal's place: new, run with its doors, watch, cancel, replay, reload."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorflow import Client
from tests.e2e.shell import Shell, eventually, said_by

PROGRAM = """
import asyncio, logging
from actorflow import App, Operator

class Slow(Operator):
    concurrency = 10
    async def process(self, seconds: float) -> float:
        logging.getLogger("slow").warning("works on %s", seconds)
        await asyncio.sleep(seconds)
        return seconds

class Picky(Operator):
    on_error = "set_aside"
    def process(self, item: int) -> int:
        raise ValueError(f"not {item}")

app = App("tools")
app.stream("slow", float, float).then(Slow)
app.stream("picky", int, int, replies="many").then(Picky)
app.stream("echo", dict, dict).map(dict)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "tools.py").write_text(PROGRAM)
    shell = Shell(tmp_path)
    yield shell
    for process in shell.started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def test_a_new_project_runs_and_passes_its_test(shell: Shell) -> None:
    made = shell.run("new", "shop")
    again = shell.run("new", "shop")
    shell.folder /= "shop"
    url = shell.serve("--port", "0", app="app:app")

    assert made.returncode == 0
    assert again.returncode == 1
    assert "nothing was written" in again.stderr
    assert shell.run("check", "app:app").returncode == 0
    answer = shell.run("call", "checkout", '{"sku": "tea", "quantity": 2}', "--url", url)
    assert json.loads(answer.stdout) == "2 tea reserved, 8 left"
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=shell.folder, capture_output=True,
        text=True, env=shell.environment, timeout=60,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout


def test_requests_are_watched_and_cancelled_and_dead_letters_replayed(shell: Shell) -> None:
    url = shell.serve("--port", "0")
    waiting = shell.start("call", "slow", "60", "--url", url)
    eventually(lambda: "slow" in shell.run("requests", "--url", url).stdout)

    (line,) = [line for line in shell.run("requests", "--url", url).stdout.splitlines() if " slow " in line]
    request_id = line.split()[0]
    shown = json.loads(shell.run("requests", request_id, "--url", url).stdout)
    table = shell.run("ps", "--url", url).stdout
    screen = shell.run("top", "--times", "2", "--every-s", "0.2", "--url", url).stdout
    cancelled = shell.run("requests", request_id, "--cancel", "--url", url)

    assert shown["where"] == [{"step": 1, "operator": "Slow", "items": 1, "how": "at work"}]
    assert "slow/Slow" in table
    assert "1 requests in flight" in screen
    assert request_id in screen
    assert cancelled.returncode == 0
    assert waiting.wait(10) == 1
    assert shell.run("requests", request_id, "--cancel", "--url", url).returncode == 1

    shell.run("call", "picky", "7", "--url", url)
    (letter,) = json.loads(shell.run("dead-letters", "--json", "--url", url).stdout)
    assert letter["replayable"] is True
    assert "not 7" in shell.run("dead-letters", "--url", url).stdout
    assert "is request" in shell.run("dead-letters", "--replay", "1", "--url", url).stderr
    assert shell.run("dead-letters", "--forget", "2", "--url", url).returncode == 0
    assert "no dead letters" in shell.run("dead-letters", "--url", url).stdout
    assert shell.run("dead-letters", "--forget", "2", "--url", url).returncode == 1


def test_items_come_from_the_command_line_a_file_or_standard_input(shell: Shell) -> None:
    url = shell.serve("--port", "0")
    (shell.folder / "item.json").write_text('{"a": 1}')

    assert shell.run("call", "echo", '{"a": 1}', "--url", url).stdout == '{"a":1}\n'
    assert shell.run("call", "echo", "@item.json", "--url", url).stdout == '{"a":1}\n'
    assert shell.run("call", "echo", "-", "--url", url, given='{"a": 1}').stdout == '{"a":1}\n'
    assert "cannot read" in shell.run("call", "echo", "@nothing.json", "--url", url).stderr
    assert "no stream 'ecko'" in shell.run("call", "ecko", "1", "--url", url).stderr


def test_log_lines_say_of_which_request_they_are(shell: Shell) -> None:
    process = shell.start("run", "tools:app", "--port", "0", "--log-format", "json")
    url = said_by(process, "answers on ").split()[0]

    shell.run("call", "slow", "0.0", "--url", url)

    line = json.loads("{" + said_by(process, "{"))
    assert line["message"] == "works on 0.0"
    assert (line["level"], line["logger"], line["stream"], line["operator"]) == ("warning", "slow", "slow", "Slow")
    assert line["request_id"].startswith("tools-")


def test_a_host_starts_again_when_a_file_changes_also_after_a_mistake(shell: Shell) -> None:
    process = shell.start("run", "tools:app", "--port", "0", "--reload")
    said_by(process, "answers on ")

    (shell.folder / "tools.py").write_text("this is no Python")
    said_by(process, "waiting for a change")
    (shell.folder / "tools.py").write_text(PROGRAM.replace('"echo"', '"repeat"'))
    url = said_by(process, "answers on ").split()[0]

    assert shell.run("call", "repeat", "{}", "--url", url).stdout == "{}\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


async def test_a_host_answers_on_a_socket_of_this_machine(shell: Shell) -> None:
    url = shell.serve("--unix", "door.sock")

    async with Client(f"unix://{shell.folder / 'door.sock'}") as client:
        assert await client.request("echo", {"a": 1}) == {"a": 1}
    assert shell.run("call", "echo", "{}", "--url", url).stdout == "{}\n"


def test_without_a_token_no_other_address_is_listened_on(shell: Shell) -> None:
    refused = shell.run("run", "tools:app", "--address", "0.0.0.0", "--port", "0")

    assert refused.returncode == 1
    assert "refusing to listen" in refused.stderr
    assert "Traceback" not in refused.stderr


def certificates(folder: Path) -> None:
    """Make an authority, and certificates of a host and a client."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("host", "client"):
        openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip


def test_a_host_with_tls_answers_those_who_have_a_certificate(shell: Shell) -> None:
    try:
        certificates(shell.folder)
    except FileNotFoundError:
        pytest.skip("openssl, which makes certificates for this test, is not installed")
    tls = ["--tls-cert", "host.pem", "--tls-key", "host.key", "--tls-client-ca", "ca.pem"]
    url = shell.serve("--port", "0", "--address", "0.0.0.0", *tls).replace("0.0.0.0", "127.0.0.1")

    def status(*, certificate: bool) -> int:
        context = ssl.create_default_context(cafile=str(shell.folder / "ca.pem"))
        if certificate:
            context.load_cert_chain(shell.folder / "client.pem", shell.folder / "client.key")
        with urllib.request.urlopen(url + "/healthz", context=context, timeout=10) as answer:
            return int(answer.status)

    assert url.startswith("https://")
    assert status(certificate=True) == 200
    with pytest.raises(OSError):  # noqa: PT011 - what it is depends on the moment at which the host hangs up
        status(certificate=False)
    wrong = shell.run("run", "tools:app", "--tls-cert", "tools.py", "--port", "0")
    assert wrong.returncode == 1
    assert "cannot use the certificate" in wrong.stderr


def test_the_doctor_names_what_it_finds(shell: Shell) -> None:
    told = shell.run("doctor")

    assert told.returncode == 0, told.stderr
    for word in ("Python", "uvloop", "open files", "fsync", "port 7700"):
        assert word in told.stderr
