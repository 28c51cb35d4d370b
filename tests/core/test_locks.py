"""Locks: one alone or many who share, in the order of asking, and nobody who could hold a key is forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from actorflow.core.locks import Locks

Step: TypeAlias = tuple[str, Any, Any]

OWNERS: tuple[Any, ...] = (0, "", "b", ("c", 1), "d")
KEYS: tuple[Any, ...] = (None, "k")


# -- who may hold a key


def test_a_free_key_is_granted_at_once() -> None:
    locks: Locks[str] = Locks()

    assert locks.ask("a", "k")

    assert locks.holders("k") == ["a"]
    assert locks.is_exclusive("a", "k")
    assert list(locks.keys_of("a")) == ["k"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_key_that_one_holds_alone_is_granted_to_nobody_else(shared: bool) -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")

    assert not locks.ask("b", "k", shared=shared)

    assert locks.holders("k") == ["a"]
    assert locks.waiting("k") == ["b"]


def test_a_key_may_be_shared_by_any_number() -> None:
    locks: Locks[str] = Locks()

    assert all(locks.ask(owner, "k", shared=True) for owner in "abc")

    assert locks.holders("k") == ["a", "b", "c"]
    assert not any(locks.is_exclusive(owner, "k") for owner in "abc")


def test_a_key_that_is_shared_is_not_granted_alone() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)

    assert not locks.ask("b", "k")

    assert locks.holders("k") == ["a"]


def test_keys_do_not_hinder_one_another() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k")

    assert locks.ask("b", "l")

    assert locks.waiting("k") == ["b"]
    assert list(locks.keys_of("b")) == ["l"]


@pytest.mark.parametrize("owner", [0, "", (), frozenset()], ids=repr)
def test_any_hashable_value_is_an_owner(owner: Hashable) -> None:
    locks: Locks[Hashable] = Locks()
    locks.ask(owner, "k")

    assert not locks.ask("b", "k")

    assert locks.holders("k") == [owner]
    assert locks.blockers("b", "k") == [owner]


@pytest.mark.parametrize("key", [0, "", (), frozenset(), None], ids=repr)
def test_any_hashable_value_is_a_key(key: Hashable) -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", key)

    assert not locks.ask("b", key)

    assert locks.release("a") == [("b", key)]


# -- asking again


@pytest.mark.parametrize("shared", [False, True])
def test_asking_for_what_is_held_alone_changes_nothing(shared: bool) -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")

    assert locks.ask("a", "k", shared=shared)

    assert locks.is_exclusive("a", "k")
    assert list(locks.keys_of("a")) == ["k"]


def test_asking_to_share_what_is_shared_changes_nothing() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)

    assert locks.ask("a", "k", shared=True)

    assert locks.holders("k") == ["a"]
    assert not locks.is_exclusive("a", "k")


@pytest.mark.parametrize("shared", [False, True])
def test_a_holder_who_asks_again_does_not_wait_behind_those_who_wait(shared: bool) -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=shared)
    locks.ask("b", "k")

    assert locks.ask("a", "k", shared=shared)

    assert locks.waiting("k") == ["b"]


def test_what_was_asked_for_twice_is_released_once() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("a", "k")

    locks.release("a")

    assert locks.idle


@pytest.mark.parametrize("shared", [False, True])
def test_who_asks_twice_for_what_it_waits_for_waits_once(shared: bool) -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k", shared=shared)

    assert not locks.ask("b", "k", shared=shared)

    assert locks.waiting("k") == ["b"]
    assert locks.release("a") == [("b", "k")]
    assert locks.release("b") == []


def test_who_waits_to_share_and_then_wants_it_alone_keeps_its_place() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k", shared=True)
    locks.ask("c", "k", shared=True)

    assert not locks.ask("b", "k")

    assert locks.waiting("k") == ["b", "c"]
    assert locks.release("a") == [("b", "k")]
    assert locks.is_exclusive("b", "k")


def test_who_waits_to_have_it_alone_does_not_get_less_by_asking_to_share() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k")

    assert not locks.ask("b", "k", shared=True)

    assert locks.release("a") == [("b", "k")]
    assert locks.is_exclusive("b", "k")


# -- from sharing to holding alone


def test_the_only_one_who_shares_a_key_may_have_it_alone_at_once() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)

    assert locks.ask("a", "k")

    assert locks.is_exclusive("a", "k")
    assert list(locks.keys_of("a")) == ["k"]


def test_the_only_one_who_shares_a_key_goes_before_those_who_wait() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k")

    assert locks.ask("a", "k")

    assert locks.is_exclusive("a", "k")
    assert locks.waiting("k") == ["b"]


def test_one_of_several_who_share_waits_until_the_others_have_ended() -> None:
    locks: Locks[str] = Locks()
    for owner in "abc":
        locks.ask(owner, "k", shared=True)

    assert not locks.ask("a", "k")

    assert locks.release("b") == []
    assert locks.release("c") == [("a", "k")]
    assert locks.is_exclusive("a", "k")


def test_who_shares_a_key_and_waits_to_have_it_alone_still_shares_it() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("a", "k")

    assert locks.ask("a", "k", shared=True)

    assert locks.holders("k") == ["a", "b"]
    assert list(locks.keys_of("a")) == ["k"]
    assert not locks.is_exclusive("a", "k")


def test_who_shares_a_key_and_wants_it_alone_goes_before_those_who_have_nothing_of_it() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("c", "k")

    locks.ask("a", "k")

    assert locks.waiting("k") == ["a", "c"]
    assert locks.release("b") == [("a", "k")]
    assert locks.release("a") == [("c", "k")]


def test_nobody_shares_a_key_any_more_that_one_who_shares_it_wants_alone() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("a", "k")

    assert not locks.ask("c", "k", shared=True)

    assert locks.waiting("k") == ["a", "c"]


def test_two_who_share_a_key_and_want_it_alone_wait_for_each_other() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("a", "k")

    assert not locks.ask("b", "k")

    assert set(locks.blockers("a", "k")) == {"b"}
    assert set(locks.blockers("b", "k")) == {"a"}
    assert locks.release("a") == [("b", "k")]
    assert locks.is_exclusive("b", "k")


def test_who_gives_up_to_have_a_key_alone_goes_on_sharing_it() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("a", "k")
    locks.ask("c", "k", shared=True)

    assert locks.withdraw("a", "k") == [("c", "k")]

    assert locks.holders("k") == ["a", "b", "c"]


# -- in the order of asking


def test_those_who_wait_are_let_in_one_by_one_in_the_order_of_asking() -> None:
    locks: Locks[str] = Locks()
    for owner in "abc":
        locks.ask(owner, "k")

    assert locks.release("a") == [("b", "k")]
    assert locks.release("b") == [("c", "k")]
    assert locks.release("c") == []


def test_one_who_would_share_waits_behind_one_who_waits_to_have_the_key_alone() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k")

    assert not locks.ask("c", "k", shared=True)

    assert locks.holders("k") == ["a"]
    assert locks.waiting("k") == ["b", "c"]
    assert locks.release("a") == [("b", "k")]


def test_neighbours_who_would_share_are_let_in_together() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k", shared=True)
    locks.ask("c", "k", shared=True)
    locks.ask("d", "k")
    locks.ask("e", "k", shared=True)

    assert locks.release("a") == [("b", "k"), ("c", "k")]

    assert locks.holders("k") == ["b", "c"]
    assert locks.waiting("k") == ["d", "e"]


def test_one_who_waits_to_have_a_key_alone_waits_for_the_last_who_shares_it() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("c", "k")

    assert locks.release("a") == []
    assert locks.release("b") == [("c", "k")]


# -- giving up


def test_giving_up_lets_in_those_who_waited_for_that_alone() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k")
    locks.ask("c", "k", shared=True)
    locks.ask("d", "k", shared=True)

    assert locks.withdraw("b", "k") == [("c", "k"), ("d", "k")]

    assert locks.holders("k") == ["a", "c", "d"]
    assert locks.waiting("k") == []


def test_giving_up_in_the_middle_lets_nobody_overtake() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    for owner in "bcd":
        locks.ask(owner, "k")

    assert locks.withdraw("c", "k") == []

    assert locks.waiting("k") == ["b", "d"]


def test_who_gives_up_is_never_let_in() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k")

    locks.withdraw("b", "k")

    assert locks.release("a") == []
    assert locks.idle


def test_who_gives_up_and_asks_again_waits_at_the_end() -> None:
    locks: Locks[str] = Locks()
    for owner in "abc":
        locks.ask(owner, "k")
    locks.withdraw("b", "k")

    locks.ask("b", "k")

    assert locks.waiting("k") == ["c", "b"]


def test_who_gives_up_one_key_still_waits_for_the_other() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("a", "l")
    locks.ask("b", "k")
    locks.ask("b", "l")

    locks.withdraw("b", "k")

    assert list(locks.wanted()) == [("b", "l")]
    assert locks.release("a") == [("b", "l")]


@pytest.mark.parametrize("owner", ["a", "stranger"])
def test_giving_up_what_one_does_not_wait_for_changes_nothing(owner: str) -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k")

    assert locks.withdraw(owner, "k") == []

    assert locks.holders("k") == ["a"]
    assert locks.waiting("k") == ["b"]


# -- the end of an owner


def test_the_end_of_an_owner_frees_all_that_it_holds() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("a", "l", shared=True)
    locks.ask("a", "m")
    locks.ask("b", "k")
    locks.ask("c", "l")

    let_in = locks.release("a")

    assert sorted(let_in) == [("b", "k"), ("c", "l")]
    assert "m" not in locks.held
    assert list(locks.keys_of("a")) == []


def test_the_end_of_an_owner_that_waits_lets_in_those_behind_it() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k")
    locks.ask("c", "k", shared=True)

    assert locks.release("b") == [("c", "k")]


def test_the_end_of_an_owner_that_holds_one_key_and_waits_for_another_frees_both() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "l")
    locks.ask("b", "k")
    locks.ask("c", "k", shared=True)
    locks.ask("d", "l")

    let_in = locks.release("b")

    assert sorted(let_in) == [("c", "k"), ("d", "l")]
    assert list(locks.wanted()) == []


def test_the_end_of_an_owner_that_shares_a_key_and_waits_to_have_it_alone_frees_it_once() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("a", "k")
    locks.ask("c", "k", shared=True)
    locks.ask("d", "k")

    assert locks.release("a") == [("c", "k")]

    assert locks.holders("k") == ["b", "c"]
    assert locks.waiting("k") == ["d"]


def test_the_end_of_an_owner_that_has_nothing_changes_nothing() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k")

    assert locks.release("stranger") == []

    assert locks.holders("k") == ["a"]
    assert locks.waiting("k") == ["b"]


def test_an_owner_ends_once() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k")
    locks.release("a")

    assert locks.release("a") == []

    assert locks.holders("k") == ["b"]


def test_a_key_that_nobody_holds_is_not_in_the_table() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("a", "l", shared=True)

    locks.release("a")

    assert not locks.held
    assert locks.idle


def test_locks_are_idle_until_somebody_asks() -> None:
    locks: Locks[str] = Locks()

    assert locks.idle

    locks.ask("a", "k")
    assert not locks.idle


# -- who waits for whom


def test_one_waits_for_who_holds_the_key_alone() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k", shared=True)

    assert locks.blockers("b", "k") == ["a"]


def test_one_who_wants_a_key_alone_waits_for_all_who_share_it() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("c", "k")

    assert sorted(locks.blockers("c", "k")) == ["a", "b"]


def test_one_waits_for_all_who_asked_earlier_and_for_nobody_who_asked_later() -> None:
    locks: Locks[str] = Locks()
    for owner in "abcd":
        locks.ask(owner, "k")

    assert sorted(locks.blockers("c", "k")) == ["a", "b"]


def test_one_who_would_share_waits_for_nobody_who_would_share_too() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k", shared=True)
    locks.ask("c", "k")
    locks.ask("d", "k", shared=True)

    assert sorted(locks.blockers("d", "k")) == ["a", "c"]


def test_one_who_would_share_a_shared_key_waits_for_those_alone_who_want_it_alone() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k")
    locks.ask("c", "k", shared=True)

    assert locks.blockers("c", "k") == ["b"]


def test_one_who_shares_a_key_and_wants_it_alone_waits_for_the_others_and_not_for_itself() -> None:
    locks: Locks[str] = Locks()
    for owner in "abc":
        locks.ask(owner, "k", shared=True)
    locks.ask("d", "k")
    locks.ask("b", "k")

    assert sorted(locks.blockers("b", "k")) == ["a", "c"]


def test_holders_and_strangers_wait_for_nobody() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k")
    locks.ask("b", "k")

    assert locks.blockers("a", "k") == []
    assert locks.blockers("stranger", "k") == []
    assert locks.blockers("b", "l") == []


def test_one_who_shares_a_key_and_wants_it_alone_is_waited_for_once() -> None:
    locks: Locks[str] = Locks()
    locks.ask("a", "k", shared=True)
    locks.ask("b", "k", shared=True)
    locks.ask("a", "k")
    locks.ask("c", "k")

    assert sorted(locks.blockers("c", "k")) == ["a", "b"]


# -- any sequence


def a_step() -> st.SearchStrategy[Step]:
    verbs = st.sampled_from(["alone", "alone", "share", "share", "share", "withdraw", "release"])
    return st.tuples(verbs, st.sampled_from(OWNERS), st.sampled_from(KEYS))


def carry_out(locks: Locks[Any], step: Step) -> list[tuple[Any, Any]]:
    """Carry out a step and return who was let in by it."""
    verb, owner, key = step
    if verb == "release":
        return locks.release(owner)
    if verb == "withdraw":
        return locks.withdraw(owner, key)
    locks.ask(owner, key, shared=verb == "share")
    return []


def after(steps: list[Step]) -> Locks[Any]:
    locks: Locks[Any] = Locks()
    for step in steps:
        carry_out(locks, step)
    return locks


@settings(max_examples=150, deadline=None)
@given(st.lists(a_step(), max_size=25))
def test_whoever_waits_is_let_in_when_all_it_waits_for_have_ended(steps: list[Step]) -> None:
    for owner, key in list(after(steps).wanted()):
        locks = after(steps)
        blockers = set(locks.blockers(owner, key))

        let_in = [pair for blocker in blockers for pair in locks.release(blocker)]

        assert let_in.count((owner, key)) == 1
        assert owner in locks.holders(key)
        assert owner not in locks.waiting(key)


@settings(max_examples=150, deadline=None)
@given(st.lists(a_step(), max_size=25))
def test_whoever_waits_is_not_let_in_before_the_last_it_waits_for_has_ended(steps: list[Step]) -> None:
    for owner, key in list(after(steps).wanted()):
        for last in set(after(steps).blockers(owner, key)):
            locks = after(steps)

            let_in = [pair for each in OWNERS if each not in {owner, last} for pair in locks.release(each)]

            assert (owner, key) not in let_in
            assert last in locks.blockers(owner, key)


@settings(max_examples=150, deadline=None)
@given(st.lists(a_step(), max_size=25), st.permutations(OWNERS))
def test_nothing_is_left_when_all_owners_have_ended(steps: list[Step], ending: list[Any]) -> None:
    locks = after(steps)

    let_in = [pair for owner in ending for pair in locks.release(owner)]

    assert locks.idle
    assert len(let_in) == len(set(let_in))
    assert all(locks.blockers(owner, key) == [] for owner in OWNERS for key in KEYS)


# -- the same as a slow model


class Claim:
    """That an owner holds a key, or that it wants to."""

    def __init__(self, owner: Any, key: Any, *, shared: bool) -> None:
        self.owner = owner
        self.key = key
        self.shared = shared

    def excludes(self, other: Claim) -> bool:
        return self.key == other.key and self.owner != other.owner and not (self.shared and other.shared)


class Model:
    """Grants, and waits in the order of asking: each question is answered by looking at all of them."""

    def __init__(self) -> None:
        self.grants: list[Claim] = []
        self.waits: list[Claim] = []

    def grant_of(self, owner: Any, key: Any) -> Claim | None:
        return next((each for each in self.grants if (each.owner, each.key) == (owner, key)), None)

    def wait_of(self, owner: Any, key: Any) -> Claim | None:
        return next((each for each in self.waits if (each.owner, each.key) == (owner, key)), None)

    def holds(self, owner: Any, key: Any, *, shared: bool) -> bool:
        grant = self.grant_of(owner, key)
        return grant is not None and (shared or not grant.shared)

    def in_turn(self, key: Any) -> list[Claim]:
        """Those who wait for a key: who has a share of it first, all others after them."""
        waits = [wait for wait in self.waits if wait.key == key]
        return sorted(waits, key=lambda wait: self.grant_of(wait.owner, key) is None)

    def in_the_way_of(self, wait: Claim) -> set[Any]:
        turn = self.in_turn(wait.key)
        claims = [*self.grants, *turn[: turn.index(wait)]]
        return {claim.owner for claim in claims if claim.excludes(wait)}

    def settle(self) -> list[tuple[Any, Any]]:
        """Grant whatever can be granted, one after another, and return it."""
        granted = []
        while free := [wait for key in KEYS for wait in self.in_turn(key) if not self.in_the_way_of(wait)]:
            wait = free[0]
            self.waits.remove(wait)
            self.grants = [each for each in self.grants if (each.owner, each.key) != (wait.owner, wait.key)]
            self.grants.append(wait)
            granted.append((wait.owner, wait.key))
        return granted

    def ask(self, owner: Any, key: Any, *, shared: bool) -> list[tuple[Any, Any]]:
        if self.holds(owner, key, shared=shared):
            return []
        wait = self.wait_of(owner, key)
        if wait is None:
            self.waits.append(Claim(owner, key, shared=shared))
        elif not shared:
            wait.shared = False
        return self.settle()

    def withdraw(self, owner: Any, key: Any) -> list[tuple[Any, Any]]:
        self.waits = [wait for wait in self.waits if (wait.owner, wait.key) != (owner, key)]
        return self.settle()

    def release(self, owner: Any) -> list[tuple[Any, Any]]:
        self.waits = [wait for wait in self.waits if wait.owner != owner]
        self.grants = [grant for grant in self.grants if grant.owner != owner]
        return self.settle()


class LocksAgainstModel(RuleBasedStateMachine):
    """The same calls to both, and all answers compared after each."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: Locks[Any] = Locks()
        self.model = Model()
        self.held_before: dict[Any, list[Any]] = {}
        self.asked: dict[tuple[Any, Any], int] = {}
        """When whoever waits for a key has asked for it first."""
        self.clock = itertools.count()

    @rule(owner=st.sampled_from(OWNERS), key=st.sampled_from(KEYS), shared=st.booleans())
    def ask(self, owner: Any, key: Any, shared: bool) -> None:
        self.begin()
        self.asked.setdefault((owner, key), next(self.clock))
        granted = self.model.ask(owner, key, shared=shared)

        holds = self.locks.ask(owner, key, shared=shared)

        assert set(granted) <= {(owner, key)}, "an ask lets nobody else in, since it could not be named"
        assert holds == self.model.holds(owner, key, shared=shared)
        self.check_granted([(owner, key)] if holds and self.is_new(owner, key) else [])

    @rule(owner=st.sampled_from(OWNERS), key=st.sampled_from(KEYS))
    def withdraw(self, owner: Any, key: Any) -> None:
        self.begin()
        granted = self.model.withdraw(owner, key)

        let_in = self.locks.withdraw(owner, key)

        assert let_in == granted
        self.check_granted(let_in)

    @precondition(lambda self: self.model.waits)
    @rule(data=st.data())
    def withdraw_one_that_waits(self, data: st.DataObject) -> None:
        wait = data.draw(st.sampled_from(self.model.waits))

        self.withdraw(wait.owner, wait.key)

    @rule(owner=st.sampled_from(OWNERS))
    def release(self, owner: Any) -> None:
        self.begin()
        granted = self.model.release(owner)

        let_in = self.locks.release(owner)

        assert sorted(let_in, key=repr) == sorted(granted, key=repr)
        for key in KEYS:
            assert [pair for pair in let_in if pair[1] == key] == [pair for pair in granted if pair[1] == key]
        assert list(self.locks.keys_of(owner)) == []
        self.check_granted(let_in)

    def begin(self) -> None:
        self.held_before = {key: self.locks.holders(key) for key in KEYS}

    def is_new(self, owner: Any, key: Any) -> bool:
        return owner not in self.held_before[key]

    def check_granted(self, granted: list[tuple[Any, Any]]) -> None:
        """Nobody is named twice, and nobody has overtaken who asked earlier and could not hold the key as well."""
        assert len(granted) == len(set(granted))
        gained = {(owner, key) for key in KEYS for owner in self.locks.holders(key) if self.is_new(owner, key)}
        assert gained <= set(granted), "whoever is let in is named"
        for owner, key in gained:
            for wait in self.model.waits:
                if wait.key == key and self.asked[wait.owner, key] < self.asked[owner, key]:
                    both = wait.shared and not self.locks.is_exclusive(owner, key)
                    assert both, f"{owner!r} has overtaken {wait.owner!r}"
        waits = {(wait.owner, wait.key) for wait in self.model.waits}
        self.asked = {pair: at for pair, at in self.asked.items() if pair in waits}

    @invariant()
    def a_key_has_one_holder_or_some_who_share_it(self) -> None:
        for key in KEYS:
            holders = self.locks.holders(key)
            assert len(holders) == len(set(holders))
            if any(self.locks.is_exclusive(owner, key) for owner in OWNERS):
                assert len(holders) == 1

    @invariant()
    def whoever_can_hold_a_key_holds_it(self) -> None:
        for key in KEYS:
            grants = {grant.owner: grant for grant in self.model.grants if grant.key == key}
            assert set(self.locks.holders(key)) == set(grants)
            for owner in OWNERS:
                alone = owner in grants and not grants[owner].shared
                assert self.locks.is_exclusive(owner, key) == alone

    @invariant()
    def whoever_waits_does_so_in_turn(self) -> None:
        for key in KEYS:
            assert self.locks.waiting(key) == [wait.owner for wait in self.model.in_turn(key)]
        wanted = list(self.locks.wanted())
        assert len(wanted) == len(set(wanted)) == len(self.model.waits)
        assert set(wanted) == {(wait.owner, wait.key) for wait in self.model.waits}

    @invariant()
    def whom_one_waits_for_is_in_the_way(self) -> None:
        for owner, key in itertools.product(OWNERS, KEYS):
            wait = self.model.wait_of(owner, key)
            blockers = self.locks.blockers(owner, key)
            assert bool(blockers) == (wait is not None)
            assert set(blockers) == (self.model.in_the_way_of(wait) if wait is not None else set())

    @invariant()
    def what_belongs_to_an_owner_is_kept_with_it(self) -> None:
        for owner in OWNERS:
            keys = list(self.locks.keys_of(owner))
            assert len(keys) == len(set(keys))
            assert set(keys) == {grant.key for grant in self.model.grants if grant.owner == owner}

    @invariant()
    def the_table_has_no_key_that_nobody_holds(self) -> None:
        assert set(self.locks.held) == {grant.key for grant in self.model.grants}
        assert self.locks.idle == (not self.model.grants and not self.model.waits)


def test_locks_answer_as_a_slow_model_does() -> None:
    run_state_machine_as_test(
        LocksAgainstModel, settings=settings(max_examples=200, stateful_step_count=40, deadline=None)
    )


@settings(max_examples=300)
@given(
    before=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), max_size=8),
    owner=st.integers(0, 3),
    keys=st.lists(st.integers(0, 4), max_size=4),
)
def test_free_keys_are_taken_at_once_as_if_each_had_been_asked_for(
    before: list[tuple[int, int, bool]], owner: int, keys: list[int]
) -> None:
    quick: Locks[int] = Locks()
    slow: Locks[int] = Locks()
    for other, key, shared in before:
        assert quick.ask(other, key, shared=shared) == slow.ask(other, key, shared=shared)
    nobody_waits = not list(slow.wanted())
    free = all(not slow.holders(key) for key in keys)

    taken = quick.take_free(owner, keys)

    assert taken == (nobody_waits and free)
    if taken:
        assert all(slow.ask(owner, key) for key in keys)
    for key in range(5):
        assert quick.holders(key) == slow.holders(key)
        assert quick.waiting(key) == slow.waiting(key)
        assert quick.is_exclusive(owner, key) == slow.is_exclusive(owner, key)
    assert sorted(quick.release(owner)) == sorted(slow.release(owner))
    assert [quick.holders(key) for key in range(5)] == [slow.holders(key) for key in range(5)]
