"""Hosts that are killed at any moment, under the simulated loop: nothing is lost, and nothing is done twice.

Clients ask again with the keys of their requests until they are answered. Every step of every item leaves a mark: of a
request that was answered each mark is there once, of one that failed none is there twice. `make sim CRASH_SEEDS=2000`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from actorflow import ActorflowError, HostLostError
from actorflow.client import Client
from actorflow.local import LocalConnection
from actorflow.runtime.host import Host
from actorflow.testing import check_nothing_left, simulate

SEEDS = int(os.environ.get("CRASH_SEEDS", "40"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crashing", Path(__file__).with_name("crashing.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crashing = _load()


class Cluster:
    """One host after another on one store; each is killed at a moment of chance, the last one is not."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(f"cluster {seed}")
        self.store = crashing.CrashingStore(self.crash)
        self.chance = crashing.Chance(seed)
        self.host: Host = None  # type: ignore[assignment]
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.kills = 0

    async def run(self, kills: int) -> None:
        while True:
            await self.start()
            if self.kills >= kills:
                return
            self.store.after = self.random.random() < 0.5
            at_write = self.random.random() < 0.5
            self.store.left = self.random.randrange(1, 30) if at_write else None
            lives_s = self.random.choice([0.0, 0.01, 0.3, 2.0, 5.0])
            ends_s = self.host.now_s() + lives_s
            while not self.store.crashed and self.host.now_s() < ends_s:
                await asyncio.sleep(0.001)
            for _ in range(self.random.randrange(5)):
                await asyncio.sleep(0.0)
            self.kill()
            await asyncio.sleep(self.random.choice([0.0, 0.1]))

    async def start(self) -> None:
        app = crashing.system(self.chance, self.seed)
        strict = self.random.random() < 0.3
        chance = random.Random(self.random.random())
        self.host = Host(app, inline=False, shuffle=True, watch=False, strict=strict, chance=chance, store=self.store)
        self.store.crashed, self.store.left = False, None
        await self.host.start()
        self.client = Client(LocalConnection(self.host))
        self.down = asyncio.Event()
        self.up.set()

    def crash(self) -> None:
        self.up.clear()
        if not self.host.crashed:
            self.host.crash()
        self.down.set()

    def kill(self) -> None:
        self.kills += 1
        self.crash()
        self.store.close()

    async def request(self, stream: str, item: Any, key: str | None) -> Any:
        """Ask until there is an answer."""
        while True:
            await self.up.wait()
            host, down = self.host, self.down
            asking = asyncio.ensure_future(self.client.request(stream, item, key=key))
            waiting = asyncio.ensure_future(down.wait())
            await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if host.crashed:
                for task in (asking, waiting):
                    task.cancel()
                await asyncio.gather(asking, waiting, return_exceptions=True)
                continue
            waiting.cancel()
            return asking.result()


async def one_run(seed: int) -> None:
    cluster = Cluster(seed)
    drawn = random.Random(f"requests {seed}")
    running = asyncio.create_task(cluster.run(kills=drawn.randrange(1, 6)))
    answers: dict[str, Any] = {}
    asked: dict[str, list[Any]] = {}

    async def ask(key: str) -> None:
        await asyncio.sleep(drawn.choice([0.0, 0.001, 0.5, 3.0]))
        try:
            answers[key] = await cluster.request("work", asked[key], key)
        except (ActorflowError, crashing.Trouble) as error:
            answers[key] = error
        if drawn.random() < 0.3:  # whoever asks again gets the same
            again = await asyncio.gather(cluster.request("work", asked[key], key), return_exceptions=True)
            if not (isinstance(answers[key], ActorflowError) and answers[key].retryable):
                assert type(again[0]) is type(answers[key]), f"{again[0]!r} after {answers[key]!r}"
                assert isinstance(again[0], ActorflowError) or again[0] == answers[key]
            else:
                answers[key] = again[0]

    for number in range(drawn.randrange(1, 12)):
        key = f"r{number}"
        asked[key] = [key, drawn.randrange(1, 5)]
    async with asyncio.TaskGroup() as group:
        for key in asked:
            group.create_task(ask(key))
    await running
    host = cluster.host
    await asyncio.sleep(60.0)  # what was sent, and what goes on though its caller has its answer
    marks, accounts, count, history = await cluster.request("marks", None, None)
    steps = host.app.steps  # type: ignore[attr-defined]
    watched = any(step.name == "Watches" for step in host.app.streams["work"].steps)
    expected: dict[Any, int] = {}
    for key, answer in answers.items():
        full = crashing.marks_of(steps, asked[key], watched=watched)
        if not isinstance(answer, Exception):
            assert answer == asked[key][1]
            expected.update(full)
            missing = [mark for mark in full if mark not in marks]
            assert not missing, f"{key} was answered, and is lost: {missing}"
        else:
            assert not isinstance(answer, HostLostError), f"{key}: {answer}"
    twice = {mark: times for mark, times in marks.items() if times != 1}
    assert not twice, f"done twice: {twice}"
    known = {mark for key in asked for mark in crashing.marks_of(steps, asked[key], watched=watched)}
    assert not marks.keys() - known, f"never asked for: {marks.keys() - known}"
    own = sum(1 for mark in marks if mark[2] in {step for step, _ in steps} | {"watch"})
    assert count == own, "a counter and the marks of one activation differ"
    moved = sum(1 for _, kind in steps if kind == "Moves")
    for key, answer in answers.items():
        entries = [entry for entry in history if entry[0] == key]
        assert len(entries) == len(set(entries)), f"{key} moved money twice"
        if not isinstance(answer, Exception):
            assert len(entries) == moved * asked[key][1]
    assert sum(accounts.values()) == crashing.MONEY * len(accounts), "money is lost, or made"
    check_nothing_left(host)
    assert all(locks.idle for locks in host.spaces.values()), "a lock is held"
    assert not host.journal.inputs, "a request is not forgotten"  # type: ignore[union-attr]
    await host.stop()
    reopened = crashing.system(cluster.chance, seed)
    other = Host(reopened, inline=False, watch=False, store=cluster.store)
    await other.start()
    again = await LocalConnection(other).request("marks", None, None, None)
    assert again == [marks, accounts, count, history], (
        f"a restart changes what is there: {again} was {[marks, accounts, count, history]}"
    )
    await other.stop()
    # what user code has started beside its activations knows nothing of a host that was killed
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_nothing_is_lost_and_nothing_done_twice_when_hosts_are_killed(seed: int) -> None:
    simulate(lambda: one_run(seed), seed=seed, jitter_s=0.0005, time_max_s=100_000.0)
