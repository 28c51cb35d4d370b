"""Random programs with loops: each is built as a stream, and computed by a reference interpreter that has no runtime.

A program is a nested tuple. Items are pairs (number, fuel): numbers are mixed by every step, so that a lost, repeated
or misrouted item shows in the result; fuel makes loops end. Nothing in a program depends on the order of items.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

from actorflow import App, Operator, Rounds, Stream

Item = tuple[int, int]
Program = tuple[Any, ...]

MASK = (1 << 61) - 1
STEPS_MAX = 3_000


class Trouble(Exception):
    """What operators raise here."""


class TooLargeError(Exception):
    """The program would take too long; another one is drawn."""


def mix(*numbers: int) -> int:
    value = 0x9E3779B97F4A7C15
    for number in numbers:
        value = ((value ^ (number & MASK)) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & MASK
        value ^= value >> 29
    return value


# -- what steps do with an item, in both worlds


def moved(salt: int, item: Item) -> Item:
    return mix(item[0], salt), item[1]


def kept(salt: int, item: Item) -> bool:
    return mix(item[0], salt) % 5 != 0


def parts(salt: int, item: Item) -> list[Item]:
    count = mix(item[0], salt) % 4 if item[1] > 0 else 1
    return [(mix(item[0], salt, place), item[1] - 1 if count > 1 else item[1]) for place in range(count)]


def one_or_none(salt: int, item: Item) -> Item | None:
    return moved(salt, item) if mix(item[0], salt, 7) % 6 else None


def fails(salt: int, rate: int, item: Item) -> bool:
    return rate > 0 and mix(item[0], salt, 13) % rate == 0


def turns(salt: int, item: Item) -> bool:
    return item[1] > 0 and mix(item[0], salt, 3) % 4 != 0


def ticked(item: Item) -> Item:
    return item[0], item[1] - 1


def folded(total: int, item: Item) -> int:
    return (total + mix(*item)) & MASK


def proposals(salt: int, pair: tuple[int, int]) -> list[tuple[int, int]]:
    key, value = pair
    return [((key + 1 + mix(key, salt, n) % 6) % 11, value + 1 + mix(key, salt, n, 5) % 9) for n in range(2)]


def pair_of(item: Item) -> tuple[int, int]:
    return item[0] % 11, item[0] % 100


def item_of(pair: Any) -> Item:
    return mix(*pair), 1


# -- drawing a program

ITEM_STEPS = ["map", "filter", "flat", "plain", "plain", "async", "generator", "batch", "spawn", "ask", "call", "child"]


def draw(chance: random.Random) -> Program:
    """Draw a program: a sequence of steps."""
    return (
        "sequence",
        *(_step(chance, depth=0, folds=True, sync=False, looped=False) for _ in range(chance.randrange(1, 4))),
    )


def _body(chance: random.Random, depth: int, *, folds: bool, sync: bool, looped: bool = True) -> Program:
    steps = (
        _step(chance, depth=depth + 1, folds=folds, sync=sync, looped=looped) for _ in range(chance.randrange(1, 4))
    )
    return ("sequence", *steps)


def _step(chance: random.Random, *, depth: int, folds: bool, sync: bool, looped: bool) -> Program:
    """Draw a step; `folds`: an end of input is to be seen here, `sync`: there is a loop state, `looped`: a round."""
    salt = chance.getrandbits(32)
    shape = chance.random()
    if depth < 3 and shape < 0.22:
        body = _body(chance, depth, folds=False, sync=False)
        return ("loop", salt, body, chance.choice(["when", "feedback", "keyed", "async", "priority"]))
    if depth < 3 and folds and shape < 0.4:
        body = _body(chance, depth, folds=True, sync=True)
        return ("iterate", salt, body, chance.randrange(1, 5), chance.random() < 0.3)
    if depth < 3 and folds and shape < 0.47:
        return ("replay", salt, _body(chance, depth, folds=True, sync=True), chance.randrange(1, 4))
    if folds and shape < 0.53:
        return ("delta", salt, chance.choice(["plain", "priority", "rounds"]))
    if folds and shape < 0.62:
        return (chance.choice(["total", "keyed", "sorted"]), salt)
    if depth < 3 and shape < 0.72:
        sides = (_body(chance, depth, folds=folds, sync=sync, looped=looped) for _ in range(2))
        return ("split", salt, *sides)
    if sync and shape < 0.8:
        return (chance.choice(["state", "vote", "round_end"]), salt)
    if looped and shape < 0.86:
        return ("round", salt)
    if shape < 0.9:
        return ("distinct", salt)
    return (chance.choice(ITEM_STEPS), salt, chance.choice([0, 0, 0, 40]))


# -- the reference interpreter


class Reference:
    """Computes what a program makes of the items of one request; `failed` says that an item was at fault."""

    def __init__(self) -> None:
        self.failed = False
        self.steps = 0
        self.seen: dict[int, set[Any]] = {}
        self.votes: list[list[int]] = []
        self.states: list[int] = []

    def run(self, program: Program, items: list[Item], rounds: tuple[int, ...] = ()) -> list[Item]:
        self.steps += len(items) + 1
        if self.steps > STEPS_MAX:
            raise TooLargeError
        made: list[Item] = getattr(self, f"_{program[0]}", self._each)(program, items, rounds)
        return made

    def _sequence(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        for step in program[1:]:
            items = self.run(step, items, rounds)
        return items

    def _each(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        kind, salt, rate = program
        made: list[Item] = []
        for item in items:
            if kind in {"map", "filter", "flat", "child"}:  # a chain of functions fails as one
                rate = 0
            if fails(salt, rate, item):
                self.failed = True
            elif kind == "filter":
                made += [item] if kept(salt, item) else []
            elif kind in {"flat", "generator", "spawn"}:
                made += parts(salt, item)
            elif kind in {"plain", "batch", "async"}:
                result = one_or_none(salt, item)
                made += [] if result is None else [result]
            else:
                made.append(moved(salt, item))
        return made

    def _round(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        return [(mix(item[0], program[1], *rounds), item[1]) for item in items]

    def _distinct(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        seen = self.seen.setdefault(program[1], set())
        fresh = []
        for item in items:
            if item not in seen:
                seen.add(item)
                fresh.append(item)
        return fresh

    def _split(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        _, salt, one, other = program
        left = [item for item in items if kept(salt, item)]
        return self.run(one, left, rounds) + self.run(other, [i for i in items if not kept(salt, i)], rounds)

    def _loop(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        _, salt, body, _ = program
        done: list[Item] = []
        trip = 0
        while items:
            items = [ticked(item) for item in self.run(body, items, (*rounds, trip))]
            done += [item for item in items if not turns(salt, item)]
            items = [item for item in items if turns(salt, item)]
            trip += 1
        return done

    def _rounds(self, state: int, work: Callable[[int], bool]) -> int:
        """Do rounds until `work` says that there is no more; return the last state."""
        self.states.append(state)
        number = 0
        more = True
        while more:
            self.votes.append([0])
            more = work(number)
            self.states[-1] = self.votes.pop()[0]
            number += 1
        return self.states.pop()

    def _iterate(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        _, _, body, rounds_max, stops = program
        current = [items]

        def work(number: int) -> bool:
            current[0] = [ticked(item) for item in self.run(body, current[0], (*rounds, number))]
            over = stops and self.votes[-1][0] % 3 == 1
            return bool(current[0]) and number + 1 < rounds_max and not over

        self._rounds(0, work)
        return current[0]

    def _replay(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        _, _, body, rounds_max = program

        def work(number: int) -> bool:
            for item in self.run(body, items, (*rounds, number)):
                self.votes[-1][0] = folded(self.votes[-1][0], item)
            return number + 1 < rounds_max

        return [(mix(self._rounds(0, work)), 1)]

    def _delta(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        best: dict[int, int] = {}
        ahead = [pair_of(item) for item in items]
        while ahead:
            key, value = ahead.pop()
            if key not in best or value < best[key]:
                best[key] = value
                ahead += proposals(program[1], (key, value))
        return [item_of(pair) for pair in best.items()]

    def _total(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        total = 0
        for item in items:
            total = folded(total, item)
        return [(mix(total, program[1]), 1)]

    def _keyed(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        totals: dict[int, int] = {}
        for item in items:
            totals[item[0] % 3] = folded(totals.get(item[0] % 3, 0), item)
        return [item_of(pair) for pair in totals.items()]

    def _sorted(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        return sorted(items)

    def _state(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        return [(mix(item[0], self.states[-1]), item[1]) for item in items]

    def _vote(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        for item in items:
            self.votes[-1][0] = folded(self.votes[-1][0], item)
        return items

    def _round_end(self, program: Program, items: list[Item], rounds: tuple[int, ...]) -> list[Item]:
        self.votes[-1][0] = folded(self.votes[-1][0], (len(items), 0))
        return [*items, (mix(len(items), program[1], rounds[-1]), 0)]


# -- the same program as a stream


class World:
    """What the operators of one run share: the chances of its delays."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    async def wait(self) -> None:
        while self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.choice([0.0, 0.0, 0.001, 0.1]))


def build(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    """Append a program to a point of a stream."""
    builder: Any = globals().get(f"_build_{program[0]}", _build_each)
    built: Stream[Any, Any] = builder(app, world, program, point)
    return built


def _build_sequence(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    for step in program[1:]:
        point = build(app, world, step, point)
    return point


def _build_each(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    kind, salt, rate = program

    def maybe_fail(item: Item) -> None:
        if fails(salt, rate, item):
            raise Trouble(item)

    class Plain(Operator):
        def process(self, item: Item) -> Item | None:
            maybe_fail(item)
            return one_or_none(salt, item)

    class Async(Operator):
        concurrency = world.chance.choice([1, 3])

        async def process(self, item: Item) -> Item | None:
            await world.wait()
            maybe_fail(item)
            return one_or_none(salt, item)

    class Parts(Operator):
        def process(self, item: Item) -> Iterator[Item]:
            maybe_fail(item)
            yield from parts(salt, item)

    class Together(Operator):
        def process_batch(self, items: list[Item]) -> list[Any]:
            from actorflow import ItemError

            return [ItemError(Trouble(i)) if fails(salt, rate, i) else one_or_none(salt, i) for i in items]

    class Worker(Operator):
        def process(self, item: Item) -> None:
            for part in parts(salt, item):
                self.emit(part)
            self.stop_actor()

    class Spawns(Operator):
        def process(self, item: Item) -> None:
            maybe_fail(item)
            self.tell(self.spawn(Worker), item)

    class Answers(Operator):
        async def process(self, item: Item) -> Item:
            await world.wait()
            return moved(salt, item)

    class Asks(Operator):
        concurrency = 4

        async def process(self, item: Item) -> Item:
            maybe_fail(item)
            answer: Item = await self.ask(self.spawn(Answers), item)
            return answer

    class Calls(Operator):
        concurrency = 4

        async def process(self, item: Item) -> Item:
            maybe_fail(item)
            answer: Item = await self.call("moved", (salt, item))
            return answer

    if kind == "map":
        return point.map(lambda item: moved(salt, item))
    if kind == "filter":
        return point.filter(lambda item: kept(salt, item))
    if kind == "flat":
        return point.flat_map(lambda item: parts(salt, item))
    if kind == "child":
        return point.map(lambda item: (salt, item)).call("moved")
    operators = {
        "plain": Plain, "async": Async, "generator": Parts, "batch": Together,
        "spawn": Spawns, "ask": Asks, "call": Calls,
    }  # fmt: skip
    keyed = kind in {"plain", "async"} and salt % 3 == 0
    replicas = 1 if keyed else world.chance.choice([1, 1, 3])
    return (point.key_by(lambda item: item[0] % 5) if keyed else point).then(operators[kind], replicas=replicas)


def _build_round(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    class Rounding(Operator):
        def process(self, item: Item) -> Item:
            return mix(item[0], program[1], *self.rounds), item[1]

    class Slow(Operator):
        concurrency = 2

        async def process(self, item: Item) -> Item:
            await world.wait()
            return mix(item[0], program[1], *self.rounds), item[1]

    return point.then(Slow if program[1] % 2 else Rounding)


def _build_distinct(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    return point.distinct()


def _build_split(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    _, salt, one, other = program
    left, right = point.split(lambda item: kept(salt, item))
    return build(app, world, one, left).merge(build(app, world, other, right))


def _build_loop(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    _, salt, body, via = program
    head = point.merge()
    made = build(app, world, body, head).map(ticked)

    class Back(Operator):
        def process(self, item: Item) -> Item | None:
            if turns(salt, item):
                self.feedback(item)
                return None
            return item

    class SlowBack(Operator):
        concurrency = 2

        async def process(self, item: Item) -> Item | None:
            await world.wait()
            if not turns(salt, item):
                return item
            self.feedback(item)
            return None

    if via == "when":
        return made.feedback(head, when=lambda item: turns(salt, item))
    if via == "keyed":
        made = made.key_by(lambda item: item[0] % 4)
    if via == "priority":
        return made.then(Back, feedback=head, priority=lambda item: item[0] % 10)
    return made.then(SlowBack if via == "async" else Back, feedback=head)


def _build_iterate(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    _, _, body, rounds_max, stops = program
    return point.iterate(
        lambda head: build(app, world, body, head).map(ticked),
        rounds_max=rounds_max,
        until=(lambda state: state % 3 == 1) if stops else None,
        initial=0,
        fold=lambda total, vote: (total + vote) & MASK,
    )


def _build_replay(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    _, _, body, rounds_max = program
    made = point.replay(
        lambda head: build(app, world, body, head).map(lambda item: mix(*item)),
        rounds_max=rounds_max,
        initial=0,
        fold=lambda total, vote: (total + vote) & MASK,
    )
    return made.map(lambda state: (mix(state), 1))


def _build_delta(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    _, salt, how = program
    made = point.map(pair_of).delta(
        lambda changed: changed.flat_map(lambda pair: proposals(salt, pair)),
        priority=(lambda pair: pair[1]) if how == "priority" else None,
        ahead=2,
        rounds=Rounds() if how == "rounds" else None,
    )
    return made.map(item_of)


def _build_total(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    return point.fold(0, folded).map(lambda total: (mix(total, program[1]), 1))


def _build_keyed(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    return point.key_by(lambda item: item[0] % 3).fold(0, folded).map(item_of)


def _build_sorted(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    return point.sort()


def _build_state(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    return point.with_loop_state().map(lambda pair: (mix(pair[0][0], pair[1]), pair[0][1]))


def _build_vote(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    class Votes(Operator):
        def process(self, item: Item) -> Item:
            self.vote(mix(*item))
            return item

    return point.then(Votes)


def _build_round_end(app: App, world: World, program: Program, point: Stream[Any, Any]) -> Stream[Any, Any]:
    salt = program[1]

    class Counts(Operator):
        def process(self, item: Item) -> Item:
            self.scratch["count"] = self.scratch.get("count", 0) + 1
            return item

        def on_round_end(self, round: int) -> None:
            count = self.scratch.pop("count", 0)
            self.vote(mix(count, 0))
            self.emit((mix(count, salt, round), 0))

    class SlowCounts(Counts):
        async def on_round_end(self, round: int) -> None:
            await world.wait()
            super().on_round_end(round)

    return point.then(SlowCounts if salt % 2 else Counts)


def stream_of(program: Program, chance: random.Random, *, on_error: Any = "fail") -> App:
    """Return an app whose stream "program" answers with the sorted items that the program makes."""
    app = App("loops")
    world = World(chance)
    app.stream("moved").map(lambda order: moved(*order))
    entry = app.stream("program", list, list, on_error=on_error, timeout_s=60.0)
    build(app, world, program, entry.flat_map(iter).map(tuple)).sort().collect()
    return app
