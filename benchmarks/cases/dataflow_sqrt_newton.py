"""Integer square roots by Newton's method, two thousand requests at once in one loop.

Each request goes round as often as its number needs, and its answer finds its way to whoever asked. It shows that
requests share an operator and a feedback edge without sharing anything else: the guess is in the item, the number of
passes is its `round`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from actorflow import App, Client, Operator
from benchmarks.cases.generators import SplitMix64, rows_hash


@dataclass(frozen=True, slots=True)
class Guess:
    """A number, and a guess at its root that is not too small."""

    number: int
    root: int


@dataclass(frozen=True, slots=True)
class Root:
    """The largest integer whose square is not above the number, and the passes that it took to be sure."""

    value: int
    passes: int


class Improve(Operator):
    """Make the next guess, and go round with it while guesses become smaller."""

    def process(self, guess: Guess) -> Root | None:
        better = (guess.root + guess.number // guess.root) // 2
        if better >= guess.root:
            return Root(guess.root, self.round + 1)
        self.feedback(Guess(guess.number, better))
        return None


app = App("sqrt-newton")
sqrt = app.stream("sqrt", int, Root).map(lambda number: Guess(number, number)).then(Improve, feedback=True)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Ask for the roots of `count` numbers from seed `values_seed`, all at once."""
    random = SplitMix64(params["values_seed"])
    numbers = [random.below(10**12) + 1 for _ in range(params["count"])]
    roots = await asyncio.gather(*(client.request(sqrt, number) for number in numbers))
    rows = [[index, number, root.value] for index, (number, root) in enumerate(zip(numbers, roots, strict=True))]
    return {
        "requests": len(rows),
        "total_passes": sum(root.passes for root in roots),
        "rows_sha256": rows_hash(rows),
        "first": rows[:3],
    }
