"""Deadlines: against a plain list of (deadline, key)."""

import time

from hypothesis import given
from hypothesis import strategies as st

from actorflow.core.deadlines import NEVER, Deadlines

TIMEOUTS = [1, 2, 5, 5.5, 30, NEVER]
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(TIMEOUTS)),
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.sampled_from([0, 0.5, 1, 3, 40])),
        st.tuples(st.just("due"), st.just(0)),
    ),
    max_size=60,
)


@given(EVENTS)
def test_keys_come_due_once_and_never_early_and_the_next_is_never_missed(events: list[tuple[str, float]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, tuple[float, float]] = {}  # key -> (deadline, time-out)
    added, now = 0, 1000.0

    for event, value in events:
        if event == "add":
            before = deadlines.next_s
            earlier = deadlines.add(added, value, now)
            model[added] = (now + value, value)
            added += 1
            assert earlier == (now + value < before)
        elif event == "discard":
            timeout_s = model.pop(int(value), (0.0, 1.0))[1]
            deadlines.discard(int(value), timeout_s)
        elif event == "wait":
            now += value
        else:
            due = deadlines.due(now)
            assert sorted(due) == sorted(key for key, (deadline, _) in model.items() if deadline <= now)
            for key in due:
                del model[key]
            assert deadlines.next_s == min([deadline for deadline, _ in model.values()], default=NEVER)

        assert deadlines.next_s <= min([deadline for deadline, _ in model.values()], default=NEVER)
        assert len(deadlines) == len(model)


def test_a_key_is_due_at_its_deadline_and_not_before() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 5.0, 100.0)

    assert deadlines.due(104.999) == []
    assert deadlines.due(105.0) == ["a"]
    assert deadlines.due(105.0) == []


def test_what_was_discarded_is_not_due() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 5.0, 0.0)

    deadlines.discard("a", 5.0)

    assert deadlines.due(9.0) == []
    assert len(deadlines) == 0


def test_discarding_what_is_not_there_does_nothing() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 5.0, 0.0)

    deadlines.discard("b", 5.0)
    deadlines.discard("a", 6.0)

    assert deadlines.due(5.0) == ["a"]


def test_rare_time_outs_leave_no_tables_behind_when_they_are_discarded() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(1000):
        deadlines.add(key, 1 + key / 1000, 0.0)

    for key in range(1000):
        deadlines.discard(key, 1 + key / 1000)

    assert len(deadlines._tables) <= 17


def test_rare_time_outs_leave_no_tables_behind_when_they_come_due() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(1000):
        deadlines.add(key, 1 + key / 1000, 0.0)

    deadlines.due(10.0)

    assert len(deadlines._tables) <= 17


def test_many_keys_with_time_outs_of_their_own_come_due_in_linear_time() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(6000):
        deadlines.add(key, 1 + key / 6000, 0.0)
    begun_s = time.process_time()

    assert len(deadlines.due(10.0)) == 6000

    assert time.process_time() - begun_s < 0.5


def test_a_key_that_is_added_again_does_not_delay_the_others() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 5.0, 0.0)
    deadlines.add("b", 5.0, 1.0)

    deadlines.add("a", 5.0, 2.0)

    assert deadlines.due(6.5) == ["b"]
