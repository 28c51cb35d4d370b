"""Commands that speak to a running host: call, ps, top, requests, dead-letters, state."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from actorflow.cli.shared import (
    connection_to,
    console,
    json_item,
    lines_of,
    print_json,
    progress_line,
    read_text,
    run_to_the_end,
    url_option,
)
from actorflow.errors import ConnectionLostError
from actorflow.remote import RemoteConnection
from actorflow.report import RequestReport
from actorflow.runtime.looking import REQUESTS_SHOWN, REQUESTS_SHOWN_MAX
from actorflow.runtime.reading import LIMIT, LIMIT_MAX


@contextlib.asynccontextmanager
async def _asking(url: str) -> AsyncIterator[RemoteConnection]:
    connection = connection_to(url)
    try:
        yield connection
    finally:
        await connection.close()


@click.command()
@click.argument("stream")
@click.argument("item", metavar="JSON|-|@FILE", default="null")
@url_option
@click.option("--timeout-s", type=float, help="Deadline; by default the stream's.")
@click.option(
    "--many", is_flag=True, help="Items are lines of JSON, sent one by one; replies are printed as they come."
)
@click.option("--lines", is_flag=True, help="As --many, with each line of text as an item.")
def call(stream: str, item: str, url: str, timeout_s: float | None, many: bool, lines: bool) -> None:
    """Send a request to a STREAM and print its reply as JSON.

    The item is JSON on the command line, '-' for standard input, or '@FILE'. A live line on standard error shows
    what is under way.
    """
    if timeout_s is not None and timeout_s <= 0:
        raise click.BadParameter("a deadline is a positive number of seconds", param_hint="--timeout-s")
    if many or lines:
        run_to_the_end(_call_many(stream, lines_of(item, as_json=not lines), url, timeout_s))
    else:
        run_to_the_end(_call(stream, json_item(read_text(item)), url, timeout_s))


async def _call(stream: str, item: Any, url: str, timeout_s: float | None) -> None:
    async with _asking(url) as connection:
        with progress_line() as progress:
            task = progress.add_task(f"{stream}: waiting", total=None)

            def show(report: RequestReport) -> None:
                progress.update(task, description=escape(f"{stream} ({report.request_id}): {report}"))

            if await _streams_replies(connection, stream):
                async for reply in connection.stream(stream, (item,), timeout_s, None, None):
                    print_json(reply)  # as they come
                return
            reply = await connection.request(stream, item, timeout_s, None, show)
        print_json(reply)


async def _streams_replies(connection: RemoteConnection, stream: str) -> bool:
    """Return whether a stream answers with many replies; of one that is unknown the request itself says so."""
    streams = await connection.ask("streams", None)
    return any(each["name"] == stream and each["replies"] == "many" for each in streams)


async def _call_many(stream: str, items: Iterator[Any], url: str, timeout_s: float | None) -> None:
    counts = [0, 0]
    began = time.monotonic()

    def counted() -> Iterator[Any]:
        for item in items:
            counts[0] += 1
            yield item

    try:
        async with _asking(url) as connection:
            with progress_line() as progress:
                task = progress.add_task(f"{stream}: waiting", total=None)
                async for reply in connection.stream(stream, counted(), timeout_s, None, None):
                    counts[1] += 1
                    print_json(reply)
                    spent_s = max(time.monotonic() - began, 1e-9)
                    done = f"{counts[0]:,} items in, {counts[1]:,} replies, {counts[0] / spent_s:,.0f}/s"
                    progress.update(task, description=f"{stream}: {done}")
    except click.BadParameter as error:  # one of the items is none: what comes from here looks like an activation's
        if isinstance(error.__cause__, click.BadParameter):
            raise error.__cause__ from None
        raise


# -- operators at work


@click.command()
@url_option
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def ps(url: str, *, as_json: bool) -> None:
    """List the replicas of a running app: mailbox depth, rate, p50 and p99 of activations, errors, restarts."""
    run_to_the_end(_ps(url, as_json=as_json))


async def _ps(url: str, *, as_json: bool) -> None:
    async with _asking(url) as connection:
        told = await connection.ask("ps", None)
        if not as_json:
            await asyncio.sleep(1.0)  # rates need two looks
        told = await connection.ask("ps", None)
    if as_json:
        print_json(told)
    else:
        Console().print(_replicas(told))


@click.command()
@url_option
@click.option("--every-s", default=1.0, show_default=True, type=click.FloatRange(0.1, 60.0), help="How often to look.")
@click.option("--times", type=click.IntRange(1), help="Stop after so many looks.")
def top(url: str, every_s: float, times: int | None) -> None:
    """Watch a running app: its operators, and the oldest requests in flight. Ctrl-C ends it."""
    run_to_the_end(_top(url, every_s, times))


async def _top(url: str, every_s: float, times: int | None) -> None:
    looks = 0
    shown = Console()
    with contextlib.suppress(asyncio.CancelledError), Live(console=shown, screen=shown.is_terminal) as live:
        while times is None or looks < times:
            try:
                async with _asking(url) as connection:
                    while times is None or looks < times:
                        told = await connection.ask("ps", None)
                        flying = await connection.ask("requests", [None, 10])
                        live.update(Group(_headline(told), _replicas(told), _flying(flying)), refresh=True)
                        looks += 1
                        if looks != times:
                            await asyncio.sleep(every_s)
            except ConnectionLostError as error:
                if not looks:
                    raise
                live.update(Text(f"{error}\nwaiting for it to come back"), refresh=True)
                looks += 1
                await asyncio.sleep(every_s)


def _headline(told: dict[str, Any]) -> Text:
    kept = "durable" if told["durable"] else "in memory"
    state = ", draining" if told["draining"] else ""
    return Text.assemble(
        (told["host"], "bold"),
        f" up {told['uptime_s']:,.0f} s, {kept}{state}: {told['in_flight']:,} requests in flight, "
        f"{told['dead_letters']:,} dead letters",
    )


def _replicas(told: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("stream/operator", overflow="fold", min_width=16)
    for name in ("waits", "works", "items", "per s", "p50 ms", "p99 ms", "errors", "restarts"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in told["replicas"]:
        number = f"[{row['replica']}]" if row["replica"] else ""
        busy = "bold" if row["depth"] or row["working"] else ""
        table.add_row(
            Text(f"{row['stream']}/{row['operator']}{number}", style=busy),
            f"{row['depth']:,}",
            f"{row['working']:,}",
            f"{row['items']:,}",
            f"{row['rate']:,.1f}",
            _ms(row["p50_ms"]),
            _ms(row["p99_ms"]),
            Text(f"{row['errors']:,}", style="red" if row["errors"] else ""),
            Text(f"{row['restarts']:,}", style="red" if row["restarts"] else ""),
        )
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}"


def _flying(requests: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("request", "stream", "age s", "left s", "items"):
        table.add_column(name, justify="left" if name in {"request", "stream"} else "right")
    for each in requests:
        left = f"{each['deadline_in_s']:,.1f}" if each["deadline_in_s"] is not None else ""
        age = f"{each['age_s']:,.1f}" if each["age_s"] is not None else ""
        table.add_row(each["id"], each["stream"], age, left, f"{each['outstanding']:,}")
    return table


# -- requests and dead letters


@click.command()
@click.argument("request_id", required=False)
@click.option("--cancel", is_flag=True, help="Cancel this request.")
@click.option("--stream", help="Only those of this stream.")
@click.option(
    "--limit",
    type=click.IntRange(1, REQUESTS_SHOWN_MAX),
    default=REQUESTS_SHOWN,
    show_default=True,
    help="Requests at most.",
)
@url_option
def requests(request_id: str | None, *, cancel: bool, stream: str | None, limit: int, url: str) -> None:
    """List requests in flight, the oldest first; or show where the items of one are, or cancel it."""
    if cancel and request_id is None:
        raise click.UsageError("--cancel needs the id of a request")
    run_to_the_end(_requests(request_id, stream, limit, url, cancel=cancel))


async def _requests(request_id: str | None, stream: str | None, limit: int, url: str, *, cancel: bool) -> None:
    async with _asking(url) as connection:
        if request_id is None:
            Console().print(_flying(await connection.ask("requests", [stream, limit])))
        elif not cancel:
            print_json(await connection.ask("request", request_id))
        elif await connection.ask("cancel", request_id):
            console.print(f"cancelled {escape(request_id)}")
        else:
            raise click.ClickException(f"no request {request_id!r} is in flight there")


@click.command("dead-letters")
@click.option("--replay", type=int, metavar="NUMBER", help="Process this one again, as a new request.")
@click.option("--forget", type=int, metavar="NUMBER", help="Remove this one.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
@url_option
def dead_letters(*, replay: int | None, forget: int | None, as_json: bool, url: str) -> None:
    """List items that were set aside because they failed, the oldest first; process one again, or forget it."""
    run_to_the_end(_dead_letters(replay, forget, url, as_json=as_json))


async def _dead_letters(replay: int | None, forget: int | None, url: str, *, as_json: bool) -> None:
    async with _asking(url) as connection:
        if replay is not None:
            console.print(f"dead letter {replay} is request {await connection.ask('replay', replay)} now")
        if forget is not None:
            await connection.ask("forget_dead_letter", forget)
            console.print(f"dead letter {forget} is forgotten")
        if replay is not None or forget is not None:
            return
        letters = await connection.ask("dead_letters", None)
    if as_json:
        print_json(letters)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("number", "stream/operator", "item", "error"):
        table.add_column(name, overflow="fold", justify="right" if name == "number" else "left")
    for letter in letters:
        error = letter["error"]
        where = f"{letter['stream']}/{letter['operator']}"
        said = f"{error['type']}: {error['message']}"
        table.add_row(str(letter["number"]), Text(where), Text(letter["item"]), Text(said))
    Console().print(table if letters else "no dead letters")


# -- shared state


@click.command()
@click.argument("cell", required=False)
@click.argument("key", required=False)
@click.option("--start", help="First key of a range.")
@click.option("--end", help="Key before which a range ends.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT, show_default=True, help="Entries at most.")
@url_option
def state(cell: str | None, key: str | None, start: str | None, end: str | None, limit: int, url: str) -> None:
    """Look at the state of a running app: its cells, a range of a CELL, or what it holds under a KEY.

    Keys are of the type that the cell declares, else JSON or text. What is shown is committed, and of one instant.
    """
    run_to_the_end(_state(cell, key, start, end, limit, url))


async def _state(cell: str | None, key: str | None, start: str | None, end: str | None, limit: int, url: str) -> None:
    async with _asking(url) as connection:
        if cell is None:
            cells = await connection.ask("cells", None)
            table = Table(*("cell", "kind", "keyed by", "entries", "locked", "waiting"))
            for each in cells:
                columns = (
                    each["name"],
                    each["kind"],
                    each["key"] or "",
                    each["entries"],
                    each["locked"],
                    each["waiting"],
                )
                table.add_row(*map(str, columns))
            Console().print(table)
        else:
            told = await connection.ask("state", [cell, key, start, end, limit])
            keyed = {each["name"]: each["key"] for each in await connection.ask("cells", None)}[cell] is not None
            for line in told if keyed and key is None else (told,):
                print_json(line)
