"""The gates of loops that go in synchronous rounds.

A gate keeps what is to go back until progress says that nothing of the round is left anywhere (see `core.progress`);
then it folds the votes, decides whether another round follows, and lets go what came back, or lets it leave.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from actorflow.envelope import Context
from actorflow.errors import ItemBudgetError, RoundLimitError
from actorflow.plan.loops import Loop
from actorflow.plan.rounds import UNSET, LoopEnd, Rounds
from actorflow.plan.topology import Delta, Step
from actorflow.runtime.replica import FAILURES, SLICE_S, WAITING
from actorflow.runtime.request import Request
from actorflow.runtime.steps import Folding, Joining, Node, Put, nowhere

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import OperatorNode, Wiring

Delivery = tuple[Put, Context | None, list[Any]]


class Round:
    """A synchronous loop of one request.

    round: the one that is under way, -1 while what the first one works on is gathered.
    state: what the last one amounted to.   value: what the votes of this one do.
    kept: what has come back, `(node, context, items)`.   size: how many items are kept in all.
    own: what the node that keeps items of its own has (a replay, a delta).   last: the number of rounds at the most.
    """

    __slots__ = ("kept", "last", "own", "round", "size", "state", "value")

    def __init__(self, first: int, last: int | None, state: Any, value: Any) -> None:
        self.round = first
        self.last = last
        self.state = state
        self.value = value
        self.kept: list[tuple[Turn, Context | None, list[Any]]] = []
        self.size = 0
        self.own: Any = None


class Gate:
    """Where the rounds of a synchronous loop end.

    members: the nodes where items turn back.   watching: operators with `on_round_end`.   always: folds that have a
    result in every round, and loops within this one, which have gates of their own for theirs.   joins: with a side
    (True: the right one) whose items are of one round.
    """

    __slots__ = (
        "_first",
        "_synchronous",
        "always",
        "joins",
        "members",
        "number",
        "rounds",
        "rounds_done",
        "stream",
        "watching",
    )

    def __init__(self, stream: Wiring, loop: Loop) -> None:
        assert loop.gate is not None
        self.stream = stream
        self.number = loop.gate
        self.rounds = loop.rounds or Rounds()
        self.rounds_done = 0
        self.members: list[Turn] = []
        self.watching: list[OperatorNode] = []
        self.always: list[Folding | Gate] = []
        self.joins: list[tuple[Joining, bool]] = []
        self._synchronous = loop.synchronous
        gathers = isinstance(stream.topology.steps[loop.gate], Delta) and loop.synchronous
        self._first = -1 if gathers else 0

    @property
    def node(self) -> Node:
        """Return the node in whose place the gate stands."""
        node: Node = self.stream.nodes[self.number]
        return node

    def run_of(self, request: Request) -> Round | None:
        """Return the loop of a request, None when it has not begun or is over."""
        run: Round | None = request.details.folds.get(self.number) if request.details is not None else None
        return run

    def begin(self, request: Request) -> Round | None:
        """Begin the loop of a request unless it has begun; None when that failed, or the request has ended.

        A loop begins with its request, or with a round of the loop around it, as a fold does that has a result even
        when no item came.
        """
        if request.state:
            return None
        run = self.run_of(request)
        if run is None:
            rounds = self.rounds
            try:
                state, value = rounds.begin_state(request), rounds.begin_value(request)
                run = Round(self._first, rounds.last_round(request), state, value)
            except FAILURES as error:
                request.fail(self.node.error_of(None, request, "the beginning of a loop", error))
                return None
            for member in self.members:
                member.prepare(run)
            request.more().own("folds")[self.number] = run
            assert request.progress is not None
            request.progress.hold(self.number)
            if run.round >= 0:
                self._begin_round(request)
        return run

    def _begin_round(self, request: Request) -> None:
        assert request.progress is not None
        for join, right in self.joins:
            join.forget(request, right=right)
        for operator in self.watching:
            request.progress.hold(operator.number)
        for each in self.always:
            each.begin(request)

    def vote(self, request: Request, value: Any) -> None:
        """Fold a vote into the round of a request."""
        run = self.run_of(request)
        if run is None or request.state:
            return
        assert self.rounds.fold is not None
        try:
            run.value = value if run.value is UNSET else self.rounds.fold(run.value, value)
        except FAILURES as error:
            request.fail(self.node.error_of(None, request, value, error))

    def keep(self, request: Request, node: Turn, context: Context | None, items: list[Any]) -> None:
        """Keep what is to go back when the round ends."""
        run = self.begin(request)
        if run is None:
            return
        kept = run.kept
        if kept and kept[-1][0] is node and kept[-1][1] is context:
            kept[-1][2].extend(items)
        else:
            kept.append((node, context, items))
        self.grow(request, run, len(items))

    def grow(self, request: Request, run: Round, count: int) -> None:
        """Count what is kept, which is no item of the request while it is, and hold it to the same limit."""
        run.size += count
        limit = self.stream.host.limits.items_per_request
        if run.size > limit:
            request.fail(
                ItemBudgetError(
                    f"{self.stream.name}/{self.node.name} keeps {run.size} items for its rounds (limit {limit}); "
                    "send less round, or raise Limits(items_per_request=…)",
                    stream=self.stream.name,
                    operator=self.node.name,
                )
            )

    def finish(self, request: Request) -> bool:
        """End a round; return False when what comes of it is still being let go."""
        host = self.stream.host
        if host.clock() - host.began > SLICE_S:
            host.enqueue_bulk(Opening(self, request, None))
            return False
        deliveries = self.turn(request)
        if request.state or sum(len(items) for _, _, items in deliveries) <= host.limits.batch_items:
            for put, context, items in deliveries:
                if request.state:
                    break
                put(request, context, items)
            self.opened(request)
            return True
        host.enqueue_bulk(Opening(self, request, deliveries))
        return False

    def opened(self, request: Request) -> None:
        """Give up the guards that kept the next round from ending before all of it had begun."""
        for region in self.stream.regions.opening[self.number]:
            request.counts[region] -= 1

    def turn(self, request: Request) -> list[Delivery]:
        """Decide whether another round follows, and return what is to be let go then."""
        run = self.run_of(request)
        assert run is not None
        rounds, stream = self.rounds, self.stream
        try:
            if counts := self._synchronous and run.round >= 0:
                value = None if run.value is UNSET else run.value
                if rounds.update is not None:
                    run.state = rounds.update(run.state, value)
                elif rounds.fold is not None and run.value is not UNSET:
                    run.state = value
                run.value = rounds.begin_value(request)
            over = counts and rounds.is_over(run.state, request)
        except FAILURES as error:
            request.fail(self.node.error_of(None, request, f"the end of round {run.round}", error))
            return []
        run.round += self._synchronous
        self.rounds_done += counts
        over = over or not any(member.has_more(run) for member in self.members) or run.round == run.last
        deliveries: list[Delivery] = []
        if over:
            assert request.details is not None
            del request.details.folds[self.number]
            for member in self.members:
                deliveries += member.leave(run)
            return deliveries
        if run.round >= stream.host.limits.rounds:
            request.fail(too_many_rounds(self.node, request, run.round))
            return []
        assert request.progress is not None
        request.progress.hold(self.number)
        self._begin_round(request)
        if request.state:
            return []
        try:
            for member in self.members:
                deliveries += member.again(run)
        except FAILURES as error:
            request.fail(self.node.error_of(None, request, f"the beginning of round {run.round}", error))
            return []
        if run.kept:
            run.kept, run.size = [], 0
        return deliveries


class Opening:
    """A gate that opens: in a turn of its own, since this one has lasted long enough, or slice by slice.

    at_work: the request that pays when a turn fails.
    """

    __slots__ = ("_gate", "_parts", "_request", "at_work", "scheduled")

    def __init__(self, gate: Gate, request: Request, deliveries: list[Delivery] | None) -> None:
        self._gate = gate
        self._request = self.at_work = request
        self.scheduled = WAITING
        request.more().own("releases")[self._forget] = None  # before the budget is looked at, which may end the request
        self._parts = self._cut(deliveries) if deliveries is not None else None

    def _cut(self, deliveries: list[Delivery]) -> deque[Delivery]:
        size = self._gate.stream.host.limits.batch_items
        total = sum(len(items) for _, _, items in deliveries)
        self._request.grow(total, 0)
        return deque(
            (put, context, items[start : start + size])
            for put, context, items in deliveries
            for start in range(0, len(items), size)
        )

    def run(self, host: Host) -> None:
        """Let one slice go."""
        request, gate = self._request, self._gate
        if request.state:
            return  # all was given up with the request
        if self._parts is None:
            deliveries = gate.turn(request)
            self._parts = self._cut(deliveries) if deliveries else deque()
        if self._parts and not request.state:
            put, context, items = self._parts.popleft()
            put(request, context, items)
        if self._parts:
            self.scheduled = WAITING
            host.enqueue_bulk(self)
        elif not request.state:
            request.more().releases.pop(self._forget, None)
            gate.opened(request)
            request.release(gate.stream.regions.out[gate.number])
            request.settle()

    def _forget(self) -> None:
        self._gate.opened(self._request)
        self._request.counts[self._gate.stream.regions.out[self._gate.number]] -= 1


def too_many_rounds(node: Node, request: Request, limit: int) -> RoundLimitError:
    """Return the error of a loop that does not come to an end."""
    return RoundLimitError(
        f"{node.stream.name}/{node.name}: request {request.id} has not converged after {limit} rounds (limit); declare "
        "when it ends (until=, when=), or raise Limits(rounds=…) or trips_max=",
        stream=node.stream.name,
        operator=node.name,
        request_id=request.id,
    )


class Turn(Node):
    """A step at which items of a loop turn back.

    back: the `put` at the end of the edge that leads back.   ended: that of the loop's `LoopEnd`, if anybody wants it.
    """

    __slots__ = ("back", "ended", "gate", "region")

    def __init__(self, stream: Wiring, step: Step, gate: Gate | None) -> None:
        super().__init__(stream, step)
        self.back: Put = nowhere
        self.ended: Put | None = None
        self.region: int = stream.regions.into[step.number]
        self.gate = gate
        if gate is not None:
            gate.members.append(self)

    def finish(self, request: Request) -> bool:
        """End a round of the loop whose gate is here."""
        assert self.gate is not None
        return self.gate.finish(request)

    def prepare(self, run: Round) -> None:
        """Make room for what this node keeps of its own."""

    def has_more(self, run: Round) -> bool:
        """Return whether there is something to go round again."""
        raise NotImplementedError

    def waiting(self, run: Round) -> int:
        """Return how many items wait here for the next round, and are no items of the request meanwhile."""
        return sum(len(items) for node, _, items in run.kept if node is self)

    def again(self, run: Round) -> list[Delivery]:
        """Return what goes round again."""
        raise NotImplementedError

    def leave(self, run: Round) -> list[Delivery]:
        """Return what leaves the loop at its end."""
        raise NotImplementedError

    def _loop_end(self, run: Round) -> list[Delivery]:
        return [(self.ended, None, [LoopEnd(run.round, run.state)])] if self.ended is not None else []
