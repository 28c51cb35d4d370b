"""The commands that start a host: `actorflow run` with an app, `actorflow host` without."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from actorflow import logs
from actorflow.cli.shared import EXIT_FAILED, EXIT_INTERRUPTED, console, load, run_to_the_end
from actorflow.cli.storing import opened_store
from actorflow.errors import DeployError
from actorflow.gateway import Gateway
from actorflow.limits import MIB
from actorflow.plan.app import AppPlan
from actorflow.runtime.host import Host
from actorflow.wire import PORT

if TYPE_CHECKING:
    from actorflow.deploy.deployer import Deployer

LOOK_EVERY_S = 0.3
EXIT_CANNOT_LISTEN = 3
"""No change of a file helps then."""

A_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _serving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all commands that start a host."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--address", default="127.0.0.1", show_default=True, help="Where to listen; others need a token or TLS."
    ),
    click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port."),
    click.option(
        "--unix", type=click.Path(path_type=Path), help="Listen on this socket, in place of address and port."
    ),
    click.option("--token-file", type=A_FILE, help="File with the token to ask for (or ACTORFLOW_TOKEN)."),
    click.option("--tls-cert", "certificate", type=A_FILE, help="Certificate (PEM): answer on https."),
    click.option("--tls-key", "key", type=A_FILE, help="Its key, where that is a file of its own."),
    click.option("--tls-client-ca", "client_ca", type=A_FILE, help="Ask clients for certificates of this authority."),
    click.option("--strict", is_flag=True, help="Send every item through the codec, as between hosts."),
    click.option(
        "--drain-s",
        default=30.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Longest wait for requests in flight at the end; when some do not end, the exit status is 1.",
    ),
    click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True),
    click.option("--store", metavar="URL", help="Where state and requests are kept, such as sqlite:///shop.db."),
    click.option(
        "--sync",
        type=click.Choice(["full", "off"]),
        default="full",
        show_default=True,
        help="off: do not wait for the disk; the last moments may be lost when the machine (not the process) fails.",
    ),
    click.option("--store-mib", type=click.IntRange(1), help="How large the store may become before it is full."),
)


@dataclass(frozen=True, slots=True)
class _Start:
    """How a host is to be started: what the options say, read."""

    door: dict[str, Any]
    host: dict[str, Any]
    drain_s: float
    kept: str

    @classmethod
    def of(
        cls,
        *,
        token_file: Path | None,
        strict: bool,
        drain_s: float,
        log_format: str,
        store: str | None,
        sync: str,
        store_mib: int | None,
        **door: Any,
    ) -> _Start:
        logs.begin(log_format)
        door["token"] = token_file.read_text().strip() if token_file else os.environ.get("ACTORFLOW_TOKEN")
        bytes_max = store_mib * MIB if store_mib is not None else None
        where = opened_store(store, sync=sync == "full", bytes_max=bytes_max) if store is not None else None
        kept = f"kept in {store}" if store is not None else "in memory: a restart forgets"
        return cls(door, {"strict": strict, "store": where}, drain_s, kept)


@click.command()
@click.argument("target", metavar="MODULE:APP|FILE")
@_serving_options
@click.option("--reload", is_flag=True, help="Start again when a file of code below this folder changes.")
def run(target: str, *, reload: bool, **options: Any) -> None:
    """Start an app on this machine and serve it until Ctrl-C.

    On Ctrl-C or SIGTERM the host takes nothing new, finishes what is in flight and exits with 0; a second one
    ends it at once, with 130. Without --store everything is in memory, and a restart forgets. With one, what was
    acknowledged survives whatever happens, requests under way go on at the next start, and a caller that asks again
    with the key of its request gets the one answer.
    """
    if reload:
        sys.exit(_run_again_and_again())
    start = _Start.of(**options)
    run_to_the_end(_serve(load(target), start))


@click.command()
@_serving_options
@click.option("--apps", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps what is deployed.")
@click.option("--deploy-token-file", type=A_FILE, help="File with the token for deploying (or ACTORFLOW_DEPLOY_TOKEN).")
@click.option("--allow-python", is_flag=True, help="Let deployed apps name Python functions, which may do anything.")
@click.option(
    "--idle-s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Streams that are unused for so long give up their replicas, and have new ones when a request comes.",
)
def host(
    *, apps: Path | None, deploy_token_file: Path | None, allow_python: bool, idle_s: float, **options: Any
) -> None:
    """Start a host without any app: apps are deployed to it while it runs.

    \b
    actorflow host                     # says which token deploying needs
    actorflow deploy app.yaml          # ship an app, or a new version of it
    actorflow apps                     # what runs there
    actorflow undeploy app

    Streams answer like those of any app. Without --apps a restart forgets what was deployed.
    """  # noqa: D301 - click looks for that control character
    from actorflow.deploy.deployer import Deployer
    from actorflow.deploy.registry import FolderFiles, MemoryFiles, Registry

    if allow_python:
        sys.path.insert(0, str(Path.cwd()))
    start = _Start.of(**options)
    if apps is not None:
        start = replace(start, kept=f"{start.kept}; apps kept in {apps}")
    given = deploy_token_file.read_text().strip() if deploy_token_file else os.environ.get("ACTORFLOW_DEPLOY_TOKEN")
    token = given or start.door["token"] or secrets.token_urlsafe(24)
    try:
        files = FolderFiles(apps) if apps is not None else MemoryFiles()
    except (DeployError, OSError) as error:
        raise click.ClickException(f"--apps {apps}: {error}") from None
    deployer = Deployer(Registry(files), python=allow_python)
    if importlib.util.find_spec("wasmtime") is None:
        console.print(escape("functions in WASM cannot run here: pip install 'actorflow[wasm]'"))
    for wrong in deployer.restore():
        console.print(f"[red]✗[/red] {escape(wrong)}", soft_wrap=True)
    start.host["idle_s"] = idle_s
    start.door.update(deployer=deployer, deploy_token=token)
    if not given and not start.door["token"]:
        console.print(f"to deploy: export ACTORFLOW_DEPLOY_TOKEN={token}", soft_wrap=True)
    run_to_the_end(_serve(deployer.plan, start, deployer))


async def _serve(app: AppPlan, start: _Start, deployer: Deployer | None = None) -> None:
    door = start.door
    try:
        host = Host(app, **start.host)
        gateway = Gateway(host, **door)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if deployer is not None:
        deployer.serve(host)
    logs.hosts.add(host)
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
        where, way = door["unix"] or f"{door['address']}:{door['port']}", "" if door["unix"] else "; try --port 0"
        console.print(f"Error: cannot listen on {where}: {error.strerror or error}{way}", soft_wrap=True)
        sys.exit(EXIT_CANNOT_LISTEN)
    # objects of the program itself are never garbage: the collector need not look at them again
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)
    console.print(f"[bold]{app.name}[/bold] answers on {gateway.url} ({escape(start.kept)})", soft_wrap=True)
    if host.requests:
        console.print(f"{len(host.requests)} requests that were under way go on")
    for name in host.wirings:
        console.print(f"  POST {gateway.url}/streams/{name}")
    console.print("Ctrl-C drains and stops.")
    await asked.wait()
    console.print(f"draining: {host.in_flight} requests in flight; once more stops at once")
    drained: list[bool] = []

    async def drain() -> None:
        drained.append(await host.drain(start.drain_s))

    if not await _unless(insisted, drain()):
        console.print("stopped at once")
        await host.stop()
    await gateway.stop()
    if drained:
        if not drained[0]:
            console.print(f"stopped; some requests did not end within {start.drain_s:g} s")
            sys.exit(EXIT_FAILED)
        console.print("stopped")
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


# -- again, when a file has changed


def _run_again_and_again() -> int:
    """Run this command in a process of its own, and again whenever a Python file changes; Ctrl-C ends both."""
    command = [sys.executable, "-m", "actorflow", *(each for each in sys.argv[1:] if each != "--reload")]
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: asked.append(number))
    while True:
        before = _stamps()
        process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - ourselves; Ctrl-C reaches it once
        while process.poll() is None and not asked and not (changed := _changed(before)):
            time.sleep(LOOK_EVERY_S)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            _wait_for(process, asked)
            if asked:
                return process.returncode
            console.print(f"[bold]{escape(changed)}[/bold] has changed: starting again")
            continue
        if process.returncode in {0, EXIT_CANNOT_LISTEN} or asked:
            return process.returncode
        console.print("waiting for a change")
        while not asked and not _changed(before):
            time.sleep(LOOK_EVERY_S)
        if asked:
            return EXIT_INTERRUPTED


def _wait_for(process: subprocess.Popen[bytes], asked: list[int]) -> None:
    """Wait until a process has drained; who asks again has it end at once."""
    count = len(asked)
    while process.poll() is None:
        if len(asked) > count:
            count = len(asked)
            process.send_signal(signal.SIGTERM)
        time.sleep(LOOK_EVERY_S / 10)


def _stamps() -> dict[Path, float]:
    """Return when each Python file below this folder was changed; hidden folders and environments are left out."""
    stamps = {}
    for folder, folders, files in os.walk(Path.cwd()):
        folders[:] = [
            name for name in folders if not name.startswith((".", "__")) and not _is_environment(folder, name)
        ]
        for name in files:
            if name.endswith((".py", ".yaml", ".yml", ".toml", ".wasm")):
                path = Path(folder) / name
                try:
                    stamps[path] = path.stat().st_mtime
                except OSError:
                    continue  # it has just gone
    return stamps


def _is_environment(folder: str, name: str) -> bool:
    return name in {"node_modules", "site-packages"} or Path(folder, name, "pyvenv.cfg").exists()


def _changed(before: dict[Path, float]) -> str:
    """Return the name of a file that is not as it was; empty when all are."""
    now = _stamps()
    for path in (now.keys() | before.keys()) if now != before else ():
        if now.get(path) != before.get(path):
            return path.name
    return ""
