"""The command line."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from actorflow.cli import main

BAD_APP = """
from actorflow import App
app = App("bad")
app.stream("one").call("missing")
app.stream("two", int).discard()
other = 3
"""


def invoke(*arguments: str, given: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments, input=given)
    return result.exit_code, result.output


def test_help_teaches_every_command() -> None:
    code, output = invoke("--help")
    assert code == 0
    for command in ("run", "call", "check", "graph", "streams"):
        assert command in output
        assert invoke(command, "--help")[0] == 0


def test_check_passes_a_sound_app_and_lists_every_fault_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "faulty_app.py").write_text(BAD_APP)

    assert invoke("check", "examples.shop:app")[0] == 0
    code, output = invoke("check", "faulty_app:app")

    assert code == 1
    assert "missing" in output
    assert "two" in output


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("examples.shop", "MODULE:APP"),
        ("examples.shopp:app", "no module"),
        ("examples.shop:application", "apps there: app"),
        ("examples.shop:Order", "is a type"),
    ],
)
def test_a_wrong_target_is_answered_with_what_there_is(target: str, said: str) -> None:
    code, output = invoke("check", target)

    assert code != 0
    assert said in output
    assert "Traceback" not in output


def test_graph_draws_svg_mermaid_and_json() -> None:
    assert "flowchart" in invoke("graph", "examples.shop:app")[1]
    assert '"stream": "checkout"' in invoke("graph", "examples.shop:app", "--json")[1]
    ElementTree.fromstring(invoke("graph", "examples.shop:app", "checkout", "--svg")[1])
    assert invoke("graph", "examples.shop:app", "--svg")[0] != 0


def test_call_says_what_is_wrong_with_an_item_and_that_no_host_answers() -> None:
    code, output = invoke("call", "hello", "world")
    assert code != 0
    assert "is not JSON" in output
    code, output = invoke("call", "hello", '"world"', "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "no host answers" in output
    assert "actorflow run" in output
