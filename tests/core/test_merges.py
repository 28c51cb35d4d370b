"""Cells that merge: who has seen the same changes has the same, whatever their order and grouping."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow.core.merges import ABSENT, MERGES, Stamp, settle_tags

Tags: TypeAlias = frozenset[Stamp]

NO_TAGS: Tags = frozenset()
T1, T2, T3 = (1, "a", 1), (1, "b", 1), (2, "a", 2)
"""Stamps of three additions."""

STAMPS = st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(0, 9))


@st.composite
def stamped(draw: st.DrawFn, *, values: st.SearchStrategy[Any]) -> list[Any]:
    """Values, each with a stamp of its own."""
    return [(stamp, draw(values)) for stamp in draw(st.lists(STAMPS, max_size=6, unique=True))]


@st.composite
def tagged(draw: st.DrawFn, *, removals_max: int, arrived: bool = False) -> list[tuple[Tags, Tags]]:
    """Changes of an element: each tag is added at most once, and taken away by so many at most.

    arrived: each tag is both added and taken away.
    """
    deltas: list[tuple[set[Stamp], set[Stamp]]] = [(set(), set()) for _ in range(draw(st.integers(2, 6)))]
    places = st.permutations(range(len(deltas)))
    for tag in draw(st.lists(STAMPS, min_size=1 if arrived else 0, max_size=5, unique=True)):
        added = arrived or draw(st.booleans())
        removals = draw(st.integers(0 if added and not arrived else 1, removals_max))
        adding, *removing = draw(places)
        if added:
            deltas[adding][0].add(tag)
        for place in removing[:removals]:
            deltas[place][1].add(tag)
    return [(frozenset(added), frozenset(removed)) for added, removed in deltas if added or removed]


DELTAS: dict[str, st.SearchStrategy[list[Any]]] = {
    "counter": st.lists(st.integers()),
    "max": st.lists(st.integers()) | st.lists(st.text()) | st.lists(st.floats(allow_nan=False)),
    "min": st.lists(st.integers()) | st.lists(st.text()) | st.lists(st.floats(allow_nan=False)),
    "grow_set": st.lists(st.just(True), max_size=4),
    "set": tagged(removals_max=1),
    "set:several remove the same": tagged(removals_max=3),
    "register": stamped(values=st.integers() | st.text()),
    "map": stamped(values=st.integers() | st.just(ABSENT)),
    "log": stamped(values=st.integers()),
}
"""Changes of one entry that may come together, by kind."""

IDEMPOTENT = ["max", "min", "grow_set", "register", "map", "log"]

few = settings(max_examples=40, deadline=None)
every_kind = pytest.mark.parametrize("case", DELTAS)


def merged(case: str, deltas: list[Any], entry: Any = ABSENT) -> Any:
    merge = MERGES[case.partition(":")[0]].merge
    for delta in deltas:
        entry = merge(entry, delta)
    return entry


def settled(case: str, entry: Any, deltas: list[Any]) -> Any:
    """Return an entry after its host has learned that all of these have arrived."""
    if not case.startswith("set"):
        return entry
    arrived = frozenset().union(*(added for added, _ in deltas))
    return settle_tags(entry, arrived.__contains__)


def grouped(case: str, deltas: list[Any], data: st.DataObject) -> Any:
    """Merge neighbours, one of them or both may be merged ones, until one is left."""
    merged_ones = [ABSENT, *deltas]
    while len(merged_ones) > 1:
        index = data.draw(st.integers(0, len(merged_ones) - 2))
        one, other = merged_ones[index : index + 2]
        merged_ones[index : index + 2] = [one if other is ABSENT else merged(case, [other], one)]
    return merged_ones[0]


def value(case: str, entry: Any) -> Any:
    return ABSENT if entry is ABSENT else MERGES[case.partition(":")[0]].value(entry)


# -- every kind


def test_every_kind_is_tried_here() -> None:
    assert {case.partition(":")[0] for case in DELTAS} == set(MERGES)


@every_kind
@few
@given(st.data())
def test_any_order_gives_the_same(case: str, data: st.DataObject) -> None:
    deltas = data.draw(DELTAS[case])
    shuffled = data.draw(st.permutations(deltas))

    one, other = merged(case, deltas), merged(case, shuffled)

    assert value(case, one) == value(case, other)
    assert settled(case, one, deltas) == settled(case, other, deltas)


@every_kind
@few
@given(st.data())
def test_any_grouping_gives_the_same(case: str, data: st.DataObject) -> None:
    deltas = data.draw(DELTAS[case])

    one, other = merged(case, deltas), grouped(case, deltas, data)

    assert value(case, one) == value(case, other)
    assert settled(case, one, deltas) == settled(case, other, deltas)


@every_kind
@few
@given(st.data())
def test_what_an_activation_has_gathered_changes_an_entry_as_its_changes_would_one_by_one(
    case: str, data: st.DataObject
) -> None:
    deltas = data.draw(DELTAS[case].filter(bool))
    before, own = deltas[: len(deltas) // 2], deltas[len(deltas) // 2 :]
    entry = merged(case, before)

    pending = merged(case, own[1:], own[0])

    if pending is not ABSENT:
        one, other = merged(case, [pending], entry), merged(case, own, entry)
        assert settled(case, one, deltas) == settled(case, other, deltas)


@every_kind
@few
@given(st.data())
def test_the_first_change_is_the_entry(case: str, data: st.DataObject) -> None:
    delta = data.draw(DELTAS[case].filter(bool))[0]

    assert merged(case, [delta]) == delta


@pytest.mark.parametrize("case", IDEMPOTENT)
@few
@given(st.data())
def test_a_change_that_comes_again_changes_nothing(case: str, data: st.DataObject) -> None:
    deltas = data.draw(DELTAS[case].filter(bool))
    again = data.draw(st.lists(st.sampled_from(deltas), max_size=6))
    arriving = data.draw(st.permutations([*deltas, *again]))

    assert merged(case, arriving) == merged(case, deltas)


def test_what_is_absent_stays_itself_when_it_is_copied_and_sent() -> None:
    assert copy.deepcopy(ABSENT) is ABSENT
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT
    assert repr(ABSENT) == "ABSENT"


# -- what each kind keeps


@given(st.lists(st.integers(), min_size=1))
def test_a_counter_has_the_sum(deltas: list[int]) -> None:
    assert value("counter", merged("counter", deltas)) == sum(deltas)


def test_a_counter_that_is_back_at_zero_is_still_there() -> None:
    assert merged("counter", [1, -1]) == 0


@given(st.lists(st.integers(), min_size=1))
def test_max_and_min_have_the_extremes(deltas: list[int]) -> None:
    assert value("max", merged("max", deltas)) == max(deltas)
    assert value("min", merged("min", deltas)) == min(deltas)


def test_an_element_that_was_added_is_in_a_grow_only_set() -> None:
    assert value("grow_set", merged("grow_set", [True])) is True


@pytest.mark.parametrize("case", ["register", "map", "log"])
@given(stamped(values=st.integers()).filter(bool))
def test_the_value_with_the_latest_stamp_stays(case: str, deltas: list[tuple[Stamp, int]]) -> None:
    assert value(case, merged(case, deltas)) == dict(deltas)[max(dict(deltas))]


@pytest.mark.parametrize("later", [(2, "a", 1), (1, "b", 1), (1, "a", 2)], ids=["time", "host", "number"])
def test_stamps_are_in_order_of_time_and_then_of_host_and_number(later: Stamp) -> None:
    early, late = ((1, "a", 1), "early"), (later, "late")

    assert value("register", merged("register", [early, late])) == "late"
    assert value("register", merged("register", [late, early])) == "late"


def test_a_register_keeps_values_that_cannot_be_compared() -> None:
    assert value("register", merged("register", [(T1, "text"), (T2, 5), (T3, None)])) is None


def test_a_field_that_was_discarded_comes_back_by_a_later_value_alone() -> None:
    earlier, discarded, later = (T1, "old"), (T2, ABSENT), (T3, "new")

    assert value("map", merged("map", [discarded, earlier])) is ABSENT
    assert value("map", merged("map", [discarded, later])) == "new"


# -- observed-remove set


def added(*tags: Stamp, instead_of: Tags = NO_TAGS) -> tuple[Tags, Tags]:
    return frozenset(tags), instead_of


def removed(*tags: Stamp) -> tuple[Tags, Tags]:
    return NO_TAGS, frozenset(tags)


def test_an_element_that_was_added_is_in_a_set() -> None:
    assert value("set", merged("set", [added(T1)])) is True


def test_a_removal_takes_away_what_it_has_seen() -> None:
    assert merged("set", [added(T1), removed(T1)]) is ABSENT


def test_an_addition_that_the_remover_has_not_seen_survives() -> None:
    entry = merged("set", [added(T1), added(T2), removed(T1)])

    assert value("set", entry) is True
    assert entry[0] == {T2}


def test_an_addition_after_a_removal_brings_the_element_back() -> None:
    assert value("set", merged("set", [added(T1), removed(T1), added(T2)])) is True


def test_a_removal_that_arrives_before_its_addition_still_takes_it_away() -> None:
    early = merged("set", [removed(T1)])

    assert early is not ABSENT, "it is remembered"
    assert value("set", early) is ABSENT
    assert merged("set", [added(T1)], early) is ABSENT


def test_a_removal_that_arrives_early_takes_no_other_addition() -> None:
    entry = merged("set", [removed(T1), added(T2)])

    assert value("set", entry) is True
    assert value("set", merged("set", [added(T1)], entry)) is True
    assert value("set", merged("set", [added(T1), removed(T2)], entry)) is ABSENT


def test_an_addition_may_stand_for_those_it_has_seen() -> None:
    entry = merged("set", [added(T1), added(T2), added(T3, instead_of=frozenset({T1, T2}))])

    assert entry == (frozenset({T3}), NO_TAGS)


@settings(deadline=None)
@given(tagged(removals_max=3))
def test_an_element_is_in_a_set_if_some_addition_of_it_was_not_taken_away(deltas: list[tuple[Tags, Tags]]) -> None:
    tags = set().union(*(added for added, _ in deltas)) - set().union(*(removed for _, removed in deltas))

    assert value("set", merged("set", deltas)) is (True if tags else ABSENT)


@settings(deadline=None)
@given(tagged(removals_max=1, arrived=True))
def test_nothing_is_left_of_an_element_when_each_addition_was_taken_away(deltas: list[tuple[Tags, Tags]]) -> None:
    assert merged("set", deltas) is ABSENT


@settings(deadline=None)
@given(tagged(removals_max=3, arrived=True))
def test_nothing_is_left_of_an_element_that_several_have_removed(deltas: list[tuple[Tags, Tags]]) -> None:
    assert settled("set", merged("set", deltas), deltas) is ABSENT


def test_two_who_remove_the_same_addition_leave_the_same_in_any_order() -> None:
    one, other = (
        merged("set", [added(T1), removed(T1), removed(T1)]),
        merged("set", [removed(T1), removed(T1), added(T1)]),
    )

    assert value("set", one) == value("set", other)
    assert settle_tags(one, lambda _: True) is settle_tags(other, lambda _: True) is ABSENT


def test_two_who_replace_the_same_addition_leave_nothing_of_it() -> None:
    seen = frozenset({T1})

    entry = merged("set", [added(T1), added(T2, instead_of=seen), added(T3, instead_of=seen)])

    assert settle_tags(entry, lambda _: True) == (frozenset({T2, T3}), NO_TAGS)


@pytest.mark.parametrize("entry", [ABSENT, (frozenset({T2}), NO_TAGS)], ids=["absent", "there"])
def test_an_addition_that_its_own_activation_took_away_changes_nothing(entry: Any) -> None:
    pending = merged("set", [removed(T1)], added(T1))

    assert merged("set", [pending], entry) == entry


# -- three hosts


class Change(NamedTuple):
    """That a host changes something: puts or adds it, or takes it away."""

    host: int
    part: int
    number: int
    time_ns: int
    takes: bool


class Arrival(NamedTuple):
    """That one of the changes that are under way to a host arrives."""

    host: int
    place: int


class Host:
    """A host's entries, and what is under way to it."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.stamped = 0
        self.entries: dict[Any, Any] = {}
        self.under_way: list[tuple[Any, Any]] = []

    def stamp(self, time_ns: int) -> Stamp:
        self.stamped += 1
        return time_ns, self.name, self.stamped

    def merge(self, part: Any, delta: Any) -> None:
        entry = merged(self.kind, [delta], self.entries.pop(part, ABSENT))
        if entry is not ABSENT:
            self.entries[part] = entry

    def receive(self, place: int) -> None:
        if self.under_way:
            self.merge(*self.under_way.pop(place % len(self.under_way)))

    def settled(self) -> dict[Any, Any]:
        """Return what is left when it is known that all has arrived."""
        if self.kind != "set":
            return self.entries
        left = {part: settle_tags(entry, lambda _: True) for part, entry in self.entries.items()}
        return {part: entry for part, entry in left.items() if entry is not ABSENT}

    def values(self) -> dict[Any, Any]:
        values = {part: value(self.kind, entry) for part, entry in self.entries.items()}
        return {part: each for part, each in values.items() if each is not ABSENT}

    def delta_of(self, change: Change) -> tuple[Any, Any] | None:
        """Return what a change is, by what this host sees: a part and its delta. None where there is nothing to do."""
        if self.kind in {"counter", "max", "min"}:
            return None, change.number
        if self.kind == "grow_set":
            return change.part, True
        if self.kind == "set":
            tags = self.entries.get(change.part, (NO_TAGS, NO_TAGS))[0]
            if change.takes:
                return (change.part, (NO_TAGS, tags)) if tags else None
            return change.part, (frozenset({self.stamp(change.time_ns)}), tags)
        stamp = self.stamp(change.time_ns)
        if self.kind == "map":
            return change.part, (stamp, ABSENT if change.takes else change.number)
        return (stamp if self.kind == "log" else None), (stamp, change.number)


def a_step() -> st.SearchStrategy[Change | Arrival]:
    host = st.integers(0, 2)
    change = st.builds(Change, host, st.integers(0, 1), st.integers(-9, 9), st.integers(0, 3), st.booleans())
    return change | st.builds(Arrival, host, st.integers(0, 9))


def three_hosts(kind: str, steps: list[Change | Arrival], chance: random.Random) -> tuple[list[Host], list[Any]]:
    """Let three hosts work, and let all that is under way arrive at the end. Return them, and all changes."""
    hosts = [Host(kind, name) for name in "abc"]
    changes = []
    for step in steps:
        host = hosts[step.host]
        if isinstance(step, Arrival):
            host.receive(step.place)
        elif (change := host.delta_of(step)) is not None:
            host.merge(*change)
            changes.append(change)
            for other in hosts:
                if other is not host:
                    other.under_way.append(change)
    while busy := [host for host in hosts if host.under_way]:
        chance.choice(busy).receive(chance.randrange(100))
    return hosts, changes


RUNS = st.lists(a_step(), max_size=25), st.randoms(use_true_random=True)


@pytest.mark.parametrize("kind", MERGES)
@settings(deadline=None)
@given(*RUNS)
def test_three_hosts_come_to_have_the_same(kind: str, steps: list[Change | Arrival], chance: random.Random) -> None:
    hosts, _ = three_hosts(kind, steps, chance)

    assert hosts[0].values() == hosts[1].values() == hosts[2].values()
    entries = [host.settled() for host in hosts]
    assert entries[0] == entries[1] == entries[2]


@settings(deadline=None)
@given(*RUNS)
def test_three_hosts_keep_the_elements_of_which_nobody_has_seen_and_removed_each_addition(
    steps: list[Change | Arrival], chance: random.Random
) -> None:
    hosts, changes = three_hosts("set", steps, chance)

    standing: Counter[int] = Counter()
    gone = {tag for _, (_, removed) in changes for tag in removed}
    for part, (added, _) in changes:
        standing[part] += len(added - gone)
    assert all(host.values() == dict.fromkeys(+standing, True) for host in hosts)


@settings(deadline=None)
@given(*RUNS)
def test_nothing_is_left_on_three_hosts_when_one_has_removed_every_element(
    steps: list[Change | Arrival], chance: random.Random
) -> None:
    hosts, _ = three_hosts("set", steps, chance)

    for part in range(2):
        if (change := hosts[0].delta_of(Change(0, part, 0, 0, takes=True))) is not None:
            for host in hosts:
                host.merge(*change)

    assert [host.settled() for host in hosts] == [{}, {}, {}]


@settings(deadline=None)
@given(*RUNS)
def test_three_hosts_read_one_log_in_one_order(steps: list[Change | Arrival], chance: random.Random) -> None:
    hosts, changes = three_hosts("log", steps, chance)

    for host in hosts:
        assert sorted(host.values().items()) == sorted(delta for _, delta in changes)
