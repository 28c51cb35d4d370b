"""Loops: items that go round as they come, rounds that end together, delta iterations, and what ends a loop badly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actorflow import (
    ActivationError,
    App,
    Client,
    DeadlineExceededError,
    ItemBudgetError,
    Limits,
    LoopEnd,
    Operator,
    RoundLimitError,
    Rounds,
)
from actorflow.runtime.host import Host

Play = Callable[..., Any]


def ask(stream: str, item: Any, **options: Any) -> Callable[[Client, Host], Any]:
    async def main(client: Client, host: Host) -> Any:
        return await client.request(stream, item, **options)

    return main


class Collatz(Operator):
    """Takes pairs (number, value) down to 1 and answers (trips, number)."""

    def process(self, item: tuple[int, int]) -> tuple[int, int] | None:
        number, value = item
        if value == 1:
            return self.round, number
        self.feedback((number, value // 2 if value % 2 == 0 else 3 * value + 1))
        return None


def own(count: int) -> list[tuple[int, int]]:
    return [(number, number) for number in range(1, count + 1)]


# -- items that go round as they come


def test_each_item_goes_round_as_often_as_it_needs_and_knows_how_often_it_has(play: Play) -> None:
    app = App("loops")
    app.stream("collatz", int, list).flat_map(own).then(Collatz, feedback=True).sort(reverse=True).collect()

    trips = {number: count for count, number in play(app, ask("collatz", 30))}
    assert (trips[27], trips[1], trips[6]) == (111, 0, 8)


def test_a_predicate_sends_items_back_to_an_earlier_point_and_lets_the_others_on(play: Play) -> None:
    app = App("loops")
    entry = app.stream("halves", list, list).flat_map(iter).merge()
    entry.map(lambda n: n // 2).feedback(entry, when=lambda n: n > 9).sort().collect()

    assert play(app, ask("halves", [3, 100, 37, 20])) == [1, 5, 6, 9]


def test_a_loop_of_functions_alone_makes_many_trips_without_a_deep_stack(play: Play) -> None:
    app = App("loops", limits=Limits(timeout_s=600.0))
    app.stream("count", int, int).map(lambda n: n - 1).feedback(when=lambda n: n > 0)

    assert play(app, ask("count", 30_000), strict=False) == 0


def test_thousands_of_requests_iterate_in_the_same_loop_without_seeing_each_other(play: Play) -> None:
    app = App("loops", limits=Limits(timeout_s=600.0))
    app.stream("trips", int, tuple).map(lambda n: (n, n)).then(Collatz, feedback=True)

    async def main(client: Client, host: Host) -> list[Any]:
        return await asyncio.gather(*(client.request("trips", 1 + n % 30) for n in range(2_000)))

    answers = play(app, main)
    assert [number for _, number in answers] == [1 + n % 30 for n in range(2_000)]
    assert answers[26][0] == 111


def test_loops_nest_and_each_counts_its_own_rounds(play: Play) -> None:
    class Inner(Operator):
        def process(self, item: int) -> int | None:
            if self.round < 2:
                self.feedback(item + 1)
                return None
            return item * 100 + self.rounds[0] * 10 + self.round

    app = App("loops")
    head = app.stream("nested", int, int).merge()
    head.then(Inner, feedback=True).feedback(head, when=lambda n: n < 10_000)

    # two trips in the inner loop: 2 → 202, then back in the outer one and two more: 204 → 20412
    assert play(app, ask("nested", 0)) == 20412


def test_several_feedback_edges_of_one_stream_are_mutually_recursive(play: Play) -> None:
    class Even(Operator):
        def process(self, n: int) -> str | int:
            return "even" if n == 0 else n - 1

    class Odd(Operator):
        def process(self, n: int) -> str | int:
            return "odd" if n == 0 else n - 1

    app = App("loops")
    even = app.stream("parity", int, str).then(Even)
    done, ahead = even.split(lambda n: isinstance(n, str))
    ahead.then(Odd).feedback(even, when=lambda n: isinstance(n, int)).merge(done)

    assert [play(app, ask("parity", n)) for n in (0, 1, 2, 7, 10)] == ["even", "odd", "even", "odd", "even"]


def test_a_split_in_two_sixty_four_deep_is_counted_exactly(play: Play) -> None:
    """One path of 2⁶⁴ is followed to its end, every other one ends where it leaves it: shares would round them away."""

    class Split(Operator):
        def process(self, item: tuple[int, bool]) -> int | None:
            depth, followed = item
            if not followed or depth == 64:
                return 1
            self.feedback((depth + 1, True))
            self.feedback((depth + 1, False))
            return None

    app = App("loops")
    app.stream("leaves", int, int).map(lambda n: (n, True)).then(Split, feedback=True).count()

    assert play(app, ask("leaves", 0)) == 65


def test_a_fan_out_of_a_hundred_thousand_in_a_loop_is_counted_exactly(play: Play) -> None:
    class Fan(Operator):
        def process(self, n: int) -> int | None:
            if n == 0:
                return 1
            for _ in range(n):
                self.feedback(0)
            return None

    app = App("loops", limits=Limits(timeout_s=600.0))
    app.stream("fan", int, int).then(Fan, feedback=True).count()

    assert play(app, ask("fan", 100_000), strict=False) == 100_000


@pytest.mark.parametrize("kind", ["async", "generator", "batch", "actor"])
def test_every_kind_of_operator_can_feed_back(play: Play, kind: str) -> None:
    class Async(Operator):
        concurrency = 3

        async def process(self, n: int) -> int | None:
            await asyncio.sleep(0.01)
            if n:
                self.feedback(n - 1)
                return None
            return self.round

    class Generator(Operator):
        def process(self, n: int) -> Iterator[int]:
            if n:
                self.feedback(n - 1)
            else:
                yield self.round

    class Batch(Operator):
        def process_batch(self, items: list[int]) -> list[int | None]:
            for n in items:
                if n:
                    self.feedback(n - 1)
            return [None if n else self.round for n in items]

    class Worker(Operator):
        def process(self, n: int) -> int | None:
            self.stop_actor()
            if n:
                self.feedback(n - 1)
                return None
            return self.round

    class Actor(Operator):
        tells_round = True  # what it spawns asks for it

        def process(self, n: int) -> None:
            if n < 0:
                self.feedback(-n)
            self.tell(self.spawn(Worker), n)

    operator = {"async": Async, "generator": Generator, "batch": Batch, "actor": Actor}[kind]
    app = App("loops")
    app.stream("down", list, list).flat_map(iter).then(operator, feedback=True).sort().collect()

    assert play(app, ask("down", [0, 3, 7])) == [0, 3, 7]


def test_the_item_with_the_smallest_priority_is_processed_first(play: Play) -> None:
    class Note(Operator):
        def process(self, n: int) -> int:
            return n

    app = App("loops")
    app.stream("order", list, list).flat_map(iter).then(Note, priority=lambda n: -n).collect()

    assert play(app, ask("order", [3, 9, 1, 9, 4])) == [9, 9, 4, 3, 1]


def test_what_is_fed_back_is_ordered_by_priority_too(play: Play) -> None:
    order: list[int] = []

    class Visit(Operator):
        def process(self, n: int) -> int | None:
            order.append(n)
            for more in (3 * n, 2 * n):
                if more < 20:
                    self.feedback(more)
            return n

    app = App("loops")
    app.stream("visit", int, int).then(Visit, priority=lambda n: n, feedback=True).count()

    play(app, ask("visit", 1))
    assert order == sorted(order)


def test_an_item_whose_priority_cannot_be_told_fails_alone(play: Play) -> None:
    class Note(Operator):
        on_error = "set_aside"

        def process(self, n: Any) -> Any:
            return n

    app = App("loops")
    app.stream("order", list, list).flat_map(iter).then(Note, priority=lambda n: -n).collect()

    async def main(client: Client, host: Host) -> Any:
        return await client.request("order", [1, "x", 2]), len(await client.dead_letters())

    assert play(app, main) == ([2, 1], 1)


def test_notes_of_an_operator_belong_to_one_request_and_end_with_it(play: Play) -> None:
    class Seen(Operator):
        def process(self, n: int) -> int | None:
            seen = self.scratch.setdefault("seen", set())
            if n in seen:
                return None
            seen.add(n)
            self.feedback((n * 7 + 1) % 50)
            return n

    app = App("loops")
    app.stream("orbit", int, int).then(Seen, feedback=True).count()

    async def main(client: Client, host: Host) -> Any:
        return await asyncio.gather(client.request("orbit", 3), client.request("orbit", 3), client.request("orbit", 4))

    one, same, other = play(app, main)
    assert one == same > 1
    assert other > 1


# -- rounds


def test_what_comes_out_of_a_round_goes_into_the_next_and_folds_are_of_one_round(play: Play) -> None:
    app = App("loops")
    app.stream("sums", list, list).flat_map(iter).iterate(
        lambda items: items.key_by(lambda n: n % 2).fold(0, lambda total, n: total + n).map(lambda pair: pair[1] + 1),
        rounds_max=3,
    ).sort().collect()

    # [1, 2, 3] → sums 4, 2 → 5, 3; sum 8 → 9; sum 9 → 10
    assert play(app, ask("sums", [1, 2, 3])) == [10]


def test_votes_decide_when_the_loop_ends_and_every_replica_reads_what_they_were_folded_to(play: Play) -> None:
    class Halve(Operator):
        def process(self, n: float) -> float:
            self.vote(n / 2)
            return n / 2

    class Tell(Operator):
        def process(self, n: float) -> tuple[float, Any]:
            return n, self.loop_state

    app = App("loops")
    made = (
        app.stream("halve", list, list)
        .flat_map(iter)
        .iterate(
            lambda items: items.then(Halve, replicas=3), fold=max, initial=0.0, until=lambda largest: largest < 1.0
        )
    )
    made.loop_end.merge(made).collect()

    answer = play(app, ask("halve", [8.0, 3.0, 6.0]))
    assert sorted(item for item in answer if isinstance(item, float)) == [3 / 16, 6 / 16, 0.5]
    assert [item for item in answer if isinstance(item, LoopEnd)] == [LoopEnd(4, 0.5)]


def test_an_operator_that_defines_on_round_end_makes_its_loop_go_in_rounds(play: Play) -> None:
    class Count(Operator):
        concurrency = 10

        async def process(self, n: int) -> int | None:
            await asyncio.sleep(0.1 * (n % 3))
            self.scratch["count"] = self.scratch.get("count", 0) + 1
            if n > 1:
                self.feedback(n - 1)
            return None

        def on_round_end(self, number: int) -> tuple[int, int]:
            return number, self.scratch.pop("count", 0)

    app = App("loops")
    app.stream("rounds", list, list).flat_map(iter).then(Count, feedback=True, replicas=2).collect()

    totals: dict[int, int] = {}
    told = play(app, ask("rounds", [3, 1, 5, 2]))
    for number, count in told:
        totals[number] = totals.get(number, 0) + count
    assert len(told) == 2 * 5, "each replica is told of each round"
    assert totals == {0: 4, 1: 3, 2: 2, 3: 1, 4: 1}
    assert [number for number, _ in told] == sorted(number for number, _ in told)


@pytest.mark.parametrize("slow", [False, True])
def test_on_round_end_may_emit_feed_back_and_wait(play: Play, slow: bool) -> None:
    class Plain(Operator):
        def process(self, n: int) -> int:
            return n

        def on_round_end(self, number: int) -> None:
            if number < 3:
                self.feedback(10 * (number + 1))

    class Slow(Plain):
        async def on_round_end(self, number: int) -> None:  # type: ignore[override]
            await asyncio.sleep(1.0)
            super().on_round_end(number)

    app = App("loops")
    app.stream("more", int, list).then(Slow if slow else Plain, feedback=True).collect()

    assert play(app, ask("more", 1)) == [1, 10, 20, 30]


def test_a_replay_sends_the_same_items_through_every_round_and_answers_with_the_state(play: Play) -> None:
    app = App("loops")
    app.stream("replay", list, int).flat_map(iter).replay(
        lambda items: items.with_loop_state().map(lambda pair: pair[0] * pair[1]),
        fold=lambda total, vote: total + vote,
        initial=0,
        state=1,
        rounds_max=3,
    )

    # state: 1 → 6 → 36 → 216
    assert play(app, ask("replay", [1, 2, 3])) == 216


def test_an_iteration_inside_an_iteration_begins_anew_in_every_round(play: Play) -> None:
    app = App("loops")
    made = (
        app.stream("nested", list, list)
        .flat_map(iter)
        .iterate(
            lambda items: items.iterate(lambda inner: inner.map(lambda n: n + 1), rounds_max=3).map(lambda n: n * 10),
            rounds_max=2,
        )
    )
    made.sort().collect()

    assert play(app, ask("nested", [0, 1])) == [330, 430]


def test_a_loop_begins_with_its_request_even_when_no_item_comes(play: Play) -> None:
    app = App("loops")
    app.stream("iterate", list, list).flat_map(iter).iterate(lambda items: items.map(str), rounds_max=5).collect()
    app.stream("folds", list, list).flat_map(iter).iterate(lambda items: items.count(), rounds_max=5).collect()
    app.stream("replay", list, int).flat_map(iter).replay(lambda items: items, fold=max, initial=7, rounds_max=2)
    made = app.stream("end", list, LoopEnd).flat_map(iter).iterate(lambda items: items.map(str), rounds_max=5)
    made.discard()
    made.loop_end.map(lambda end: end)

    assert play(app, ask("iterate", [])) == []
    assert play(app, ask("folds", [])) == [1], "a count has a result in every round"
    assert play(app, ask("replay", [])) == 7
    assert play(app, ask("end", [])) == LoopEnd(1)


def test_what_a_loop_declares_may_depend_on_the_request(play: Play) -> None:
    app = App("loops")
    app.stream("power", list, int).flat_map(iter).replay(
        lambda items: items.with_loop_state().map(lambda pair: pair[0] * pair[1]),
        fold=lambda total, vote: total + vote,
        initial=lambda: 0,
        state=lambda request: request.attributes["first"],
        rounds_max=lambda request: request.attributes["rounds"],
        until=lambda state, request: state > request.attributes["enough"],
    )

    assert play(app, ask("power", [2, 1], attributes={"first": 1, "rounds": 3, "enough": 100})) == 27
    assert play(app, ask("power", [2, 1], attributes={"first": 1, "rounds": 9, "enough": 10})) == 27


def test_what_votes_are_folded_from_is_of_one_request_and_one_round(play: Play) -> None:
    app = App("loops")
    app.stream("lists", int, list).replay(
        lambda items: items, fold=lambda seen, n: seen.append(n) or seen, initial=[], rounds_max=2
    )
    app.stream("made", int, list).replay(
        lambda items: items, fold=lambda seen, n: seen.append(n) or seen, initial=list, rounds_max=2
    )

    assert play(app, ask("lists", 1)) == [1]
    assert play(app, ask("lists", 2)) == [2]
    assert play(app, ask("made", 3)) == [3]


def test_joins_in_a_round_forget_what_came_from_inside_and_keep_what_came_from_outside(play: Play) -> None:
    app = App("loops")
    entry = app.stream("join", list, list)
    fixed = entry.flat_map(lambda _: [(0, "a"), (1, "b")])
    made = entry.flat_map(iter).iterate(
        lambda items: (
            items.map(lambda n: n + 1)
            .join(items.map(lambda n: n + 1), key=lambda n: n, other_key=lambda n: n)
            .map(lambda pair: pair[0])
            .join(fixed, key=lambda n: n % 2, other_key=lambda pair: pair[0])
            .map(lambda pair: pair[0])
        ),
        rounds_max=4,
    )
    made.sort().collect()

    assert play(app, ask("join", [1, 10])) == [5, 14]


# -- delta iteration

GRAPH = {1: [2], 2: [1, 3], 3: [2], 4: [5], 5: [4], 6: []}


def neighbours(pair: tuple[int, int]) -> list[tuple[int, int]]:
    return [(other, pair[1]) for other in GRAPH[pair[0]]]


@pytest.mark.parametrize("how", [{}, {"priority": lambda pair: pair[1], "ahead": 1}, {"rounds": Rounds()}])
def test_a_delta_iteration_improves_values_until_none_changes(play: Play, how: dict[str, Any]) -> None:
    app = App("loops")
    entry = app.stream("components", int, list).flat_map(lambda _: [(node, node) for node in GRAPH])
    entry.delta(lambda changed: changed.flat_map(neighbours), **how).sort().collect()

    assert play(app, ask("components", 0)) == [(1, 1), (2, 1), (3, 1), (4, 4), (5, 4), (6, 6)]


def test_a_delta_iteration_in_rounds_says_how_many_there_were(play: Play) -> None:
    app = App("loops")
    entry = app.stream("components", int, LoopEnd).flat_map(lambda _: [(node, node) for node in GRAPH])
    made = entry.delta(lambda changed: changed.flat_map(neighbours), rounds=Rounds())
    made.discard()
    made.loop_end.map(lambda end: end)

    assert play(app, ask("components", 0)) == LoopEnd(3)


def test_sets_can_be_combined_and_a_proposal_that_fails_is_one_item(play: Play) -> None:
    app = App("loops")
    entry = app.stream("reach", int, list, on_error="set_aside").flat_map(lambda _: [*((n, {n}) for n in GRAPH), 7])
    entry.delta(
        lambda changed: changed.flat_map(lambda pair: [(other, pair[1]) for other in GRAPH[pair[0]]]),
        combine=lambda one, other: one | other,
    ).sort().collect()

    async def main(client: Client, host: Host) -> Any:
        return await client.request("reach", 0), len(await client.dead_letters())

    reach, letters = play(app, main)
    assert reach[0] == (1, {1, 2, 3})
    assert letters == 1


# -- what ends a loop badly


def test_a_loop_that_does_not_end_is_ended_by_the_deadline_and_leaves_nothing(play: Play) -> None:
    class Again(Operator):
        async def process(self, n: int) -> None:
            await asyncio.sleep(0.01)
            self.feedback(n)

    app = App("loops")
    app.stream("endless", int, int).then(Again, feedback=True).count()

    with pytest.raises(DeadlineExceededError):
        play(app, ask("endless", 1, timeout_s=0.5))


def test_trips_are_limited_where_they_are_counted(play: Play) -> None:
    app = App("loops")
    app.stream("trips", int, int).map(lambda n: n).feedback(when=lambda n: True, trips_max=10)

    with pytest.raises(RoundLimitError, match=r"trips/feedback: .* after 10 rounds"):
        play(app, ask("trips", 1))


def test_rounds_are_limited_by_the_host(play: Play) -> None:
    app = App("loops", limits=Limits(rounds=20))
    app.stream("rounds", int, int).iterate(lambda items: items.map(lambda n: n))

    with pytest.raises(RoundLimitError, match=r"rounds/iterate: .* has not converged after 20 rounds"):
        play(app, ask("rounds", 1))


@pytest.mark.parametrize("how", ["pairs", "rounds", "generator"])
def test_a_loop_that_grows_is_an_error_and_never_a_wait(play: Play, how: str) -> None:
    class Pairs(Operator):
        def process(self, n: int) -> None:
            self.feedback(n)
            self.feedback(n)

    class Generates(Operator):
        def process(self, n: int) -> Iterator[int]:
            for _ in range(2_000):
                yield n

    app = App("loops", limits=Limits(items_per_request=5_000, items_ahead=100))
    entry = app.stream("grow", int, int)
    if how == "pairs":
        entry.then(Pairs, feedback=True).count()
    elif how == "rounds":
        entry.iterate(lambda items: items.flat_map(lambda n: [n, n])).count()
    else:
        entry.then(Generates).feedback(when=lambda n: True).count()

    with pytest.raises(ItemBudgetError):
        play(app, ask("grow", 1))


def test_a_source_that_is_far_ahead_does_not_wait_for_a_round_that_waits_for_it(play: Play) -> None:
    def many(count: int) -> Iterator[int]:
        yield from range(count)

    app = App("loops", limits=Limits(items_ahead=100))
    app.stream("ahead", int, int).flat_map(many).iterate(lambda items: items.map(lambda n: n), rounds_max=2).count()

    assert play(app, ask("ahead", 5_000), strict=False) == 5_000


def test_cancelling_reaches_items_anywhere_in_a_loop(play: Play) -> None:
    class Slow(Operator):
        concurrency = 2

        async def process(self, n: int) -> int:
            await asyncio.sleep(1.0)
            return n

    app = App("loops")
    app.stream("slow", list, int).flat_map(iter).iterate(lambda items: items.then(Slow)).count()

    async def main(client: Client, host: Host) -> None:
        asking = asyncio.ensure_future(client.request("slow", [1, 2, 3, 4]))
        await asyncio.sleep(2.5)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    play(app, main)


def test_a_callback_of_a_round_that_raises_fails_the_request_and_says_which_round(play: Play) -> None:
    app = App("loops")

    def until(state: int) -> bool:
        if state > 2:
            raise ZeroDivisionError("no more")
        return False

    app.stream("until", int, int).iterate(
        lambda items: items.map(lambda n: n + 1), vote=lambda n: n, fold=max, initial=0, until=until
    )

    with pytest.raises(ZeroDivisionError) as caught:
        play(app, ask("until", 0))
    assert isinstance(caught.value, ActivationError)
    assert "end of round 2" in str(caught.value)


def test_an_error_in_on_round_end_fails_the_request_with_its_place(play: Play) -> None:
    class Bad(Operator):
        def process(self, n: int) -> int:
            return n

        def on_round_end(self, number: int) -> None:
            raise KeyError("bad")

    app = App("loops")
    app.stream("bad", int, int).iterate(lambda items: items.then(Bad), rounds_max=3)

    with pytest.raises(KeyError, match="bad/Bad on host loops failed on 'the end of round 0'"):
        play(app, ask("bad", 0))


def test_verbs_of_loops_say_what_is_missing(play: Play) -> None:
    class Asks(Operator):
        on_error = "set_aside"
        tells_round = True

        def process(self, what: str) -> None:
            getattr(self, what)(1) if what in {"feedback", "vote"} else getattr(self, what)

    app = App("loops")
    app.stream("asks", list, list).flat_map(iter).then(Asks).collect()

    async def main(client: Client, host: Host) -> list[str]:
        await client.request("asks", ["feedback", "vote", "round", "loop_state"])
        return [letter["error"]["message"] for letter in await client.dead_letters()]

    feedback, vote, number, state = play(app, main)
    assert "has no feedback edge: declare one with .then(Asks, feedback=True)" in feedback
    assert "is in no synchronous loop: only steps from which items can come back are in one" in vote
    assert "is in no loop" in number
    assert "is in no synchronous loop" in state


# -- recursion


def test_a_stream_may_call_itself_thousands_deep_and_results_come_back_through_the_return_path(play: Play) -> None:
    class Sum(Operator):
        def process(self, n: int) -> int:
            return n - 1

        def on_reply(self, outcome: Any, n: int) -> int:
            return n + int(outcome.result())

    app = App("loops", limits=Limits(timeout_s=600.0))
    small, large = app.stream("sum", int, int).split(lambda n: n == 0)
    large.then(Sum).call("sum").merge(small)

    assert play(app, ask("sum", 3_000)) == sum(range(3_001))


def test_mutual_recursion_is_limited_by_the_declared_depth_with_a_clear_error(play: Play) -> None:
    app = App("loops", limits=Limits(call_depth=500))
    app.stream("ping", int, int).call("pong")
    app.stream("pong", int, int).call("ping")

    with pytest.raises(Exception, match="nests child requests 500 deep"):
        play(app, ask("ping", 1))


async def test_a_million_trips_end_exactly_in_every_kind_of_loop() -> None:
    class Down(Operator):
        def process(self, n: int) -> int | None:
            if n:
                self.feedback(n - 1)
                return None
            return self.round

    class Less(Operator):
        def process(self, n: int) -> int:
            return n - 1

    app = App("loops", limits=Limits(timeout_s=600.0))
    app.stream("told", int, int).then(Down, feedback=True)
    app.stream("operator", int, int).then(Less).feedback(when=lambda n: n > 0)
    app.stream("functions", int, int).map(lambda n: n - 1).feedback(when=lambda n: n > 0)
    app.stream("rounds", int, int).iterate(
        lambda items: items.map(lambda n: n - 1), vote=lambda n: n, fold=max, initial=0, until=lambda n: n == 0
    )

    async with app.local() as client:
        assert await client.request("told", 1_000_000) == 1_000_000
        assert await client.request("operator", 1_000_000) == 0
        assert await client.request("functions", 1_000_000) == 0
        assert await client.request("rounds", 100_000) == 0


def test_a_round_that_ends_within_the_turn_of_a_replica_does_not_disturb_it(play: Play) -> None:
    """Items of several requests wait in one mailbox: the first ends a round, the next must find its own loops."""

    class Outer(Operator):
        def process(self, n: Any) -> Any:
            return n

        def on_round_end(self, number: int) -> int:
            return number

    class Inner(Operator):
        def process(self, n: int) -> tuple[int, ...]:
            return (n, *self.rounds)

    app = App("loops")
    app.stream("rounds", int, list).filter(lambda n: False).replay(
        lambda items: items.then(Outer).iterate(lambda inner: inner.then(Inner), rounds_max=1),
        fold=lambda told, vote: [*told, vote],
        update=lambda state, told: state + told,
        initial=list,
        rounds_max=3,
    )

    async def main(client: Client, host: Host) -> Any:
        return await asyncio.gather(*(client.request("rounds", n) for n in range(20)))

    assert play(app, main) == [[(0, 0, 0), (1, 1, 0), (2, 2, 0)] for n in range(20)]


def test_what_a_gate_lets_go_is_held_to_the_budget_and_leaves_nothing(play: Play) -> None:
    class Wide(Operator):
        def process(self, n: int) -> None:
            for _ in range(3_000):
                self.feedback(n)

        def on_round_end(self, number: int) -> None:
            for _ in range(1_500):
                self.emit(number)

    app = App("loops", limits=Limits(items_per_request=4_000))
    app.stream("wide", int, int).then(Wide, feedback=True).delta(lambda c: c, rounds=Rounds()).count()
    app.stream("budget", int, int).then(Wide, feedback=True).count()

    with pytest.raises(ItemBudgetError):
        play(app, ask("budget", 1))


@pytest.mark.parametrize("loop", ["delta", "replay", "iterate", "feedback"])
def test_a_reply_out_of_a_loop_passes_the_operators_before_it_on_its_way_back(play: Play, loop: str) -> None:
    class Whole(Operator):
        def process(self, n: int) -> Iterator[tuple[int, int]]:
            yield 1, n
            yield 2, n + 1

        def on_reply(self, outcome: Any, n: int) -> Any:
            return "whole", n, outcome.result()

    class Each(Operator):
        def process(self, pair: tuple[int, int]) -> tuple[int, int]:
            return pair

        def on_reply(self, outcome: Any, pair: Any) -> Any:
            return "each", outcome.result()

    app = App("loops")
    pairs = app.stream("back", int, Any).then(Whole).then(Each)
    more = {
        "delta": lambda: pairs.delta(lambda changed: changed.filter(lambda pair: False)).map(sum).reduce(max),
        "replay": lambda: pairs.replay(lambda p: p.map(sum), fold=max, initial=0, rounds_max=2),
        "iterate": lambda: pairs.iterate(lambda p: p, rounds_max=2).map(sum).reduce(max),
        "feedback": lambda: (
            pairs.map(lambda p: (p[0] - 1, p[1])).feedback(when=lambda p: p[0] > 0).map(sum).reduce(max)
        ),
    }
    more[loop]()

    told = play(app, ask("back", 5))
    assert told == ("whole", 5, 6 if loop == "feedback" else 8)


# -- what must not be lost, told twice, or blamed on others


@pytest.mark.parametrize("how", ["operator", "delta", "rounds"])
def test_priorities_that_cannot_be_compared_fail_their_request_and_no_other(play: Play, how: str) -> None:
    class Note(Operator):
        def process(self, pair: Any) -> Any:
            return pair

    app = App("loops", limits=Limits(timeout_s=5.0))
    entry = app.stream("order", list, int).flat_map(iter).map(tuple)
    if how == "operator":
        entry.then(Note, priority=lambda pair: (pair[0] % 2, pair[1])).count()
    else:
        entry.delta(
            lambda changed: changed.filter(lambda pair: False),
            combine=lambda old, new: new,
            priority=lambda pair: (pair[0] % 2, pair[1]),
            rounds=Rounds() if how == "rounds" else None,
        ).count()

    async def main(client: Client, host: Host) -> list[Any]:
        bad = [(0, 1), (1, 2), (2, 3), (3, "x"), (5, 5), (7, "y")]
        asked = [client.request("order", bad if n == 2 else [(k, k) for k in range(5)]) for n in range(5)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = play(app, main, strict=False)
    assert isinstance(answers[2], TypeError)
    assert [answer for n, answer in enumerate(answers) if n != 2] == [5, 5, 5, 5]


def test_a_delta_of_many_keys_sends_each_change_round_once(play: Play) -> None:
    app = App("loops", limits=Limits(timeout_s=600.0))
    entry = app.stream("many", int, int).flat_map(lambda count: [(key, key) for key in range(count)])
    made = entry.delta(lambda changed: changed.map(lambda pair: (pair[0] // 2, pair[1])))
    made.map(lambda pair: pair[1]).fold(0, lambda total, value: total + value)

    assert play(app, ask("many", 3_000), strict=False) == sum(range(3_000))


def test_changes_in_rounds_go_round_by_priority(play: Play) -> None:
    order: list[int] = []

    class Note(Operator):
        def process(self, pair: tuple[int, int]) -> None:
            order.append(pair[0])

    app = App("loops")
    entry = app.stream("order", list, int).flat_map(iter).map(lambda n: (n, n))
    entry.delta(lambda changed: changed.then(Note), rounds=Rounds(), priority=lambda pair: -pair[1]).count()

    assert play(app, ask("order", [3, 9, 1])) == 3
    assert order == [9, 3, 1]


def test_a_body_may_change_what_a_replay_sends_it(play: Play) -> None:
    app = App("loops")

    def popped(item: list[int]) -> int:
        return item.pop()

    app.stream("pop", list, list).flat_map(iter).replay(
        lambda items: items.map(popped), fold=lambda seen, n: [*seen, n], initial=[], rounds_max=3
    )

    assert play(app, ask("pop", [[1, 2]]), strict=False) == [2]


def test_what_a_replay_or_a_delta_keeps_is_held_to_the_budget(play: Play) -> None:
    app = App("loops", limits=Limits(items_per_request=500, items_ahead=50))
    app.stream("replay", tuple, int).replay(lambda items: items, fold=max, rounds_max=2)
    app.stream("delta", tuple, int).delta(lambda changed: changed.filter(lambda _: False)).count()

    async def main(client: Client, host: Host) -> list[str]:
        async def feed(stream: str) -> str:
            try:
                return str([reply async for reply in client.stream(stream, items=((n, n) for n in range(2_000)))])
            except ItemBudgetError as error:
                return str(error)

        return [await feed("replay"), await feed("delta")]

    for answer in play(app, main):
        assert "items for its rounds (limit 500)" in answer


def test_trips_are_told_of_every_request_and_a_loop_that_fed_back_has_committed(play: Play) -> None:
    class Slow(Operator):
        concurrency = 10
        tells_round = True

        async def process(self, left: int) -> None:
            await asyncio.sleep(0.05)
            if left == 3:
                raise ValueError("three")
            self.feedback(left - 1)

    app = App("loops")
    app.stream("trips", int, int).then(Slow, feedback=True).count()

    async def main(client: Client, host: Host) -> Any:
        asking = [asyncio.ensure_future(client.request("trips", 12)) for _ in range(2)]
        await asyncio.sleep(0.33)
        rounds = [request.loops()[0].round for request in host.requests.values()]
        return rounds, await asyncio.gather(*asking, return_exceptions=True)

    rounds, errors = play(app, main)
    assert rounds[0] == rounds[1] > 0
    assert [error.retryable for error in errors] == [False, False]


def test_a_lone_trip_commits_too(play: Play) -> None:
    class Bad(Operator):
        def process(self, left: int) -> None:
            if left == 0:
                raise ValueError("zero")
            self.feedback(left - 1)

    app = App("loops")
    app.stream("bad", int, int).then(Bad, feedback=True).count()

    with pytest.raises(ValueError, match="zero") as caught:
        play(app, ask("bad", 2))
    assert caught.value.retryable is False  # type: ignore[attr-defined]


def test_a_cancelled_request_cancels_an_async_end_of_round(play: Play) -> None:
    seen: list[str] = []

    class Waits(Operator):
        def process(self, n: int) -> int:
            return n

        async def on_round_end(self, number: int) -> None:
            try:
                await asyncio.sleep(1_000.0)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    app = App("loops")
    app.stream("waits", int, int).iterate(lambda items: items.then(Waits), rounds_max=2)

    with pytest.raises(DeadlineExceededError, match=r"iterate: round 0, \d items in the loop"):
        play(app, ask("waits", 1, timeout_s=2.0))
    assert seen == ["cancelled"]


def test_a_failed_vote_leaves_nothing_even_where_more_was_emitted(play: Play) -> None:
    class Votes(Operator):
        def process(self, n: int) -> int:
            self.vote(n)
            return n

    def bad(value: Any, vote: Any) -> Any:
        raise ValueError("no")

    app = App("loops")
    app.stream("votes", list, list).flat_map(iter).iterate(
        lambda items: items.then(Votes).count(), rounds_max=2, fold=bad, initial=0
    ).collect()

    with pytest.raises(ValueError, match="no"):
        play(app, ask("votes", [1, 2]))


def test_the_first_vote_is_what_others_are_folded_into_unless_initial_is_given(play: Play) -> None:
    class Votes(Operator):
        def process(self, n: int) -> int:
            self.vote(n)
            return n + 1

    app = App("loops")
    app.stream("votes", list, list).flat_map(iter).iterate(
        lambda items: items.then(Votes), fold=max, until=lambda most: most > 5
    ).sort().collect()

    assert play(app, ask("votes", [1, 3])) == [5, 7]


def test_a_loop_may_be_as_long_as_its_item_says(play: Play) -> None:
    app = App("loops")
    app.stream("times", list, int).map(lambda pair: pair[0]).iterate(
        lambda items: items.map(lambda n: n * 2), rounds_max=lambda request: request.item[1]
    )

    assert play(app, ask("times", [3, 4])) == 48
    with pytest.raises(ValueError, match=r"rounds_max\(request\) gave 0"):
        play(app, ask("times", [3, 0]))


def test_a_join_in_an_inner_loop_begins_anew_with_the_outer_round(play: Play) -> None:
    app = App("loops")
    made = (
        app.stream("join", list, list)
        .flat_map(iter)
        .iterate(
            lambda outer: outer.iterate(
                lambda items: items.join(items.map(lambda n: n), key=lambda n: 0).map(lambda pair: pair[0] + 1),
                rounds_max=1,
            ),
            rounds_max=3,
        )
    )
    made.collect()

    assert play(app, ask("join", [1])) == [4]


def test_an_async_generator_that_runs_again_feeds_back_once(play: Play) -> None:
    """A replica that restarts runs what was suspended again: what had left it before must not leave it twice."""

    class Slow(Operator):
        concurrency = 5
        escalate = (KeyError,)
        on_error = "set_aside"

        async def process(self, item: Any) -> Any:
            if item == "bad":
                raise KeyError("restart")
            if item != "start":
                yield ("got", item)
                return
            for part in range(3):
                self.feedback(part)
                yield ("said", part)
            await asyncio.sleep(1.0)
            yield ("end", 3)

    app = App("loops", limits=Limits(batch_items=1))
    app.stream("slow", str, list).then(Slow, feedback=True).collect()

    async def main(client: Client, host: Host) -> Any:
        asking = asyncio.ensure_future(client.request("slow", "start"))
        await asyncio.sleep(0.5)
        await client.request("slow", "bad")
        return await asking

    told = play(app, main)
    assert sorted(map(tuple, told)) == [
        ("end", 3), ("got", 0), ("got", 1), ("got", 2), ("said", 0), ("said", 1), ("said", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("loop", ["feedback", "delta", "rounds", "iterate"])
def test_a_dead_letter_can_be_replayed_into_a_loop(play: Play, loop: str) -> None:
    failed: list[int] = []

    class Once(Operator):
        on_error = "set_aside"

        def process(self, pair: tuple[int, int]) -> tuple[int, int] | None:
            if pair[0] == 2 and not failed:
                failed.append(2)
                raise ValueError("once")
            return (pair[0] + 1, 0) if pair[0] < 4 else None

    app = App("loops")
    pairs = app.stream("letters", int, list).map(lambda n: (n, n))
    if loop == "feedback":
        pairs.then(Once).feedback(when=lambda pair: True).collect()
    elif loop == "iterate":
        pairs.iterate(lambda items: items.then(Once)).collect()
    else:
        rounds = Rounds() if loop == "rounds" else None
        pairs.delta(lambda changed: changed.then(Once), rounds=rounds).collect()

    async def main(client: Client, host: Host) -> None:
        failed.clear()
        await client.request("letters", 1)
        (letter,) = await client.dead_letters()
        await client.replay(letter["number"])
        await asyncio.sleep(1.0)
        assert await client.dead_letters() in ([], [letter])

    play(app, main)
