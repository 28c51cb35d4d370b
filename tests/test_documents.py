"""Documents and examples are true: their code runs, and what they name is there."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import click
import pytest

from actorflow import Limits, errors, wire
from actorflow.asking import VERBS
from actorflow.cli import main as command_line
from actorflow.deploy.deployer import Deployer
from actorflow.deploy.registry import MemoryFiles, Registry
from actorflow.gateway import Gateway
from actorflow.gateway.problems import STATUS
from actorflow.runtime.host import Host

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


DOCUMENTS = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")))
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SHELL = {"console", "bash", "sh", "shell"}
WORDS_OF_OTHERS = "docs/coming-from.md"
"""The page with code for other software: its blocks are marked `py`, and compiled instead of run."""


def fences(document: str) -> Iterator[tuple[str, str, str]]:
    """Yield language, what stands behind it, and text of each fenced block."""
    for indent, language, more, text in FENCE.findall((ROOT / document).read_text()):
        yield language, more, textwrap.dedent(text) if indent else text


def programs(document: str) -> Iterator[str]:
    """Yield the Python blocks; one with "continued" in its title is a program together with those before it."""
    before = ""
    for language, more, code in fences(document):
        if language == "python":
            before = f"{before}\n\n{code}" if "continued" in more else code
            yield before


def blocks() -> list[tuple[str, int, str]]:
    return [(document, number, code) for document in DOCUMENTS for number, code in enumerate(programs(document))]


@pytest.mark.parametrize(("document", "number", "code"), blocks(), ids=lambda part: str(part)[:20].partition("\n")[0])
def test_a_program_of_a_document_runs(
    document: str, number: int, code: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if re.search(r"^from fastapi", code, re.MULTILINE):
        pytest.importorskip("fastapi")
    # from a file, since the checker reads the source of operators
    path = tmp_path / "test_program.py"
    path.write_text(code)
    if re.search(r"^(async )?def test_", code, re.MULTILINE):
        _run_as_tests(path)
        return
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
    if number == 0 and document in {"README.md", "docs/index.md"}:
        assert capsys.readouterr().out == "Hello, world!\n"
        assert len(code.strip().splitlines()) <= 20


def _run(module: ModuleType, code: str) -> None:
    """Run what the program calls `main`, unless it has run that itself."""
    if hasattr(module, "main") and ("asyncio.run(" not in code or "__name__" in code):
        done = module.main()
        if asyncio.iscoroutine(done):
            asyncio.run(done)


def _run_as_tests(path: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(path.parent))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        cwd=path.parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_every_program_of_a_document_is_run() -> None:
    for document in DOCUMENTS:
        for language, _, code in fences(document):
            assert language, f"{document}: a block that does not say what it is:\n{code}"
            if language == "py":
                assert document == WORDS_OF_OTHERS, f"{document}: a block of `py` is not run; write `python`"
                ast.parse(code)


# -- the command line


def commands() -> list[tuple[str, str]]:
    """Return every line of a shell block, or of an indented one of the README, with its document."""
    found = []
    for document in DOCUMENTS:
        lines = [line for language, _, text in fences(document) if language in SHELL for line in text.splitlines()]
        outside = FENCE.sub("", (ROOT / document).read_text())
        lines += re.findall(r"^    (\$ .*|actorflow .*|make .*)$", outside, re.MULTILINE)
        whole = re.sub(r"\\\n +", "", "\n".join(lines)).splitlines()
        bare = (re.sub(r"^(\$ )?(\w+=(\$\(.*?\)|\S*) )?", "", line) for line in whole)
        found += [(document, line) for line in bare if line.startswith(("actorflow ", "make ", "python -m ", "curl "))]
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_a_command_that_a_document_names_is_there_with_its_options(document: str, line: str) -> None:
    for part in line.split(" | "):
        words = shlex.split(part.replace("…", "x"), comments=True)
        if words[0] == "actorflow":
            _check_command(words[1:])
        elif words[0] == "make":
            target = words[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {target}"
        elif words[:2] == ["python", "-m"] and words[2].startswith("examples"):
            assert importlib.util.find_spec(words[2]), f"no module {words[2]}"


def _check_command(words: list[str]) -> None:
    command: click.Command = command_line
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    known = {"--help", "-h", "--version", *(option for each in command.params for option in each.opts)}
    known |= {option for each in command.params for option in each.secondary_opts}
    named = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert named <= known, f"{command.name} has no {', '.join(named - known)}"


async def test_every_path_that_a_document_names_is_served() -> None:
    deployer = Deployer(Registry(MemoryFiles()))
    host = Host(deployer.plan)
    gateway = Gateway(host, port=0, deployer=deployer, deploy_token="secret")
    await host.start()
    await gateway.start()
    assert gateway._runner is not None
    assert gateway._runner.app is not None
    served = {
        (route.method, re.sub(r":[^}]*", "", route.resource.canonical))
        for route in gateway._runner.app.router.routes()
        if route.resource is not None
    }
    await gateway.stop()
    await host.stop()

    listed = {
        (method, path)
        for document in DOCUMENTS
        for method, path in re.findall(r"^\| `([A-Z]+) (/[^`?]*)", (ROOT / document).read_text(), re.MULTILINE)
    }
    assert len(listed) > 20
    assert listed <= served, f"not served: {sorted(listed - served)}"
    asked = [_asked(line) for _, line in commands() if line.startswith("curl ")]
    for method, path in asked:
        patterns = [re.sub(r"{\w+}", "[^/]+", pattern) for known, pattern in served if known == method]
        assert any(re.fullmatch(pattern, path) for pattern in patterns), f"{method} {path} is not served"


def _asked(line: str) -> tuple[str, str]:
    """Return the method and path of a command of curl."""
    words = shlex.split(line, comments=True)
    (url,) = (word for word in words if word.startswith("http://"))
    method = (
        words[words.index("-X") + 1] if "-X" in words else "POST" if {"-d", "--data-binary"} & set(words) else "GET"
    )
    return method, urlsplit(url).path


# -- pages that repeat what the code says


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with its name."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, *path, name)
    else:
        yield " ".join(path), command


def test_the_page_of_the_command_line_has_every_command_and_option() -> None:
    sections = {part.partition("\n")[0]: part for part in page("cli.md").split("\n## ")[1:]}
    assert set(sections) == {name for name, _ in leaves(command_line)}

    for name, command in leaves(command_line):
        options = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        listed = "".join(re.findall(r"^\| (`-.*?) \|", sections[name], re.MULTILINE))
        assert set(re.findall(r"`(--?[\w-]+)`", listed)) == options


def test_the_page_of_limits_has_every_limit_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page("limits.md"), re.MULTILINE))

    assert {name: ast.literal_eval(value.replace(",", "")) for name, value in rows.items()} == {
        field.name: field.default for field in dataclasses.fields(Limits)
    }


def test_the_page_of_errors_has_the_tree_and_every_class() -> None:
    lines = (errors.__doc__ or "").splitlines()
    tree = "\n".join(line for line in lines if re.match(r" *(ActorflowError$|[│├└])", line))

    assert textwrap.dedent(tree).strip() in page("errors.md")


def test_the_page_of_errors_has_the_status_of_each() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page("errors.md"), re.MULTILINE)

    assert [(kind.__name__, status) for kind, status in STATUS] == [(name, int(status)) for name, status in rows]


def test_the_page_of_frames_has_every_frame_as_it_is_on_the_wire() -> None:
    numbers = {name: value for name, value in vars(wire).items() if name.isupper() and type(value) is int}
    rows = re.findall(r"^\| `(\w+)` \| `(\[.*?\])` \| `([0-9a-f ]+)` \|$", page("frames.md"), re.MULTILINE)
    assert {numbers[name] for name, _, _ in rows} == set(wire._SHAPES)

    for name, example, data in rows:
        frame = ast.literal_eval(example.replace("nil", "None"))
        message = b"\x91" + bytes.fromhex(data)
        assert frame[0] == numbers[name]
        assert wire.pack([frame], tagged=False) == message
        assert wire.unpack(message, nesting_depth=64, from_client=frame[0] < wire.WELCOME) == [frame]


def test_the_page_of_frames_has_every_verb() -> None:
    section = page("frames.md").partition("## Asking about the host\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(VERBS)


def test_the_page_of_metrics_names_those_that_there_are() -> None:
    (source,) = (ROOT / "actorflow").rglob("metrics.py")
    there = set(re.findall(r"^    (actorflow_\w+)", source.read_text(), re.MULTILINE))

    assert set(re.findall(r"^\| `(actorflow_\w+)", page("observe.md"), re.MULTILINE)) == there


def test_every_test_that_proves_a_promise_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page("guarantees.md"))
    assert len(named) >= 40

    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert not test or re.search(rf"def {test}\(", (ROOT / path).read_text()), f"{path} has no {test}"


def test_every_public_name_is_in_the_reference() -> None:
    import actorflow

    named = set(re.findall(r"^::: actorflow\.([\w.]+)", page("reference.md"), re.MULTILINE))
    documented = {name.rpartition(".")[2] for name in named} | {
        name for name, value in vars(errors).items() if isinstance(value, type) and "errors" in named
    }

    assert set(actorflow.__all__) <= documented


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere() -> None:
    navigation = set(re.findall(r"([\w/-]+\.md)\s*$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert navigation == pages

    for name in pages:
        for link in re.findall(r"\]\(([\w./-]+\.md)", page(name)):
            assert ((ROOT / "docs" / name).parent / link).is_file(), f"{name} links to {link}"


# -- examples


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
