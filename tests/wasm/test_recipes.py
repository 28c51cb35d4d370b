"""The recipes of docs/wasm-languages.md: Rust and Go, compiled where they are installed, and what they ask of WASI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import wasmtime

from actorflow import App, ModuleError, WasmTimeoutError
from actorflow.wasm import wasm

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples" / "wasm"
LINES = ["to be or not", "", "x " * 300, "größe 漢字"] * 100


def rust(folder: Path) -> Path:
    if not shutil.which("cargo") or not shutil.which("rustup"):
        pytest.skip("NOT RUN: Rust needs cargo and rustup")
    targets = subprocess.run(["rustup", "target", "list", "--installed"], capture_output=True, text=True, check=False)
    if "wasm32-unknown-unknown" not in targets.stdout.split():
        pytest.skip("NOT RUN: Rust needs its target: rustup target add wasm32-unknown-unknown")
    command = ["cargo", "build", "--quiet", "--release", "--target", "wasm32-unknown-unknown", "--target-dir", folder]
    subprocess.run(command, cwd=EXAMPLES / "rust", check=True)
    return folder / "wasm32-unknown-unknown" / "release" / "count.wasm"


def go(folder: Path) -> Path:
    if not shutil.which("go"):
        pytest.skip("NOT RUN: Go needs go, 1.24 or later")
    subprocess.run(
        ["go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", folder / "count.wasm", "."],
        cwd=EXAMPLES / "go",
        env={**os.environ, "GOOS": "wasip1", "GOARCH": "wasm"},
        check=True,
    )
    return folder / "count.wasm"


@pytest.mark.slow
@pytest.mark.parametrize(("compile_", "grants"), [(rust, ()), (go, ("wasi", "clock", "stdout"))])
async def test_a_function_of_a_recipe_counts_words(compile_, grants, local, tmp_path: Path) -> None:
    function = wasm(compile_(tmp_path), "count", grants=grants, slice_s=1.0, batch_s=30.0)
    app = App("t")
    app.stream("s", list, replies="many").flat_map(lambda lines: lines).map(function)
    client = await local(app)

    for _ in range(3):
        counts = [count async for count in client.stream("s", LINES)]

        assert counts == [len(line.split()) for line in LINES]


ASKS = wasmtime.wat2wasm("""
  (module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $began (mut i64) (i64.const 0))
    (func (export "_initialize")
      (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))
      (global.set $began (i64.load (i32.const 16))))
    (func (export "chance") (param i64) (result i64)
      (drop (call $random (i32.const 0) (i32.const 8)))
      (i64.load (i32.const 0)))
    (func (export "too_much") (param i64) (result i64)
      (i64.extend_i32_u (call $random (i32.const 0) (i32.const 0x7fffffff))))
    (func (export "began") (param i64) (result i64) (global.get $began))
    (func (export "sleep") (param i64) (result i64)
      (loop $again
        (drop (call $poll (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
        (br_if $again (i32.eqz (i32.load (i32.const 32)))))
      (i64.const 0)))
""")
GRANTS = ("wasi", "clock")


def test_chance_is_the_same_in_each_run_and_bounded() -> None:
    chance = wasm(ASKS, "chance", grants=GRANTS)

    assert chance(0) == wasm(ASKS, "chance", grants=GRANTS)(0) != 0
    assert wasm(ASKS, "too_much", grants=GRANTS)(0) == 28


def test_at_the_start_of_a_guest_its_clock_has_begun_and_not_moved() -> None:
    assert wasm(ASKS, "began", grants=GRANTS)(0) == 1_000_000_000


def test_who_sleeps_is_ended_in_its_time() -> None:
    with pytest.raises(WasmTimeoutError):
        wasm(ASKS, "sleep", grants=GRANTS, slice_s=0.02)(0)


def test_what_is_not_granted_is_named_with_its_grant() -> None:
    with pytest.raises(ModuleError, match=r"random_get, which grants=\('wasi',\) would allow"):
        wasm(ASKS, "chance")
