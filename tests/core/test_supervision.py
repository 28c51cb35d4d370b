"""Supervision: how often, how long after, and whom; against the plainest model of each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow.core.supervision import Escalate, FailureRate, RestartThese, Supervision
from actorflow.plan.operator import Restart

INSTANTS = st.lists(st.integers(0, 12), max_size=30).map(lambda gaps: [sum(gaps[: n + 1]) for n in range(len(gaps))])
"""Instants in order, whole seconds, so that the model's arithmetic is exact."""


@given(INSTANTS, st.integers(0, 4), st.integers(1, 20))
def test_at_most_so_many_restarts_are_decided_in_any_window(instants: list[int], restarts: int, within: int) -> None:
    supervision = Supervision(Restart(restarts=restarts, within_s=within))

    decided = [now for now in instants if isinstance(supervision.failed(0, [0], now), RestartThese)]

    for start in decided:
        assert sum(start <= each < start + within for each in decided) <= restarts


@given(INSTANTS, st.integers(0, 4), st.integers(1, 20))
def test_a_failure_escalates_only_when_the_window_before_it_is_full(
    instants: list[int], restarts: int, within: int
) -> None:
    supervision = Supervision(Restart(restarts=restarts, within_s=within))
    decided: list[int] = []

    for now in instants:
        decision = supervision.failed(0, [0], now)

        recent = sum(now - within < each <= now for each in decided)
        assert isinstance(decision, Escalate) == (recent >= restarts)
        if isinstance(decision, RestartThese):
            decided.append(now)
        else:
            assert decision == Escalate(recent, within)


@given(INSTANTS, st.integers(1, 8), st.integers(1, 20), st.sampled_from([0.25, 1.0, 4.0]))
def test_the_pause_doubles_with_each_restart_in_the_window_up_to_its_maximum(
    instants: list[int], restarts: int, within: int, longest_s: float
) -> None:
    policy = Restart(restarts=restarts, within_s=within, backoff_s=0.125, backoff_max_s=longest_s)
    supervision = Supervision(policy)
    decided: list[int] = []

    for now in instants:
        decision = supervision.failed(0, [0], now)

        if isinstance(decision, RestartThese):
            pause_s = 0.125
            for _ in [each for each in decided if each > now - within]:
                pause_s *= 2
            assert decision.after_s == min(pause_s, longest_s)
            decided.append(now)


def test_the_pause_of_the_thousandth_restart_is_still_the_longest() -> None:
    supervision = Supervision(Restart(restarts=5000, backoff_s=0.1, backoff_max_s=10.0))

    pauses = [supervision.failed(0, [0], 0.0).after_s for _ in range(2000)]  # type: ignore[union-attr]

    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert set(pauses[7:]) == {10.0}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("one_for_one", (5,)), ("rest_for_one", (5, 2, 9)), ("one_for_all", (7, 5, 2, 9))],
)
def test_the_strategy_says_which_siblings_restart_in_the_order_of_the_group(strategy: Any, expected: object) -> None:
    supervision = Supervision(Restart(strategy=strategy))

    decision = supervision.failed(5, [7, 5, 2, 9], 0.0)

    assert decision == RestartThese(expected, 0.1)  # type: ignore[arg-type]


def test_a_policy_without_restarts_escalates_at_once() -> None:
    assert Supervision(Restart(restarts=0)).failed(0, [0], 0.0) == Escalate(0, 60.0)


def test_a_failure_one_window_after_the_first_is_a_first_one_again() -> None:
    supervision = Supervision(Restart(restarts=1, within_s=10.0))
    supervision.failed(0, [0], 100.0)

    just_before, exactly = supervision.failed(0, [0], 109.5), supervision.failed(0, [0], 110.0)

    assert isinstance(just_before, Escalate)
    assert exactly == RestartThese((0,), 0.1)


# Failure rate


@given(INSTANTS, st.integers(0, 4), st.integers(1, 20))
def test_the_failure_rate_is_exceeded_by_one_more_than_allowed_and_counting_starts_anew(
    instants: list[int], failures: int, within: int
) -> None:
    rate = FailureRate(Restart(failures=failures, failures_within_s=within))
    since: list[int] = []

    for now in instants:
        exceeded = rate.exceeded(now)

        since = [each for each in [*since, now] if each > now - within]
        assert exceeded == (len(since) > failures)
        if exceeded:
            since = []


@given(INSTANTS)
def test_a_policy_without_a_failure_rate_is_never_exceeded(instants: list[int]) -> None:
    rate = FailureRate(Restart(failures=None))

    assert not any(rate.exceeded(now) for now in instants)
