"""A store in a SQLite file.

The file is in WAL mode: `append` writes one row to the end of the log beside it ("-wal") and waits for the disk once,
which is the least that durability costs. Checkpoints move what is in the log to the file. They happen in `fold`,
and in an `append` whenever 4 MB have come together: often enough that each takes milliseconds, and that the log stays
short and is written over, not made longer, for a disk is faster at that.

While it is open, and after a crash, the file and its log belong together: a copy of the file alone lacks epochs, and
another file put beside an old log is damaged by it. `backup` makes a file that stands alone.

Invariants
1. Under its name the file is whole or not there: it is made beside, under another name.
2. Before all of it was looked at, read-only, nothing in it is written; nor after it was found damaged.
3. One host has it, by a lock that the system takes back when the process ends, however that ends.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import functools
import os
import secrets
import shutil
import socket
import sqlite3
import stat
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from actorflow.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
    summary,
)
from actorflow.stores.store import Opened, Row, check_app, check_epoch, check_fold, software

APPLICATION_ID = 0x41464C77
"""What the header of the file says that it is: "AFLw"."""
SCHEMA = 1
"""The version of TABLES; whoever changes them raises it."""

CHECKPOINT_PAGES = 1000
"""How much log an `append` lets come together: with 4 MB it waits 10 ms for a checkpoint, with 16 MB up to 100 ms."""
WAL_BYTES_KEPT = 16 << 20
"""How long a log may be when it is written over: what a large fold made of it is given back."""
CACHE_KIB = 16 << 10
"""How many pages SQLite keeps in memory; a fold of rows here and there is a third slower with its usual 2 MB."""
BUSY_TIMEOUT_S = 5.0
"""How long to wait for a foreign program that has the file locked."""
READ_ROWS = 256
WRITE_ROWS = 4096
SENTENCES_MAX = 100
"""How many faults of one kind a `check` lists."""
LITTLE_ROOM_BYTES = 1 << 20
"""A disk error with less room than that is for want of room: SQLite says so only where a write itself failed."""
FILE_BYTES_MIN = 512
"""The smallest page of a SQLite file."""

# Where SQLite and PostgreSQL differ is in TABLES and in the name of the marks, here "?".
TABLES = {
    "epochs": "CREATE TABLE epochs (number INTEGER PRIMARY KEY, blob BLOB NOT NULL, crc32 INTEGER NOT NULL)",
    "meta": "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "rows": (
        "CREATE TABLE rows (name TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, crc32 INTEGER NOT NULL,"
        " PRIMARY KEY (name, key)) WITHOUT ROWID"
    ),
}
ADD_EPOCH = "INSERT INTO epochs (number, blob, crc32) VALUES (?, ?, ?)"
GET_EPOCH = "SELECT blob, crc32 FROM epochs WHERE number = ?"
ALL_EPOCHS = "SELECT number, blob, crc32 FROM epochs ORDER BY number"
SPAN_OF_EPOCHS = "SELECT min(number), max(number), count(*) FROM epochs"
DELETE_EPOCHS = "DELETE FROM epochs WHERE number <= ?"
SET_ROW = (
    "INSERT INTO rows (name, key, value, crc32) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (name, key) DO UPDATE SET value = excluded.value, crc32 = excluded.crc32"
)
DELETE_ROW = "DELETE FROM rows WHERE name = ? AND key = ?"
ROWS_FROM = "SELECT key, value, crc32 FROM rows WHERE name = ? AND key >= ? ORDER BY key LIMIT ?"
ALL_ROWS = "SELECT name, key, value, crc32 FROM rows ORDER BY name, key"
NAMES_OF_TABLES = (  # one look into the index per name, where SELECT DISTINCT reads every row
    "WITH RECURSIVE names (name) AS (SELECT min(name) FROM rows UNION ALL"
    " SELECT (SELECT min(rows.name) FROM rows WHERE rows.name > names.name) FROM names WHERE names.name IS NOT NULL)"
    " SELECT name FROM names WHERE name IS NOT NULL"
)
# The checksums stand behind what is long, so this reads all of it, in the order in which it lies on the disk. A look at
# the structure goes backwards: where it has to fetch everything from a cold disk, it takes four times as long.
READ_AHEAD = "SELECT (SELECT max(crc32) FROM epochs), (SELECT max(crc32) FROM rows)"
SET_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
ALL_META = "SELECT name, value FROM meta"

FINE = {"ok", "*** in database main ***"}
RESTORE = "nothing was changed: keep a copy, and put a backup in its place (and no -wal or -shm beside it)"


class SqliteStore:
    """Epochs and rows in a SQLite file.

    path: the file; symbolic links are followed. sync: whether `append` and `fold` wait for the disk. bytes_max: how
    large the file may become before it is full (None: as large as there is room).
    opened: what the store said when it was opened, None while it is not.
    """

    def __init__(self, path: Path | str, *, sync: bool = True, bytes_max: int | None = None) -> None:
        self.path = Path(path)
        self.sync = sync
        self.bytes_max = bytes_max
        self.opened: Opened | None = None
        self._file = self.path  # the one that the path led to when it was opened
        self._connection: sqlite3.Connection | None = None
        self._lock: _Lock | None = None  # None: open for reading alone
        self._pid = 0
        self._folded = 0
        self._last = 0
        self._signed = True
        self._damage: str | None = None

    def __str__(self) -> str:
        return str(self.path)

    def open(self, *, app: str) -> Opened:
        if self._connection is not None and self._lock is None:
            raise StoreError(f"{self}: this one is open for reading; a store that is to be written is made anew")
        path = _file_of(self.path, to_write=True)
        with ExitStack() as undo:
            lock = _Lock(path)
            undo.callback(lock.release)
            new = _is_new(path)
            if new:
                write_copy(path, app=app, identity=uuid.uuid4().hex, over_empty=True, sync=self.sync)
            opened, folded = _look(path, app)
            undo.callback(_remove, _not_there(path, "-wal", "-shm"))
            connection = undo.enter_context(closing(_connect(path, "mode=rw")))
            self._set_up(connection, path)
            undo.pop_all()
        opened = dataclasses.replace(opened, new=new)
        self._take(connection, lock, path, opened, folded)
        return opened

    def open_to_read(self) -> Opened:
        """Open what is there as it is at this moment, whoever has it; see `open_for_reading`."""
        path = _file_of(self.path, to_write=False)
        if self._connection is not None:
            raise StoreError(f"{self}: is open already; close it first")
        if _is_new(path):
            raise StoreError(f"{self}: there is nothing in it to read")
        # Only a connection that might write takes away what it put beside the file. Where a crash left something in
        # the log, such a one would move that into the file at its end, which is for the next host to do.
        mode = "mode=ro" if _size(path, "-wal") else "mode=rw"
        with ExitStack() as undo:
            connection = undo.enter_context(closing(_connect(path, mode)))
            try:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                opened, folded = _verify(connection, path, app=None)
            except sqlite3.Error as error:
                raise _error(path, "open it", error, reading=True) from error
            undo.pop_all()
        self._take(connection, None, path, opened, folded)
        return opened

    def _set_up(self, connection: sqlite3.Connection, path: Path) -> None:
        """Say how the connection is to write. Raises: StoreError."""
        try:
            if self.bytes_max is not None:
                page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
                connection.execute(f"PRAGMA max_page_count = {max(self.bytes_max // page_bytes, 1)}")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(f"{path}: SQLite cannot keep its log here ({mode!r}); put it on a local disk")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self.sync else 'OFF'}")
            connection.execute(f"PRAGMA fullfsync = {'ON' if self.sync else 'OFF'}")  # macOS: down to the platter
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA secure_delete = OFF")  # some are built to overwrite with zeros all they delete
        except sqlite3.Error as error:
            raise _error(path, "open it", error) from error

    def _take(
        self, connection: sqlite3.Connection, lock: _Lock | None, path: Path, opened: Opened, folded: int
    ) -> None:
        self._connection, self._lock, self._file, self._pid = connection, lock, path, os.getpid()
        self.opened, self._folded, self._last = opened, folded, opened.epoch
        self._signed = opened.written_by == software()
        self._damage = None

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        return self._rows(self._to_read(), table)

    def _rows(self, connection: sqlite3.Connection, table: str) -> Iterator[tuple[bytes, bytes]]:
        # Page by page: what lingers half read would keep the log from being written over, and `compact` from working.
        crc32, seed, start = zlib.crc32, _seed(table), b""
        while True:
            try:
                page = connection.execute(ROWS_FROM, (table, start, READ_ROWS)).fetchall()
                for key, value, written in page:
                    if crc32(value, crc32(key, seed)) != written:
                        raise self._damaged(f"the row {summary(key)} of table {table!r} has not the checksum it had")
                    yield key, value
            except (sqlite3.Error, TypeError) as error:  # TypeError: not even bytes
                raise self._failed(f"read the rows of table {table!r}", error, reading=True) from error
            if len(page) < READ_ROWS:
                return
            start = page[-1][0] + b"\0"  # the first of all keys behind it

    def tables(self) -> list[str]:
        connection = self._to_read()
        try:
            names = [name for (name,) in connection.execute(NAMES_OF_TABLES)]
        except sqlite3.Error as error:
            raise self._failed("list its tables", error, reading=True) from error
        if not all(isinstance(name, str) for name in names):
            raise self._damaged(f"it has tables of the names {summary(names)}")
        return names

    def epochs(self) -> Iterator[tuple[int, bytes]]:
        return self._epochs(self._to_read())

    def _epochs(self, connection: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
        for number in range(self._folded + 1, self._last + 1):
            try:
                found = connection.execute(GET_EPOCH, (number,)).fetchone()
                intact = found is not None and epoch_crc32(number, found[0]) == found[1]
            except (sqlite3.Error, TypeError) as error:
                raise self._failed(f"read epoch {number}", error, reading=True) from error
            if intact:
                yield number, found[0]
            elif number > self._folded:  # not folded since
                raise self._damaged(
                    f"epoch {number} " + ("is missing" if found is None else "has not the checksum it had")
                )

    def append(self, number: int, blob: bytes) -> None:
        connection = self._to_write()
        check_epoch(self, number, blob, last=self._last)
        try:
            if not self._signed:
                connection.execute(SET_META, ("written_by", software()))
                self._signed = True
            connection.execute(ADD_EPOCH, (number, blob, epoch_crc32(number, blob)))
        except sqlite3.Error as error:
            raise self._failed(f"append epoch {number}", error) from error
        self._last = number

    def fold(self, upto: int, rows: Iterable[Row]) -> None:
        connection = self._to_write()
        check_fold(self, upto, last=self._last)
        folded = max(upto, self._folded)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(DELETE_EPOCHS, (upto,))  # first, so that the rows may take their room
            _write_rows(connection, rows)
            connection.execute(SET_META, ("folded", str(folded)))
            if not self._signed:
                connection.execute(SET_META, ("written_by", software()))
            connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back(connection)
            if isinstance(error, sqlite3.Error):
                raise self._failed(f"fold up to epoch {upto}", error) from error
            raise
        self._folded, self._signed = folded, True
        with suppress(sqlite3.Error):  # what is folded is durable in the log, too; the next time moves it
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def check(self) -> list[str]:
        connection = self._to_read()
        found: list[str] = []
        for look in (_faults_of_structure, self._faults_of_epochs, _faults_of_rows):
            try:
                found.extend(f"{self}: {fault}" for fault in islice(look(connection), SENTENCES_MAX))
            except Exception as error:  # what is damaged may be of any type
                found.append(str(_error(self, "read it to its end", error, reading=True)))
        return found

    def _faults_of_epochs(self, connection: sqlite3.Connection) -> Iterator[str]:
        due = self._folded + 1
        for number, blob, written in connection.execute(ALL_EPOCHS):
            if number != due:
                yield f"epoch {due} should come next, and epoch {number} does"
            if epoch_crc32(number, blob) != written:
                yield f"epoch {number} has not the checksum it had when it was written"
            due = number + 1
        if due != self._last + 1:
            yield f"epoch {due - 1} is the last, and {self._last} should be"

    def backup(self, path: Path) -> None:
        connection = self._to_read()
        try:
            for fault in _faults_of_structure(connection):
                raise self._damaged(fault)
            with _new_file(Path(path)) as new, closing(_connect(new, "mode=rwc")) as copy:
                connection.backup(copy)
        except sqlite3.Error as error:
            raise self._failed(f"copy it to {path}", error) from error

    def compact(self) -> int:
        connection = self._to_write()
        before = self.size_bytes()
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA busy_timeout = 0")  # while somebody reads, the log stays as long as it is
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
        except sqlite3.Error as error:
            raise self._failed("compact it", error) from error
        return max(0, before - self.size_bytes())

    def size_bytes(self) -> int:
        self._to_read()
        return _size(self._file) + _size(self._file, "-wal")

    def close(self) -> None:
        connection, lock = self._connection, self._lock
        if connection is None or self._pid != os.getpid():  # a forked child leaves to its parent what is its parent's
            return
        self._connection = self._lock = self.opened = None
        with ExitStack() as after:
            if lock is not None:
                after.callback(lock.release)
            with suppress(sqlite3.Error, StoreError):
                if self._damage is not None and _size(self._file, "-wal"):
                    _attach(after, self._file)
            with suppress(sqlite3.Error):
                connection.close()

    def _to_read(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self}: is not open; open it first")
        if self._pid != os.getpid():
            raise StoreError(
                f"{self}: was opened by process {self._pid}, and its forked child {os.getpid()} cannot use it;"
                " open it for reading there, or leave it to the parent"
            )
        return self._connection

    def _to_write(self) -> sqlite3.Connection:
        connection = self._to_read()
        if self._lock is None:
            raise StoreError(f"{self}: is open for reading; open_store() gives one that can be written")
        if self._damage is not None:
            raise StoreDamagedError(self._damage)
        return connection

    def _failed(self, what: str, error: Exception, *, reading: bool = False) -> StoreError:
        found = _error(self, what, error, reading=reading)
        if isinstance(found, StoreDamagedError):
            self._damage = str(found)
        return found

    def _damaged(self, what: str) -> StoreDamagedError:
        error = _damaged(self, what)
        self._damage = str(error)
        return error


def open_for_reading(path: Path | str) -> SqliteStore:
    """Return the store in a file, open for `rows`, `epochs`, `check` and `backup`, while a host may go on writing.

    It shows the store as of now, whatever is written later. Close it soon: until then the host's log grows.

    Raises: StoreError, StoreDamagedError, StoreVersionError.
    """
    store = SqliteStore(path)
    store.open_to_read()
    return store


def write_copy(
    path: Path,
    *,
    app: str,
    identity: str,
    folded: int = 0,
    rows: Iterable[Row] = (),
    epochs: Iterable[tuple[int, bytes]] = (),
    over_empty: bool = False,
    sync: bool = True,
) -> None:
    """Write a new store with something in it.

    over_empty: in the place of a file with nothing in it, where there is one. sync: whether to wait for the disk.
    Raises: StoreError, StoreFullError; then there is no such file.
    """
    try:
        with (
            _new_file(path, over_empty=over_empty, sync=sync) as new,
            closing(_connect(new, "mode=rwc")) as connection,
        ):
            connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            for table in TABLES.values():
                connection.execute(table)
            meta = {"app": app, "identity": identity, "written_by": software(), "folded": str(folded)}
            connection.executemany(SET_META, meta.items())
            _write_rows(connection, rows)
            for number, blob in epochs:
                connection.execute(ADD_EPOCH, (number, blob, epoch_crc32(number, blob)))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise _error(path, "make it", error) from error


def epoch_crc32(number: int, blob: bytes) -> int:
    """Return the checksum of an epoch, by its number, too."""
    return zlib.crc32(blob, number & 0xFFFF_FFFF)


@functools.lru_cache
def _seed(table: str) -> int:
    """Return what the checksum of a row begins with; its key and its value follow."""
    return zlib.crc32(table.encode())


def _write_rows(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write rows, some thousands at a time, those in order: neighbours are on one page."""
    crc32, left = zlib.crc32, iter(rows)
    while chunk := {(table, key): value for table, key, value in islice(left, WRITE_ROWS)}:
        ordered = sorted(chunk.items())
        connection.executemany(
            SET_ROW,
            (
                (table, key, value, crc32(value, crc32(key, _seed(table))))
                for (table, key), value in ordered
                if value is not None
            ),
        )
        connection.executemany(DELETE_ROW, (place for place, value in ordered if value is None))


# Looking before anything is written.


def _is_new(path: Path) -> bool:
    """Return whether there is nothing yet. Raises: StoreDamagedError, where something was."""
    if size := _size(path):
        if size < FILE_BYTES_MIN:  # SQLite takes it for a file with nothing in it, and would write over it
            raise _damaged(path, f"it is {size} bytes long, and no SQLite file is shorter than {FILE_BYTES_MIN}")
        return False
    if left := _size(path, "-wal"):
        raise _damaged(path, f"it is empty or not there, and the log beside it ({path.name}-wal) has {left} bytes")
    return True


def _look(path: Path, app: str) -> tuple[Opened, int]:
    """Return what `_verify` does, with the whole structure looked at; the file and its log are not written.

    It takes about 0.2 s for a million small rows, and brings them from the disk, which reading them would have to do.
    Only who has the lock may look.

    Raises: StoreDamagedError, StoreVersionError, StoreError.
    """
    logged = _size(path, "-wal") > 0
    with ExitStack() as undo:
        undo.callback(_remove, _not_there(path, "-shm") if logged else [])
        # Immutable, it puts no files beside, and it does not see the log.
        with closing(_connect(path, "mode=ro" if logged else "mode=ro&immutable=1")) as connection:
            try:
                found = _verify(connection, path, app=app)
                with suppress(sqlite3.Error):  # the look below says better what is wrong
                    connection.execute(READ_AHEAD).fetchall()
                for fault in _faults_of_structure(connection):
                    raise _damaged(path, fault)
            except sqlite3.Error as error:
                raise _error(path, "open it", error, reading=True) from error
        undo.pop_all()
    return found


def _not_there(path: Path, *suffixes: str) -> list[str]:
    """Return which files an open that comes to nothing is to take away again."""
    return [f"{path}{suffix}" for suffix in suffixes if not os.path.lexists(f"{path}{suffix}")]


def _remove(names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(name)


def _verify(connection: sqlite3.Connection, path: Path, *, app: str | None) -> tuple[Opened, int]:
    """Return what a store says of itself, and the last epoch that was folded.

    Raises: StoreVersionError, StoreDamagedError, sqlite3.Error.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    if application_id != APPLICATION_ID:
        raise StoreVersionError(
            f"{path}: is a SQLite file of other software: its application_id is {application_id:#x}, expected"
            f" {APPLICATION_ID:#x}, and its tables {summary(', '.join(map(str, tables)))}; give the store another path"
        )
    if schema > SCHEMA:
        raise StoreVersionError(
            f"{path}: has schema {schema}, and {software()} knows schemas up to {SCHEMA};"
            " open it with the software that wrote it, or a newer one"
        )
    if schema != SCHEMA or any(tables.get(name) != sql for name, sql in TABLES.items()):
        raise _damaged(path, f"schema {schema} is said to have the tables {summary(tables)}")
    meta = dict(connection.execute(ALL_META))
    first, last, count = connection.execute(SPAN_OF_EPOCHS).fetchone()
    try:
        said, identity, written_by, folded = meta["app"], meta["identity"], meta["written_by"], int(meta["folded"])
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"of itself it says {summary(meta)}") from None
    check_app(path, said, app=app)
    if count and (first != folded + 1 or last != folded + count):
        raise _damaged(
            path,
            f"up to {folded} all epochs are folded, and those from {first} to {last} should follow; there are {count}",
        )
    return Opened(
        new=False, epoch=last if count else folded, identity=identity, app=said, written_by=written_by
    ), folded


def _faults_of_structure(connection: sqlite3.Connection) -> Iterator[str]:
    # The whole of it, since a quick_check does not see rows that are out of order.
    for (text,) in connection.execute(f"PRAGMA integrity_check({SENTENCES_MAX})"):
        yield from (f"its structure is broken: {line}" for line in text.splitlines() if line not in FINE)


def _faults_of_rows(connection: sqlite3.Connection) -> Iterator[str]:
    for table, key, value, written in connection.execute(ALL_ROWS):
        if zlib.crc32(value, zlib.crc32(key, _seed(table))) != written:
            yield f"the row {summary(key)} of table {table!r} has not the checksum it had when it was written"


# Files.


def _file_of(path: Path, *, to_write: bool) -> Path:
    """Return the file that a path leads to, there or not. Raises: StoreError, where no store can be."""
    real = Path(os.path.realpath(path))
    try:
        found = real.stat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise _os_error(path, "open it", error) from error
    if found is None:
        if not real.parent.is_dir():
            raise StoreError(f"{path}: there is no folder {real.parent}; make it, or correct the path")
        if not to_write:
            raise StoreError(f"{path}: there is no such file")
    elif not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise StoreError(f"{path}: is {kind}; a store is a file: name one")
    elif found.st_nlink > 1 and to_write:
        raise StoreError(
            f"{path}: has {found.st_nlink} names (hard links), and its log has only one; copy it to a file of its own"
        )
    effective = os.access in os.supports_effective_ids
    if to_write and not os.access(real.parent, os.W_OK | os.X_OK, effective_ids=effective):
        raise StoreError(f"{path}: its folder {real.parent} cannot be written, and its log and its lock lie there")
    if found is not None and not os.access(real, os.R_OK | (os.W_OK if to_write else 0), effective_ids=effective):
        wanted = "read and written" if to_write else "read"
        raise StoreError(
            f"{path}: must be {wanted}, and the system forbids that; correct its permissions, or its owner"
        )
    return real


def _size(path: Path, suffix: str = "") -> int:
    """Return how long a file is, 0 where it is not there."""
    try:
        return os.stat(f"{path}{suffix}").st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _new_file(path: Path, *, over_empty: bool = False, sync: bool = True) -> Iterator[Path]:
    """Make a file under another name, and give it its own when it is whole; never over another file.

    over_empty: there may be a file with nothing in it, and nobody else makes one; the new file gets its permissions.
    Raises: StoreError, StoreFullError.
    """
    if not over_empty and os.path.lexists(path):
        raise StoreError(f"{path}: is there already, and is not overwritten; name a new file")
    if not os.path.isdir(path.parent):
        raise StoreError(f"{path}: there is no folder {path.parent}; make it, or correct the path")
    new = path.with_name(f"{path.name}-new-{secrets.token_hex(4)}")
    try:
        yield new
        if over_empty:
            if path.exists():
                shutil.copymode(path, new)
            os.replace(new, path)
        else:
            _name(new, path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise _os_error(path, "write it", error) from error
    finally:
        _remove(f"{new}{suffix}" for suffix in ("", "-wal", "-shm", "-journal"))


def _name(new: Path, path: Path) -> None:
    """Give a file its name. Unlike a rename, a link is never made over another file."""
    try:
        os.link(new, path)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS} or os.path.lexists(path):
            raise
        os.replace(new, path)  # a file system without links


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection to a file, which no call has touched yet. Raises: StoreError."""
    try:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_S,
        )
        connection.execute("PRAGMA cell_size_check = ON")  # pages are looked at closely when they are read
    except sqlite3.Error as error:
        raise _error(path, "open it", error) from error
    return connection


def _attach(after: ExitStack, path: Path) -> None:
    """Keep the last connection of a damaged store from moving its log into the file: by one more, that only reads."""
    reader = after.enter_context(closing(_connect(path, "mode=ro")))
    reader.execute("SELECT count(*) FROM sqlite_master").fetchall()


_held: dict[tuple[int, str], _Lock] = {}  # by process, too: what a forked child inherits is not its own


class _Lock:
    """The right to write one store, until `release` or the end of the process.

    The system's locks of files do not keep a process from itself: closing any descriptor of the file would even lose
    the lock. So a table stands before them. A forked child has neither.

    Raises: StoreLockedError, StoreFullError, StoreError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = os.getpid(), str(path)
        if _held.setdefault(self._key, self) is not self:
            raise _locked(path, f"this process ({os.getpid()})")
        try:
            self._descriptor = self._acquire()
        except OSError as error:
            del _held[self._key]
            raise _os_error(path, "lock it", error) from error
        except BaseException:
            del _held[self._key]
            raise

    def _acquire(self) -> int:
        name = f"{self._path}-lock"
        for _ in range(100):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            with ExitStack() as undo:
                undo.callback(os.close, descriptor)
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno not in {errno.EACCES, errno.EAGAIN}:
                        raise
                    holder = os.read(descriptor, 100).decode(errors="replace").strip()
                    raise _locked(self._path, f"process {holder}" if holder else "another process") from None
                # Who held it may have taken the file away in between; then this is nobody's lock any more.
                if _is_named(descriptor, name):
                    with suppress(OSError):  # a help for who reads the error, no more
                        os.truncate(descriptor, 0)
                        os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
                    undo.pop_all()
                    return descriptor
        raise _locked(self._path, "others, in turns")

    def release(self) -> None:
        if self._key[0] == os.getpid():
            with suppress(OSError):
                os.unlink(f"{self._path}-lock")
            os.close(self._descriptor)
            del _held[self._key]  # last: a lock taken in between would go with the descriptor


def _is_named(descriptor: int, name: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name))
    except FileNotFoundError:
        return False


# Errors.

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


def _error(where: object, what: str, error: Exception, *, reading: bool = False) -> StoreError:
    """Return the typed error for one of SQLite. While reading, one that says nothing else is the file's fault."""
    code = getattr(error, "sqlite_errorcode", -1)
    said = f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    kind = code & 0xFF
    if isinstance(error, sqlite3.ProgrammingError):
        return StoreError(f"{where}: cannot {what}: {said}; was it closed in the meantime?")
    if kind == sqlite3.SQLITE_FULL or (kind == sqlite3.SQLITE_IOERR and _room(where) < LITTLE_ROOM_BYTES):
        return _full(where, what, said)
    if kind in _DAMAGED or (reading and code in {sqlite3.SQLITE_ERROR, -1}):
        return _damaged(where, f"SQLite says: {said}")
    if kind in _BUSY:
        return StoreLockedError(
            f"{where}: cannot {what}: another program writes in it ({said}); end that one, and try again"
        )
    if kind in _REFUSED:
        return StoreError(f"{where}: cannot {what}: {said}; look at the permissions of the file and of its folder")
    if kind == sqlite3.SQLITE_IOERR:
        return StoreError(
            f"{where}: cannot {what}: the disk fails: {said}; see what the system says of it, then open it anew"
        )
    return StoreError(f"{where}: cannot {what}: {said}")


def _os_error(where: object, what: str, error: OSError) -> StoreError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _full(where, what, str(error))
    return StoreError(f"{where}: cannot {what}: {error}; look at the path, the permissions and the disk")


def _full(where: object, what: str, said: str) -> StoreFullError:
    return StoreFullError(
        f"{where}: no room to {what}: {said}; nothing of it was kept: make room on the disk, then try again"
    )


def _room(where: object) -> int:
    """Return how many bytes are free around a path; many where that cannot be told."""
    try:
        found = os.statvfs(os.path.dirname(os.path.realpath(str(where))))
    except OSError:
        return LITTLE_ROOM_BYTES
    return found.f_bavail * found.f_frsize


def _damaged(where: object, what: str) -> StoreDamagedError:
    return StoreDamagedError(f"{where}: is damaged: {what}; {RESTORE}")


def _locked(where: object, holder: str) -> StoreLockedError:
    return StoreLockedError(
        f"{where}: is open in {holder}, and a store has one host; end that one, or give this one another path"
    )
