"""Random programs with nested loops, against a reference interpreter: exact results, exact ends, nothing left.

`make sim LOOP_SEEDS=50000` runs as many as one likes; a seed that fails is in the name of its test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import Any

import pytest

from actorflow import ActorflowError
from actorflow.runtime.request import Request
from actorflow.testing import check_nothing_left, simulate, simulated
from tests.sim.loop_programs import Item, Program, Reference, TooLargeError, Trouble, draw, stream_of

SEEDS = int(os.environ.get("LOOP_SEEDS", "300"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
CHUNK = 100


def drawn(seed: int) -> tuple[Program, list[Item], list[Item], bool]:
    """Return a program, the items of a request, what comes of them, and whether one of them fails."""
    chance = random.Random(seed)
    while True:
        program = draw(chance)
        items = [(chance.getrandbits(40), chance.randrange(5)) for _ in range(chance.randrange(6))]
        reference = Reference()
        with contextlib.suppress(TooLargeError):
            return program, items, sorted(reference.run(program, items)), reference.failed


async def one_run(seed: int) -> None:
    program, items, expected, fails = drawn(seed)
    chance = random.Random(seed + 1)
    on_error = chance.choice(["fail", "set_aside"])
    requests: list[Request] = []
    app = stream_of(program, chance, on_error=on_error)
    async with simulated(app, strict=seed % 3 == 0, inline=seed % 4 == 1) as (client, host):
        original, ended, ends = host.open, host.ended, dict[int, int]()

        def opened(*arguments: Any, **named: Any) -> Request:
            request = original(*arguments, **named)
            requests.append(request)
            return request

        def count_end(request: Request) -> None:
            ends[id(request)] = ends.get(id(request), 0) + 1
            ended(request)

        host.open = opened  # type: ignore[method-assign]
        host.ended = count_end  # type: ignore[method-assign]

        async def ask(how: float) -> None:
            asking = asyncio.ensure_future(client.request("program", items, timeout_s=0.02 if how < 0.1 else None))
            if how > 0.9:
                await asyncio.sleep(chance.choice([0.0, 0.001, 0.1]))
                asking.cancel()
            try:
                assert [tuple(item) for item in await asking] == expected
                assert not fails or on_error == "set_aside"
            except Trouble:
                assert fails, "no item should fail"
                assert on_error == "fail"
            except (ActorflowError, asyncio.CancelledError):
                assert not 0.1 <= how <= 0.9, "the request was to succeed"

        await asyncio.gather(*(ask(how) for how in (0.5, *(chance.random() for _ in range(chance.randrange(4))))))
        for request in requests:
            while not request.state:
                await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
    check_nothing_left(host, requests)
    assert all(count == 1 for count in ends.values()), "a request ended twice"


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_programs_with_loops_give_what_the_reference_gives(first: int) -> None:
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        try:
            simulate(lambda seed=seed: one_run(seed), seed=seed, jitter_s=0.0005, time_max_s=10_000.0)
        except BaseException as error:
            error.add_note(f"seed {seed}: FIRST_SEED={seed} LOOP_SEEDS=1; program {drawn(seed)[0]}")
            raise
