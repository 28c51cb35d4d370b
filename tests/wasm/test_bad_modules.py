"""Whatever a module does: its request has a typed error, the next one works, and nobody else notices."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import wasmtime

from actorflow import (
    ActivationError,
    ActorflowError,
    App,
    ContractError,
    ModuleError,
    Restart,
    TrapError,
    WasmError,
    WasmTimeoutError,
)
from actorflow.wasm import guest as guests
from actorflow.wasm import lending as guests_lent
from actorflow.wasm import wasm
from actorflow.wasm.engine import MODULE_BYTES_MAX, engine
from tests.wasm.languages import BUILT

QUICK = {"batch_s": 0.05, "slice_s": 0.01, "memory_bytes": 4 << 20}
ONCE_MORE = Restart(restarts=1, backoff_s=0.01)
SPIN = "(loop $for_ever (br $for_ever))"
GIVE = "(i64.const 0)"


def module(process: str = GIVE, *, alloc: str = "(i32.const 4096)", start: str = "", extra: str = "") -> bytes:
    """Return a module that speaks the contract, with these bodies of its functions."""
    started = f"(func $start {start}) (start $start)" if start else ""
    return wasmtime.wat2wasm(f"""
      (module
        (memory (export "memory") 1)
        {extra}
        {started}
        (func (export "actorflow_alloc") (param i32) (result i32) {alloc})
        (func $process (export "process") (param $at i32) (param $length i32) (result i64) {process}))
    """)


def giving(outcomes: bytes, bad: str = "") -> bytes:
    """Return a module that does something bad where an item is 7, and otherwise gives `nil` for each of one item."""
    told = "".join(f"\\{byte:02x}" for byte in outcomes)
    return module(
        f"""
        (if (result i64) (i32.eq (i32.load8_u offset=1 (local.get $at)) (i32.const 7))
          (then {bad or f"(i64.const {1024 << 32 | len(outcomes)})"})
          (else (i64.const {1000 << 32 | 2})))
        """,
        extra=f'(data (i32.const 1000) "\\91\\c0") (data (i32.const 1024) "{told}")',
    )


def doing(bad: str) -> bytes:
    return giving(b"", bad)


BOMB = "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))"
TABLE_BOMB = (
    "(loop $more (br_if $more (i32.ge_s (table.grow $t (ref.null func) (i32.const 1000)) (i32.const 0)))) unreachable"
)

BAD_WHEN_CALLED: dict[str, tuple[bytes, type[ActorflowError]]] = {
    "a loop that never ends": (doing(f"{SPIN} {GIVE}"), WasmTimeoutError),
    "unreachable code": (doing("unreachable"), TrapError),
    "a division by zero": (doing("(i64.div_s (i64.const 1) (i64.const 0))"), TrapError),
    "a read beyond its memory": (doing("(i64.load (i32.const -8))"), TrapError),
    "memory without end, and a trap when there is no more": (doing(f"{BOMB} unreachable"), TrapError),
    "a table without end": (
        module(
            f"(if (i32.eq (i32.load8_u offset=1 (local.get $at)) (i32.const 7)) (then {TABLE_BOMB})) "
            f"(i64.const {1000 << 32 | 2})",
            extra='(table $t 1 funcref) (data (i32.const 1000) "\\91\\c0")',
        ),
        TrapError,
    ),
    "recursion without end": (doing("(call $process (local.get $at) (local.get $length))"), TrapError),
    "outcomes beyond its memory": (doing(f"(i64.const {0xFFFF0000 << 32 | 16})"), ContractError),
    "outcomes at the end of its memory": (doing(f"(i64.const {0xFFFF << 32 | 2})"), ContractError),
    "a length that is huge": (doing("(i64.const 0xFFFFFFFF)"), ContractError),
    "a pointer and a length of -1": (doing("(i64.const -1)"), ContractError),
    "no bytes at all": (giving(b""), ContractError),
    "too few outcomes": (giving(b"\x90"), ContractError),
    "too many outcomes": (giving(b"\x92\xc0\xc0"), ContractError),
    "a map of outcomes": (giving(b"\x81\x01\xc0"), ContractError),
    "a number": (giving(b"\x01"), ContractError),
    "bytes behind the outcomes": (giving(b"\x91\xc0\xc0"), ContractError),
    "a byte that MessagePack has not": (giving(b"\x91\xc1"), ContractError),
    "outcomes that are cut short": (giving(b"\x91\xa5abc"), ContractError),
    "a claimed array of four billion items": (giving(b"\xdd\xff\xff\xff\xff"), ContractError),
    "a claimed map of four billion pairs": (giving(b"\x91\xdf\xff\xff\xff\xff"), ContractError),
    "a claimed text of four billion bytes": (giving(b"\x91\xdb\xff\xff\xff\xff"), ContractError),
    "nesting without end": (giving(b"\x91" * 500 + b"\xc0"), ContractError),
    "an extension type": (giving(b"\x91\xd4\x01\x00"), ContractError),
    "a timestamp": (giving(b"\x91\xd6\xff\0\0\0\0"), ContractError),
    "text that is not UTF-8": (giving(b"\x91\xa2\xff\xfe"), ContractError),
    "a verb that there is not": (giving(b"\x91\x92\x09\xc0"), ContractError),
    "a negative verb": (giving(b"\x91\x92\xff\xc0"), ContractError),
    "a verb of text": (giving(b"\x91\x92\xa1a\xc0"), ContractError),
    "a verb without an argument": (giving(b"\x91\x91\x00"), ContractError),
    "items that are no array": (giving(b"\x91\x92\x00\x05"), ContractError),
    "an error that is a number": (giving(b"\x91\x92\x03\x05"), ContractError),
    "a put that is no array": (giving(b"\x91\x92\x05\x05"), ContractError),
    "a put whose key is a map": (giving(b"\x91\x92\x05\x93\xa1a\x80\x01"), ContractError),
    "a put of a cell that is not declared": (giving(b"\x91\x92\x05\x93\xa1a\x01\x01"), ActorflowError),
    "an item that goes round without a loop": (giving(b"\x91\x92\x02\x05"), ActorflowError),
}

ALLOC_BAD: dict[str, tuple[str, type[ActorflowError]]] = {
    "never ends": (f"{SPIN} unreachable", WasmTimeoutError),
    "traps": ("unreachable", TrapError),
    "gives a place beyond the memory": ("(i32.const 65535)", ContractError),
    "gives -1": ("(i32.const -1)", ContractError),
}


def threads_of_wasm() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("actorflow-wasm-process")}


@pytest.fixture(autouse=True)
def nothing_left():
    """Hold that no guest outlives the test that made it, and that its threads have ended."""
    gc.collect()
    before, ran = set(guests._guests), threads_of_wasm()
    logging.disable()  # pytest keeps what is logged, with the frames of its errors, and the guests in them
    yield
    logging.disable(logging.NOTSET)
    for thread in threading.enumerate():
        if thread.name.startswith("actorflow-wasm-process"):
            thread.join(1.0)  # it holds what it did last until it has ended
    gc.collect()
    assert set(guests._guests) <= before
    assert threads_of_wasm() <= ran


async def beside_others(app: App, act: Callable[[Any], Awaitable[Any]]) -> Any:
    """Act, while requests to another stream keep coming: all of them must be answered."""
    app.stream("others", int, int).map(lambda n: n + 1)
    ended = asyncio.Event()
    asked = 0

    async def keep_asking(client: Any) -> None:
        nonlocal asked
        while not ended.is_set() or asked < 5:
            assert await client.request("others", asked, timeout_s=5) == asked + 1
            asked += 1
            await asyncio.sleep(0)

    async with app.local() as client, asyncio.TaskGroup() as group:
        group.create_task(keep_asking(client))
        try:
            return await act(client)
        finally:
            ended.set()


@pytest.mark.parametrize("what", BAD_WHEN_CALLED)
async def test_what_a_function_does_wrong_is_a_typed_error_of_its_request(what: str) -> None:
    code, kind = BAD_WHEN_CALLED[what]
    app = App("t")
    app.stream("s", int, list).then(wasm(code, **QUICK).operator("then")).collect()

    async def act(client: Any) -> None:
        assert await client.request("s", 1) == []
        for _ in range(2):
            with pytest.raises(kind) as caught:
                await client.request("s", 7)
            assert isinstance(caught.value, ActivationError)
            assert await client.request("s", 2) == []

    await beside_others(app, act)


@pytest.mark.parametrize("what", ALLOC_BAD)
async def test_what_makes_room_may_do_wrong_too(what: str) -> None:
    body, kind = ALLOC_BAD[what]
    app = App("t")
    app.stream("s", int, list).then(wasm(module(alloc=body), **QUICK).operator("then")).collect()

    async def act(client: Any) -> None:
        for _ in range(2):
            with pytest.raises(kind):
                await client.request("s", 7)

    await beside_others(app, act)


SCALAR_SPIN = wasmtime.wat2wasm(f"""
  (module (func (export "f") (param $n i64) (result i64)
    (if (i64.eq (local.get $n) (i64.const 7)) (then {SPIN})) (local.get $n)))
""")


@pytest.mark.parametrize("shape", ["map", "filter"])
async def test_a_number_for_which_a_function_never_ends_fails_its_request_only(shape: str) -> None:
    app = App("t")
    stream = app.stream("s", int, list).flat_map(range)
    getattr(stream, shape)(wasm(SCALAR_SPIN, "f", **QUICK)).collect()

    async def act(client: Any) -> None:
        with pytest.raises(WasmTimeoutError):
            await client.request("s", 8)
        assert len(await client.request("s", 7)) == (7 if shape == "map" else 6)

    await beside_others(app, act)


async def test_a_key_function_that_never_ends_is_ended_within_a_slice() -> None:
    app = App("t")
    app.stream("s", int, list).key_by(wasm(SCALAR_SPIN, "f", **QUICK)).count().collect()

    async def act(client: Any) -> None:
        with pytest.raises(WasmTimeoutError):
            await client.request("s", 7)
        assert await client.request("s", 8) == [(8, 1)]

    await beside_others(app, act)


@pytest.mark.parametrize(
    ("start", "kind"), [(SPIN, WasmTimeoutError), ("unreachable", ModuleError), ("(call $start)", ModuleError)]
)
async def test_a_start_that_goes_wrong_is_known_before_any_request(start: str, kind: type[WasmError]) -> None:
    app = App("t")
    stream = app.stream("s", int, list, restart=ONCE_MORE)
    stream.then(wasm(module(start=start), **QUICK).operator("then")).collect()

    with pytest.raises(ActorflowError, match=kind.__name__):
        async with app.local() as client:
            await client.request("s", 1)


MEMORIES: dict[str, bytes] = {
    "a memory that is larger than its sandbox": wasmtime.wat2wasm("""
      (module (memory (export "memory") 1000)
        (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 0))
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "a table that is larger than its sandbox": module(extra="(table 20000 funcref)"),
}


@pytest.mark.parametrize("what", MEMORIES)
async def test_what_begins_larger_than_its_sandbox_does_not_begin(what: str) -> None:
    app = App("t")
    stream = app.stream("s", int, list, restart=ONCE_MORE)
    stream.then(wasm(MEMORIES[what], **QUICK).operator("then")).collect()

    with pytest.raises(ActorflowError, match="cannot begin"):
        async with app.local() as client:
            await client.request("s", 1)


NO_MODULE: dict[str, bytes] = {
    "an empty file": b"",
    "a file of text": b"fn main() { println!(); }\n",
    "text in WebAssembly's own form": b"(module)",
    "the first four bytes": b"\0asm",
    "a version that there is not": b"\0asm\x07\0\0\0",
    "a module that is cut short": (BUILT / "c-conformance.wasm").read_bytes()[:-100],
    "a module with bytes behind it": (BUILT / "c-conformance.wasm").read_bytes() + b"\0\0",
    "a component that is cut short": (BUILT / "component-of-c-conformance.wasm").read_bytes()[:-100],
    "a component of nothing": b"\0asm\x0d\0\x01\0",
    "a module that is too large": b"\0asm\x01\0\0\0" + bytes(MODULE_BYTES_MAX),
    "a memory of 64 bits": wasmtime.wat2wasm("""
      (module (memory (export "memory") i64 1)
        (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 0))
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "a memory that is shared": wasmtime.wat2wasm("""
      (module (memory (export "memory") 1 2 shared)
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "no memory": wasmtime.wat2wasm("""
      (module (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 0))
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "another type of actorflow_alloc": wasmtime.wat2wasm("""
      (module (memory (export "memory") 1)
        (func (export "actorflow_alloc") (param i64) (result i64) (i64.const 0))
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "actorflow_alloc of a reference": wasmtime.wat2wasm("""
      (module (memory (export "memory") 1)
        (func (export "actorflow_alloc") (param externref) (result i32) (i32.const 0))
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "actorflow_alloc that is no function": wasmtime.wat2wasm("""
      (module (memory (export "memory") 1) (global (export "actorflow_alloc") i32 (i32.const 0))
        (func (export "process") (param i32 i32) (result i64) (i64.const 0)))
    """),
    "no such function": module().replace(b"process", b"prozess"),
    "a function of another type": wasmtime.wat2wasm(
        '(module (func (export "process") (result externref) unreachable))'
    ),
    "a function of two results": wasmtime.wat2wasm(
        '(module (func (export "process") (param i32) (result i32 i32) unreachable))'
    ),
    "an import that nobody offers": wasmtime.wat2wasm("""
      (module (import "env" "launch" (func)) (func (export "process") (param i32) (result i32) (local.get 0)))
    """),
    "a function of ours by another type": wasmtime.wat2wasm("""
      (module (import "actorflow" "clock_s" (func (result i32)))
        (func (export "process") (param i32) (result i32) (local.get 0)))
    """),
    "an imported memory": wasmtime.wat2wasm("""
      (module (import "env" "memory" (memory 1)) (func (export "process") (param i32) (result i32) (local.get 0)))
    """),
    "WASI without a grant": wasmtime.wat2wasm("""
      (module (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
        (func (export "process") (param i32) (result i32) (local.get 0)))
    """),
    "files of WASI": wasmtime.wat2wasm("""
      (module
        (import "wasi_snapshot_preview1" "path_open"
          (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (func (export "process") (param i32) (result i32) (local.get 0)))
    """),
    "a component that imports what nobody offers": wasmtime.wat2wasm("""
      (component (import "x:y/z" (instance (export "f" (func)))))
    """),
    "a component without a function": wasmtime.wat2wasm("(component)"),
}


@pytest.mark.parametrize("what", NO_MODULE)
def test_what_is_no_function_is_refused_where_it_is_declared(what: str) -> None:
    with pytest.raises(ModuleError) as caught:
        wasm(NO_MODULE[what])

    assert caught.value.module
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "initializer",
    [
        '(global (export "_initialize") i32 (i32.const 1))',
        '(func (export "_initialize") (param externref) (drop (table.grow $t (local.get 0) (i32.const 1))))',
        '(func (export "_initialize") (result i32) (i32.const 1))',
    ],
)
def test_what_is_called_like_an_initializer_and_is_none_is_left_alone(initializer: str) -> None:
    function = wasm(
        wasmtime.wat2wasm(f"""
          (module (table $t 1 externref) {initializer}
            (func (export "process") (param i64) (result i64) (local.get 0)))
        """)
    )

    assert function(3) == 3


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ModuleError, match=r"none\.wasm"):
        wasm("none.wasm")


async def test_items_that_fail_leave_the_others_of_their_batch() -> None:
    app = App("t")
    function = wasm(BUILT / "c-conformance.wasm", **QUICK)
    stream = app.stream("s", list, replies="many", on_error="set_aside").flat_map(lambda items: items)
    stream.then(function.operator("then"))
    items = [["trap", None] if n % 100 == 50 else ["echo", n] for n in range(1_000)]

    async with app.local() as client:
        replies = [reply async for reply in client.stream("s", items)]
        letters = await client.dead_letters()

    assert replies == [n for n in range(1_000) if n % 100 != 50]
    assert len(letters) == 10


async def test_values_that_have_no_plain_form_fail_their_item() -> None:
    app = App("t")
    app.stream("s", list, list).flat_map(lambda n: [1, 1 << 70, 3]).then(
        wasm(giving(b"\x91\xc0"), **QUICK).operator("then")
    ).collect()

    async with app.local() as client:
        with pytest.raises(ActivationError, match="cannot be given"):
            await client.request("s", [])


COUNTS_SLOWLY = wasmtime.wat2wasm("""
  (module
    (import "actorflow" "add" (func $add (param i32 i32 i32 i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hits\\c0\\01\\91\\c0")
    (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 4096))
    (func (export "process") (param $at i32) (param i32) (result i64) (local $n i32)
      (call $add (i32.const 16) (i32.const 4) (i32.const 20) (i32.const 1) (i32.const 21) (i32.const 1))
      (local.set $n (i32.const 60000000))
      (loop $more (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (loop $more (br_if $more (i32.eq (i32.load8_u offset=1 (local.get $at)) (i32.const 7))))
      (i64.const 94489280514)))
""")


async def test_what_a_function_changed_before_its_slice_was_over_is_changed_once() -> None:
    app = App("t")
    hits = app.counter("hits")
    function = wasm(COUNTS_SLOWLY, cells={"hits": hits.merged()}, slice_s=0.001, batch_s=2.0)
    app.stream("s", int, list).then(function.operator("then")).collect()

    async with app.local() as client:
        for n in range(3):
            assert await client.request("s", n) == []
        counted = await client.cell("hits")
        with pytest.raises(WasmTimeoutError):
            await client.request("s", 7)
        assert (counted, await client.cell("hits")) == (3, 3)


async def test_what_a_function_changed_is_not_there_when_it_is_ended_in_its_first_slice() -> None:
    app = App("t")
    hits = app.counter("hits")
    function = wasm(COUNTS_SLOWLY, cells={"hits": hits.merged()}, slice_s=0.001, batch_s=0.3)
    app.stream("s", int, list).then(function.operator("then")).collect()

    async with app.local() as client:
        with pytest.raises(WasmTimeoutError):
            await client.request("s", 7)
        assert await client.cell("hits") == 0


def test_a_loop_in_a_thread_ends_when_its_request_ends() -> None:
    app = App("t")
    function = wasm(doing(f"{SPIN} {GIVE}"), batch_s=30.0, slice_s=0.01)
    app.stream("s", int, list).then(function.operator("then")).collect()

    async def main() -> None:
        async with app.local() as client:
            with pytest.raises(ActorflowError):
                await client.request("s", 7, timeout_s=0.3)
            assert await client.request("s", 1, timeout_s=5) == []

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize(
    "memory", ['(memory (export "memory") 1) (start $start)', '(memory 1) (export "_initialize" (func $start))']
)
def test_a_host_function_that_finds_no_memory_says_so(memory: str) -> None:
    function = wasm(
        wasmtime.wat2wasm(f"""
          (module
            (import "actorflow" "log" (func $log (param i32 i32)))
            {memory}
            (func $start (call $log (i32.const 0) (i32.const 5)))
            (func (export "process") (param i64) (result i64) (local.get 0)))
        """)
    )

    with pytest.raises(ContractError, match="speaks of its memory"):
        function(1)


def test_memory_that_a_host_function_is_told_of_must_be_there() -> None:
    code = wasmtime.wat2wasm("""
      (module
        (import "actorflow" "log" (func $log (param i32 i32)))
        (memory (export "memory") 1)
        (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 4096))
        (func (export "process") (param i32 i32) (result i64)
          (call $log (i32.const 65530) (i32.const 100)) (i64.const 0)))
    """)
    app = App("t")
    app.stream("s", int, list).then(wasm(code, **QUICK).operator("then")).collect()

    async def main() -> None:
        async with app.local() as client:
            with pytest.raises(ContractError):
                await client.request("s", 1)

    asyncio.run(main())


# -- what a module asks of its host


@pytest.mark.parametrize("name", ["_activation", "process", "foreign", "request"])
def test_a_cell_may_not_take_the_place_of_what_an_operator_has(name: str) -> None:
    app = App("cells")
    cell = app.table("rows", key="id")
    with pytest.raises(ValueError, match="operator's own"):
        wasm(module(), cells={name: cell.owned()})


async def test_what_is_logged_is_bounded_and_cannot_fake_lines(caplog: pytest.LogCaptureFixture) -> None:
    line = "x\\1b[2J\\0a{\\22forged\\22}" + "y" * 60_000
    again = "(loop $more (call $log (i32.const 1024) (i32.const 60016)) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 50))))"  # noqa: E501
    code = wasmtime.wat2wasm(f"""
      (module
        (import "actorflow" "log" (func $log (param i32 i32)))
        (memory (export "memory") 2)
        (data (i32.const 1000) "\\91\\c0") (data (i32.const 1024) "{line}")
        (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 100))
        (func (export "process") (param i32 i32) (result i64) (local $n i32) {again} (i64.const {1000 << 32 | 2})))
    """)
    app = App("lines")
    app.stream("s", int, replies="none").then(wasm(bytes(code)))
    with caplog.at_level(logging.INFO, logger="actorflow.wasm"):
        async with app.local() as host:
            await host.request("s", 1)

    logged = [each.message for each in caplog.records if each.name == "actorflow.wasm"]
    assert "left out" in logged[-1]
    assert sum(map(len, logged)) < 300_000
    assert not any("\x1b" in each or "\n" in each for each in logged)


async def test_a_cell_that_is_not_declared_costs_nothing_to_refuse() -> None:
    """Its value, of 8 MiB of empty arrays, is not looked at."""
    code = wasmtime.wat2wasm(f"""
      (module
        (import "actorflow" "put" (func $put (param i32 i32 i32 i32 i32 i32)))
        (memory (export "memory") 160)
        (data (i32.const 0) "other\\01")
        (func (export "actorflow_alloc") (param i32) (result i32) (i32.const 100))
        (func (export "process") (param i32 i32) (result i64)
          (memory.fill (i32.const 65536) (i32.const 0x90) (i32.const 8388608))
          (call $put (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 1) (i32.const 65536) (i32.const 8388608))
          (i64.const {1000 << 32 | 2})))
    """)
    app = App("cells")
    rows = app.table("rows", key="id")
    by_id = app.stream("s", int, replies="none").key_by(lambda item: item, space="id")
    by_id.then(wasm(bytes(code), cells={"rows": rows.owned()}))
    async with app.local() as host:
        with pytest.raises(ActivationError, match="does not declare"):
            await host.request("s", 1)


async def test_a_loop_that_begins_while_the_clock_sleeps_is_ended_all_the_same() -> None:
    """Also where it runs in a thread, and longer than the clock stays awake by itself."""
    clock = engine()
    spin = wasm(SCALAR_SPIN, "f", slice_s=0.01, batch_s=1.5)
    app = App("t")
    app.stream("s", int).map(spin)
    async with app.local() as host:
        assert await host.request("s", 1) == 1
        async with asyncio.timeout(10):
            while not clock.asleep:
                await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        with pytest.raises(WasmTimeoutError):
            await host.request("s", 7)
        assert asyncio.get_running_loop().time() - began < 6


def test_whoever_stopped_a_batch_that_had_ended_does_not_end_the_next() -> None:
    function = wasm(SCALAR_SPIN, "f")
    lent = guests_lent.Guests(function)
    first = guests_lent.Lease(lent, guests_lent.NOBODY, 1.0)
    first.end()
    first.stop()
    second = guests_lent.Lease(lent, guests_lent.NOBODY, 1.0)
    assert function.caller.many(second, [1]) == (1,)
    second.stop()
    second.end()
    third = guests_lent.Lease(lent, guests_lent.NOBODY, 1.0)
    assert function.caller.many(third, [1]) == (1,)
    third.end()
