"""Systems for simulated crashes: every step leaves a mark, so that what was lost or done twice is seen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any

from actorflow import App, Limits, Operator, Outcome
from actorflow.stores import MemoryStore


class Trouble(Exception):
    """What operators raise here; the request fails, and nothing of the activation stays."""


class Chance:
    """The chances of one run. Drawn in simulated order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"chance {seed}")
        self.fail = self.random.choice([0.0, 0.0, 0.0, 0.01])

    def maybe_fail(self) -> None:
        if self.random.random() < self.fail:
            raise Trouble("by chance")

    async def maybe_wait(self) -> None:
        while self.random.random() < 0.4:
            await asyncio.sleep(self.random.choice([0.0, 0.001, 0.05, 0.5]))


class CrashingStore(MemoryStore):
    """A store whose host is killed before or after its n-th write: an epoch, or a fold."""

    def __init__(self, kill: Callable[[], None]) -> None:
        super().__init__()
        self._kill = kill
        self.left: int | None = None
        self.after = False
        self.crashed = False

    def _write(self, write: Any, *arguments: Any) -> None:
        if self.crashed:
            return
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.left, self.crashed = None, True
                if self.after:
                    write(*arguments)
                self._kill()
                return
        write(*arguments)

    def append(self, number: int, blob: bytes) -> None:
        self._write(super().append, number, blob)

    def fold(self, upto: int, rows: Iterable[Any]) -> None:
        self._write(super().fold, upto, list(rows))


ACCOUNTS = 5
MONEY = 1_000


def system(chance: Chance, structure: int) -> App:
    """Return an app whose stream "work" answers (id, parts) with the number of parts, each of which passes all steps.

    structure: decides which steps there are, so that every start of one run has the same.
    """
    build = random.Random(f"structure {structure}")
    app = App("crashes", limits=Limits(timeout_s=600.0, reruns=1000))
    marks_cell = app.table("marks", key="part", value=int)
    count_cell = app.counter("count")
    history_cell = app.log("history")
    accounts_cell = app.table("accounts", key="account", value=int)

    class Marks(Operator):
        """Marks a part in the table, in hand."""

        marks = marks_cell.owned()
        count = count_cell.merged()

        def __init__(self, step: str) -> None:
            self.step = step

        def mark(self, part: Any) -> None:
            key = (*part, self.step)
            self.marks[key] = self.marks.get(key, 0) + 1
            self.count.add()

    def keyed(point: Any, step: str) -> Any:
        return point.key_by(lambda part: (*part, step), space="part")

    class Plain(Marks):
        def process(self, part: Any) -> Any:
            self.mark(part)
            chance.maybe_fail()
            return part

    class Slow(Marks):
        concurrency = build.choice([1, 3])

        async def process(self, part: Any) -> Any:
            await chance.maybe_wait()
            self.mark(part)
            await chance.maybe_wait()
            chance.maybe_fail()
            return part

    class Yields(Marks):
        def process(self, part: Any) -> Any:
            self.mark(part)
            yield part

    class Batches(Marks):
        def process_batch(self, parts: list[Any]) -> list[Any]:
            for part in parts:
                self.mark(part)
            chance.maybe_fail()
            return parts

    class Calls(Marks):
        concurrency = 4

        async def process(self, part: Any) -> Any:
            await chance.maybe_wait()
            first = await self.call("child", [*part, f"{self.step} first"])
            self.mark(part)
            second = await self.call("child", [*part, f"{self.step} second"])
            await chance.maybe_wait()
            assert (first, second) == (1, 1)
            return part

    class Together(Marks):
        concurrency = 4

        async def process(self, part: Any) -> Any:
            steps = [f"{self.step} {number}" for number in range(3)]
            assert await asyncio.gather(*(self.call("child", [*part, step]) for step in steps)) == [1, 1, 1]
            self.mark(part)
            return part

    class Waits(Marks):
        def process(self, part: Any) -> Any:
            if len(part) == 2:
                self.mark(part)
                self.after(chance.random.choice([0.0, 0.1, 1.0]), (*part, "due"))
                return None
            return part[:2]

    class Sends(Marks):
        def process(self, part: Any) -> Any:
            self.mark(part)
            self.send("side", [*part, f"{self.step} sent"])
            self.send("side", [*part, f"{self.step} later"], after_s=chance.random.choice([0.0, 0.2, 2.0]))
            self.cancel_send(self.send("side", [*part, f"{self.step} never"], after_s=0.5))
            return part

    class Watches(Marks):
        def process(self, part: Any) -> Any:
            self.mark(part)
            return part

        def on_reply(self, outcome: Outcome, part: Any) -> Any:
            return outcome.result()

    class Moves(Operator):
        accounts = accounts_cell.exclusive()
        history = history_cell.merged()
        concurrency = 5

        def __init__(self, step: str) -> None:
            self.step = step

        async def process(self, part: Any) -> Any:
            a, b = self.random.sample(range(ACCOUNTS), 2)
            rows = await self.accounts.lock(a)
            await chance.maybe_wait()
            await self.accounts.lock(b)
            amount = self.random.randrange(10)
            before = rows.get(a, MONEY)
            assert await self.call("echo", [*part, before]) == before
            rows[a] = before - amount
            rows[b] = rows.get(b, MONEY) + amount
            await chance.maybe_wait()
            self.history.append((*part, self.step))
            return part

    class Child(Marks):
        async def process(self, item: Any) -> int:
            await chance.maybe_wait()
            self.marks[tuple(item)] = self.marks.get(tuple(item), 0) + 1
            await chance.maybe_wait()
            return self.marks[tuple(item)]

    class Side(Marks):
        def process(self, item: Any) -> None:
            self.marks[tuple(item)] = self.marks.get(tuple(item), 0) + 1

    class Echo(Operator):
        concurrency = 10

        async def process(self, item: Any) -> Any:
            await chance.maybe_wait()
            return item[-1]

    app.stream("child", list).key_by(tuple, space="part").then(Child, "child", concurrency=8)
    app.stream("echo", list).then(Echo)
    app.stream("side", list, replies="none").key_by(tuple, space="part").then(Side, "side")
    kinds = [Plain, Slow, Yields, Batches, Calls, Together, Waits, Sends, Moves]
    point: Any = app.stream("work", list, int).flat_map(lambda asked: [(asked[0], part) for part in range(asked[1])])
    if build.random() < 0.3:
        point = keyed(point, "watch").then(Watches, "watch")
    steps: list[tuple[str, str]] = []
    for number in range(build.randrange(1, 5)):
        kind = build.choice(kinds)
        step = f"{number} {kind.__name__}"
        steps.append((step, kind.__name__))
        shape = build.randrange(5)
        if shape == 0:
            point = point.collect().flat_map(iter)
        elif shape == 1:
            one, other = point.split(lambda part: part[1] % 2)
            point = one.merge(other)
        elif shape == 2:
            point = point.map(lambda part: [*part, "passed"]).call("passing", ordered=build.random() < 0.5).map(tuple)
        if kind is Waits:
            point = point.key_by(lambda part, step=step: (*part[:2], step), space="part").then(kind, step)
        else:
            point = (point if kind is Moves else keyed(point, step)).then(kind, step)
    point.count()
    app.stream("passing", list).map(lambda item: item[:2])
    app.stream("marks").then(_reader(marks_cell, accounts_cell, count_cell, history_cell))
    app.steps = steps  # type: ignore[attr-defined]
    return app


def _reader(marks: Any, accounts: Any, count: Any, history: Any) -> type[Operator]:
    class Reader(Operator):
        def process(self, _: Any) -> list[Any]:
            return [
                dict(self.marks.items()), dict(self.accounts.items()), self.count.value(), list(self.history),
            ]  # fmt: skip

    for name, cell in (("marks", marks), ("accounts", accounts), ("count", count), ("history", history)):
        setattr(Reader, name, cell.snapshot())
    return Reader


def marks_of(steps: list[tuple[str, str]], asked: list[Any], *, watched: bool) -> dict[Any, int]:
    """Return the marks that a request which ended well leaves, each of them once."""
    expected: dict[Any, int] = {}
    for part in range(asked[1]):
        if watched:
            expected[asked[0], part, "watch"] = 1
        for step, kind in steps:
            own = {
                "Calls": [f"{step} first", step, f"{step} second"],
                "Together": [*(f"{step} {number}" for number in range(3)), step],
                "Sends": [step, f"{step} sent", f"{step} later"],
                "Moves": [],
            }.get(kind, [step])
            expected.update({(asked[0], part, name): 1 for name in own})
    return expected
