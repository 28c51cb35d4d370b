"""Progress: regions partition a graph by what can be reached, and a count never says "ended" early or never."""

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow.core.progress import COMPLETE, Batch, Ledger, Progress, Regions

HOME = "home#1"


@dataclass
class Graph:
    """A random acyclic graph: `edges` lead from lower to higher numbers."""

    operators: int
    edges: list[tuple[int, int]]
    observers: set[int]

    def ahead(self, operator: int) -> list[int]:
        return [target for source, target in self.edges if source == operator]

    def reachable(self, operator: int) -> set[int]:
        """What items waiting at an operator can reach, the operator included (by brute force)."""
        reached = {operator}
        for _ in range(self.operators):
            reached |= {target for source, target in self.edges if source in reached}
        return reached

    def seen_from(self, location: tuple[str, int]) -> frozenset[int]:
        """Which observers can be reached from the input ("into") or the output ("out") of an operator."""
        side, operator = location
        starts = [operator] if side == "into" else self.ahead(operator)
        return frozenset(o for start in starts for o in self.reachable(start) if o in self.observers)

    def locations(self) -> Iterator[tuple[str, int]]:
        for operator in range(self.operators):
            yield "into", operator
            yield "out", operator

    def regions(self) -> Regions:
        return Regions(self.operators, self.edges, self.observers)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    operators = draw(st.integers(1, 7))
    pairs = [(a, b) for a in range(operators) for b in range(a + 1, operators)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return Graph(operators, edges, draw(st.sets(st.integers(0, operators - 1))))


def region_of(regions: Regions, location: tuple[str, int]) -> int:
    side, operator = location
    return (regions.into if side == "into" else regions.out)[operator]


# Regions


@given(graphs())
def test_two_locations_share_a_region_if_and_only_if_the_same_observers_are_reachable(graph: Graph) -> None:
    regions = graph.regions()

    for one in graph.locations():
        for other in graph.locations():
            same = region_of(regions, one) == region_of(regions, other)
            assert same == (graph.seen_from(one) == graph.seen_from(other)), (one, other)


@given(graphs())
def test_the_regions_are_numbered_without_gaps(graph: Graph) -> None:
    regions = graph.regions()

    assert {region_of(regions, each) for each in graph.locations()} == set(range(regions.count))


@given(graphs())
def test_upstream_of_an_observer_are_the_regions_from_which_it_can_be_reached(graph: Graph) -> None:
    regions = graph.regions()

    assert set(regions.upstream) == graph.observers
    for observer, upstream in regions.upstream.items():
        expected = {region_of(regions, each) for each in graph.locations() if observer in graph.seen_from(each)}
        assert set(upstream) == expected
        assert len(upstream) == len(expected)


@given(graphs())
def test_what_an_observer_holds_is_not_upstream_of_itself(graph: Graph) -> None:
    regions = graph.regions()

    assert all(regions.out[observer] not in regions.upstream[observer] for observer in graph.observers)


@given(graphs())
def test_observers_are_listed_upstream_ones_first(graph: Graph) -> None:
    order = graph.regions().observers

    assert sorted(order) == sorted(graph.observers)
    for place, observer in enumerate(order):
        assert not (graph.reachable(observer) - {observer}) & set(order[:place])


@given(graphs())
def test_the_order_of_the_edges_does_not_matter(graph: Graph) -> None:
    backwards = Graph(graph.operators, graph.edges[::-1], graph.observers).regions()

    assert backwards.upstream == graph.regions().upstream
    assert backwards.into == graph.regions().into


def test_a_stream_without_observers_has_a_single_region() -> None:
    regions = Regions(3, [(0, 1), (1, 2)], [])

    assert regions.count == 1
    assert regions.into == regions.out == [0, 0, 0]


def test_a_graph_without_operators_still_has_a_count() -> None:
    progress = Progress(Regions(0, [], []))

    assert progress.counts == [0]
    assert progress.next_end() == COMPLETE


# The ledger


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(-2, 2))))
def test_a_ledger_flushes_the_sum_of_what_was_added_and_begins_anew(changes: list[tuple[int, str, int]]) -> None:
    ledger = Ledger(Regions(1, [], []), "a")
    sums: Counter[tuple[int, str]] = Counter()
    for region, host, change in changes:
        ledger.add(region, host, change)
        sums[region, host] += change

    batch = ledger.flush()

    expected = {pointstamp: change for pointstamp, change in sums.items() if change}
    assert batch == (Batch(expected) if expected else None)
    assert ledger.flush() is None


# A whole request over several hosts, against the omniscient truth


class World:
    """One request of a random program over several hosts, one random event at a time.

    Items are consumed by any host in any order. What a remote host did waits in its ledger until it flushes, and its
    batches travel to home first in, first out, as late as they like.
    """

    def __init__(self, graph: Graph, seed: int, hosts: int, items: int) -> None:
        self.graph = graph
        self.random = random.Random(seed)
        self.hosts = [HOME, *(f"host{n}#1" for n in range(1, hosts))]
        self.regions = graph.regions()
        self.home = Progress(self.regions, HOME)
        self.budget = items
        self.items: list[tuple[int, str]] = []  # (operator, host): on the way or queued
        self.working: list[tuple[int, str]] = []  # (operator, host): an activation that was suspended and holds
        self.folds: set[tuple[int, str]] = set()  # (observer, host): fold state
        self.ending: list[tuple[int, str]] = []  # ends of input on their way
        self.ledgers = {host: Ledger(self.regions, host) for host in self.hosts[1:]}
        self.links: dict[str, deque[Batch]] = {host: deque() for host in self.hosts[1:]}
        self.completed = False
        self.ended: list[int] = []

    # what happens on any host

    def count(self, here: str, region: int, there: str, change: int) -> None:
        if here == HOME:
            self.home.apply(Batch({(region, there): change}))
        else:
            self.ledgers[here].add(region, there, change)

    def emit(self, operator: int, here: str) -> None:
        for target in self.graph.ahead(operator):
            for _ in range(min(self.random.choice((0, 1, 1, 2, 3)), self.budget)):
                self.budget -= 1
                there = self.random.choice(self.hosts)
                self.items.append((target, there))
                self.count(here, self.regions.into[target], there, +1)

    def enter(self, operator: int) -> None:
        there = self.random.choice(self.hosts)
        self.items.append((operator, there))
        self.count(HOME, self.regions.into[operator], there, +1)

    def consume(self) -> None:
        self.consume_at(*self.items.pop(self.random.randrange(len(self.items))))

    def consume_at(self, operator: int, here: str) -> None:
        self.count(here, self.regions.into[operator], here, -1)
        if operator in self.graph.observers:
            if (operator, here) not in self.folds:
                self.folds.add((operator, here))
                (self.home if here == HOME else self.ledgers[here]).hold(operator)
            if self.random.random() < 0.3:  # a streaming fold emits before its end, too
                self.emit(operator, here)
        elif self.random.random() < 0.3:
            self.count(here, self.regions.out[operator], here, +1)
            self.working.append((operator, here))
        else:
            self.emit(operator, here)

    def work_on(self) -> None:
        operator, here = self.working.pop(self.random.randrange(len(self.working)))
        self.emit(operator, here)
        self.count(here, self.regions.out[operator], here, -1)

    def finish(self) -> None:
        self.finish_at(*self.ending.pop(self.random.randrange(len(self.ending))))

    def finish_at(self, observer: int, here: str) -> None:
        self.folds.remove((observer, here))
        self.emit(observer, here)
        self.ledgers[here].release(observer)

    def flush(self, host: str) -> None:
        batch = self.ledgers[host].flush()
        if batch is not None:
            self.links[host].append(batch)

    # what happens at home

    def deliver(self, host: str) -> None:
        self.home.apply(self.links[host].popleft())

    def settle(self) -> None:
        while (end := self.home.next_end()) is not None:
            if end == COMPLETE:
                assert not self.items, "complete, and items are left"
                assert not self.working, "complete, and an activation is under way"
                assert not self.folds, "complete, and a fold has not emitted"
                self.completed = True
                return
            upstream = [each for each in self.graph.locations() if end in self.graph.seen_from(each)]
            assert not [item for item in self.items if ("into", item[0]) in upstream], "an item can still arrive"
            held = [*self.working, *self.folds]
            assert not [hold for hold in held if ("out", hold[0]) in upstream], "a hold can still produce"
            hosts = self.home.ending
            assert hosts == {host for observer, host in self.folds if observer == end}
            self.ended.append(end)
            if HOME in hosts:
                self.folds.remove((end, HOME))
                self.emit(end, HOME)
                self.home.counts[self.regions.out[end]] -= 1
            self.ending += [(end, host) for host in sorted(hosts - {HOME})]

    def run(self) -> None:
        for operator in range(self.graph.operators):
            if operator == 0 or self.random.random() < 0.2:
                self.enter(operator)
        while not self.completed:
            events = [self.consume] * 3 * bool(self.items)
            events += [self.work_on] * bool(self.working) + [self.finish] * bool(self.ending)
            for host in self.hosts[1:]:
                slow = self.random.random() < 0.5
                events += [lambda host=host: self.flush(host)] * (not slow)
                events += [lambda host=host: self.deliver(host)] * bool(self.links[host])
            idle = not (self.items or self.working or self.ending or any(self.links.values()))
            if idle:
                for host in self.hosts[1:]:
                    self.flush(host)
                    while self.links[host]:
                        self.deliver(host)
                self.settle()
                idle = not (self.items or self.working or self.ending or any(self.links.values()))
                assert self.completed or not idle, "nothing can happen any more, and the request never completes"
                continue
            if events:
                self.random.choice(events)()
                self.settle()


@settings(max_examples=400, deadline=None)
@given(graphs(), st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 40))
def test_ends_are_never_early_and_always_come_on_several_hosts(graph: Graph, seed: int, hosts: int, items: int) -> None:
    world = World(graph, seed, hosts, items)

    world.run()

    assert world.completed
    assert not any(world.home.counts)
    assert not world.home.remote
    assert not world.home.holders
    assert not world.home.remote_holders


def test_a_fold_that_gets_items_late_still_ends_once_and_in_order() -> None:
    chain = Graph(4, [(0, 1), (1, 2), (2, 3)], {1, 2})
    several = 0

    for seed in range(300):
        world = World(chain, seed, hosts=3, items=30)
        world.run()
        assert world.ended in ([], [1], [2], [1, 2])
        several += world.ended == [1, 2]

    assert several > 50, "the simulation hardly ever reaches the second fold"


# Why the host is part of a pointstamp


def three_host_interleaving() -> list[Batch]:
    """Home has given a an item. a made two of it for b, and b has finished one: b's batch is here, a's is not."""
    regions = Regions(2, [(0, 1)], [])
    a, b = Ledger(regions, "a"), Ledger(regions, "b")
    a.add(0, "a", -1)
    a.add(0, "b", +2)
    b.add(0, "b", -1)
    late, early = a.flush(), b.flush()
    assert late is not None
    assert early is not None
    return [early, late]


def test_a_sum_over_hosts_reaches_zero_while_an_item_is_left() -> None:
    total = 1  # the item that home gave a
    early, late = three_host_interleaving()

    total += sum(early.changes.values())

    assert total == 0, "the naive count says complete, and b still has an item"
    assert total + sum(late.changes.values()) == 1


def test_counts_by_host_do_not_reach_zero_while_an_item_is_left() -> None:
    progress = Progress(Regions(2, [(0, 1)], []))
    progress.apply(Batch({(0, "a"): 1}))
    early, late = three_host_interleaving()

    progress.apply(early)

    assert progress.remote == {(0, "a"): 1, (0, "b"): -1}
    assert progress.next_end() is None
    progress.apply(late)
    assert progress.remote == {(0, "b"): 1}
    assert progress.next_end() is None
    progress.apply(Batch({(0, "b"): -1}))
    assert progress.next_end() == COMPLETE


def test_an_end_of_input_waits_for_the_same_interleaving() -> None:
    regions = Regions(3, [(0, 1), (1, 2)], [1])
    progress = Progress(regions)
    progress.hold(1)
    into = regions.into[1]
    progress.apply(Batch({(into, "a"): 1}))

    progress.apply(Batch({(into, "b"): -1}))

    assert progress.next_end() is None
    progress.apply(Batch({(into, "a"): -1, (into, "b"): 2}))
    assert progress.next_end() is None
    progress.apply(Batch({(into, "b"): -1}))
    assert progress.next_end() == 1


def test_half_a_batch_would_complete_early() -> None:
    whole = Progress(Regions(1, [], []))
    whole.apply(Batch({(0, "a"): 1}))
    half = Progress(Regions(1, [], []))
    half.apply(Batch({(0, "a"): 1}))

    whole.apply(Batch({(0, "a"): -1, (0, "b"): 1}))
    half.apply(Batch({(0, "a"): -1}))

    assert whole.next_end() is None
    assert half.next_end() == COMPLETE, "this is why consuming and producing are one batch"


# Details of home


def test_a_hold_is_counted_once_however_often_it_is_noted() -> None:
    regions = Regions(2, [(0, 1)], [0])
    progress = Progress(regions)

    progress.hold(0)
    progress.hold(0)

    assert sum(progress.counts) == 1
    assert progress.next_end() == 0
    assert progress.next_end() is None
    progress.counts[regions.out[0]] -= 1
    assert progress.next_end() == COMPLETE


def test_a_downstream_fold_does_not_end_while_the_upstream_one_still_emits() -> None:
    regions = Regions(3, [(0, 1), (1, 2)], [0, 1])
    progress = Progress(regions)
    progress.hold(1)
    progress.hold(0)

    first = progress.next_end()

    assert first == 0
    assert progress.next_end() is None, "fold 0 has not given up its hold"
    progress.counts[regions.out[0]] -= 1
    assert progress.next_end() == 1


def test_folds_side_by_side_end_independently() -> None:
    regions = Regions(4, [(0, 1), (0, 2), (1, 3), (2, 3)], [1, 2])
    progress = Progress(regions)
    progress.hold(1)
    progress.hold(2)
    progress.counts[regions.into[2]] += 1

    assert progress.next_end() == 1
    assert progress.next_end() is None
    progress.counts[regions.into[2]] -= 1
    assert progress.next_end() == 2


def test_a_remote_count_that_is_known_to_be_negative_keeps_the_request_open() -> None:
    progress = Progress(Regions(1, [], []))

    progress.apply(Batch({(0, "a"): -1}))

    assert progress.next_end() is None
    progress.apply(Batch({(0, "a"): 1}))
    assert progress.next_end() == COMPLETE
    assert progress.remote == {}


def test_only_an_incarnation_with_a_count_is_missed() -> None:
    progress = Progress(Regions(1, [], []))
    progress.apply(Batch({(0, "a#1"): 1, (0, "b#1"): 1}))

    progress.apply(Batch({(0, "b#1"): -1}))

    assert progress.lost("a#1")
    assert not progress.lost("a#2")
    assert not progress.lost("b#1")


def test_what_a_remote_host_produces_for_home_is_settled_by_homes_consumption() -> None:
    progress = Progress(Regions(1, [], []), HOME)
    progress.apply(Batch({(0, "a"): 1}))

    progress.apply(Batch({(0, "a"): -1, (0, HOME): 1}))
    progress.counts[0] -= 1

    assert progress.next_end() == COMPLETE


# Observers that hold on several hosts


def test_an_end_of_input_names_the_observer_once_and_every_host_on_which_it_holds() -> None:
    regions = Regions(2, [(0, 1)], [0, 1])
    progress, ledger = Progress(regions, HOME), Ledger(regions, "a")
    progress.hold(0)
    progress.apply(Batch({(regions.into[0], "a"): 1}))

    ledger.add(regions.into[0], "a", -1)
    ledger.hold(0)
    ledger.hold(0)
    before = progress.next_end()
    batch = ledger.flush()
    assert batch is not None
    progress.apply(batch)

    assert before is None
    assert batch.holds == ((0, "a"),)
    assert progress.next_end() == 0
    assert progress.ending == {HOME, "a"}
    progress.counts[regions.out[0]] -= 1
    assert progress.next_end() is None, "a has not given up its hold"
    ledger.release(0)
    progress.apply(ledger.flush() or Batch({}))
    assert progress.next_end() == COMPLETE


def test_an_observer_that_holds_elsewhere_alone_does_not_end_here() -> None:
    regions = Regions(1, [], [0])
    progress = Progress(regions, HOME)

    progress.apply(Batch({(regions.out[0], "a"): 1}, ((0, "a"),)))

    assert progress.lost("a")
    assert progress.next_end() == 0
    assert progress.ending == {"a"}
    assert progress.holders == set()
    assert progress.counts == [0] * regions.count


def test_on_a_single_host_an_end_is_its_own() -> None:
    progress = Progress(Regions(1, [], [0]))
    progress.hold(0)

    assert progress.next_end() == 0
    assert progress.ending == {""}
