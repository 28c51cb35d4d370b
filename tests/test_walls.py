"""The walls of the house: layers, the purity of core, no import cycles, and the public names."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import actorflow

ROOT = Path(actorflow.__file__).parent
WORDS = {"errors", "address", "limits", "envelope", "codec", "wire", "report", "carrying"}
IMPURE = {"asyncio", "socket", "time", "random", "threading", "os", "aiohttp", "uvloop", "subprocess", "logging"}


def modules() -> dict[str, Path]:
    return {".".join(("actorflow", *path.relative_to(ROOT).with_suffix("").parts)): path for path in ROOT.rglob("*.py")}


def room(module: str) -> int:
    """Return how far down the house a module lives: it may import from the same floor and from above."""
    name = module.split(".")[1] if "." in module else "__init__"
    if name in WORDS:
        return 0
    floors = {"plan": 1, "core": 2, "stores": 2, "runtime": 3}
    return floors.get(name, 5 if name == "testing" else 4)


def imports(path: Path, *, at_run_time_only: bool) -> set[str]:
    """Return the modules that a module imports, those for type checking left out where wanted."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if at_run_time_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                skipped.update(ast.walk(node))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_from_its_own_room_and_those_above(module: str) -> None:
    known = modules()

    wrong = [
        name for name in imports(known[module], at_run_time_only=False) if name in known and room(name) > room(module)
    ]

    assert not wrong, f"{module} imports {wrong}, which live further down"


@pytest.mark.parametrize("module", sorted(name for name in modules() if name.startswith("actorflow.core")))
def test_core_knows_no_clock_no_chance_no_task_and_no_network(module: str) -> None:
    found = {name.split(".")[0] for name in imports(modules()[module], at_run_time_only=False)}

    assert not found & IMPURE


def test_there_is_no_import_cycle() -> None:
    known = modules()
    ahead = {module: imports(path, at_run_time_only=True) & set(known) - {module} for module, path in known.items()}

    while removable := [module for module, needs in ahead.items() if not needs & set(ahead)]:
        for module in removable:
            del ahead[module]

    assert not ahead, f"these import one another: {sorted(ahead)}"


def test_every_public_name_is_there_and_explains_itself() -> None:
    for name in actorflow.__all__:
        thing = getattr(actorflow, name)
        assert inspect.getdoc(thing), name
        for method_name, method in vars(thing).items() if isinstance(thing, type) else ():
            public = not method_name.startswith("_") and (inspect.isfunction(method) or isinstance(method, property))
            assert not public or inspect.getdoc(getattr(thing, method_name)), f"{name}.{method_name}"


def test_init_holds_the_public_names_and_nothing_else() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())

    kinds = {type(node) for node in tree.body}

    assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}
    assert sorted(actorflow.__all__) == sorted(
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    )


def test_architecture_names_every_module_that_there_is() -> None:
    page = (ROOT.parent / "ARCHITECTURE.md").read_text()

    missing = [
        path.stem
        for path in ROOT.rglob("*.py")
        if not path.stem.startswith("__") and "testing" not in path.parts and f"`{path.stem}`" not in page
    ]

    assert not missing
