"""A component has the sandbox of a module, and nothing of WASI but what may not be called."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import wasmtime

from actorflow import App, ContractError, ModuleError, TrapError, WasmTimeoutError
from actorflow.wasm import components, wasm
from tests.wasm.languages import BUILT

SPIN = "(loop $for_ever (br $for_ever))"
QUICK: dict[str, Any] = {"batch_s": 0.05, "slice_s": 0.01, "memory_bytes": 4 << 20}


def component(body: str, *, outcomes: bytes = b"\x91\xc0", start: str = "", wasi: bool = False) -> bytes:
    """Return a component whose function does something, and then gives these outcomes."""
    told = "".join(f"\\{byte:02x}" for byte in outcomes)
    imported = '(import "wasi:cli/environment@0.2.9" (instance $wasi (export "f" (func))))' if wasi else ""
    lowered = '(core func $f (canon lower (func $wasi "f")))' if wasi else ""
    given = '(with "wasi" (instance (export "f" (func $f))))' if wasi else ""
    return bytes(
        wasmtime.wat2wasm(f"""
          (component
            {imported}
            (core module $m
              {'(import "wasi" "f" (func $f))' if wasi else ""}
              (memory (export "memory") 1)
              (data (i32.const 8) "\\10\\00\\00\\00\\{len(outcomes):02x}\\00\\00\\00{told}")
              (func $start {start})
              (start $start)
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
              (func (export "process") (param i32 i32) (result i32) {body} (i32.const 8)))
            {lowered}
            (core instance $i (instantiate $m {given}))
            (func (export "process") (param "batch" (list u8)) (result (list u8))
              (canon lift
                (core func $i "process") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc")))))
        """)
    )


def call(code: bytes, **sandbox: Any) -> Any:
    return wasm(code, **{**QUICK, **sandbox})(1)


def test_a_component_gives_what_its_outcomes_say() -> None:
    assert call(component("", outcomes=b"\x91\x92\x00\x91\x07")) == 7


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"{SPIN} unreachable", WasmTimeoutError),
        ("unreachable", TrapError),
        ("(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable", TrapError),
        ("(i32.store (i32.const 12) (i32.const 0x7fffffff))", TrapError),
        ("(i32.store (i32.const 8) (i32.const -1))", TrapError),
        ("(i32.store8 (i32.const 16) (i32.const 0x92))", ContractError),
    ],
)
async def test_what_a_component_does_wrong_is_a_typed_error_and_the_next_call_works(
    body: str, kind: type[Exception]
) -> None:
    # an item of 7 asks for it; the batch lies where cabi_realloc said
    code = component(f"(if (i32.eq (i32.load8_u offset=1 (i32.const 1024)) (i32.const 7)) (then {body}))")
    app = App("t")
    app.stream("s", int, list).then(wasm(code, **QUICK).operator("then")).collect()

    async with app.local() as client:
        for _ in range(2):
            with pytest.raises(kind):
                await client.request("s", 7)
            assert await client.request("s", 1) == []


def test_a_start_that_never_ends_is_ended() -> None:
    with pytest.raises(WasmTimeoutError):
        call(component("", start=SPIN))


def test_wasi_is_refused_where_it_is_not_granted() -> None:
    with pytest.raises(ModuleError, match="grants=\\('wasi',\\) would allow"):
        call(component("", wasi=True))


def test_wasi_may_be_imported_and_not_called() -> None:
    assert call(component("", wasi=True), grants=("wasi",)) is None
    with pytest.raises(TrapError):
        call(component("(call $f)", wasi=True), grants=("wasi",))


def test_a_function_of_another_type_is_refused() -> None:
    code = wasmtime.wat2wasm("""
      (component
        (core module $m (func (export "process") (param i32) (result i32) (local.get 0)))
        (core instance $i (instantiate $m))
        (func (export "process") (param "n" s32) (result s32) (canon lift (core func $i "process"))))
    """)

    with pytest.raises(ModuleError, match="list<u8>"):
        wasm(code)


def test_a_component_that_is_too_large_is_refused_before_it_is_compiled() -> None:
    with pytest.raises(ModuleError, match="a component may have"):
        wasm(b"\0asm\x0d\0\x01\0" + bytes(components.BYTES_MAX))


def test_components_work_for_many_requests_at_once() -> None:
    app = App("t")
    function = wasm(BUILT / "component-of-c-conformance.wasm", threads=2, slice_s=0.001, batch_s=30.0)
    app.stream("s", list, list).flat_map(lambda n: [["echo", each] for each in n]).then(
        function.operator("then")
    ).collect()

    async def main() -> list[list[int]]:
        async with app.local() as client:
            return await asyncio.gather(*(client.request("s", list(range(n, n + 50))) for n in range(40)))

    assert asyncio.run(main()) == [list(range(n, n + 50)) for n in range(40)]
