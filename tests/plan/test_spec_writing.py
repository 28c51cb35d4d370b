"""What is written of an app: types, cells, functions of other languages; its schema; its program; what has no name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from actorflow import App, InvalidItemError, Limits, Operator, Restart, Rounds, SpecError, load_spec, save_spec
from actorflow.plan.cells import Access
from actorflow.plan.check import faults_of
from actorflow.plan.foreign import Foreign, ForeignOperator
from actorflow.plan.spec import app_from_text, data_of_app, door_type, printed, program_of, schema
from actorflow.plan.spec.reading import read
from actorflow.plan.spec.types import data_of
from tests.plan.spec_programs import Work, apps, keep
from tests.plan.test_spec_reading import GOOD, faults, load

ROOT = Path(__file__).resolve().parent.parent.parent


def again(app: App, **options: Any) -> App:
    """Return an app that was written down and read again."""
    return app_from_text(printed(data_of_app(app), "yaml"), "yaml", make=App, python=True, **options)


# Types


@pytest.mark.parametrize(
    "data",
    [
        "any", "none", "int", "bytes", "list", "list[int]", "dict[str, list[float]]", "tuple[int, ...]",
        "tuple[int, str]",
        "int | none", "set[int] | frozenset[int] | none", "python:collections:Counter", "list[python:enum:Enum]",
        {"sku": "str", "note?": "int | none"}, {"a": {"b": {"c?": "any"}}}, "list[{sku: str, lines: list[{n?: int}]}]",
        'dict[str, {"a b": int}] | none',
    ],
)  # fmt: skip
def test_a_type_is_written_as_it_was_read(data: Any) -> None:
    kind = door_type(data)

    assert data_of(kind) == data
    assert door_type(data) == kind
    assert hash(door_type(data)) == hash(kind)


def test_records_that_are_written_alike_are_one_type_and_others_are_not() -> None:
    kind = door_type({"a": "int", "b?": "str"})

    assert door_type("{b?: str, a: int}") is kind
    assert door_type({"a": "int", "b": "str"}) is not kind


@pytest.mark.parametrize(
    "data", ["", "lst", "list[", "list[]", "dict[int]", "tuple[...]", "list[...]", "int |", "{a}", "{a: int, a: str}",
             "int int", "{", {}, {"a": 3}, {"a": "int", "a?": "int"}, 3, None, "python:enum:Enmu", "(" * 99,
             "list[" * 99]
)  # fmt: skip
def test_what_is_no_type_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        door_type(data)


async def test_the_items_of_a_record_are_plain_dicts_that_are_checked_at_the_door() -> None:
    app = load("app: a\nstreams:\n  s:\n    request: {sku: str, note?: str}\n    reply: {sku: str}\n")
    async with app.local() as client:
        assert await client.request("s", {"sku": "tea"}) == {"sku": "tea"}
        for item in ({"sku": 3}, {}, "tea", {"sku": "tea", "note": 1}):
            with pytest.raises(InvalidItemError):
                await client.request("s", item)


def test_records_have_each_its_own_schema() -> None:
    kinds = [door_type("{a: int}"), door_type("list[{a: str, b?: {a: int}}]"), door_type("{b: none}")]

    _, parts = msgspec.json.schema_components(kinds)

    assert len(parts) == 3
    assert all(name.startswith("Record_") for name in parts)


# Functions of other languages


class Tea(Foreign):
    """A function of the language tea, which says what it was made of."""

    made: dict[Any, Tea] = {}  # noqa: RUF012 - the same function is found again

    def __init__(self, reference: str, options: Mapping[str, Any], folder: Path) -> None:
        self.reference = reference
        self.folder = folder
        self.__name__ = reference.partition("#")[2]
        self._options = dict(options)
        cells = options.get("cells", {})
        self._operator = type(self.__name__, (TeaOperator,), {"foreign": self, **cells})

    @property
    def options(self) -> Mapping[str, Any]:
        return MappingProxyType(self._options)

    def __call__(self, *values: Any) -> Any:
        return values[-1]

    def operator(self, shape: Any) -> Any:
        return self._operator


class TeaOperator(ForeignOperator):
    def process(self, item: Any) -> Any:
        return self.foreign(item)


def pot(reference: str, options: Mapping[str, Any], folder: Path) -> Tea:
    """Find functions of tea: the same for the same."""
    if not reference.endswith(("#brew", "#pour")):
        raise LookupError(f"there is no function {reference.partition('#')[2]!r} in it")
    if set(options) - {"cells", "threads", "memory_mib"}:
        raise TypeError("an option is threads, or memory_mib")
    plain = {name: value for name, value in options.items() if name != "cells"}
    cells = tuple(sorted((name, str(access), access.cell.name) for name, access in options.get("cells", {}).items()))
    return Tea.made.setdefault((reference, json.dumps(plain), cells), Tea(reference, options, folder))


def brewed(reference: str, options: Mapping[str, Any] | None = None) -> Tea:
    """Find functions of tea in a program that was made of a spec."""
    return pot(reference, options or {}, Path())


TEA = """\
app: tea
cells:
  stock: {kind: table, key: sku}
  sales: {kind: counter}
streams:
  s:
    steps:
      - map: tea:pot#brew
        threads: 2
        options: {memory_mib: 64}
      - key_by: tea:pot#brew
        space: sku
      - then: tea:pot#pour
        cells:
          stock: owned
          sold: {cell: sales, access: merged}
          seen: {cell: stock, access: snapshot, max_age_s: 5.0}
      - fold: tea:pot#pour
        initial: {function: "tea:pot#brew", options: {threads: 3}}
      - split: tea:pot#brew
"""


def test_functions_of_other_languages_are_found_with_their_options_and_cells() -> None:
    app = app_from_text(TEA, "yaml", make=App, functions=pot, folder=Path("there"))
    steps: Any = {step.name: step for step in app.streams["s"].steps}

    assert steps["brew"].call.options == {"threads": 2, "memory_mib": 64}
    assert steps["brew"].call.folder == Path("there")
    operator = steps["pour"].operator
    assert issubclass(operator, ForeignOperator)
    assert isinstance(operator.stock, Access)
    assert operator.stock.cell is app.cells["stock"]
    assert (operator.sold.cell.name, operator.seen.max_age_s) == ("sales", 5.0)
    assert steps["fold"].fold.initial.options == {"threads": 3}


def test_functions_of_other_languages_are_written_with_their_options_and_cells() -> None:
    app = app_from_text(TEA, "yaml", make=App, functions=pot)

    data = data_of_app(app)

    steps = data["streams"]["s"]["steps"]
    assert steps[0] == {"map": "tea:pot#brew", "threads": 2, "options": {"memory_mib": 64}}
    assert steps[2]["cells"]["seen"] == {"cell": "stock", "access": "snapshot", "max_age_s": 5.0}
    back = app_from_text(printed(data, "json"), "json", make=App, functions=pot)
    assert back.streams["s"].edges == app.streams["s"].edges
    assert data_of_app(back) == data


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("map: tea:pot#spill", "tea:pot#spill: there is no function 'spill' in it"),
        ("{map: tea:pot#brew, options: {sugar: 1}}", "tea:pot#brew: an option is threads, or memory_mib"),
        ("{then: tea:pot#brew, cells: {stok: owned}}", "there is no cell 'stok'; did you mean 'stock'?"),
        ("{then: tea:pot#brew, cells: {stock: merged}}", "table 'stock' has no merged() access"),
    ],
)
def test_what_a_language_has_not_is_a_fault_where_it_is_named(step: str, said: str) -> None:
    text = f"app: a\ncells:\n  stock: {{kind: table, key: sku}}\nstreams:\n  s:\n    steps:\n    - {step}\n"

    with pytest.raises(SpecError) as caught:
        app_from_text(text, "yaml", make=App, functions=pot)

    (fault,) = caught.value.faults
    assert "line 7: streams.s.steps[0]" in fault
    assert said in fault


# Cells, schedules, limits

app = App("bank")
accounts = app.table("accounts", key="account", value=int, key_type=str, shards=16, ttl_s=9.5, migrate=keep)
rate = app.value("rate", float, version=2, migrate=keep)


class Deposit(Operator):
    accounts = accounts.owned()
    rate = rate.snapshot()

    def process(self, item: Any) -> Any:
        self.accounts[item] = self.accounts.get(item, 0) + 1
        return self.accounts[item]


deposit = app.stream("deposit", str, int).key_by(space="account", shards=16).then(Deposit, priority=None)


def test_every_kind_of_cell_is_written_and_read_again() -> None:
    bank = App("all", limits=Limits(rounds=7, timeout_s=2.5))
    bank.table("a", key="k")
    bank.table("b", key="k", value=list[int], key_type=int, shards=8, ttl_s=2.0, entries_max=9, version=3, migrate=keep)
    bank.value("c", int, version=2, migrate=keep)
    bank.counter("d")
    bank.counter("e", key="k", shards=8, key_type=str, ttl_s=1.0, entries_max=4)
    bank.max("f", float)
    bank.min("g", int, key="k")
    bank.set("h", str)
    bank.set("i", str, key="k", grow_only=True)
    bank.register("j", door_type({"a": "int"}))
    bank.map("k", int, key="k")
    bank.log("l", str)
    bank.schedule("s", "t", {"a": [1, None, "x"]}, every_s=2.5)
    bank.schedule("u", "t", cron="0 3 * * *")
    bank.stream("t")

    read_again = again(bank)

    assert list(read_again.cells) == list(bank.cells)
    assert {name: cell.differs_from(bank.cells[name]) for name, cell in read_again.cells.items()} == dict.fromkeys(
        bank.cells, ""
    )
    assert (read_again.schedules, read_again.limits) == (bank.schedules, bank.limits)


async def test_an_app_whose_operators_are_python_runs_with_their_cells() -> None:
    read_again = again(app)

    assert not list(faults_of(read_again))
    assert read_again.cells["accounts"] is accounts
    async with read_again.local() as client:
        assert [await client.request("deposit", "ann") for _ in range(2)] == [1, 2]


def test_a_cell_that_its_operator_knows_otherwise_is_a_fault() -> None:
    text = printed({**data_of_app(app), "cells": {"accounts": {"kind": "table", "key": "account"}}}, "yaml")

    (fault,) = faults(text)

    assert "table 'accounts' is declared otherwise where Deposit uses it: " in fault
    assert "ttl_s is 9.5, and not None" in fault


# What has no name


def test_each_closure_is_named_with_its_place() -> None:
    class Local(Work):
        pass

    class Row(TypedDict):
        a: int

    closed = App("closed")
    point = closed.stream("s", Row).map(lambda item: item).then(Local).then(Work, object(), name="made")
    point.iterate(lambda at: at, until=lambda state: True, fold=max).fold({1: 2}, max)
    closed.schedule("often", "s", {1, 2}, every_s=1)

    with pytest.raises(SpecError) as caught:
        data_of_app(closed)

    said = caught.value.faults
    assert len(said) == 7
    assert said[0].startswith("s: the type")
    assert said[1].startswith("s/map: ")
    assert "<lambda> (test_spec_writing.py, line " in said[1]
    assert [fault.partition(":")[0] for fault in said[2:]] == [
        "s/Local",
        "s/made",
        "s/iterate",
        "s/fold",
        "schedule often",
    ]


# Documents


def test_a_file_is_written_and_read_in_every_form(tmp_path: Path) -> None:
    for name in ("app.yaml", "app.yml", "app.json", "app.toml"):
        save_spec(app, tmp_path / name)

        assert load_spec(tmp_path / name, python=True).streams == app.streams


def test_what_toml_has_no_word_for_is_refused() -> None:
    nothing = App("nothing")
    nothing.stream("s").then(Work, None)

    with pytest.raises(SpecError, match=r"streams.s.steps\[0\].args\[0\]: TOML has no null"):
        printed(data_of_app(nothing), "toml")


def test_data_that_was_written_is_the_same_when_it_is_read() -> None:
    data = data_of_app(load(GOOD))

    assert data_of_app(app_from_text(json.dumps(data), "json", make=App, python=True)) == data
    assert data["streams"]["orders"]["request"] == {"sku": "str", "quantity": "int", "note?": "str"}
    assert data["streams"]["orders"]["steps"][5:8] == [
        {"delta": None, "name": "best"},
        {"map": "python:builtins:tuple"},
        {"back": "best"},
    ]


# The schema


def test_the_schema_that_is_published_is_that_of_the_forms() -> None:
    assert json.loads((ROOT / "docs/app.schema.json").read_text()) == schema(), (
        "actorflow schema > docs/app.schema.json"
    )


def documents() -> list[str]:
    page = (ROOT / "docs/specs.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    return [GOOD, TEA, *(block for block in blocks if block.startswith("app:"))]


@pytest.mark.parametrize("text", documents())
def test_the_schema_takes_what_is_a_spec(text: str) -> None:
    jsonschema.Draft202012Validator(schema()).validate(read(text, "yaml")[0])


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(apps())
def test_the_schema_takes_whatever_is_written(drawn: App) -> None:
    jsonschema.Draft202012Validator(schema()).validate(data_of_app(drawn))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("count:", "cuont:"), ("after:", "aftr:"), ("kind: table", "kind: tabel"), ("timeout_s", "timeout"),
     ("by:", "bye:"),
     ("grow_only", "growonly"), ("stream: orders", "strem: orders"), ("request:", "requets:"), ("app:", "ap:")],
)  # fmt: skip
def test_the_schema_refuses_what_is_misspelt(right: str, wrong: str) -> None:
    data, _ = read(GOOD.replace(right, wrong, 1), "yaml")

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(data)
    assert faults(GOOD.replace(right, wrong, 1))


# The program


def run(text: str) -> Any:
    found: dict[str, Any] = {"__name__": "program"}
    exec(compile(text, "program.py", "exec"), found)
    return found["app"]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(apps())
def test_the_program_of_an_app_builds_an_equal_one(drawn: App) -> None:
    built = run(program_of(drawn))

    assert built.streams == drawn.streams
    assert (built.schedules, built.limits) == (drawn.schedules, drawn.limits)


def test_the_program_of_an_app_reads_as_one_would_write_it() -> None:
    assert (
        program_of(load(GOOD))
        == '''\
"""The app shop: `actorflow run` takes it as MODULE:app."""

from actorflow import App, Limits
from actorflow.plan.spec import door_type

app = App("shop", limits=Limits(timeout_s=10.0))
stock = app.table("stock", value=int, key="sku")
seen = app.set("seen", str, grow_only=True)

size_true, size_false = (
    app.stream("orders", door_type({"sku": "str", "quantity": "int", "note?": "str"}), list[int])
    .key_by("sku")
    .count()
    .split(bool, name="size")
)


def best_body(best_items):
    return best_items.map(tuple)


best = size_true.map(str).merge(size_false).delta(best_body, name="best")
best.top(3, by=len)
app.schedule("nightly", "orders", {"sku": "tea"}, cron="0 3 * * *")
'''
    )


async def test_the_program_of_an_app_runs_with_the_cells_of_its_operators() -> None:
    built = run(program_of(app))

    assert {name: cell.differs_from(built.cells[name]) for name, cell in app.cells.items()} == dict.fromkeys(
        app.cells, ""
    )
    assert not list(faults_of(built))
    async with built.local() as client:
        assert await client.request("deposit", "bob") == 1


def test_the_program_of_an_app_finds_functions_of_other_languages() -> None:
    tea = app_from_text(TEA, "yaml", make=App, functions=pot)

    text = program_of(tea, foreign="tests.plan.test_spec_writing:brewed")

    assert 'brewed("tea:pot#brew", {"memory_mib": 64, "threads": 2})' in text
    assert '"seen": stock.snapshot(max_age_s=5.0)' in text
    built = run(text)
    assert built.streams["s"].edges == tea.streams["s"].edges
    assert data_of_app(built) == data_of_app(tea)
    with pytest.raises(SpecError, match=r"tea:pot#brew is no Python"):
        program_of(tea)


def test_an_app_with_every_option_is_written_and_read_again() -> None:
    every = App("every", limits=Limits(rounds=3))
    point = every.stream(
        "s", int, str, replies="many", timeout_s=1.5, in_flight=3, on_error="set_aside", restart=Restart(restarts=1)
    )
    worked = point.then(
        Work,
        1,
        [2],
        name="w",
        replicas=2,
        on_error="edge",
        mailbox_envelopes=3,
        restart=Restart(failures=2),
        more={"a": None},
    )
    worked.errors.discard()
    worked.feedback(point, when=keep, rounds=Rounds(rounds_max=2, fold=max, initial=0, state=list, vote=keep)).loop_end

    read_again = again(every)

    assert read_again.streams == every.streams
    assert read_again.limits == every.limits
