"""The command line."""

from __future__ import annotations

import json
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


SPEC = """
app: words
streams:
  count:
    request: str
    steps:
      - flat_map: python:builtins:str.split
      - key_by:
      - count:
"""


def test_a_file_stands_wherever_an_app_may(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(SPEC)

    assert "app words: 1 streams with 5 steps, no faults" in invoke("check", str(path))[1]
    assert "flowchart" in invoke("graph", str(path))[1]
    assert "entry → split → key_by → count → reply" in invoke("streams", str(path))[1]


def test_a_file_with_faults_is_answered_with_a_line_for_each(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(
        SPEC.replace("flat_map", "flatmap").replace("count:\n", "cuont:\n").replace("  cuont", "  count", 1)
    )

    code, output = invoke("check", str(path))

    assert code == 1
    assert output.count(f"{path}, line ") == 2
    assert "did you mean 'flat_map'?" in output
    assert "did you mean 'count'?" in output
    assert invoke("check", str(tmp_path / "none.yaml"))[0] == 1


def test_an_app_is_exported_and_imported(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(SPEC)

    for form in ("yaml", "json", "toml"):
        written = tmp_path / f"out.{form}"
        assert invoke("export", str(path), "-o", str(written))[0] == 0
        assert invoke("export", str(written)) == invoke("export", str(path))
        assert invoke("export", str(path), "--format", form)[1] == written.read_text()
    code, program = invoke("import", str(path))

    assert code == 0
    assert 'app.stream("count", str).flat_map(str.split).key_by().count()' in program


def test_an_app_with_closures_is_exported_no_further_than_their_names() -> None:
    code, output = invoke("export", "examples.shop:app")

    assert code == 1
    assert "payment/filter: <lambda> (shop.py, line " in output


def test_the_schema_is_json() -> None:
    assert json.loads(invoke("schema")[1])["title"] == "An app of actorflow"


def test_what_is_exported_to_another_folder_finds_its_modules(tmp_path: Path) -> None:
    runner, example = CliRunner(), str(Path(__file__).parents[2] / "examples" / "mixed" / "app.yaml")
    there = tmp_path / "sub"
    there.mkdir()
    spec = there / "mixed.yaml"

    exported = runner.invoke(main, ["export", example, "-o", str(spec)])
    program = runner.invoke(main, ["import", example, "-o", str(there / "mixed.py")])
    read = runner.invoke(main, ["streams", str(spec)])

    assert exported.exit_code == program.exit_code == read.exit_code == 0, (
        exported.output,
        program.output,
        read.output,
    )
    assert "tokenise" in read.output
    assert "examples/wasm/built/c-tokens.wasm" in (there / "mixed.py").read_text()
