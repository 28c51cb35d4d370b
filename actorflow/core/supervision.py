"""What a supervisor does when a replica fails: restart whom, when, or escalate.

Invariants
1. Within any window of `within_s` at most `restarts` restarts are decided; the next failure escalates.
2. The pause grows from `backoff_s`, doubling with each restart in the window, to `backoff_max_s`.
3. Which siblings restart follows from the strategy alone: none, those after the failed one, or all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from actorflow.plan.operator import Restart


@dataclass(frozen=True, slots=True)
class RestartThese:
    """Restart the replicas with these indexes, in this order, after a pause."""

    indexes: tuple[int, ...]
    after_s: float


@dataclass(frozen=True, slots=True)
class Escalate:
    """Restarting did not help: the next level must decide."""

    restarts: int
    within_s: float


class Supervision:
    """The decisions for one group of replicas, ordered as in the stream."""

    __slots__ = ("_restarts", "policy")

    def __init__(self, policy: Restart) -> None:
        self.policy = policy
        self._restarts: deque[float] = deque()

    def failed(self, index: int, group: Sequence[int], now_s: float) -> RestartThese | Escalate:
        """Decide what the failure of one replica means. `group` are the indexes of all, in order."""
        policy, recent = self.policy, self._restarts
        while recent and recent[0] <= now_s - policy.within_s:
            recent.popleft()
        if len(recent) >= policy.restarts:
            return Escalate(len(recent), policy.within_s)
        after_s = min(policy.backoff_s * 2.0 ** min(len(recent), 60), policy.backoff_max_s)
        recent.append(now_s)
        if policy.strategy == "one_for_all":
            return RestartThese(tuple(group), after_s)
        if policy.strategy == "rest_for_one":
            return RestartThese(tuple(group[group.index(index) :]), after_s)
        return RestartThese((index,), after_s)


class FailureRate:
    """Whether failed activations come so often that the replica itself must be at fault."""

    __slots__ = ("_failures", "policy")

    def __init__(self, policy: Restart) -> None:
        self.policy = policy
        self._failures: deque[float] = deque()

    def exceeded(self, now_s: float) -> bool:
        """Note a failed activation and return whether there were more than allowed; then counting starts anew."""
        policy, recent = self.policy, self._failures
        if policy.failures is None:
            return False
        recent.append(now_s)
        while recent[0] <= now_s - policy.failures_within_s:
            recent.popleft()
        if len(recent) <= policy.failures:
            return False
        recent.clear()
        return True
