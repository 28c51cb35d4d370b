"""Commands for the first day: new, doctor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shlex
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.markup import escape

from actorflow.cli.shared import EXIT_FAILED, console
from actorflow.wire import PORT

PARTS = ("aiohttp", "msgspec", "msgpack", "orjson", "uvloop", "click", "rich", "prometheus-client", "cronsim")
OPTIONAL = {
    "opentelemetry.trace": "traces (pip install 'actorflow[traces]')",
    "wasmtime": "functions in WASM (pip install 'actorflow[wasm]')",
}
FILES_WANTED = 4_096
FSYNC_SLOW_S = 0.01

APP = '''"""A shop: `actorflow run app:app`, then `actorflow call checkout '{"sku": "tea", "quantity": 2}'`."""

from dataclasses import dataclass

from actorflow import App, Operator

app = App("$name")
stock = app.table("stock", key="sku", value=int)
sold = app.counter("sold")


class OutOfStock(Exception):
    """There is less than was ordered."""


@dataclass(frozen=True)
class Order:
    sku: str
    quantity: int = 1


class Reserve(Operator):
    stock = stock.owned()
    sold = sold.merged()

    def process(self, order: Order) -> str:
        left = self.stock.get(order.sku, 10) - order.quantity
        if left < 0:
            raise OutOfStock(order.sku)
        self.stock[order.sku] = left              # both take effect together, or not at all
        self.sold.add(order.quantity)
        return f"{order.quantity} {order.sku} reserved, {left} left"


checkout = app.stream("checkout", Order, str).key_by("sku").then(Reserve)
'''
TEST = """import pytest
from app import Order, OutOfStock, app, checkout


@pytest.mark.asyncio
async def test_stock_is_never_sold_twice(local):
    client = await local(app)

    for _ in range(10):
        await client.request(checkout, Order("tea"))

    with pytest.raises(OutOfStock):
        await client.request(checkout, Order("tea"))
    assert await client.cell("stock", "tea") == 0
"""
README = """# $name

    actorflow run app:app --reload                                  # http://127.0.0.1:7700
    actorflow call checkout '{"sku": "tea", "quantity": 2}'
    actorflow check app:app
    pip install pytest pytest-asyncio && pytest

With `--store sqlite:///$name.db` everything that was acknowledged survives a restart.
"""
PROJECT = """[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["actorflow"]

[project.optional-dependencies]
test = ["pytest>=8", "pytest-asyncio>=1"]

[tool.pytest.ini_options]
pythonpath = ["."]
asyncio_default_fixture_loop_scope = "function"
"""
FILES = {"app.py": APP, "test_app.py": TEST, "README.md": README, "pyproject.toml": PROJECT, ".gitignore": "*.db*\n"}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def new(folder: Path) -> None:
    """Make a project in DIR that runs: an app with shared state, its test, and what to do with them."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "app"
    there = [file for file in FILES if (folder / file).exists()]
    if there:
        raise click.ClickException(f"{folder} has {', '.join(there)} already; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in FILES.items():
            (folder / file).write_text(text.replace("$name", name), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write to {folder}: {error.strerror}") from None
    console.print(f"[bold]{escape(str(folder))}[/bold]: {', '.join(FILES)}")
    console.print(f"  cd {escape(shlex.quote(str(folder)))}\n  actorflow run app:app --reload", soft_wrap=True)


@click.command()
def doctor() -> None:
    """Look at what hosts need of this machine: versions, limits, disk, port; exits with 1 when something is wrong."""
    wrong = 0
    for fine, said in _findings():
        wrong += fine is False
        mark = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]•[/yellow]"}[fine]
        console.print(f"{mark} {escape(said)}", soft_wrap=True)
    if wrong:
        sys.exit(EXIT_FAILED)


def _findings() -> Iterator[tuple[bool | None, str]]:
    """Yield what was found: True that it is fine, False that it is not, None that it could be better."""
    version = platform.python_version()
    yield sys.version_info >= (3, 11), f"Python {version} ({platform.python_implementation()}, {sys.executable})"
    yield True, f"actorflow {importlib.metadata.version('actorflow')} in {Path(__file__).parent.parent}"
    for name in PARTS:
        try:
            yield True, f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield (None if name == "uvloop" else False), f"{name} is not installed"
    for name, what in OPTIONAL.items():
        there = importlib.util.find_spec(name.partition(".")[0]) is not None
        yield (True if there else None), f"{what}: {'installed' if there else 'not installed'}"
    yield True, f"SQLite {sqlite3.sqlite_version}"
    yield from _limits()
    yield from _disk()
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    yield (
        (None if taken else True),
        f"port {PORT} is {'taken: use --port' if taken else 'free'}",
    )


def _limits() -> Iterator[tuple[bool | None, str]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft >= FILES_WANTED or soft == resource.RLIM_INFINITY
    hint = "" if enough else f"; for more connections than that: ulimit -n {min(hard, 65_536)}"
    yield (True if enough else None), f"open files: {soft:,} at most{hint}"
    yield True, f"{os.cpu_count()} cores; a host uses one: start one a core"
    now = time.monotonic()
    while (next_s := time.monotonic()) == now:
        pass
    yield next_s - now < 0.001, f"clock: ticks of {(next_s - now) * 1e9:,.0f} ns"


def _disk() -> Iterator[tuple[bool | None, str]]:
    """Measure what a durable answer waits for, here."""
    try:
        with tempfile.NamedTemporaryFile(dir=Path.cwd(), prefix=".actorflow-doctor-") as file:
            spent = []
            for _ in range(5):
                file.write(b"x" * 4096)
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                spent.append(time.perf_counter() - began)
    except OSError as error:
        yield None, f"cannot write here ({Path.cwd()}: {error.strerror}): a store needs another folder"
        return
    median = sorted(spent)[2]
    hint = "" if median < FSYNC_SLOW_S else ": every durable answer waits for one; a faster disk, or --sync off"
    yield (True if median < FSYNC_SLOW_S else None), f"disk: fsync takes {median * 1e3:.2f} ms in {Path.cwd()}{hint}"
