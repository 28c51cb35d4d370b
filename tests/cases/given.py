"""What the cases give: their facts (`show/`), the programs that computed them (`ref/`) and their judges (`check/`)."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
DATA = HERE / "data"


def case(name: str) -> dict[str, Any]:
    """Return a case: what to run, with which parameters, and what must come out."""
    facts: dict[str, Any] = json.loads((HERE / "show" / f"{name}.json").read_text())
    return facts


def _load(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"given_{name}", HERE / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


common = _load("ref", "common")
_before, _digits = sys.modules.get("common"), sys.get_int_max_str_digits()
sys.modules["common"] = common  # by this name the others import it, and nobody else is to find it
try:
    tx = _load("ref", "tx_ref")
    savina = _load("ref", "savina_ref")
finally:
    sys.set_int_max_str_digits(_digits)  # what one of them changes for all
    del sys.modules["common"]
    if _before is not None:
        sys.modules["common"] = _before

checks = _load("check", "simple_checks")
wgl = _load("check", "wgl")
