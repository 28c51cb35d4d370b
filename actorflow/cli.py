"""The `actorflow` command."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from actorflow import codec
from actorflow.errors import ActorflowError, StoreError
from actorflow.gateway import Gateway
from actorflow.limits import MIB
from actorflow.plan.app import AppPlan
from actorflow.plan.check import faults_of
from actorflow.plan.check_cells import matrix, notes_of, purity_of, uses_of
from actorflow.plan.draw import to_json, to_mermaid, to_svg
from actorflow.remote import RemoteConnection
from actorflow.report import RequestReport
from actorflow.runtime.host import Host
from actorflow.runtime.reading import LIMIT, LIMIT_MAX
from actorflow.stores import open_store, open_to_read
from actorflow.stores.store import Store

if TYPE_CHECKING:
    from actorflow.stores.sqlite import SqliteStore

URL = "http://127.0.0.1:7700"
T = TypeVar("T")
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
CELLS_IN_TABLE = 8

console = Console(stderr=True, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="actorflow")
def main() -> None:
    """Run apps of dataflow streams, and send them requests.

    \b
    actorflow run examples.shop:app                            start an app on http://127.0.0.1:7700
    actorflow call payment '{"card": "4711", "cents": 450}'    send a request, print the reply
    actorflow check examples.shop:app                          find every fault before anything starts
    actorflow graph examples.shop:app checkout --svg > a.svg   draw a stream
    """  # noqa: D301 - click looks for that control character


@main.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen; others need a token.")
@click.option("--port", default=7700, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False), help="File with the token to ask for.")
@click.option("--strict", is_flag=True, help="Send every item through the codec, as between hosts.")
@click.option("--drain-s", default=30.0, show_default=True, help="Longest wait for requests in flight at the end.")
@click.option("--store", metavar="URL", help="Where state and requests are kept, such as sqlite:///shop.db.")
@click.option(
    "--sync",
    type=click.Choice(["full", "off"]),
    default="full",
    show_default=True,
    help="off: do not wait for the disk; the last moments may be lost when the machine (not the process) fails.",
)
@click.option("--store-mib", type=click.IntRange(1), help="How large the store may become before it is full.")
def run(
    target: str,
    address: str,
    port: int,
    token_file: str | None,
    strict: bool,
    drain_s: float,
    store: str | None,
    sync: str,
    store_mib: int | None,
) -> None:
    """Start an app on this machine and serve it until Ctrl-C.

    On Ctrl-C or SIGTERM the host takes nothing new, finishes what is in flight and exits with 0; a second one
    ends it at once. Without --store everything is in memory, and a restart forgets. With one, what was acknowledged
    survives whatever happens, requests under way go on at the next start, and a caller that asks again with the key
    of its request gets the one answer.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    app = _load(target)
    token = Path(token_file).read_text().strip() if token_file else os.environ.get("ACTORFLOW_TOKEN")
    bytes_max = store_mib * MIB if store_mib is not None else None
    where = _store(store, sync=sync == "full", bytes_max=bytes_max) if store is not None else None
    _run(_serve(app, address=address, port=port, token=token, strict=strict, drain_s=drain_s, store=where, url=store))


async def _serve(
    app: AppPlan,
    *,
    address: str,
    port: int,
    token: str | None,
    strict: bool,
    drain_s: float,
    store: Store | None,
    url: str | None,
) -> None:
    try:
        host = Host(app, strict=strict, store=store)
        gateway = Gateway(host, address=address, port=port, token=token)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    asked, insisted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        (insisted if asked.is_set() else asked).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    if not await _unless(asked, host.start()):
        await host.stop()
        console.print("stopped before it had started")
        return
    try:
        await gateway.start()
    except OSError as error:
        await host.stop()
        raise click.ClickException(f"cannot listen on {address}:{port}: {error.strerror}; try --port 0") from None
    # objects of the program itself are never garbage: the collector need not look at them again
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    kept = f"kept in {url}" if url is not None else "in memory: a restart forgets"
    console.print(f"[bold]{app.name}[/bold] answers on {gateway.url} ({escape(kept)})", soft_wrap=True)
    if host.requests:
        console.print(f"{len(host.requests)} requests that were under way go on")
    for name in host.wirings:
        console.print(f"  POST {gateway.url}/streams/{name}")
    console.print("Ctrl-C drains and stops.")
    await asked.wait()
    console.print(f"draining: {host.in_flight} requests in flight; once more stops at once")
    drained: list[bool] = []

    async def drain() -> None:
        drained.append(await host.drain(drain_s))

    if not await _unless(insisted, drain()):
        console.print("stopped at once")
        await host.stop()
    await gateway.stop()
    if drained:
        console.print("stopped" if drained[0] else f"stopped; some requests did not end within {drain_s:g} s")
    else:
        sys.exit(EXIT_INTERRUPTED)


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work and return True, or give it up when the event comes first and return False."""
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    return False


@main.command()
@click.argument("cell", required=False)
@click.argument("key", required=False)
@click.option("--start", help="First key of a range.")
@click.option("--end", help="Key before which a range ends.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT, show_default=True, help="Entries at most.")
@click.option("--url", default=URL, show_default=True, envvar="ACTORFLOW_URL", help="The host.")
def state(cell: str | None, key: str | None, start: str | None, end: str | None, limit: int, url: str) -> None:
    """Look at the state of a running app: its cells, a range of a CELL, or what it holds under a KEY.

    Keys are of the type that the cell declares, else JSON or text. What is shown is committed, and of one instant.
    """
    _run(_state(cell, key, start, end, limit, url))


async def _state(cell: str | None, key: str | None, start: str | None, end: str | None, limit: int, url: str) -> None:
    connection = _connection(url)
    try:
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
                _print(line)
    finally:
        await connection.close()


@main.group()
def store() -> None:
    """Look after a store, also while a host has it open.

    \b
    actorflow store check sqlite:///shop.db               is everything there that was written?
    actorflow store backup sqlite:///shop.db copy.db      a consistent copy
    """  # noqa: D301 - click looks for that control character


@store.command("check")
@click.argument("url")
def store_check(url: str) -> None:
    """Check that a store holds what was written to it; exits with 1 when it does not."""
    faults = _reading(url, lambda opened: opened.check())
    for fault in faults:
        console.print(f"[red]✗[/red] {escape(fault)}", soft_wrap=True)
    if faults:
        sys.exit(EXIT_FAILED)
    tables, size = _reading(url, lambda opened: (opened.tables(), opened.size_bytes()))
    console.print(f"[green]✓[/green] {url}: {size:,} bytes, tables {', '.join(tables) or 'none'}", soft_wrap=True)


@store.command("backup")
@click.argument("url")
@click.argument("path", type=click.Path(path_type=Path))
def store_backup(url: str, path: Path) -> None:
    """Copy a store to PATH, consistent as of one moment, while a host may go on writing."""
    _reading(url, lambda opened: opened.backup(path))
    console.print(f"copied {url} to {path}", soft_wrap=True)


@store.command("compact")
@click.argument("url")
def store_compact(url: str) -> None:
    """Give back the space that a store does not need; no host may have it open."""
    where = _store(url)
    try:
        where.open(app=_reading(url, lambda opened: opened.opened.app if opened.opened is not None else ""))
        freed = where.compact()
        where.close()
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    console.print(f"gave back {freed:,} bytes")


def _store(url: str, *, sync: bool = True, bytes_max: int | None = None) -> Store:
    try:
        return open_store(url, sync=sync, bytes_max=bytes_max)
    except StoreError as error:
        raise click.BadParameter(str(error), param_hint="--store") from None


def _reading(url: str, work: Callable[[SqliteStore], T]) -> T:
    """Do something with a store that is only read, and may be open elsewhere."""
    try:
        where = open_to_read(url)
        try:
            return work(where)
        finally:
            where.close()
    except StoreError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.argument("stream")
@click.argument("item", metavar="JSON|-|@FILE", default="null")
@click.option("--url", default=URL, show_default=True, envvar="ACTORFLOW_URL", help="The host.")
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
        _run(_call_many(stream, _lines(item, as_json=not lines), url, timeout_s))
    else:
        _run(_call(stream, _json_item(_read(item)), url, timeout_s))


async def _call(stream: str, item: Any, url: str, timeout_s: float | None) -> None:
    connection = _connection(url)
    try:
        with _progress() as progress:
            task = progress.add_task(f"{stream}: waiting", total=None)

            def show(report: RequestReport) -> None:
                progress.update(task, description=escape(f"{stream} ({report.request_id}): {report}"))

            reply = await connection.request(stream, item, timeout_s, None, show)
        _print(reply)
    finally:
        await connection.close()


async def _call_many(stream: str, items: Iterator[Any], url: str, timeout_s: float | None) -> None:
    connection = _connection(url)
    counts = [0, 0]
    began = time.monotonic()

    def counted() -> Iterator[Any]:
        for item in items:
            counts[0] += 1
            yield item

    try:
        with _progress() as progress:
            task = progress.add_task(f"{stream}: waiting", total=None)
            async for reply in connection.stream(stream, counted(), timeout_s, None, None):
                counts[1] += 1
                _print(reply)
                spent_s = max(time.monotonic() - began, 1e-9)
                done = f"{counts[0]:,} items in, {counts[1]:,} replies, {counts[0] / spent_s:,.0f}/s"
                progress.update(task, description=f"{stream}: {done}")
    finally:
        await connection.close()


@main.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON on standard output.")
def check(target: str, *, as_json: bool) -> None:
    """Find every fault of an app before anything starts; exits with 1 if there is one.

    Prints which operator touches which cell, how, and why that is safe; which streams are pure (can be begun again from
    their input); and what may run but is probably not meant.
    """
    app = _load(target)
    faults = list(faults_of(app))
    if as_json:
        click.echo(json.dumps({**matrix(app), "faults": faults}, indent=2))
        sys.exit(EXIT_FAILED if faults else 0)
    if app.cells:
        _show_matrix(app)
    for note in notes_of(app):
        console.print(f"[yellow]•[/yellow] {escape(note)}")
    for fault in faults:
        console.print(f"[red]✗[/red] {escape(fault)}")
    if faults:
        console.print(f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in app {app.name}")
        sys.exit(EXIT_FAILED)
    steps = sum(len(topology.steps) for topology in app.streams.values())
    console.print(f"[green]✓[/green] app {app.name}: {len(app.streams)} streams with {steps} steps, no faults")


def _show_matrix(app: AppPlan) -> None:
    """Print the operators and the cells they touch, and what follows for the streams."""
    uses = uses_of(app)
    touched = [name for name in app.cells if any(use.cell == name for use in uses)]
    table = Table(title=f"shared state of {app.name}", title_justify="left", title_style="bold")
    for heading in ("operator", "keyed by", *touched):
        table.add_column(heading, overflow="fold")
    squares: dict[tuple[str, str], dict[str, str]] = {}
    for use in uses:
        mark = "[green]✓[/green]" if use.safe else "[red]✗[/red]"
        row = squares.setdefault((f"{use.stream}/{use.operator}", use.key or ""), {})
        row[use.cell] = " ".join(filter(None, (row.get(use.cell), f"{mark} {use.access}")))
    for (operator, key), row in squares.items():
        table.add_row(operator, key, *(row.get(name, "") for name in touched))
    if len(touched) <= CELLS_IN_TABLE:  # more columns than that would be a letter wide
        console.print(table)
    for use in uses:
        if use.safe:
            why = f"{use.stream}/{use.operator}, {use.cell}.{use.access}: {use.reason}"
            console.print(f"[green]✓[/green] {escape(why)}", soft_wrap=True)
    for verdict in purity_of(app).values():
        reads = f", reads {', '.join(verdict.reads)}" if verdict.reads else ""
        what = "pure" if verdict.pure else f"writes ({'; '.join(verdict.writes)})"
        console.print(f"  stream [bold]{verdict.stream}[/bold]: {escape(what + reads)}")


@main.command()
@click.argument("target", metavar="MODULE:APP")
@click.argument("stream", required=False)
@click.option("--mermaid", "form", flag_value="mermaid", default=True, help="Mermaid text (the default).")
@click.option("--svg", "form", flag_value="svg", help="An SVG picture; names a single STREAM where there are several.")
@click.option("--json", "form", flag_value="json", help="Steps and edges as JSON.")
def graph(target: str, stream: str | None, form: str) -> None:
    """Draw the streams of an app, or one of them."""
    app = _load(target)
    try:
        chosen = [app[stream].topology] if stream else list(app.streams.values())
    except ActorflowError as error:
        raise click.ClickException(str(error)) from None
    if form == "json":
        click.echo(json.dumps([to_json(topology) for topology in chosen], indent=2))
    elif form == "mermaid":
        for topology in chosen:
            click.echo(f"%% stream {topology.stream}\n{to_mermaid(topology)}")
    elif len(chosen) != 1:
        raise click.UsageError(f"an SVG shows one stream; name one of: {', '.join(app.streams)}")
    else:
        click.echo(to_svg(chosen[0]), nl=False)


@main.command()
@click.argument("target", metavar="MODULE:APP")
def streams(target: str) -> None:
    """List the streams of an app with what they take and how they answer."""
    for name, topology in _load(target).streams.items():
        taken, made = (getattr(kind, "__name__", str(kind)) for kind in (topology.request_type, topology.reply_type))
        path = " → ".join(step.name for step in topology.steps)
        click.echo(f"{name}  {taken} → {made} ({topology.replies})\n    {path}")


# -- plumbing


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on uvloop where there is one; typed errors become one line and an exit code."""
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:  # not on this platform
        factory = asyncio.new_event_loop  # type: ignore[assignment]
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)
    except ActorflowError as error:
        console.print(f"[red]{error.to_wire()['type']}[/red]: {error}", soft_wrap=True)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)


def _load(target: str) -> AppPlan:
    """Import MODULE and return its APP, with an error that says what is there."""
    module_name, colon, attribute = target.partition(":")
    if not colon or not attribute:
        raise click.BadParameter(
            f"{target!r} is not MODULE:APP (for example examples.shop:app)", param_hint="MODULE:APP"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise click.ClickException(f"{module_name} imports {error.name!r}, which is not installed") from None
        here = Path.cwd()
        raise click.ClickException(f"there is no module {module_name!r} below {here} or installed") from None
    except Exception as error:
        raise click.ClickException(f"importing {module_name} raised {type(error).__name__}: {error}") from error
    app = getattr(module, attribute, None)
    if not isinstance(app, AppPlan):
        apps = [name for name, value in vars(module).items() if isinstance(value, AppPlan)]
        found = "nothing" if app is None else f"a {type(app).__name__}"
        raise click.ClickException(
            f"{module_name}:{attribute} is {found}, not an App (apps there: {', '.join(apps) or 'none'})"
        )
    return app


def _connection(url: str) -> RemoteConnection:
    try:
        return RemoteConnection(url, token=os.environ.get("ACTORFLOW_TOKEN"), plain=True)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


def _read(item: str) -> str:
    if item == "-":
        return sys.stdin.read()
    if item.startswith("@"):
        try:
            return Path(item[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"cannot read {item[1:]}: {error}") from None
    return item


def _json_item(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        hint = " (a string needs its quotes: '\"tea\"')" if not text.lstrip().startswith(("{", "[", '"')) else ""
        raise click.BadParameter(f"{text[:80]!r} is not JSON: {error}{hint}", param_hint="JSON") from None


def _lines(item: str, *, as_json: bool) -> Iterator[Any]:
    for line in _read(item).splitlines():
        if not as_json:
            yield line
        elif line.strip():
            yield _json_item(line)


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, refresh_per_second=8)


def _print(value: Any) -> None:
    click.echo(orjson.dumps(value, default=codec.plain, option=orjson.OPT_NON_STR_KEYS).decode())


if __name__ == "__main__":
    main()
