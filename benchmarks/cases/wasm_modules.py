"""The WASM modules that case programs use: those of `examples/wasm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BUILT = Path(__file__).parents[2] / "examples" / "wasm" / "built"


def built(module: str, export: str, **options: Any) -> Any:
    """Return a function of a module in `examples/wasm/built`."""
    from actorflow.wasm import wasm

    return wasm(BUILT / f"{module}.wasm", export, **options)
