"""A store in memory: for tests, and for hosts that may forget. What it keeps outlives `close`, not the process."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from actorflow.errors import StoreError, StoreFullError, StoreLockedError
from actorflow.stores.store import Opened, Row, check_app, check_epoch, check_fold, software

BYTES_MAX = 1 << 30


class MemoryStore:
    """Epochs and rows in dictionaries; one object is one store, and opened again it has what it had.

    bytes_max: how much it takes before it is full, in bytes of blobs, keys and values; may be changed at any time.
    """

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._app: str | None = None
        self._identity = uuid.uuid4().hex
        self._is_open = False
        self._epochs: dict[int, bytes] = {}
        self._tables: dict[str, dict[bytes, bytes]] = {}
        self._last = 0
        self._bytes = 0

    def __str__(self) -> str:
        return "memory:"

    def open(self, *, app: str) -> Opened:
        if self._is_open:
            raise StoreLockedError(f"{self}: is open already, in this process; close it, or use another store")
        check_app(self, self._app or app, app=app)
        opened = Opened(
            new=self._app is None, epoch=self._last, identity=self._identity, app=app, written_by=software()
        )
        self._app, self._is_open = app, True
        return opened

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        self._check_open()
        return iter(sorted(self._tables.get(table, {}).items()))

    def tables(self) -> list[str]:
        self._check_open()
        return sorted(name for name, table in self._tables.items() if table)

    def epochs(self) -> Iterator[tuple[int, bytes]]:
        self._check_open()
        return iter(list(self._epochs.items()))

    def append(self, number: int, blob: bytes) -> None:
        self._check_open()
        check_epoch(self, number, blob, last=self._last)
        self._check_room(self._bytes + len(blob), f"to append epoch {number}")
        self._epochs[number] = bytes(blob)
        self._bytes += len(blob)
        self._last = number

    def fold(self, upto: int, rows: Iterable[Row]) -> None:
        self._check_open()
        check_fold(self, upto, last=self._last)
        changes = {(table, key): value for table, key, value in rows}  # all of it first: it may raise
        folded = [number for number in self._epochs if number <= upto]
        now = self._bytes - sum(len(self._epochs[number]) for number in folded)
        for (table, key), value in changes.items():
            old = self._tables.get(table, {}).get(key)
            now += (0 if value is None else len(key) + len(value)) - (0 if old is None else len(key) + len(old))
        if now > self._bytes:
            self._check_room(now, f"to fold up to epoch {upto}")
        for number in folded:
            del self._epochs[number]
        for (table, key), value in changes.items():
            if value is None:
                self._tables.get(table, {}).pop(key, None)
            else:
                self._tables.setdefault(table, {})[key] = value
        self._bytes = now

    def check(self) -> list[str]:
        self._check_open()
        return []

    def backup(self, path: Path) -> None:
        self._check_open()
        from actorflow.stores.sqlite import write_copy  # late, for systems without the file locks of POSIX

        assert self._app is not None
        write_copy(
            path,
            app=self._app,
            identity=self._identity,
            folded=self._last - len(self._epochs),
            rows=((table, *row) for table in self.tables() for row in self.rows(table)),
            epochs=self.epochs(),
        )

    def compact(self) -> int:
        self._check_open()
        return 0

    def size_bytes(self) -> int:
        self._check_open()
        return self._bytes

    def close(self) -> None:
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError(f"{self}: is not open; open it first")

    def _check_room(self, wanted: int, to_do: str) -> None:
        if wanted > self.bytes_max:
            raise StoreFullError(
                f"{self}: no room {to_do}: that makes {wanted} bytes, and bytes_max is {self.bytes_max}; "
                "nothing of it was kept: fold, or raise bytes_max"
            )
