"""Functions of numbers and of bytes, wherever a Python function or an operator may stand."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from actorflow import App, InvalidItemError, ModuleError, TrapError, WasmTimeoutError
from actorflow.wasm import wasm
from actorflow.wasm.engine import cache_folder, engine, is_private

NUMBERS = bytes(
    wasmtime.wat2wasm("""
      (module
        (memory (export "memory") 1)
        (func (export "inc") (param i64) (result i64) (i64.add (local.get 0) (i64.const 1)))
        (func (export "inc32") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
        (func (export "half32") (param f32) (result f32) (f32.div (local.get 0) (f32.const 2)))
        (func (export "divide") (param i64 i64) (result i64) (i64.div_s (local.get 0) (local.get 1)))
        (func (export "mean") (param f64 f64) (result f64)
          (f64.div (f64.add (local.get 0) (local.get 1)) (f64.const 2)))
        (func (export "even") (param i64) (result i32) (i64.eqz (i64.and (local.get 0) (i64.const 1))))
        (func (export "sum") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
        (func (export "mod10") (param i64) (result i64) (i64.rem_s (local.get 0) (i64.const 10)))
        (func (export "same") (param i32 i32) (result i64)
          (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
        (func (export "spin") (param i64) (result i64) (loop (br 0)) (unreachable))
        (func (export "spin_at_7") (param i64) (result i64)
          (if (i64.eq (local.get 0) (i64.const 7)) (then (loop (br 0)))) (local.get 0))
        (func (export "busy") (param i64) (result i64) (local $left i64)
          (local.set $left (i64.const 2000000))
          (loop $again
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 6364136223846793005)) (i64.const 1)))
            (br_if $again (i32.eqz (i64.eqz (local.tee $left (i64.sub (local.get $left) (i64.const 1)))))))
          (local.get 0)))
    """)
)


def number(export: str, **options: Any) -> Any:
    return wasm(NUMBERS, export, **options)


async def ask(app: App, stream: str, item: Any) -> Any:
    async with app.local() as client:
        return await client.request(stream, item)


# -- called for a value


@pytest.mark.parametrize(
    ("export", "values", "wanted"),
    [
        ("inc", (41,), 42),
        ("inc", (-(1 << 63),), -(1 << 63) + 1),
        ("inc", (True,), 2),
        ("inc32", (-5,), -4),
        ("inc32", (2**31 - 1,), -(2**31)),
        ("half", (3.0,), 1.5),
        ("half", (3,), 1.5),
        ("half32", (0.5,), 0.25),
        ("divide", (-7, 2), -3),
        ("mean", (1.0, 2.0), 1.5),
        ("even", (4,), 1),
        ("same", (b"\x00\xff",), b"\x00\xff"),
        ("same", ("grüße",), "grüße"),
        ("same", (b"",), b""),
    ],
)
def test_a_function_is_called_for_its_value(export: str, values: tuple[Any, ...], wanted: Any) -> None:
    assert number(export)(*values) == wanted


def test_a_large_text_makes_the_memory_grow() -> None:
    assert number("same")("x" * 300_000) == "x" * 300_000


def test_unsigned_numbers_go_up_to_two_to_the_64() -> None:
    assert number("inc", unsigned=True)(2**64 - 2) == 2**64 - 1
    assert number("inc", unsigned=True)(2**64 - 1) == 0


@pytest.mark.parametrize("wrong", ["x", 1.5, None, [1], 1 << 63, -(1 << 63) - 1])
def test_what_is_no_number_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes \\(int of 64 bits\\), not"):
        number("inc")(wrong)


def test_a_trap_says_what_it_was_and_the_next_call_works() -> None:
    divide = number("divide")
    with pytest.raises(TrapError, match="integer divide by zero") as caught:
        divide(1, 0)

    assert caught.value.trap == "integer divide by zero"
    assert divide(9, 3) == 3


def test_a_call_for_a_value_may_take_a_slice() -> None:
    began = time.perf_counter()
    with pytest.raises(WasmTimeoutError, match="longer than it may"):
        number("spin", slice_s=0.02)(1)

    assert time.perf_counter() - began < 0.5


# -- in a stream


async def test_numbers_go_through_map_filter_and_then() -> None:
    app = App("numbers")
    (
        app.stream("all", int)
        .flat_map(range)
        .map(number("inc"))
        .filter(number("even"))
        .map(number("half"))
        .then(number("half"))
        .collect()
    )

    assert await ask(app, "all", 2_000) == [n / 4 for n in range(1, 2_001) if n % 2 == 0]


async def test_a_function_stands_for_keys_folds_choices_and_feedback() -> None:
    app = App("numbers")
    app.stream("keyed", int).flat_map(range).key_by(number("mod10")).fold(0, number("sum")).sort().collect()
    app.stream("total", int).flat_map(range).fold(0, number("sum"))
    app.stream("reduced", int).flat_map(range).reduce(number("sum"))
    even, odd = app.stream("split", int).flat_map(range).split(number("even"))
    even.map(lambda n: n).merge(odd.map(lambda n: -n)).sort().collect()
    app.stream("sorted", int).flat_map(range).sort(number("mod10")).collect()
    app.stream("flat", int).flat_map(range).flat_map(number("inc")).collect()
    app.stream("loop", int).map(number("inc")).feedback(when=number("even"))

    assert await ask(app, "keyed", 100) == [(k, sum(n for n in range(100) if n % 10 == k)) for k in range(10)]
    assert await ask(app, "total", 101) == 5_050
    assert await ask(app, "reduced", 101) == 5_050
    assert await ask(app, "split", 6) == [-5, -3, -1, 0, 2, 4]
    assert await ask(app, "loop", 1) == 3
    assert await ask(app, "flat", 3) == [1, 2, 3]
    assert await ask(app, "sorted", 30) == sorted(range(30), key=lambda n: n % 10)


async def test_one_that_traps_fails_alone() -> None:
    app = App("numbers")
    app.stream("divide", on_error="set_aside").flat_map(lambda pairs: pairs).then(number("divide")).collect()
    async with app.local() as client:
        made = await client.request("divide", [(7, 2), (1, 0), (9, 3), 5, (0, 0), (8, 2)])
        letters = await client.dead_letters()

    assert made == [3, 3, 4]
    assert [letter["item"] for letter in letters] == ["(1, 0)", "5", "(0, 0)"]


async def test_order_is_kept_and_all_threads_are_used() -> None:
    app = App("numbers")
    app.stream("busy", list).flat_map(lambda items: items).map(number("busy", threads=3)).collect()
    app.stream("alone", list).flat_map(lambda items: items).map(number("busy")).collect()
    items = list(range(40))
    async with app.local() as client:
        first = await client.request("busy", items)
        both = await asyncio.gather(*(client.request("busy", items) for _ in range(4)))
        alone = await client.request("alone", items)

    assert first == alone
    assert both == [alone] * 4


async def test_a_runaway_ends_by_itself_and_others_go_on_meanwhile() -> None:
    app = App("numbers")
    app.stream("spin").then(number("spin", batch_s=0.2))
    app.stream("same").map(lambda item: item)
    async with app.local() as client:
        runaways = [asyncio.create_task(client.request("spin", 1)) for _ in range(3)]
        done = 0
        while not all(task.done() for task in runaways):
            await client.request("same", 1)
            done += 1
            await asyncio.sleep(0.001)
        errors = await asyncio.gather(*runaways, return_exceptions=True)

    assert all(isinstance(error, WasmTimeoutError) for error in errors)
    assert done > 50


async def test_a_deadline_ends_what_runs_in_a_thread() -> None:
    app = App("numbers")
    app.stream("spin").then(number("spin", batch_s=60.0))
    before = threading.active_count()
    began = time.perf_counter()
    async with app.local() as client:
        with pytest.raises(Exception, match="did not end within"):
            await client.request("spin", 1, timeout_s=0.1)

    assert time.perf_counter() - began < 5.0
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before + 1:  # the clock may have begun
            break
        await asyncio.sleep(0.01)
    assert threading.active_count() <= before + 1


async def test_a_new_module_takes_over_between_two_batches() -> None:
    other = NUMBERS.replace(b"\x42\x01\x7c\x0b", b"\x42\x02\x7c\x0b", 1)  # adds 2 in place of 1
    assert other != NUMBERS
    inc = number("inc")
    app = App("numbers")
    app.stream("inc").map(inc)
    async with app.local() as client:
        before = await client.request("inc", 1)
        inc.swap(wasm(other, "inc").program)
        after = await client.request("inc", 1)

    assert (before, after) == (2, 3)


def test_a_module_whose_function_is_called_otherwise_does_not_take_over() -> None:
    inc = number("inc")
    other = bytes(wasmtime.wat2wasm('(module (func (export "inc") (param f64) (result f64) (local.get 0)))'))
    with pytest.raises(ModuleError, match="called otherwise"):
        inc.swap(wasm(other, "inc").program)

    assert inc(1) == 2


# -- what is refused before anything starts


def test_a_function_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ModuleError, match=r"no function 'incc' \(functions: inc, inc32"):
        number("incc")


def test_something_exported_that_is_no_function_is_refused() -> None:
    with pytest.raises(ModuleError, match="exports something else"):
        number("memory")


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModuleError, match="cannot be read"):
        wasm("nowhere.wasm", "f")


def test_a_file_is_looked_for_beside_the_one_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numbers.wasm").write_bytes(NUMBERS)
    monkeypatch.chdir(tmp_path)

    assert wasm("numbers.wasm", "inc")(1) == 2
    assert wasm("numbers.wasm", "inc").reference == "wasm:numbers.wasm#inc"


def test_cells_need_a_function_that_takes_batches() -> None:
    app = App("numbers")
    table = app.table("rows", key="id")
    with pytest.raises(ModuleError, match="cells="):
        number("inc", cells={"rows": table.owned()})


@pytest.mark.parametrize(
    "option",
    [
        {"memory_bytes": 0},
        {"memory_bytes": 1e6},
        {"batch_s": -1.0},
        {"batch_s": float("inf")},
        {"grants": ("files",)},
        {"threads": -1},
        {"threads": 1.5},
        {"threads": 10_000},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        number("inc", **option)


@pytest.mark.parametrize("kind", ["anyref", "exnref", "v128", "externref", "(ref null eq)", "(ref null func)"])
def test_types_that_have_no_number_are_refused_and_end_nothing(kind: str) -> None:
    code = bytes(wasmtime.wat2wasm(f'(module (func (export "f") (param {kind}) (result i32) i32.const 1))'))
    with pytest.raises(ModuleError):
        wasm(code, "f")


def test_more_parameters_than_there_is_room_for_are_refused() -> None:
    code = bytes(wasmtime.wat2wasm(f'(module (func (export "f") (param {"i32 " * 65}) (result i32) i32.const 1))'))
    with pytest.raises(ModuleError, match="65 values"):
        wasm(code, "f")


def test_globals_of_any_type_may_have_names_that_mean_something() -> None:
    """The heap then begins behind all memory."""
    code = wasmtime.wat2wasm("""
      (module (memory (export "memory") 1)
        (global (export "__heap_base") v128 (v128.const i32x4 0 0 0 0))
        (func (export "last") (param i32 i32) (result i64) (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32))))
    """)

    assert wasm(bytes(code), "last")(b"abc") == b""


# -- what is kept


def test_compiled_code_is_kept_for_its_owner_alone() -> None:
    number("inc")
    folders = [path for path in cache_folder().iterdir() if path.is_dir()]

    assert folders
    assert all(is_private(folder) for folder in folders)


def test_compiled_code_that_is_damaged_is_made_anew() -> None:
    compiled = engine()
    code = bytes(wasmtime.wat2wasm('(module (func (export "f") (param i64) (result i64) (i64.const 77001)))'))
    digest = hashlib.sha256(code).hexdigest()
    compiled.compile(code, digest, where="here")
    (kept,) = cache_folder().glob(f"*/{digest}.cwasm")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-100] + bytes(100))

    compiled.compile(code, digest, where="here")

    assert kept.read_bytes() == whole


def test_a_folder_that_others_may_write_to_is_no_cache(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)

    assert not is_private(folder)
    assert not is_private(tmp_path / "nowhere")


async def test_the_item_type_of_a_stream_is_checked_before_any_function_sees_it() -> None:
    app = App("numbers")
    app.stream("inc", int).map(number("inc"))
    with pytest.raises(InvalidItemError):
        await ask(app, "inc", "x")
