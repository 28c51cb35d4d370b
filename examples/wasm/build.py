"""Compile the guests: `python -m examples.wasm.build [--into FOLDER]`, which is `make wasm`.

Compilers come from PyPI (`pip install 'actorflow[wasm-build]'`: zig, which compiles C too, and componentize-py) and
from npm (`npm install --prefix .venv/node assemblyscript@… @bytecodealliance/jco@…`, as `make wasm` does). What is
missing is named, and its guests stay as they are. With these versions the same source gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE / "built"
SUMS = BUILT / "SHA256SUMS"
NODE = Path(os.environ.get("ACTORFLOW_NODE") or Path(sys.prefix) / "node") / "node_modules"
VERSIONS = {
    "ziglang": "0.17.1",
    "componentize-py": "0.25.1",
    "assemblyscript": "0.28.20",
    "@bytecodealliance/jco": "1.35.0",
}
LARGE = "component-of-python-conformance.wasm"
"""18 MB, most of it Python itself: not committed."""


class MissingToolError(Exception):
    """A compiler is not here, or of another version than the one whose output is committed."""


def _need(tool: str, found: str | None, how: str) -> None:
    if found != VERSIONS[tool]:
        raise MissingToolError(f"{tool} {VERSIONS[tool]} is needed and {found or 'none'} is here: {how}")


def _python_tool(tool: str) -> None:
    try:
        found = importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        found = None
    _need(tool, found, "pip install 'actorflow[wasm-build]'")


def _node_tool(tool: str) -> Path:
    about = NODE / tool / "package.json"
    found = json.loads(about.read_text())["version"] if about.exists() and shutil.which("node") else None
    _need(tool, found, f"npm install --prefix {NODE.parent} {tool}@{VERSIONS[tool]}")
    return NODE / tool


def _run(*command: object, cwd: Path = HERE) -> None:
    done = subprocess.run(  # noqa: S603 - compilers, by their own paths
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


_STACK_BYTES = 65_536


def _c(source: str, into: Path) -> None:
    _python_tool("ziglang")
    _run(
        *(sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-Os", "-nostdlib"),
        *("-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-parameter", "-fno-strict-aliasing"),
        *("-Wl,--no-entry", "-Wl,--strip-all", f"-Wl,-z,stack-size={_STACK_BYTES}", "-o", into, source),
    )


def _zig(source: str, into: Path) -> None:
    _python_tool("ziglang")
    _run(
        *(sys.executable, "-m", "ziglang", "build-exe", source, "-target", "wasm32-freestanding", "-O", "ReleaseSmall"),
        *("-fno-entry", "-rdynamic", "-fstrip", "--stack", _STACK_BYTES, f"-femit-bin={into}"),
    )


def _assemblyscript(source: str, into: Path) -> None:
    folder = _node_tool("assemblyscript")
    _run("node", folder / "bin" / "asc.js", source, "--runtime", "stub", "-Osize", "--noAssert", "-o", into)


def _component_of_c(source: str, into: Path) -> None:
    folder = _node_tool("@bytecodealliance/jco")
    with tempfile.TemporaryDirectory() as temporary:
        core = Path(temporary) / "core.wasm"
        _c(source, core)
        _run("node", "component/new.mjs", folder, core, "component/wit/function.wit", into)


def _component_of_python(source: str, into: Path) -> None:
    _python_tool("componentize-py")
    path = HERE / source
    tool = Path(sys.executable).parent / "componentize-py"
    _run(
        *(tool, "-q", "-d", HERE / "component" / "wit", "-w", "function", "componentize", "--stub-wasi", path.stem),
        *("-o", into),
        cwd=path.parent,
    )


GUESTS: dict[str, tuple[Callable[[str, Path], None], str]] = {
    "c-tokens.wasm": (_c, "c/tokens.c"),
    "c-conformance.wasm": (_c, "c/conformance.c"),
    "zig-conformance.wasm": (_zig, "zig/conformance.zig"),
    "assemblyscript-filter.wasm": (_assemblyscript, "assemblyscript/filter.ts"),
    "assemblyscript-conformance.wasm": (_assemblyscript, "assemblyscript/conformance.ts"),
    "component-of-c-conformance.wasm": (_component_of_c, "component/conformance.c"),
    LARGE: (_component_of_python, "component/conformance.py"),
}


def build(name: str, into: Path) -> Path:
    """Compile one guest into a folder and return its file. Raises: MissingToolError; RuntimeError of the compiler."""
    compile_, source = GUESTS[name]
    file = into.resolve() / name
    compile_(source, file)
    file.chmod(0o644)
    return file


def sums(folder: Path = BUILT) -> dict[str, str]:
    """Return the SHA-256 of each guest that is committed, by its file."""
    names = (name for name in sorted(GUESTS) if name != LARGE)
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--into", type=Path, default=BUILT)
    into = options.parse_args().into
    for name in GUESTS:
        try:
            print(f"{name}: {build(name, into).stat().st_size:,} bytes")
        except MissingToolError as missing:
            print(f"{name}: NOT BUILT: {missing}")
    if into == BUILT:
        SUMS.write_text("".join(f"{digest}  {name}\n" for name, digest in sums().items()))


if __name__ == "__main__":
    main()
