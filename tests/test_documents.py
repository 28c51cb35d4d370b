"""Documents and examples are true: their code runs."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = {
    "hello": "Hello, world!",
    "shop": "cup: CardRefused",
    "scatter": "3 books",
    "actors": "the token ends at link 45",
    "wordcount": "11,772",
    "routes": "4,363",
    "packages": "the ranks of all 4,546 packages settled after 12 rounds",
}


DOCUMENTS = ("README.md", "docs/state.md", "docs/durability.md")


def blocks() -> list[tuple[str, int, str]]:
    return [
        (document, number, code)
        for document in DOCUMENTS
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL))
    ]


@pytest.mark.parametrize(("document", "number", "code"), blocks(), ids=lambda part: str(part)[:20].partition("\n")[0])
def test_a_program_of_a_document_runs(
    document: str, number: int, code: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # from a file, since the checker reads the source of operators
    path = tmp_path / "program.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("program", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["program"] = module
    try:
        spec.loader.exec_module(module)
        _run(module, code)
    finally:
        del sys.modules["program"]
    if (document, number) == ("README.md", 0):
        assert capsys.readouterr().out == "Hello, world!\n"
        assert len(code.strip().splitlines()) <= 20


def _run(module: ModuleType, code: str) -> None:
    if "asyncio.run" not in code:
        done = module.main()
        if asyncio.iscoroutine(done):
            asyncio.run(done)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_prints_what_it_should(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert EXAMPLES[name] in done.stdout


def test_every_file_that_the_documents_name_is_there() -> None:
    for document in (*DOCUMENTS, "ARCHITECTURE.md"):
        for path in re.findall(
            r"`((?:tests|examples|actorflow|runtime|core)/[\w/]+(?:\.py)?)`", (ROOT / document).read_text()
        ):
            found = [base / path for base in (ROOT, ROOT / "actorflow") if (base / path).exists()]
            assert found, f"{document} names {path}"
