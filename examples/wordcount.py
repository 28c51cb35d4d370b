"""Word count: the most frequent words of the Jargon File, counted by a stream behind a real door.

python -m examples.wordcount                 run it, show the table, and stop
python -m examples.wordcount --stay          keep answering on HTTP until Ctrl-C
python -m examples.wordcount book.txt        count the words of a text of your own
"""

import argparse
import asyncio
import contextlib
import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from actorflow import App, Client
from actorflow.gateway import serving

TEXT = Path(__file__).parent / "texts" / "jargon.txt.gz"
TOP = 15
words_of = re.compile("[a-z]+").findall

app = App("wordcount")

top_words = (
    app.stream("top-words", str, list)
    .flat_map(lambda line: words_of(line.lower()))
    .key_by()
    .count()
    .top(TOP, lambda pair: (pair[1], pair[0]))
    .collect()
)


def lines_of(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8", errors="replace").splitlines()


async def count(client: Client, lines: list[str], console: Console) -> list[tuple[str, int]]:
    """Stream the lines to the host as there is room for them, and await the one reply."""
    columns = TextColumn("counting"), BarColumn(), MofNCompleteColumn(), TextColumn("lines"), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("counting", total=len(lines))

        async def feed() -> AsyncIterator[str]:
            for number, line in enumerate(lines, 1):
                if number % 500 == 0 or number == len(lines):
                    progress.update(task, completed=number)
                yield line

        (reply,) = [reply async for reply in client.stream(top_words, items=feed())]
        return reply


async def main() -> None:
    options = argparse.ArgumentParser(description="Count the words of a text with actorflow.")
    options.add_argument("text", nargs="?", type=Path, default=TEXT, help="a text file, plain or .gz")
    options.add_argument("--port", type=int, default=0, help="where HTTP answers (default: a free port)")
    options.add_argument("--stay", action="store_true", help="keep answering until Ctrl-C")
    given = options.parse_args()
    console = Console()
    async with serving(app, port=given.port) as gateway:
        console.print(f"host [bold]{app.name}[/bold] is up; HTTP answers on {gateway.url}/streams/top-words")
        async with Client(gateway.url) as client:
            top = await count(client, lines_of(given.text), console)
        table = Table("word", "count", title=f"most frequent words of {given.text.name}")
        table.columns[1].justify = "right"
        for word, number in top:
            table.add_row(word, f"{number:,}")
        console.print(table)
        example = f"curl -d '\"to be or not to be\"' {gateway.url}/streams/top-words"
        if given.stay:
            console.print(f"try it: {example}\nCtrl-C stops.", soft_wrap=True)
            await asyncio.Event().wait()
        console.print("with --stay it keeps answering there, until Ctrl-C")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
