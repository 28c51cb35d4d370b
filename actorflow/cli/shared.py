"""The `actorflow` command: what all commands share."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import traceback
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from actorflow.app import load_spec
from actorflow.errors import ActorflowError, SpecError
from actorflow.gateway.bodies import dump
from actorflow.plan.app import AppPlan
from actorflow.remote import RemoteConnection
from actorflow.wire import PORT

URL = f"http://127.0.0.1:{PORT}"
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
FILES = (".yaml", ".yml", ".json", ".toml")
"""How the names of files end that say an app."""

console = Console(stderr=True, highlight=False)

url_option = click.option("--url", default=URL, show_default=True, envvar="ACTORFLOW_URL", help="The host.")
"""Of all commands that speak to a host."""


def run_to_the_end(work: Coroutine[Any, Any, None]) -> None:
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
        console.print(f"[red]{error.to_wire()['type']}[/red]: {escape(_said(error))}", soft_wrap=True)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)


def _said(error: ActorflowError) -> str:
    """Return the words of an error, a line for each fault where there are several."""
    faults = getattr(error, "faults", ())
    return "\n  ".join(("", *faults)) if len(faults) > 1 else str(error)


def load(target: str) -> AppPlan:
    """Import MODULE and return its APP, or read a file that says one; an error says what is there."""
    if target.lower().endswith(FILES):
        return _load_file(Path(target))
    module_name, colon, attribute = target.partition(":")
    if not colon or not attribute:
        raise click.BadParameter(
            f"{target!r} is not MODULE:APP (for example examples.shop:app), nor a file in YAML, JSON or TOML",
            param_hint="MODULE:APP",
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
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        raise click.ClickException(
            f"importing {module_name} raised {type(error).__name__}: {error} ({place})"
        ) from error
    app = getattr(module, attribute, None)
    if not isinstance(app, AppPlan):
        apps = [name for name, value in vars(module).items() if isinstance(value, AppPlan)]
        found = "nothing" if app is None else f"a {type(app).__name__}"
        raise click.ClickException(
            f"{module_name}:{attribute} is {found}, not an App (apps there: {', '.join(apps) or 'none'})"
        )
    return app


def _load_file(path: Path) -> AppPlan:
    """Return the app that a file says. It may name Python: who runs it has written it, or trusts it."""
    for folder in (path.parent.absolute(), Path.cwd()):
        sys.path.insert(0, str(folder))
    try:
        return load_spec(path, python=True)
    except SpecError as error:
        raise refused(error) from None


def refused(error: SpecError) -> click.ClickException:
    """Return an error of the command with a line for each fault."""
    return click.ClickException("\n".join(error.faults))


def connection_to(url: str) -> RemoteConnection:
    """Return a connection to a host, with the token of ACTORFLOW_TOKEN."""
    try:
        return RemoteConnection(url, token=os.environ.get("ACTORFLOW_TOKEN"), plain=True)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


def read_text(item: str) -> str:
    """Return what an argument says: itself, standard input for '-', the contents of a file for '@FILE'."""
    if item == "-":
        return sys.stdin.read()
    if item.startswith("@"):
        try:
            return Path(item[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"cannot read {item[1:]}: {error}") from None
    return item


def json_item(text: str) -> Any:
    """Return an item that is written as JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        hint = " (a string needs its quotes: '\"tea\"')" if not text.lstrip().startswith(("{", "[", '"')) else ""
        raise click.BadParameter(f"{text[:80]!r} is not JSON: {error}{hint}", param_hint="JSON") from None


def lines_of(item: str, *, as_json: bool) -> Iterator[Any]:
    """Yield the items that the lines of an argument are."""
    for number, line in enumerate(read_text(item).splitlines(), 1):
        if not as_json:
            yield line
        elif line.strip():
            try:
                yield json_item(line)
            except click.BadParameter as error:
                raise click.BadParameter(f"line {number}: {error.message}", param_hint="JSON") from None


def progress_line() -> Progress:
    """Return a live line on standard error."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, refresh_per_second=8, disable=not console.is_terminal)


def print_json(value: Any) -> None:
    """Print a value on standard output."""
    click.echo(dump(value).decode())
