"""What all tests of WASM need: the engine, and a cache that is theirs."""

from __future__ import annotations

import importlib.util
import os
import tempfile

import pytest

if importlib.util.find_spec("wasmtime") is None:
    pytest.skip("wasmtime is not installed (pip install 'actorflow[wasm]')", allow_module_level=True)

os.environ.setdefault("ACTORFLOW_CACHE", tempfile.mkdtemp(prefix="actorflow-cache-"))
