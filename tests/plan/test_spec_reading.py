"""A spec is read as data and no more; every fault has its file, line and place."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actorflow import App, SpecError, load_spec
from actorflow.plan.spec import app_from_text
from actorflow.plan.spec.reading import read

GOOD = """\
app: shop
cells:
  stock: {kind: table, key: sku, value: int}
  seen: {kind: set, value: str, grow_only: true}
streams:
  orders:
    request: {sku: str, quantity: int, note?: str}
    reply: list[int]
    steps:
      - key_by: sku
      - count:
      - split: python:builtins:bool
        name: size
      - map: python:builtins:str
        after: size.true
      - merge:
        after: [str, size.false]
      - delta:
        name: best
      - map: python:builtins:tuple
      - back: best
      - top: {count: 3, by: python:builtins:len}
schedules:
  nightly: {stream: orders, item: {sku: tea}, cron: "0 3 * * *"}
limits: {timeout_s: 10}
"""


def load(text: str | bytes, form: Any = "yaml", *, python: bool = True) -> App:
    return app_from_text(text, form, make=App, file=f"app.{form}", python=python)


def faults(text: str | bytes, form: Any = "yaml", *, python: bool = True) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        load(text, form, python=python)
    assert str(caught.value)
    return caught.value.faults


def of_steps(*steps: str) -> tuple[str, ...]:
    """Return what is said of some steps, without file and line."""
    text = "app: a\nstreams:\n  s:\n    steps:\n" + "".join(f"      - {step}\n" for step in steps)
    return tuple(fault.partition(": streams.s.steps")[2] for fault in faults(text))


# What a scalar is


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("on", "on"), ("010", "010"), ("1:20", "1:20"), ("2001-01-01", "2001-01-01"), ("~", "~"),
        ("0x1f", "0x1f"), ("1_000", "1_000"), (".5", ".5"), (".inf", ".inf"), ("True", "True"), ("Null", "Null"),
        ("true", True), ("null", None), ("", None), ("-0", 0), ("12", 12), ("1.50", 1.5), ("1e3", 1000.0),
        ("'12'", "12"),
        ('"\\u00fc"', "ü"), ("|\n  a\n  b", "a\nb\n"),
    ],
)  # fmt: skip
def test_yaml_has_the_scalars_of_json_and_all_else_is_text(written: str, value: Any) -> None:
    data, _ = read(f"a: {written}\n", "yaml")

    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_keys_are_text_as_they_are_written() -> None:
    assert read("on: 1\n12: 2\nnull: 3", "yaml")[0] == {"on": 1, "12": 2, "null": 3}


def test_json_and_toml_know_their_lines_too() -> None:
    json_lines = read('{\n"a": [1,\n {"b":\n 2}]}', "json")[1]
    toml_lines = read('[a]\nb = 1\n[[c.d]]\ne = 1\n[[c.d]]\n"f g" = 2\n', "toml")[1]

    assert (json_lines["a",], json_lines["a", 1], json_lines["a", 1, "b"]) == (2, 3, 3)
    assert (toml_lines["a", "b"], toml_lines["c", "d", 0], toml_lines["c", "d", 1, "f g"]) == (2, 3, 6)


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("yaml", "a: &x 1\nb: *x", "line 1: a: anchors and aliases are not read"),
        ("yaml", "app: 1\napp: 2", "line 2: app: this key is there already"),
        ("yaml", "a: !!python/object:os.system x", "tags such as"),
        ("yaml", "a: 1\n--- \nb: 2", "a second document"),
        ("yaml", "a: [1", "this is no YAML"),
        ("yaml", "? [a]\n: b", "a key is plain text"),
        ("yaml", "a: 1e999", "too large"),
        ("yaml", "a: " + "9" * 5000, "more than 1000 digits"),
        ("yaml", "a: " + "[" * 100 + "]" * 100, "nests deeper"),
        ("yaml", b"\xff\xfe\x00", "no text in UTF-8"),
        ("json", '{"a": 1,\n"a": 2}', "line 2: a: this key is there already"),
        ("json", '{"a": 1,}', "a key in double quotes is missing"),
        ("json", '{"a": 1} x', "behind the end"),
        ("json", '{"a": NaN}', "begins no value"),
        ("json", "[" * 100_000, "nests deeper"),
        ("json", '{"a": "\n"}', "this is no JSON"),
        ("toml", "a = 1\na = 2", "line 2: this is no TOML"),
        ("toml", "a = 1979-05-27", "a date is no plain value"),
        ("toml", "a = inf", "is no number"),
        ("toml", "a = " + "[" * 5000, "nests deeper"),
        ("yaml", "", "this is nothing"),
        ("yaml", "[]", "this is a list, and must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_no_plain_document_is_refused(form: str, text: str, said: str) -> None:
    assert any(said in fault for fault in faults(text, form)), faults(text, form)


def test_a_document_of_any_size_is_refused_at_once() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50))
    began = time.perf_counter()

    assert "more than the" in faults("a: " + "x" * (1 << 21))[0]
    assert "anchors" in faults(bomb)[0]
    assert "values" in faults("a: [" + "1," * 200_000 + "]")[0]
    assert time.perf_counter() - began < 5


def test_a_document_that_is_made_to_take_long_is_refused_before() -> None:
    steps = "app: a\nstreams:\n  s:\n    steps:\n"
    began = time.perf_counter()

    assert "steps are more than the 2000" in faults(steps + "    - count:\n" * 30_000)[0]
    assert len(faults(steps + "".join(f"    - {{count: , after: {'x' * 90}{n}}}\n" for n in range(1_900)))) == 100
    assert "more than 64 parts" in faults("a" + ".a" * 500_000 + " = 1", "toml")[0]
    assert "more than 64 parts" in faults("[a" + ".a" * 500_000 + "]", "toml")[0]
    assert len(faults("".join(f"{'k' * 200}{n}: 1\n" for n in range(4_000)))) == 100
    assert time.perf_counter() - began < 10


# Faults


def test_every_fault_is_told_with_its_line_and_place() -> None:
    text = GOOD.replace("count:\n", "cuont:\n", 1).replace("kind: set", "kind: sett").replace("timeout_s", "timeout")
    text = text.replace("list[int]", "list[itn]").replace("stream: orders", "stream: order")

    said = faults(text)

    assert [fault.partition(": ")[0] for fault in said] == [f"app.yaml, line {n}" for n in (4, 8, 11, 24, 25)]
    assert "cells.seen.kind: 'sett' is none of table, value" in said[0]
    assert (
        "streams.orders.reply: 'list[itn]' is no type: there is none that is called 'itn'; did you mean 'int'?"
        in said[1]
    )
    assert "streams.orders.steps[1]: cuont is no verb; did you mean 'count'?" in said[2]
    assert "schedules.nightly.stream: there is no stream 'order'; did you mean 'orders'?" in said[3]
    assert "limits.timeout: there is no such option here; did you mean 'timeout_s'?" in said[4]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (["{}"], "[0]: nothing is no verb"),
        (["map"], "[0]: a step is a mapping with a verb"),
        (["{map: python:a:b, filter: python:a:b}"], "[0]: a step has one verb, and this has map and filter"),
        (["{map: len}"], "[0].map: 'len' names no function: write python:module:name"),
        (
            ["{map: python:builtins:lenn}"],
            "[0].map: python:builtins:lenn: there is no 'lenn' in builtins; did you mean 'len'?",
        ),
        (["{map: python:builtin:len}"], "[0].map: python:builtin:len: there is no module 'builtin'"),
        (["{map: python:sys:maxsize}"], f"[0].map: {2**63 - 1} is no function"),
        (["{map: python:len}"], "[0].map: python:len is no reference"),
        (["{map: wasm:a#b}"], "[0].map: wasm:a#b: nothing here reads wasm: functions"),
        (["{map: python:builtins:len, threads: 2}"], "[0].map: python:builtins:len is Python, which takes no options"),
        (["{then: python:builtins:len}"], "[0].then: <built-in function len> is no operator"),
        (["{map: {feild: a}}"], "[0].map.feild: there is no such option here; did you mean 'field'?"),
        (["{map: {}}"], "[0].map: write function: with a reference, or field:"),
        (["{sort: {by: python:builtins:len, revers: true}}"], "[0].sort.revers: there is no such option here"),
        (["{top: many}"], "[0].top: expected `int | object`, got `str`"),
        (["{count: false}"], "[0].count: false says nothing here"),
        (["{fold: python:operator:add}"], "[0]: initial: is missing"),
        (["{count: , after: nobody}"], "[0].after: no step before this is called 'nobody' (there is entry)"),
        (["{count: , after: []}"], "[0].after: this names no step"),
        (["{count: , after: count}"], "[0].after: no step before this is called 'count'"),
        (["{count: }", "{count: , name: count}"], "[1].name: there is a step 'count' already"),
        (["{split: python:builtins:bool}", "{count: }"], "[1]: split has several outputs: write after:"),
        (
            ["{split: python:builtins:bool}", "{count: , after: split}"],
            "[1].after: split has several outputs: write which",
        ),
        (
            ["{split: python:builtins:bool}", "{count: , after: split.ture}"],
            "[1].after: split has no output 'ture'; did you mean 'true'?",
        ),
        (["{discard: }", "{count: }"], "[1]: nothing comes out of a discard"),
        (["{route: python:builtins:str, outputs: [a, a]}"], "[0].outputs: a route has outputs"),
        (["{join: sku, right: nobody}"], "[0].right: no step before this is called 'nobody'"),
        (["{feedback: , to: nobody}"], "[0].to: no step before this is called 'nobody'"),
        (["{count: }", "{merge: , after: count.feedback}"], "[1].after: count.feedback cannot be followed"),
        (["{merge: , after: entry.end}"], "[0].after: entry.end cannot be followed: what a loop amounted to"),
        (["{back: nobody}"], "[0].back: nothing can lead back to 'nobody' here, since no loop is open"),
        (["{delta: }", "{count: }"], "[1]: the body of delta does not end"),
        (
            ["{delta: }", "{delta: }", "{back: delta}", "{back: delta_2}", "{back: delta}"],
            "[2].back: nothing can lead back to 'delta' here: delta_2",
        ),
        (
            ["{delta: }", "{count: , after: delta}", "{back: delta}"],
            "[1].after: delta has not ended here: write delta.again",
        ),
        (["{replay: , rounds: {}}", "{back: replay}"], "[0].rounds: a replay has a fold"),
        (["{broadcast: 0}"], "[0].broadcast: 0 points are none"),
        (["{fold: python:operator:add, initial: {a: 1}}"], "[0].initial.a: there is no such option here"),
        (["{then: wasm:a#b, cells: {stok: owned}}"], "[0].cells.stok: there is no cell 'stok'"),
    ],
)  # fmt: skip
def test_a_step_that_is_wrong_is_told_why(steps: list[str], said: str) -> None:
    found = of_steps(*steps)

    assert len(found) == 1, found
    assert found[0].startswith(said), found


def test_what_follows_a_step_that_is_wrong_is_no_further_fault() -> None:
    assert (
        len(of_steps("{map: python:shop:reserve}", "{count: , after: reserve}", "{merge: , after: [count, reserve]}"))
        == 1
    )


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("{kind: table}", "cells.c: key: is missing"),
        ("{kind: counter, value: int}", "cells.c.value: value cannot be given here"),
        ("{kind: counter, shards: 3}", "cells.c.shards: shards cannot be given here: without key:"),
        ("{kind: value, ttl_s: 3}", "cells.c.ttl_s: ttl_s cannot be given here"),
        ("{kind: log, grow_only: true}", "cells.c.grow_only: grow_only cannot be given here"),
        ("{kind: value, version: 0}", "cells.c: value 'c': entries_max and version are whole numbers"),
        ("{kind: table, key: k, migrate: nothing}", "cells.c.migrate: 'nothing' names no function"),
    ],
)
def test_a_cell_that_is_wrong_is_told_why(cell: str, said: str) -> None:
    (found,) = faults(f"app: a\ncells:\n  c: {cell}\n")

    assert found.startswith(f"app.yaml, line 3: {said}")


def test_a_spec_may_not_name_python_by_default(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(
        "app: a\ncells:\n  c: {kind: table, key: k, migrate: python:os:system}\n"
        "streams:\n  s:\n    request: python:shop:Order\n    reply: list[python:shop:Order]\n    steps:\n"
        "      - map: python:os:system\n      - then: python:shop:Reserve\n      - sort: {by: {function: python:a:b}}\n"
    )

    with pytest.raises(SpecError) as caught:
        load_spec(path)

    assert len(caught.value.faults) == 6
    assert all("load_spec(…, python=True) allows it" in fault for fault in caught.value.faults)
    assert str(path) in caught.value.faults[0]


def test_a_file_that_is_not_there_or_has_another_ending_is_told() -> None:
    for name, said in (("missing.yaml", "cannot be read"), ("app.ini", "ends in .yaml, .yml, .json, .toml")):
        with pytest.raises(SpecError, match=said):
            load_spec(name)


# From whomever it comes

LINES = GOOD.splitlines(keepends=True)
PIECES = (
    "[",
    "}",
    "{",
    ":",
    "- ",
    "*a",
    "&a ",
    "!x ",
    "'",
    '"',
    "\t",
    "null",
    "1e9",
    "python:os:system",
    "\x00",
    "ü",
    "\n",
    "after: ",
)


def spec_error_or_app(text: str | bytes, form: Any) -> None:
    with contextlib.suppress(SpecError):
        load(text, form, python=False)


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.text(max_size=200), st.sampled_from(["yaml", "json", "toml"]))
@example(b"%YAML 9.9\n---\n", "yaml")
@example('"\\U99999999"', "yaml")
@example("0o7777777777777777777777777777", "toml")
def test_bytes_of_any_kind_raise_nothing_but_a_spec_error(text: str | bytes, form: Any) -> None:
    spec_error_or_app(text, form)


@settings(max_examples=200)
@given(st.data())
def test_a_spec_with_any_change_raises_nothing_but_a_spec_error(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        place = data.draw(st.integers(0, len(line)))
        lines[at] = data.draw(
            st.sampled_from(["", line + line, line[place:], line[:place]])
            | st.sampled_from(PIECES).map(lambda piece, line=line, place=place: line[:place] + piece + line[place:])
        )

    spec_error_or_app("".join(lines).replace("python:builtins:", "wasm:x#"), "yaml")


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["python:a:b", "wasm:a#b", "entry"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.text(max_size=3)
        | st.sampled_from(
            ["app", "streams", "steps", "map", "then", "after", "cells", "kind", "rounds", "delta", "back", "join",
             "right", "top", "name", "request"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(JSON, max_size=4), JSON, JSON)
def test_data_of_any_shape_raises_nothing_but_a_spec_error(steps: Any, cells: Any, request: Any) -> None:
    import json

    data = {"app": "a", "cells": cells, "streams": {"s": {"steps": steps, "request": request}, "t": request}}
    spec_error_or_app(json.dumps(data), "json")
