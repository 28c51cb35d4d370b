"""The checker of shared state: a conflict is refused with its reason and the way out, and what is safe says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from actorflow import AccessError, App, Operator, TopologyError
from actorflow.cli import main
from actorflow.plan.cells import Access
from actorflow.plan.check import check, faults_of
from actorflow.plan.check_cells import Use, matrix, notes_of, purity_of, uses_of


def reserving(stock: Any, *, slow: bool = False) -> type[Operator]:
    """An operator Reserve that touches the cell as it is given; slow: with an async process."""

    class Reserve(Operator):
        def process(self, item: Any) -> Any:
            return item

    class SlowReserve(Operator):
        async def process(self, item: Any) -> Any:
            return item

    kind = SlowReserve if slow else Reserve
    kind.__name__ = "Reserve"
    kind.stock = stock  # type: ignore[attr-defined]
    return kind


def owned_without_a_key(app: App) -> None:
    stock = app.table("stock", key="sku")
    app.stream("s").then(reserving(stock.owned()))


def owned_under_another_key(app: App) -> None:
    stock = app.table("stock", key="sku")
    app.stream("s").key_by("customer").then(reserving(stock.owned()))


def owned_with_one_edge_unkeyed(app: App) -> None:
    stock = app.table("stock", key="sku")
    entry = app.stream("s")
    point = entry.key_by("sku").then(reserving(stock.owned()))
    entry.map(repr).into(point)


def owned_under_two_keys(app: App) -> None:
    stock = app.table("stock", key="sku")
    entry = app.stream("s")
    point = entry.key_by("sku").then(reserving(stock.owned()))
    entry.key_by("customer").into(point)


def owned_after_a_step_that_forgets_the_key(app: App) -> None:
    stock = app.table("stock", key="sku")
    app.stream("s").key_by("sku").count().then(reserving(stock.owned()))


def owned_in_a_space_that_is_no_name(app: App) -> None:
    stock = app.table("stock", key="hotel-night")
    app.stream("s").then(reserving(stock.owned()))


def owned_for_reading_without_a_key(app: App) -> None:
    stock = app.table("stock", key="sku")
    app.stream("s").then(reserving(stock.owned(read_only=True)))


def exclusive_in_a_plain_process(app: App) -> None:
    stock = app.table("stock", key="sku")
    app.stream("s").then(reserving(stock.exclusive()))


def exclusive_value_in_a_plain_process(app: App) -> None:
    app.stream("s").then(reserving(app.value("stock").exclusive()))


def cell_of_another_app(app: App) -> None:
    stock = App("bank").table("stock", key="sku")
    app.stream("s").key_by("sku").then(reserving(stock.owned()))


def cell_of_another_app_with_the_same_name(app: App) -> None:
    app.table("stock", key="sku")
    stock = App("bank").table("stock", key="sku")
    app.stream("s").key_by("sku").then(reserving(stock.owned()))


CONFLICTS: dict[str, tuple[Callable[[App], None], str, str]] = {
    "owned without a key": (
        owned_without_a_key,
        "s/Reserve: Reserve is not keyed and owns stock, keyed by sku: two of its activations could touch one key",
        "key the edge by sku (.key_by('sku')), or declare stock.exclusive() and lock what it touches",
    ),
    "owned under another key": (
        owned_under_another_key,
        "s/Reserve: Reserve is keyed by customer and owns stock, keyed by sku",
        "key the edge by sku (.key_by('sku')), or declare stock.exclusive()",
    ),
    "owned with one edge unkeyed": (
        owned_with_one_edge_unkeyed,
        "s/Reserve: Reserve is keyed by sku on one edge and not keyed on another and owns stock, keyed by sku",
        "key the edge by sku",
    ),
    "owned under two keys": (
        owned_under_two_keys,
        "s/Reserve: Reserve is keyed by customer and by sku and owns stock, keyed by sku",
        "key the edge by sku",
    ),
    "owned after a step that forgets the key": (
        owned_after_a_step_that_forgets_the_key,
        "s/Reserve: Reserve is not keyed and owns stock",
        "key the edge by sku",
    ),
    "owned in a space that is no name": (
        owned_in_a_space_that_is_no_name,
        "s/Reserve: Reserve is not keyed and owns stock, keyed by hotel-night",
        ".key_by(…, space='hotel-night')",
    ),
    "owned for reading without a key": (
        owned_for_reading_without_a_key,
        "s/Reserve: Reserve is not keyed and owns stock",
        "key the edge by sku",
    ),
    "exclusive in a plain process": (
        exclusive_in_a_plain_process,
        "s/Reserve: Reserve declares stock.exclusive(), and a plain process cannot wait for a lock",
        "make it async def process, or key the edge to it and declare owned()",
    ),
    "exclusive value in a plain process": (
        exclusive_value_in_a_plain_process,
        "s/Reserve: Reserve declares stock.exclusive(), and a plain process cannot wait for a lock",
        "make it async def process",
    ),
    "cell of another app": (
        cell_of_another_app,
        "s/Reserve: table 'stock' belongs to app 'bank', not to 'shop'",
        "declare it on the app whose streams use it",
    ),
    "cell of another app with the same name": (
        cell_of_another_app_with_the_same_name,
        "s/Reserve: table 'stock' belongs to app 'bank', not to 'shop'",
        "declare it on the app whose streams use it",
    ),
}


@pytest.mark.parametrize("case", CONFLICTS, ids=lambda case: case.replace(" ", "-"))
def test_a_conflict_is_refused_with_operator_cell_reason_and_way_out(case: str) -> None:
    build, begins, way_out = CONFLICTS[case]
    app = App("shop")
    build(app)

    found = list(faults_of(app))

    assert len(found) == 1, found
    assert found[0].startswith(begins)
    assert way_out in found[0].removeprefix(begins)


def test_a_program_with_a_conflict_does_not_start() -> None:
    app = App("shop")
    owned_without_a_key(app)

    with pytest.raises(TopologyError, match="Reserve is not keyed and owns stock"):
        check(app)


def test_the_conflict_of_a_value_offers_nothing_that_a_value_has_not() -> None:
    app = App("shop")
    exclusive_value_in_a_plain_process(app)

    (found,) = faults_of(app)

    assert "owned" not in found


def test_a_key_space_has_the_same_shards_for_cells_and_edges() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku", shards=4)
    app.stream("s").key_by("sku").then(reserving(stock.owned()))

    assert list(faults_of(app)) == ["s/key_by: key space 'sku' has 4 shards at table 'stock', but 256 here"]


def test_a_key_space_has_the_same_shards_for_two_cells() -> None:
    app = App("shop")
    app.table("stock", key="sku", shards=4)
    app.counter("sold", key="sku", shards=8)
    app.stream("s")

    assert list(faults_of(app)) == ["counter 'sold': key space 'sku' has 4 shards at table 'stock', but 8 here"]


@pytest.mark.parametrize("shards", [0, -1, True, "4"])
def test_a_cell_has_a_number_of_shards(shards: Any) -> None:
    app = App("shop")
    app.table("stock", key="sku", shards=shards)
    app.stream("s")

    (found,) = faults_of(app)

    assert found.startswith("table 'stock': shards=")


def test_a_write_through_a_snapshot_is_refused_with_what_to_declare() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Audit(Operator):
        stock = stock_cell.snapshot()

        def process(self, sku: str) -> None:
            self.stock[sku] = 0  # type: ignore[index]

    app.stream("s", replies="none").then(Audit)

    (found,) = faults_of(app)

    assert found.startswith("s/Audit: Audit.process (line ")
    assert found.endswith("writes stock, which it declares as snapshot(): declare owned() or exclusive()")


def test_a_write_through_read_only_access_is_refused() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Audit(Operator):
        stock = stock_cell.owned(read_only=True)

        def process(self, sku: str) -> None:
            self.stock.pop(sku, None)

    app.stream("s", replies="none").key_by("sku").then(Audit)

    (found,) = faults_of(app)

    assert "Audit.process" in found
    assert "writes stock, which it declares as owned(read_only=True)" in found


def test_a_change_of_a_counter_of_a_key_through_a_snapshot_is_refused() -> None:
    app = App("shop")
    sold_cell = app.counter("sold", key="sku")

    class Audit(Operator):
        sold = sold_cell.snapshot()

        def process(self, sku: str) -> None:
            self.sold[sku].add(1)

    app.stream("s", replies="none").then(Audit)

    (found,) = faults_of(app)

    assert found.endswith("writes sold, which it declares as snapshot(): declare merged()")


def test_a_write_in_a_method_that_a_base_class_has_is_found() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Base(Operator):
        stock = stock_cell.snapshot()

        def clear(self, sku: str) -> None:
            self.stock[sku] = 0  # type: ignore[index]

    class Audit(Base):
        def process(self, sku: str) -> None:
            self.clear(sku)

    app.stream("s", replies="none").then(Audit)

    (found,) = faults_of(app)

    assert "Audit.clear" in found


def test_assigning_the_attribute_of_an_access_is_refused_with_what_was_meant() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Reserve(Operator):
        stock = stock_cell.owned()

        def process(self, sku: str) -> None:
            self.stock = 3  # type: ignore[assignment]

    app.stream("s", replies="none").key_by("sku").then(Reserve)

    (found,) = faults_of(app)

    assert found.startswith("s/Reserve: Reserve.process (line ")
    assert "assigns self.stock, which is its access to stock" in found
    assert "self.stock[key] = …" in found


@pytest.mark.parametrize(
    ("declare", "how", "ways"),
    [
        (lambda app: app.table("cell", key="sku"), "merged", r"owned\(\) or exclusive\(\) or snapshot\(\)"),
        (lambda app: app.value("cell"), "owned", r"exclusive\(\) or snapshot\(\)"),
        (lambda app: app.counter("cell"), "owned", r"merged\(\) or snapshot\(\)"),
        (lambda app: app.log("cell"), "exclusive", r"merged\(\) or snapshot\(\)"),
    ],
    ids=["a-table-merged", "a-value-owned", "a-counter-owned", "a-log-exclusive"],
)
def test_an_access_of_the_wrong_kind_is_refused_with_those_that_there_are(declare: Any, how: Any, ways: str) -> None:
    with pytest.raises(AccessError, match=rf"'cell' has no {how}\(\) access: declare {ways}$"):
        Access(declare(App("shop")), how)


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda app: app.table("cell", key="sku").merged(), "table 'cell' has no merged() access: declare owned()"),
        (lambda app: app.value("cell").owned(), "value 'cell' has no owned() access: declare exclusive()"),
        (lambda app: app.counter("cell").owned(), "counter 'cell' has no owned() access: declare merged()"),
        (lambda app: app.log("cell").exclusive(), "log 'cell' has no exclusive() access: declare merged()"),
    ],
    ids=["a-table-merged", "a-value-owned", "a-counter-owned", "a-log-exclusive"],
)
def test_declaring_an_access_of_the_wrong_kind_says_which_there_are(declare: Any, said: str) -> None:
    with pytest.raises(AccessError) as refused:
        declare(App("shop"))

    assert str(refused.value).startswith(said)


def test_a_cell_that_is_used_without_a_declaration_says_how_to_declare_it() -> None:
    stock = App("shop").table("stock", key="sku")

    with pytest.raises(AccessError, match=r"write stock = stock\.owned\(\) or .*stock\.snapshot\(\)"):
        stock["tea"] = 1

    with pytest.raises(AccessError, match="without a declared access"):
        stock.get("tea")


def test_priority_with_a_write_is_refused_and_named() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.stream("s").key_by("sku").then(reserving(stock.owned()), priority=len)

    (found,) = faults_of(app)

    assert found.startswith("s/Reserve: priority= ")
    assert "Reserve may only read cells, and it writes stock" in found


def test_priority_with_a_snapshot_passes() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.stream("s").then(reserving(stock.snapshot()), priority=len)

    assert list(faults_of(app)) == []


def test_an_owner_that_feeds_back_to_itself_is_told_to_feed_back_to_before_its_key() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Round(Operator):
        stock = stock_cell.owned()

        def process(self, sku: Any) -> None:
            self.feedback(sku)

    app.stream("s", replies="none").key_by("sku").then(Round, feedback=True)

    found = [fault for fault in faults_of(app) if "owns stock" in fault]

    assert len(found) == 1
    assert "what it feeds back to itself is not" in found[0]
    assert "feed back to a point before the key_by" in found[0]


def test_a_schedule_with_an_item_that_does_not_fit_is_refused() -> None:
    app = App("shop")
    app.stream("numbers", int)
    app.schedule("nightly", "numbers", "text", every_s=60)

    (found,) = faults_of(app)

    assert found.startswith("schedule 'nightly': stream numbers takes int")


def test_a_schedule_of_an_unknown_stream_says_which_was_meant() -> None:
    app = App("shop")
    app.stream("cleanup")
    app.schedule("nightly", "clean-up", every_s=60)

    (found,) = faults_of(app)

    assert found.startswith("schedule 'nightly': there is no stream 'clean-up'; did you mean 'cleanup'?")


@pytest.mark.parametrize("options", [{}, {"every_s": 1, "cron": "* * * * *"}, {"every_s": 0}, {"cron": "every day"}])
def test_a_schedule_without_a_time_is_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    app = App("shop")
    app.stream("cleanup")

    with pytest.raises(ValueError, match="schedule 'nightly'"):
        app.schedule("nightly", "cleanup", **options)


@pytest.mark.parametrize(
    "options",
    [{"ttl_s": 0}, {"ttl_s": -1.0}, {"entries_max": 0}, {"version": 0}, {"version": "2"}],
    ids=repr,
)
def test_an_option_of_a_cell_out_of_range_is_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="table 'stock'"):
        App("shop").table("stock", key="sku", **options)


def test_a_snapshot_has_a_positive_age() -> None:
    with pytest.raises(ValueError, match="an age is a positive number"):
        App("shop").table("stock", key="sku").snapshot(max_age_s=0)


# -- what is safe, and why


def the_use(app: App) -> Use:
    (use,) = uses_of(app)
    assert use.safe, use
    assert list(faults_of(app)) == []
    return use


def test_owning_the_key_in_hand_is_safe_without_a_lock_where_nobody_is_suspended() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.stream("s").key_by("sku").then(reserving(stock.owned()))

    use = the_use(app)

    assert (use.operator, use.key, use.cell, use.access) == ("Reserve", "sku", "stock", "owned()")
    assert use.reason.startswith("Reserve and stock are keyed by sku")
    assert use.reason.endswith("no lock is needed")


def test_a_filter_between_key_and_operator_keeps_the_key() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.stream("s").key_by("sku").filter(bool).filter(bool).then(reserving(stock.owned()))

    assert the_use(app).key == "sku"


def test_two_edges_with_the_same_key_are_one_key() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    entry = app.stream("s")
    point = entry.key_by("sku").then(reserving(stock.owned()))
    entry.map(repr).key_by(len, space="sku").into(point)

    assert the_use(app).key == "sku"


def test_an_owner_that_may_be_suspended_locks_its_key_and_is_named() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.stream("s").key_by("sku").then(reserving(stock.owned(), slow=True))

    assert the_use(app).reason.endswith("the key in hand is locked while s/Reserve may be suspended")


def test_a_plain_owner_is_told_who_makes_its_key_locked() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.stream("plain").key_by("sku").then(reserving(stock.owned()))
    for number in range(5):
        app.stream(f"slow{number}").then(reserving(stock.exclusive(), slow=True))

    reasons = {use.stream: use.reason for use in uses_of(app)}

    assert reasons["plain"].endswith("while slow0/Reserve, slow1/Reserve, slow2/Reserve and 2 more may be suspended")
    assert "two-phase" in reasons["slow0"]


@pytest.mark.parametrize("kind", ["counter", "max", "min", "set", "register", "map", "log"])
def test_merged_access_is_safe_since_its_changes_commute(kind: str) -> None:
    app = App("shop")
    app.stream("s").then(reserving(getattr(app, kind)("cell").merged()))

    use = the_use(app)

    assert use.key is None
    assert use.reason == f"changes of a {kind} commute: any order, on any host, gives the same value"


def test_a_snapshot_is_safe_since_it_writes_nothing() -> None:
    app = App("shop")
    app.stream("s").then(reserving(app.table("stock", key="sku").snapshot()))

    assert the_use(app).reason == "reads what is committed, and writes nothing"


def test_an_access_that_a_subclass_replaces_counts_as_it_is_there() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")

    class Looks(reserving(stock.owned())):  # type: ignore[misc]
        stock_ = None
        stock = app.cells["stock"].snapshot()  # type: ignore[attr-defined]

    app.stream("s").then(Looks)

    assert the_use(app).access == "snapshot()"


def test_two_handles_of_one_cell_are_two_uses() -> None:
    app = App("shop")
    stock = app.table("stock", key="sku")
    kind = reserving(stock.owned())
    kind.all_stock = stock.snapshot()  # type: ignore[attr-defined]
    app.stream("s").key_by("sku").then(kind)

    assert sorted(use.access for use in uses_of(app)) == ["owned()", "snapshot()"]


# -- pure, or writing


class Passes(Operator):
    async def process(self, item: Any) -> Any:
        return item


def purity(build: Callable[[App], Any]) -> tuple[bool, str, tuple[str, ...]]:
    """Return of the stream "s": whether it is pure, what it writes, and what it reads."""
    app = App("shop")
    build(app)
    verdict = purity_of(app)["s"]
    return verdict.pure, "; ".join(verdict.writes), verdict.reads


def test_functions_folds_and_operators_without_effects_are_pure() -> None:
    assert purity(lambda app: app.stream("s").map(str).then(Passes).collect()) == (True, "", ())


def test_a_snapshot_is_read_and_stays_pure() -> None:
    def build(app: App) -> None:
        stock = app.table("stock", key="sku")
        app.stream("s").then(reserving(stock.snapshot())).then(reserving(stock.snapshot()), name="again")

    assert purity(build) == (True, "", ("stock",))


def test_read_only_access_is_read_and_stays_pure() -> None:
    def build(app: App) -> None:
        stock = app.table("stock", key="sku")
        app.stream("s").then(reserving(stock.exclusive(read_only=True), slow=True))

    assert purity(build) == (True, "", ("stock",))


@pytest.mark.parametrize("how", ["owned", "exclusive", "merged"])
def test_a_writing_access_writes(how: str) -> None:
    def build(app: App) -> None:
        cell = app.counter("stock") if how == "merged" else app.table("stock", key="sku")
        app.stream("s").key_by("sku").then(reserving(getattr(cell, how)(), slow=True))

    pure, writes, _ = purity(build)

    assert not pure
    assert writes == f"Reserve writes stock ({how}())"


def sends(self: Any, item: Any) -> None:
    self.send("other", item)


def waits(self: Any, item: Any) -> None:
    self.after(1.0, item)


def spawns(self: Any, item: Any) -> None:
    self.tell(self.spawn(Passes), item)


def detaches(self: Any, item: Any) -> None:
    self.spawn_detached(Passes)


def calls_off(self: Any, item: Any) -> None:
    self.cancel_send(item)


def defers(self: Any, item: Any) -> None:
    self.pending = self.defer()


@pytest.mark.parametrize(
    ("process", "said"),
    [
        (sends, "Leaves calls self.send"),
        (waits, "Leaves calls self.after"),
        (spawns, "Leaves spawns actors"),
        (detaches, "Leaves calls self.spawn_detached"),
        (calls_off, "Leaves calls self.cancel_send"),
        (defers, "Leaves calls self.defer"),
    ],
    ids=["send", "timer", "spawn", "detached", "called-off", "deferred"],
)
def test_what_leaves_traces_writes(process: Any, said: str) -> None:
    def build(app: App) -> None:
        app.stream("other", replies="none")
        app.stream("s").then(type("Leaves", (Operator,), {"process": process}))

    pure, writes, _ = purity(build)

    assert not pure
    assert said in writes


def test_a_hook_of_a_start_does_not_make_a_stream_writing() -> None:
    class Starts(Operator):
        def start(self) -> None:
            self.send("other", 1)

        def process(self, item: Any) -> Any:
            return item

    assert purity(lambda app: (app.stream("other"), app.stream("s").then(Starts)))[0]


def writing_child(app: App) -> Any:
    stock = app.counter("stock")
    return app.stream("child").then(reserving(stock.merged()))


def test_a_call_step_to_a_writing_stream_writes_and_names_it() -> None:
    pure, writes, _ = purity(lambda app: (writing_child(app), app.stream("s").call("child")))

    assert not pure
    assert writes == "child: Reserve writes stock (merged())"


def test_a_call_by_the_stream_itself_is_followed() -> None:
    def build(app: App) -> None:
        child = writing_child(app)

        class Calls(Operator):
            async def process(self, item: Any) -> Any:
                return await self.call(child, item)

        app.stream("s").then(Calls)

    assert purity(build)[:2] == (False, "child: Reserve writes stock (merged())")


def test_a_call_by_name_is_followed_through_several_streams() -> None:
    class Calls(Operator):
        async def process(self, item: Any) -> Any:
            return await self.call("between", item)

    def build(app: App) -> None:
        writing_child(app)
        app.stream("between").call("child")
        app.stream("s").then(Calls)

    assert purity(build)[:2] == (False, "child: Reserve writes stock (merged())")


def test_what_a_called_stream_reads_is_read() -> None:
    def build(app: App) -> None:
        stock = app.table("stock", key="sku")
        app.stream("child").then(reserving(stock.snapshot()))
        app.stream("s").call("child")

    assert purity(build) == (True, "", ("stock",))


def test_a_call_of_a_pure_stream_is_pure_also_in_a_circle() -> None:
    class Calls(Operator):
        async def process(self, item: Any) -> Any:
            return await self.call("s", item) if item else item

    assert purity(lambda app: app.stream("s").then(Calls))[0]


def test_a_call_of_a_stream_that_the_source_does_not_name_counts_as_writing() -> None:
    class Calls(Operator):
        async def process(self, item: Any) -> Any:
            return await self.call(item["stream"], item)

    pure, writes, _ = purity(lambda app: app.stream("s").then(Calls))

    assert not pure
    assert writes == "s: calls a stream that the source does not name"


def test_one_operator_without_a_source_that_calls_counts_as_writing() -> None:
    space: dict[str, Any] = {}
    exec("async def process(self, item):\n    return await self.call('s', item)", space)
    hidden = type("Hidden", (Operator,), {"process": space["process"]})

    assert not purity(lambda app: app.stream("s").then(hidden))[0]


# -- notes


def notes(*kinds: type[Operator], app: App | None = None) -> list[str]:
    app = app or App("shop")
    point: Any = app.stream("s")
    for kind in kinds:
        point = point.then(kind)
    assert list(faults_of(app)) == []
    return list(notes_of(app))


def test_an_attribute_that_a_handler_assigns_is_noted_once_with_its_line() -> None:
    class Counts(Operator):
        def __init__(self) -> None:
            self.count = 0

        def process(self, item: Any) -> Any:
            self.count += 1
            self.count = self.count + 1
            return item

    (note,) = notes(Counts, Counts)

    line = Counts.process.__code__.co_firstlineno + 1
    assert note.startswith(f"s/Counts: Counts.process (line {line}) assigns self.count: an attribute is a cache")
    assert "belongs in a cell" in note


def test_an_entry_of_an_attribute_that_a_handler_assigns_is_noted() -> None:
    class Keeps(Operator):
        def __init__(self) -> None:
            self.seen: dict[Any, Any] = {}

        async def process(self, item: Any) -> Any:
            self.seen[item] = True
            return item

    (note,) = notes(Keeps)

    assert "assigns self.seen" in note


def test_attributes_that_are_set_up_and_rows_that_are_written_are_not_noted() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Fine(Operator):
        stock = stock_cell.owned()

        def __init__(self) -> None:
            self.limit = 3

        def start(self) -> None:
            self.connection = object()

        def stop(self) -> None:
            self.connection = None

        def process(self, item: Any) -> Any:
            self.stock[item] = self.limit
            return item

    app.stream("t").key_by("sku").then(Fine)

    assert list(notes_of(app)) == []


def test_an_exclusive_access_that_never_locks_is_noted() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Forgets(Operator):
        stock = stock_cell.exclusive()

        async def process(self, item: Any) -> Any:
            self.emit(item)

    class DoesNothing(Operator):
        stock = stock_cell.exclusive()

        async def process(self, item: Any) -> Any:
            return item

    note, other = notes(Forgets, DoesNothing, app=app)

    assert note == "s/Forgets: Forgets declares stock as exclusive(), and never calls self.stock.lock(…)"
    assert other.startswith("s/DoesNothing: DoesNothing declares stock as exclusive()")


@pytest.mark.parametrize("verb", ["lock", "transact"])
def test_an_exclusive_access_that_locks_is_not_noted(verb: str) -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Locks(Operator):
        stock = stock_cell.exclusive()

        async def process(self, item: Any) -> Any:
            await self.stock.lock(item)
            return item

    class Transacts(Operator):
        stock = stock_cell.exclusive()

        async def process(self, item: Any) -> Any:
            return await self.stock.transact([item], len)

    assert notes(Locks if verb == "lock" else Transacts, app=app) == []


# -- the matrix, and the command


def mixed() -> App:
    app = App("shop")
    stock = app.table("stock", key="sku")
    app.counter("unused")
    app.value("rate")
    app.stream("good").key_by("sku").then(reserving(stock.owned()))
    app.stream("bad").then(reserving(stock.owned()))
    app.stream("look").then(reserving(stock.snapshot()))
    return app


def test_the_matrix_is_all_that_is_known_as_plain_values() -> None:
    found = json.loads(json.dumps(matrix(mixed())))

    assert found["app"] == "shop"
    assert found["cells"] == [
        {"name": "stock", "kind": "table", "key": "sku"},
        {"name": "unused", "kind": "counter", "key": None},
        {"name": "rate", "kind": "value", "key": None},
    ]
    squares = [(use["stream"], use["operator"], use["key"], use["access"], use["safe"]) for use in found["uses"]]
    assert squares == [
        ("good", "Reserve", "sku", "owned()", True),
        ("bad", "Reserve", None, "owned()", False),
        ("look", "Reserve", None, "snapshot()", True),
    ]
    assert [(use["way_out"] == "", use["reason"] != "") for use in found["uses"]] == [
        (True, True), (False, True), (True, True),
    ]  # fmt: skip
    assert {verdict["stream"]: verdict["pure"] for verdict in found["streams"]} == {
        "good": False, "bad": False, "look": True,
    }  # fmt: skip
    assert len(found["faults"]) == 1
    assert found["notes"] == []


PROGRAM = """
from actorflow import App, Operator

class Reserve(Operator):
    def process(self, item):
        return item

def make(keyed):
    app = App("shop")
    stock = app.table("stock", key="sku")
    kind = type("Reserve", (Reserve,), {"stock": stock.owned()})
    entry = app.stream("buy")
    (entry.key_by("sku") if keyed else entry).then(kind)
    app.stream("other").map(len)
    return app

good, bad = make(True), make(False)
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return `command("check", …)`: the result of the command in a folder with the module state_programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checked_programs.py").write_text(PROGRAM)
    return lambda *arguments: CliRunner().invoke(main, arguments, env={"COLUMNS": "200"})


def test_check_shows_why_every_access_is_safe_and_which_streams_are_pure(command: Callable[..., Any]) -> None:
    result = command("check", "checked_programs:good")

    assert result.exit_code == 0
    assert "buy/Reserve, stock.owned(): Reserve and stock are keyed by sku" in result.output
    assert "stream buy: writes (Reserve writes stock (owned()))" in result.output
    assert "stream other: pure" in result.output


def test_check_of_a_conflict_exits_with_1_and_shows_reason_and_way_out(command: Callable[..., Any]) -> None:
    result = command("check", "checked_programs:bad")

    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "✗ buy/Reserve: Reserve is not keyed and owns stock, keyed by sku" in said
    assert "or declare stock.exclusive() and lock what it touches" in said
    assert "1 fault in app shop" in said


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 1)])
def test_check_as_json_is_the_matrix_with_every_fault(command: Callable[..., Any], name: str, code: int) -> None:
    result = command("check", f"checked_programs:{name}", "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == code
    assert found.keys() == {"app", "cells", "uses", "streams", "faults", "notes"}
    assert len(found["faults"]) == code


async def test_an_owner_of_several_edges_with_one_key_has_it_in_hand() -> None:
    app = App("shop")
    stock_cell = app.table("stock", key="sku")

    class Owner(Operator):
        stock = stock_cell.owned()

        def process(self, item: dict[str, Any]) -> None:
            self.stock[item["sku"]] = self.stock.get(item["sku"], 0) + 1

    entry = app.stream("reserve", dict, replies="none")
    owner = entry.key_by("sku").then(Owner)
    entry.map(dict).key_by("sku").into(owner)

    async with app.local() as client:
        await client.request("reserve", {"sku": "tea"})

        assert await client.cell("stock", "tea") == 2
