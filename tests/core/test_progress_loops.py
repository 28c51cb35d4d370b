"""Progress in graphs with loops: plain feedback edges, and gates whose rounds end exactly, over several hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from actorflow.core.progress import COMPLETE, Gate, Progress, Regions
from tests.core.test_progress import HOME, Graph, World


@dataclass
class Loops(Graph):
    """A random graph: `edges` with those that lead back among them, and gates, whose edges back are not."""

    gates: list[Gate] = field(default_factory=list)

    def regions(self) -> Regions:
        return Regions(self.operators, self.edges, self.observers, self.gates)

    def seen_from(self, location: tuple[str, int]) -> frozenset[int]:
        """Which observers and gates can be reached without an edge back through a gate, the gate itself included."""
        side, operator = location
        starts = [operator] if side == "into" else self.ahead(operator)
        reached = {other for start in starts for other in self.reachable(start)}
        sources = reached | ({operator} if side == "out" else set())
        closed = {gate.number for gate in self.gates for source, _ in gate.back if source in sources}
        watching = self.observers | {gate.number for gate in self.gates}
        return frozenset(reached & watching) | closed

    def gate_behind(self, operator: int) -> Gate | None:
        """Return the gate that an operator's edge back leads through."""
        return next((gate for gate in self.gates if gate.back[0][0] == operator), None)

    def gate(self, number: int) -> Gate | None:
        return next((gate for gate in self.gates if gate.number == number), None)


def _inside(edges: list[tuple[int, int]], operators: int, source: int, target: int) -> frozenset[int]:
    forward = Graph(operators, edges, set())
    backward = Graph(operators, [(b, a) for a, b in edges], set())
    return frozenset(forward.reachable(target) & backward.reachable(source))


@st.composite
def looped(draw: st.DrawFn) -> Loops:
    operators = draw(st.integers(2, 8))
    pairs = [(a, b) for a in range(operators) for b in range(a + 1, operators)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1))
    closing = [(a, b) for a in range(operators) for b in range(a + 1) if b in range(operators)]
    back = draw(st.lists(st.sampled_from(closing), unique=True, max_size=2))
    turning = sorted(draw(st.lists(st.sampled_from(closing), max_size=3, unique_by=lambda e: e[0])), key=lambda e: e[1])
    gates: list[Gate] = []
    for place, (source, target) in enumerate(turning):
        within = [*edges, *back, *turning[place + 1 :]]  # an outer loop has the inner ones in it, not the other way
        inside = _inside(within, operators, source, target)
        assume({source, target} <= inside)
        number = draw(st.sampled_from([source, target]))  # a feedback step, or a replay at the head of the loop
        assume(number not in {gate.number for gate in gates})
        gates.append(Gate(number, ((source, target),), inside))
    for one in gates:
        for other in gates:
            apart = not one.inside & other.inside
            assume(one is other or apart or one.inside < other.inside or other.inside < one.inside)
    graph = Loops(operators, [*edges, *back], draw(st.sets(st.integers(0, operators - 1), max_size=3)), gates)
    graph.observers -= {gate.number for gate in gates}
    try:
        graph.regions()
    except ValueError:
        assume(False)  # an observer in a loop without rounds
    return graph


class LoopWorld(World):
    """The same world with gates: an item that turns back is kept where it is, until its host is told to let it go."""

    graph: Loops

    def __init__(self, graph: Loops, seed: int, hosts: int, items: int) -> None:
        super().__init__(graph, seed, hosts, items)
        self.kept: dict[tuple[int, str], int] = {}
        self.rounds = 0

    def consume_at(self, operator: int, here: str) -> None:
        gate = self.graph.gate_behind(operator)
        if gate is None and self.graph.gate(operator) is None:
            super().consume_at(operator, here)
            return
        self.count(here, self.regions.into[operator], here, -1)
        if gate is None or self.random.random() < 0.4:
            self.emit(operator, here)
            return
        if (gate.number, here) not in self.folds:
            self.folds.add((gate.number, here))
            (self.home if here == HOME else self.ledgers[here]).hold(gate.number)
        self.kept[gate.number, here] = self.kept.get((gate.number, here), 0) + 1

    def let_go(self, gate: Gate, here: str) -> None:
        (target,) = {target for _, target in gate.back}
        for _ in range(self.kept.pop((gate.number, here), 0)):
            there = self.random.choice(self.hosts)
            self.items.append((target, there))
            self.count(here, self.regions.into[target], there, +1)
        for region in self.regions.opening[gate.number]:
            self.count(here, region, here, -1)
        self.rounds += 1

    def finish_at(self, observer: int, here: str) -> None:
        gate = self.graph.gate(observer)
        if gate is None:
            super().finish_at(observer, here)
            return
        self.folds.remove((observer, here))
        self.let_go(gate, here)
        self.ledgers[here].release(observer)

    def settle(self) -> None:
        while (end := self.home.next_end()) is not None:
            if end == COMPLETE:
                assert not self.items, "complete, and items are left"
                assert not self.working, "complete, and an activation is under way"
                assert not self.folds, "complete, and something is held"
                assert not self.kept, "complete, and something waits for the next round"
                self.completed = True
                return
            self.check_end(end)
            hosts = self.home.ending
            assert hosts == {host for observer, host in self.folds if observer == end}
            gate = self.graph.gate(end)
            self.ending += [(end, host) for host in sorted(hosts - {HOME})]
            if HOME in hosts:
                self.folds.remove((end, HOME))
                if gate is None:
                    self.emit(end, HOME)
                else:
                    self.let_go(gate, HOME)
                self.home.counts[self.regions.out[end]] -= 1

    def check_end(self, end: int) -> None:
        """An end is not early: nothing that may still arrive in this round is anywhere."""
        upstream = [each for each in self.graph.locations() if end in self.graph.seen_from(each)]
        assert not [item for item in self.items if ("into", item[0]) in upstream], "an item can still arrive"
        opening = {number for number, _ in self.ending}
        for number, _ in [*((o, h) for o, h in self.folds if o != end), *self.working, *self.ending]:
            gate = self.graph.gate(number)
            if gate is None:
                assert ("out", number) not in upstream, "a hold can still produce"
                continue
            targets = {target for _, target in gate.back}
            reaches = ("out", number) in upstream or any(("into", target) in upstream for target in targets)
            later = end in gate.inside and number not in opening
            assert later or not reaches, f"gate {number} holds what comes before this end of {end}"


@settings(max_examples=600, deadline=None)
@given(looped(), st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 60))
def test_rounds_and_ends_are_never_early_and_always_come(graph: Loops, seed: int, hosts: int, items: int) -> None:
    world = LoopWorld(graph, seed, hosts, items)

    world.run()

    assert world.completed
    assert not any(world.home.counts)
    assert not world.home.remote
    assert not world.home.holders


def test_the_world_of_loops_really_goes_round() -> None:
    inside = frozenset({1, 2, 3})
    graph = Loops(5, [(0, 1), (1, 2), (2, 3), (3, 4)], {2, 4}, [Gate(3, ((3, 1),), inside)])
    rounds = 0

    for seed in range(200):
        world = LoopWorld(graph, seed, hosts=3, items=40)
        world.run()
        rounds += world.rounds

    assert rounds > 400, "the simulation hardly ever ends a round"


# What a loop means for regions


def test_a_loop_that_nobody_observes_adds_no_region() -> None:
    assert Regions(3, [(0, 1), (1, 2), (2, 1)], []).count == 1


def test_the_end_of_what_is_behind_a_loop_waits_for_the_whole_loop() -> None:
    regions = Regions(4, [(0, 1), (1, 2), (2, 1), (2, 3)], [3])
    progress = Progress(regions)
    progress.hold(3)
    progress.counts[regions.into[1]] = 1

    assert progress.next_end() is None

    progress.counts[regions.into[1]] = 0
    assert progress.next_end() == 3


def test_an_observer_in_a_loop_without_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1\]"):
        Regions(3, [(0, 1), (1, 2), (2, 1)], [1])


def test_a_gate_does_not_hold_up_the_fold_of_its_round_but_all_that_is_behind_the_loop() -> None:
    """0 → fold 1 → gate 2 → back to 1; 2 → fold 3."""
    regions = Regions(4, [(0, 1), (1, 2), (2, 3)], [1, 3], [Gate(2, ((2, 1),), frozenset({1, 2}))])
    progress = Progress(regions)
    for observer in (1, 2, 3):
        progress.hold(observer)

    assert progress.next_end() == 1, "what the gate keeps is of the next round"
    progress.counts[regions.out[1]] -= 1
    assert progress.next_end() == 2
    assert progress.next_end() is None, "the order to open is under way"
    for region in regions.opening[2]:
        progress.counts[region] -= 1
    assert progress.next_end() is None, "the gate still holds"
    progress.counts[regions.out[2]] -= 1
    assert progress.next_end() == 3


def test_what_only_leads_to_an_inner_gate_holds_up_the_rounds_of_the_outer_loop() -> None:
    """Replay 0 → 1 → back to 0; in it 1 → gate 2 → back to 1: what waits at 2 comes to 1, and to 0, a round later."""
    gates = [Gate(0, ((1, 0),), frozenset({0, 1, 2})), Gate(2, ((2, 1),), frozenset({1, 2}))]
    regions = Regions(3, [(0, 1), (1, 2)], [], gates)

    assert regions.into[2] in regions.upstream[0]
    assert regions.out[2] in regions.upstream[0]


def test_what_is_under_way_where_an_edge_turns_back_belongs_to_the_round() -> None:
    """Replay 0 → 1 → back to 0: an activation at 1 may still vote."""
    regions = Regions(2, [(0, 1)], [], [Gate(0, ((1, 0),), frozenset({0, 1}))])

    assert regions.out[1] in regions.upstream[0]
    assert regions.out[0] not in regions.upstream[0]


def test_a_gate_in_a_loop_without_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1\]"):
        Regions(3, [(0, 1), (1, 2), (2, 0)], [], [Gate(1, ((1, 1),), frozenset({1}))])
