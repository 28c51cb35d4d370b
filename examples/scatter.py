"""Scatter and gather: a question goes to many shards; hits stream back as they are found, then a summary.

python -m examples.scatter
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from actorflow import App, Operator

SHARDS = 8
BOOKS = ["Dune", "Emma", "Ulysses", "Dubliners", "Middlemarch", "Hard Times", "Dracula", "Persuasion"]


@dataclass(frozen=True)
class Question:
    letter: str
    shard: int


@dataclass(frozen=True)
class Hit:
    shard: int
    title: str


def scatter(letter: str) -> Iterator[Question]:
    for shard in range(SHARDS):
        yield Question(letter, shard)


class Search(Operator):
    """One shard's search. Shards answer at different speeds, and none waits for another."""

    concurrency = SHARDS

    async def process(self, question: Question) -> Hit | None:
        await asyncio.sleep(0.01 * (SHARDS - question.shard))
        title = BOOKS[question.shard]
        return Hit(question.shard, title) if title.startswith(question.letter) else None


app = App("library")

hits = app.stream("search", str, replies="many").flat_map(scatter).then(Search)
hits.map(lambda hit: f"shard {hit.shard}: {hit.title}")
hits.count().map(lambda number: f"{number} books")


async def main() -> None:
    async with app.local() as client:
        async for line in client.stream("search", "D"):
            print(line)


if __name__ == "__main__":
    asyncio.run(main())
