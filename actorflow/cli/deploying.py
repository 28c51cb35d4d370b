"""Commands that deploy apps to a running host: deploy, undeploy, apps."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from actorflow.cli.shared import URL, console, print_json, run_to_the_end
from actorflow.errors import ActivationError, ActorflowError, ConnectionLostError, DeployError, from_wire
from actorflow.gateway.apps import SPEC_TYPE
from actorflow.remote import UNIX

url_option = click.option("--url", default=URL, show_default=True, envvar="ACTORFLOW_URL", help="The host.")


class _Host:
    """The HTTP door of a host."""

    def __init__(self, url: str) -> None:
        unix = url.removeprefix(UNIX) if url.startswith(UNIX) else None
        self._base = "http://localhost" if unix is not None else url.rstrip("/")
        self._url = url
        token = os.environ.get("ACTORFLOW_DEPLOY_TOKEN") or os.environ.get("ACTORFLOW_TOKEN")
        connector = aiohttp.UnixConnector(unix) if unix is not None else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, data: bytes | None = None, **headers: str) -> Any:
        """Return what the host answers. Raises: ActorflowError, also one that the host answers with."""
        try:
            async with self._session.request(method, self._base + path, data=data, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectionLostError(f"no answer from {self._url}: {error}; is `actorflow host` running?") from None
        try:
            said = msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise ConnectionLostError(f"{self._url} answered {answer.status}, and no JSON: no host of ours?") from None
        if answer.status >= 400:
            raise _error_of(said)
        return said


def _error_of(said: Any) -> ActorflowError:
    if not isinstance(said, dict) or not isinstance(said.get("detail"), str):
        return DeployError(str(said)[:300])
    if said.get("title") == "NotFoundError":
        return DeployError("that host takes no apps: it was started with one; `actorflow host` starts one that does")
    wire = {**said, "type": str(said.get("title")), "message": said["detail"]}
    error = from_wire(wire)
    return DeployError(said["detail"]) if isinstance(error, ActivationError) else error


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@url_option
@click.option("--json", "as_json", is_flag=True, help="What the host answers, as JSON on standard output.")
def deploy(file: Path, url: str, *, as_json: bool) -> None:
    """Ship the app in FILE (YAML, TOML or JSON) and its modules to a running host.

    Modules go by the hash of their content, and only those that the host does not have. A new version takes the place
    of the old one: its state stays, requests under way finish on the version that they began with. Needs the token that
    `actorflow host` says, in ACTORFLOW_DEPLOY_TOKEN.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is not UTF-8: {error}") from None
    run_to_the_end(_deploy(file, text, url, as_json=as_json))


async def _deploy(file: Path, text: str, url: str, *, as_json: bool) -> None:
    from actorflow.plan.spec.reading import form_of, read

    form = form_of(file.name)
    data, _ = read(text, form, file=str(file))
    name = data.get("app") if isinstance(data, dict) else None
    if not isinstance(name, str):
        raise DeployError(f"{file} does not say which app it is: app: NAME")
    modules = {each: _read(file.parent / each) for each in sorted(set(_modules_in(data)))}
    digests = {each: hashlib.sha256(code).hexdigest() for each, code in modules.items()}
    async with _Host(url) as host:
        await _send_missing(host, modules, digests)
        body = msgspec.json.encode({"spec": text, "form": form, "modules": digests, "file": str(file)})
        told = await host.ask("PUT", f"/apps/{name}", body, **{"Content-Type": SPEC_TYPE})
    if as_json:
        print_json(told)
        return
    how = _HOW.get(told["how"], told["how"])
    if told.get("names_python"):
        how += "; of Python functions the host has what it imported first: restart it for changed ones"
    console.print(f"[bold]{escape(told['app'])}[/bold] version {told['version']} runs on {url} ({how})", soft_wrap=True)
    for stream in told["streams"]:
        console.print(f"  POST {url}/streams/{stream}", soft_wrap=True)


_HOW = {
    "deployed": "new",
    "replaced": "in place of the last version",
    "swapped": "in place of the last version: only modules were swapped",
    "unchanged": "it runs already",
}


async def _send_missing(host: _Host, modules: dict[str, bytes], digests: dict[str, str]) -> None:
    """Send the modules that the host does not have."""
    missing = []
    for name, digest in digests.items():
        try:
            await host.ask("GET", f"/modules/{digest}")
        except ConnectionLostError:
            raise
        except ActorflowError:
            missing.append(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("modules", total=sum(len(modules[name]) for name in missing))
        for name in missing:
            progress.update(task, description=escape(name))
            await host.ask("PUT", f"/modules/{digests[name]}", modules[name])
            progress.advance(task, len(modules[name]))


def _modules_in(data: Any) -> Iterator[str]:
    """Yield the files of modules that a specification names."""
    if isinstance(data, str):
        scheme, _, rest = data.partition(":")
        if scheme == "wasm" and rest:
            yield rest.partition("#")[0]
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _modules_in(key)
            yield from _modules_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from _modules_in(value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeployError(f"module {path} cannot be read: {error.strerror}") from None


@click.command()
@click.argument("name")
@click.option("--state", is_flag=True, help="Its state, and all its versions, go with it.")
@url_option
def undeploy(name: str, url: str, *, state: bool) -> None:
    """Take an app away from a running host, once its requests have ended; its state stays unless --state is given."""
    run_to_the_end(_undeploy(name, url, state=state))


async def _undeploy(name: str, url: str, *, state: bool) -> None:
    async with _Host(url) as host:
        told = await host.ask("DELETE", f"/apps/{name}?state={'drop' if state else 'keep'}")
    console.print(f"app {escape(name)} is {told['state']}")


@click.command()
@click.argument("name", required=False)
@click.option("--version", type=click.IntRange(1), help="Let this version run again.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
@url_option
def apps(name: str | None, version: int | None, url: str, *, as_json: bool) -> None:
    """List the apps that are deployed to a running host, or the versions of one; or go back to a version."""
    if version is not None and name is None:
        raise click.UsageError("--version needs the name of an app")
    run_to_the_end(_apps(name, version, url, as_json=as_json))


async def _apps(name: str | None, version: int | None, url: str, *, as_json: bool) -> None:
    async with _Host(url) as host:
        if version is not None:
            told = await host.ask("POST", f"/apps/{name}/versions/{version}")
        else:
            told = await host.ask("GET", f"/apps/{name}" if name else "/apps")
    if as_json:
        print_json(told)
    elif name is None:
        Console().print(_table(told) if told else "no apps")
    else:
        Console().print(_versions(told))


def _table(told: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("app", "version", "kept", "streams"):
        table.add_column(heading, overflow="fold")
    for each in told:
        runs = str(each["version"]) if each["version"] is not None else "cannot run" if each["error"] else "taken away"
        table.add_row(Text(each["app"]), runs, str(len(each["versions"])), Text(", ".join(each["streams"])))
    return table


def _versions(told: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("version", "deployed", "modules"):
        table.add_column(heading, overflow="fold")
    for each in told["versions"]:
        runs = " (runs)" if each["number"] == told["version"] else ""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["at_s"]))
        modules = ", ".join(f"{name} {digest[:12]}" for name, digest in each["modules"].items())
        table.add_row(f"{each['number']}{runs}", when, Text(modules))
    for number in told["damaged"]:
        table.add_row(f"{number} (damaged)")
    if told["error"]:
        table.caption, table.caption_justify = Text(f"it does not run: {told['error']}"), "left"
    return table
