"""The contract of a store, and the words that all stores share.

A host commits *epochs*: one blob with everything it did since the one before. Later the blobs are *folded*: rows of
tables are updated, and the epochs that are in them deleted. After a crash the host reads all rows, and then, in order,
the epochs that were not folded. A store knows nothing of what blobs and rows mean.

Invariants
1. Epochs are numbered 1, 2, 3 … without a gap; those up to some number are folded, the others are all there.
2. What `append` and `fold` did is there after any crash once they returned; of one that did not return there is all or
   nothing.
3. A store that refuses to be opened was not changed by that.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from actorflow.errors import StoreError, StoreVersionError

Row: TypeAlias = tuple[str, bytes, bytes | None]
"""A table, a key and its new value; None deletes the row."""

EPOCH_BYTES_MAX = 512 << 20
"""The longest blob that a store takes, in bytes."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a store said of itself when it was opened.

    new: whether it was made just now. epoch: the number of the last epoch appended, 0 where there is none.
    identity: a random name given when it was made; a copy has it, too. app: whose it is. written_by: the software,
    and its version, that wrote last.
    """

    new: bool
    epoch: int
    identity: str
    app: str
    written_by: str


class Store(Protocol):
    """Epochs and rows, kept on behalf of one host.

    All methods block, and are called from one thread at a time, never from an event loop. Every one of them raises
    StoreError where the store is not open, StoreDamagedError where what is read is not what was written, and StoreError
    where the system refuses; beside that:
    """

    def open(self, *, app: str) -> Opened:
        """Take the store for this host, making it where there is none.

        Raises: StoreLockedError (another host has it), StoreDamagedError, StoreVersionError (of another app, of other
        or newer software), StoreFullError, StoreError; after any of them it is as it was.
        """
        ...

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the folded rows of a table in order of their keys' bytes; none where there is no such table.

        What is written in the meantime may or may not be among them.
        """
        ...

    def tables(self) -> list[str]:
        """Return the tables that have rows, in order."""
        ...

    def epochs(self) -> Iterator[tuple[int, bytes]]:
        """Iterate over the epochs that are not folded: number and blob, in order."""
        ...

    def append(self, number: int, blob: bytes) -> None:
        """Keep an epoch; it is durable on return.

        Raises: StoreFullError, when there is no room: nothing was appended, and the same number can be appended once
        there is. StoreError, when `number` is not the one after the last, or `blob` too long (nothing was appended),
        and when the disk fails: whether it was appended is then known only after the next `open`.
        """
        ...

    def fold(self, upto: int, rows: Iterable[Row]) -> None:
        """Update rows and delete the epochs up to a number, both or neither; durable on return.

        Of several rows with one key the last counts. To fold again what was folded changes nothing. What iterating
        over `rows` raises is passed on; then, as after every error, nothing was folded.

        Raises: StoreFullError, when there is no room. StoreError, when `upto` is beyond the last epoch.
        """
        ...

    def check(self) -> list[str]:
        """Read everything and return what is wrong with it, one sentence each; empty when all is well."""
        ...

    def backup(self, path: Path) -> None:
        """Write a copy as of now to a new file, a SQLite store whatever this one is; durable on return.

        Raises: StoreError, when there is something at `path` (it is left alone). StoreFullError.
        """
        ...

    def compact(self) -> int:
        """Give back the room that nothing is in any more; returns how many bytes.

        Raises: StoreFullError, since it takes room to make room.
        """
        ...

    def size_bytes(self) -> int:
        """Return how many bytes the store takes."""
        ...

    def close(self) -> None:
        """Let go of the store, for another host to open; never raises, and a second time does nothing."""
        ...


def software() -> str:
    """Return the name and version of the software that writes."""
    try:
        return f"actorflow {importlib.metadata.version('actorflow')}"
    except importlib.metadata.PackageNotFoundError:
        return "actorflow (a copy that is not installed)"


def check_epoch(where: object, number: int, blob: bytes, *, last: int) -> None:
    """Raise StoreError where a blob cannot be the next epoch."""
    if number != last + 1:
        raise StoreError(f"{where}: epoch {number} cannot follow epoch {last}; the next to append is {last + 1}")
    if len(blob) > EPOCH_BYTES_MAX:
        raise StoreError(
            f"{where}: epoch {number} is {len(blob)} bytes long, at most {EPOCH_BYTES_MAX} are taken; commit more often"
        )


def check_fold(where: object, upto: int, *, last: int) -> None:
    """Raise StoreError where what should be folded is not there."""
    if upto > last:
        raise StoreError(f"{where}: cannot fold up to epoch {upto}; the last that was appended is {last}")


def check_app(where: object, found: str, *, app: str | None) -> None:
    """Raise StoreVersionError where the store is another app's; None is anybody."""
    if app is not None and found != app:
        raise StoreVersionError(
            f"{where}: is the store of app {found!r}, and app {app!r} is to open it; give each app a store of its own"
        )
