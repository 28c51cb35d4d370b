"""Commands that look after a store: check, backup, compact."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from rich.markup import escape

from actorflow.cli.shared import EXIT_FAILED, console
from actorflow.errors import StoreError
from actorflow.stores import open_store, open_to_read
from actorflow.stores.store import Store

if TYPE_CHECKING:
    from actorflow.stores.sqlite import SqliteStore

T = TypeVar("T")


@click.group()
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
    where = opened_store(url)
    try:
        where.open(app=_reading(url, lambda opened: opened.opened.app if opened.opened is not None else ""))
        freed = where.compact()
        where.close()
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    console.print(f"gave back {freed:,} bytes")


def opened_store(url: str, *, sync: bool = True, bytes_max: int | None = None) -> Store:
    """Return the store that a URL names, not open yet."""
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
