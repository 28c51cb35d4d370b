"""Where a host keeps what must outlive it: `open_store` makes the store that a url names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from actorflow.errors import StoreError, summary
from actorflow.stores.memory import MemoryStore
from actorflow.stores.store import Opened, Row, Store

if TYPE_CHECKING:
    from actorflow.stores.sqlite import SqliteStore

__all__ = ["MemoryStore", "Opened", "Row", "Store", "open_store", "open_to_read"]

SQLITE = "sqlite:///"
KNOWN = "sqlite:///relative.db, sqlite:////absolute/path.db and memory:"


def open_to_read(url: str) -> SqliteStore:
    """Return the store that a url names, open to be looked at and copied, while a host may go on writing.

    Raises: StoreError, for one in memory too.
    """
    open_store(url)  # it is the name of a store
    if not url.startswith(SQLITE):
        raise StoreError(f"store {url} is in the memory of its process, and cannot be read from another one")
    from actorflow.stores.sqlite import open_for_reading

    return open_for_reading(url.removeprefix(SQLITE))


def open_store(url: str, *, sync: bool = True, bytes_max: int | None = None) -> Store:
    """Return the store that a url names; nothing is touched before its `open`.

    `sqlite:///relative.db` and `sqlite:////absolute/path.db` are files, taken as they are written (no percent signs, no
    `~`); `memory:` ends with the process. `sync=False` does without waiting for the disk: a killed process still loses
    nothing, but a power cut may lose the last epochs or damage the file. It is meant for tests. `bytes_max` is the size
    above which a store is full.

    Raises: StoreError, for any other url.
    """
    if url == "memory:":
        return MemoryStore() if bytes_max is None else MemoryStore(bytes_max=bytes_max)
    if url.startswith(SQLITE):
        path = url.removeprefix(SQLITE)
        if not path or "\0" in path:
            raise StoreError(f"store url {summary(url)} names no file; known are {KNOWN}")
        # Late, since not every system that runs a host has the file locks of POSIX.
        from actorflow.stores.sqlite import SqliteStore

        return SqliteStore(Path(path), sync=sync, bytes_max=bytes_max)
    scheme, colon, _ = url.partition(":")  # no more of it is shown: it may hold a password
    if scheme == "sqlite":
        raise StoreError(f"store url {summary(url)} has too few slashes, or names no file; known are {KNOWN}")
    found = f"has the unknown scheme {summary(scheme)}" if colon else "has no scheme"
    raise StoreError(f"the store url {found}; known are {KNOWN} (postgresql comes later, as an extra)")
