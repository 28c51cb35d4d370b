"""The output gate: nothing leaves before what it follows from is kept, in order, and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow.core.epoch import CUT_COST_S, Gate, pause_after

STEPS = st.lists(st.sampled_from(["work", "hold", "cut", "keep", "dirty cut"]), max_size=60)


class Model:
    """A gate, and beside it a list of all that was done, held, cut and kept, in order."""

    def __init__(self, durable: int) -> None:
        self.gate: Gate[int] = Gate(durable)
        self.first = durable
        self.done = 0  # pieces of work
        self.ends: list[int] = []  # by epoch that was cut, how many pieces were done by then
        self.kept = 0  # of these, how many are durable
        self.needs: dict[int, int] = {}  # by number of what came, how many pieces of work it follows from
        self.left: list[int] = []

    def durable_work(self) -> int:
        return self.ends[self.kept - 1] if self.kept else 0

    def step(self, verb: str) -> None:
        if verb == "work":
            self.done += 1
            self.gate.dirty = True
        elif verb == "hold":
            what = len(self.needs)
            self.needs[what] = self.done
            if not self.gate.hold(what):
                self.leave([what])
        elif verb == "cut" or (verb == "dirty cut" and self.gate.dirty):
            assert self.gate.cut() == self.first + len(self.ends) + 1
            self.ends.append(self.done)
        elif verb == "keep" and self.kept < len(self.ends):
            self.kept += 1
            self.leave(self.gate.kept(self.first + self.kept))

    def leave(self, some: list[int]) -> None:
        for what in some:
            assert self.needs[what] <= self.durable_work(), "it left before what it follows from was durable"
        self.left += some


@given(steps=STEPS, durable=st.integers(0, 5))
def test_nothing_leaves_before_all_that_was_done_before_it_is_durable(steps: list[str], durable: int) -> None:
    model = Model(durable)

    for step in steps:
        model.step(step)  # `leave` looks at each


@given(steps=STEPS)
def test_what_waits_leaves_in_the_order_in_which_it_came(steps: list[str]) -> None:
    model = Model(0)

    for step in steps:
        model.step(step)

    assert model.left == sorted(model.left)


@given(steps=STEPS)
def test_nothing_is_lost_and_nothing_leaves_twice(steps: list[str]) -> None:
    model = Model(0)

    for step in steps:
        model.step(step)
        assert model.gate.waiting == len(model.needs) - len(model.left)
    model.step("cut")
    while model.kept < len(model.ends):
        model.step("keep")

    assert model.left == list(model.needs)
    assert model.gate.waiting == 0


@given(steps=STEPS)
def test_it_leaves_at_once_when_nothing_was_done_since_the_last_durable_epoch(steps: list[str]) -> None:
    model = Model(0)
    for step in steps:
        model.step(step)

    clean = model.done == model.durable_work() and model.kept == len(model.ends)

    assert model.gate.hold(-1) is not clean


@given(steps=STEPS)
def test_what_never_leaves_is_given_back_once_and_whole(steps: list[str]) -> None:
    model = Model(0)
    for step in steps:
        model.step(step)

    dropped = model.gate.drop()

    assert model.left + dropped == list(model.needs)
    assert model.gate.drop() == []
    assert model.gate.waiting == 0


def test_what_comes_while_an_epoch_is_written_waits_for_it_though_nothing_was_done_since() -> None:
    gate: Gate[str] = Gate()
    gate.dirty = True
    number = gate.cut()

    assert gate.hold("a look at what was done")
    assert gate.kept(number) == ["a look at what was done"]


def test_what_comes_while_an_epoch_is_written_and_more_is_done_waits_for_both() -> None:
    gate: Gate[str] = Gate()
    gate.dirty = True
    first = gate.cut()
    gate.dirty = True

    assert gate.hold("later")
    assert gate.kept(first) == []
    assert gate.kept(gate.cut()) == ["later"]


def test_a_gate_goes_on_after_the_last_epoch_of_its_store() -> None:
    gate: Gate[str] = Gate(41)
    assert not gate.hold("at once")
    gate.dirty = True

    assert gate.cut() == 42


@pytest.mark.parametrize("number", [-1, 0, 2, 3])
def test_an_epoch_that_is_not_the_next_is_refused(number: int) -> None:
    gate: Gate[str] = Gate()
    for _ in range(2):
        gate.dirty = True
        gate.cut()

    with pytest.raises(ValueError, match=f"epoch {number} is durable, after 0 and while 3 is being filled"):
        gate.kept(number)

    assert gate.kept(1) == []


def test_the_epoch_being_filled_cannot_be_durable() -> None:
    gate: Gate[str] = Gate()
    gate.dirty = True

    with pytest.raises(ValueError, match="epoch 1 is durable"):
        gate.kept(1)


@given(cut_s=st.floats(0.0, 10.0))
def test_cuts_take_at_most_a_tenth_of_the_time_unless_they_are_cheap(cut_s: float) -> None:
    pause_s = pause_after(cut_s)

    assert pause_s >= 0.0
    assert cut_s <= CUT_COST_S or cut_s / (cut_s + pause_s) == pytest.approx(0.1)
