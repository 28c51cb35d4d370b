"""Documents and examples are true: their code runs."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

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


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks())))
def test_a_program_of_the_readme_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks()[number]

    space: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, f"README.md[{number}]", "exec"), space)
    if "asyncio.run" not in code:
        done = space["main"]()  # type: ignore[operator]
        if asyncio.iscoroutine(done):
            asyncio.run(done)

    if number == 0:
        assert capsys.readouterr().out == "Hello, world!\n"
        assert len(code.strip().splitlines()) <= 20


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_prints_what_it_should(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert EXAMPLES[name] in done.stdout


def test_every_file_that_the_documents_name_is_there() -> None:
    for document in ("README.md", "ARCHITECTURE.md"):
        for path in re.findall(
            r"`((?:tests|examples|actorflow|runtime|core)/[\w/]+(?:\.py)?)`", (ROOT / document).read_text()
        ):
            found = [base / path for base in (ROOT, ROOT / "actorflow") if (base / path).exists()]
            assert found, f"{document} names {path}"
