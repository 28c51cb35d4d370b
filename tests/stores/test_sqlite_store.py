"""The store in a SQLite file: crashes, locks, damage, foreign files, full disks, permissions."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actorflow.errors import StoreDamagedError, StoreError, StoreFullError, StoreLockedError, StoreVersionError
from actorflow.stores import open_to_read, sqlite
from actorflow.stores.sqlite import SqliteStore, open_for_reading
from actorflow.stores.store import software

NOBODY = 65534


def opened(path: Path, *, sync: bool = False) -> SqliteStore:
    store = SqliteStore(path, sync=sync)
    store.open(app="shop")
    return store


def filled(path: Path) -> SqliteStore:
    """Return a store with rows in two tables, and epochs of different lengths."""
    store = opened(path)
    chance = random.Random(1)
    for number in range(1, 31):
        store.append(number, chance.randbytes(chance.choice([10, 300, 5000, 20_000])))
    rows = [(f"table {number % 2}", b"key %04d" % number, chance.randbytes(60)) for number in range(1000)]
    store.fold(10, [*rows, ("table 0", b"long", chance.randbytes(10_000))])
    return store


def everything(store: SqliteStore) -> tuple[dict[str, list[tuple[bytes, bytes]]], list[tuple[int, bytes]]]:
    return {table: list(store.rows(table)) for table in store.tables()}, list(store.epochs())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def as_a_crash_leaves_it(store: SqliteStore, path: Path) -> Path:
    """Copy what is on the disk now: the file, and the log with what was not moved to it."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{store.path}{suffix}", f"{path}{suffix}")
    return path


def pragma(store: SqliteStore, text: str) -> Any:
    assert store._connection is not None
    return store._connection.execute(f"PRAGMA {text}").fetchone()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


# Other processes: one that has everything imported makes, for every order, a child that can be killed.

PROGRAM = """
import os, signal, sys
from actorflow.stores.sqlite import SqliteStore, open_for_reading

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

def opened(path):
    store = SqliteStore(path)
    return store, store.open(app="shop").epoch

def hold(path):
    store, _ = opened(path)
    say("pid", os.getpid())
    signal.pause()

def hold_and_fork(path):
    store, _ = opened(path)
    child = os.fork()
    if child:
        say("pid", os.getpid(), child)
    signal.pause()

def use_in_a_child(path):
    store, _ = opened(path)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        store.append(1, b"from the parent")
        store.close()
        say("kept")
    else:
        try:
            store.append(1, b"from the child")
        except Exception as error:
            say(type(error).__name__, error)
        store.close()
        other = SqliteStore(path)
        try:
            other.open(app="shop")
        except Exception as error:
            say(type(error).__name__, error)

def look(path):
    store = open_for_reading(path)
    say(len(list(store.epochs())), *store.check())
    store.backup(path + "-copy")

def work(path):
    # Appends, and folds now and then; what it says is durable by then.
    store, number = opened(path)
    say("pid", os.getpid())
    while True:
        number += 1
        store.append(number, b"%d" % number)
        say("appended", number)
        if number % 5 == 0:
            say("folding", number - 1)
            upto = number - 1
            sums = [(b"%d" % rest, b"%d" % sum(range(rest, upto + 1, 7))) for rest in range(7)]
            store.fold(upto, [("sums", *row) for row in sums] + [("many", b"%d" % i, b"%d" % upto) for i in range(300)])

for line in sys.stdin:
    what, path = line.rstrip().split(" ", 1)
    if (child := os.fork()) == 0:
        try:
            globals()[what](path)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    say("ended")
"""


class Others:
    """Orders for other processes, and what they say."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._read = b""

    def start(self, what: str, path: Path) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {path}\n".encode())
        self._process.stdin.flush()

    def line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._process.stdout], [], [], 60)  # a guard: a mistake ends, too
            more = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            assert more, "the other process says nothing"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def pids(self) -> list[int]:
        word, *pids = self.line().split()
        assert word == "pid"
        return [int(pid) for pid in pids]

    def rest(self) -> list[str]:
        """Return what is said until the process that was started has ended."""
        return list(iter(self.line, "ended"))

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def others() -> Iterator[Others]:
    found = Others()
    yield found
    found.close()


# Crashes.


def crash_again_and_again(others: Others, path: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    said = 0
    for _ in range(kills):
        others.start("work", path)
        (pid,) = others.pids()
        lines = [others.line() for _ in range(chance.randrange(1, 40))]
        os.kill(pid, signal.SIGKILL)
        lines += others.rest()
        said = max([said, *(int(line.split()[1]) for line in lines if line.startswith("appended"))])

        store = SqliteStore(path)
        last = store.open(app="shop").epoch
        rows, epochs = everything(store)
        folded = last - len(epochs)
        assert last >= said, f"seed {seed}: what was acknowledged is gone"
        assert epochs == [(number, b"%d" % number) for number in range(folded + 1, last + 1)], f"seed {seed}"
        assert {value for _, value in rows.get("many", [])} <= {b"%d" % folded}, f"seed {seed}: half a fold"
        sums = [int(value) for _, value in rows.get("sums", [])] or [0] * 7
        for number, blob in epochs:
            sums[number % 7] += int(blob)
        assert sums == [sum(range(rest, last + 1, 7)) for rest in range(7)], f"seed {seed}"
        assert store.check() == []
        store.close()


def test_what_was_appended_and_folded_survives_a_kill_at_any_moment(others: Others, path: Path) -> None:
    crash_again_and_again(others, path, kills=10, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_what_was_appended_and_folded_survives_many_kills(others: Others, path: Path, seed: int) -> None:
    crash_again_and_again(others, path, kills=100, seed=seed)


def test_what_a_crash_left_in_the_log_is_there_afterwards(path: Path, tmp_path: Path) -> None:
    store = filled(path)
    before = everything(store)
    left = as_a_crash_leaves_it(store, tmp_path / "left.db")
    store.close()

    again = opened(left)

    assert everything(again) == before
    assert again.check() == []
    again.close()


def test_a_log_that_was_cut_gives_an_earlier_state_and_all_of_it(path: Path, tmp_path: Path) -> None:
    store = opened(path)
    states = [everything(store)]
    for number in range(1, 9):
        store.append(number, b"%d" % number * 3000)
        states.append(everything(store))
        store.fold(number - 1, [("stock", b"%d" % key, b"%d" % number) for key in range(20)])
        states.append(everything(store))
    assert pragma(store, "wal_checkpoint(TRUNCATE)")[0] == 0
    for number in range(9, 12):
        store.append(number, b"%d" % number * 3000)
        states.append(everything(store))
    whole = as_a_crash_leaves_it(store, tmp_path / "whole.db")
    store.close()
    length = os.stat(f"{whole}-wal").st_size
    for cut in [0, 31, 32, *range(100, length, 3000), length]:
        left = tmp_path / f"{cut}.db"
        shutil.copy(whole, left)
        Path(f"{left}-wal").write_bytes(Path(f"{whole}-wal").read_bytes()[:cut])

        again = opened(left)

        assert everything(again) in states
        assert again.check() == []
        again.close()


def test_what_is_left_of_a_store_that_was_half_made_is_not_in_the_way(path: Path, tmp_path: Path) -> None:
    Path(f"{path}-new-1234").write_bytes(b"half")
    Path(f"{path}-lock").write_bytes(b"12345 on another\n")

    store = opened(path)

    assert everything(store) == ({}, [])
    store.close()


def test_it_waits_for_the_disk_unless_it_is_told_not_to(path: Path, tmp_path: Path) -> None:
    durable, quick = opened(path, sync=True), opened(tmp_path / "quick.db", sync=False)

    assert (pragma(durable, "journal_mode"), pragma(durable, "synchronous")) == (("wal",), (2,))
    assert (pragma(quick, "journal_mode"), pragma(quick, "synchronous")) == (("wal",), (0,))
    durable.close()
    quick.close()


def test_the_log_stays_short_however_much_is_appended(path: Path) -> None:
    store = opened(path)

    for number in range(1, 301):
        store.append(number, bytes(100_000))

    assert os.stat(f"{path}-wal").st_size < 6 << 20
    store.close()


# Locks.


def test_a_store_that_another_process_has_is_refused_by_its_number(others: Others, path: Path) -> None:
    others.start("hold", path)
    (pid,) = others.pids()

    with pytest.raises(StoreLockedError, match=rf"{path}: is open in process {pid} on .*, and a store has one host"):
        SqliteStore(path).open(app="shop")

    os.kill(pid, signal.SIGKILL)
    others.rest()
    opened(path).close()


def test_a_forked_child_does_not_hold_the_lock_of_a_host_that_died(others: Others, path: Path) -> None:
    others.start("hold_and_fork", path)
    host, child = others.pids()
    os.kill(host, signal.SIGKILL)
    others.rest()

    try:
        opened(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_cannot_use_the_store_of_its_parent_nor_open_it(others: Others, path: Path) -> None:
    others.start("use_in_a_child", path)

    used, opened_, parent = others.rest()

    assert used.startswith("StoreError")
    assert "its forked child" in used
    assert opened_.startswith("StoreLockedError")
    assert parent == "kept"
    store = opened(path)
    assert list(store.epochs()) == [(1, b"from the parent")]
    store.close()


def test_a_store_under_another_name_is_the_same_store(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    store = opened(tmp_path / "link.db")
    assert path.exists(), "a link to what is not there yet is followed, too"

    for name in (path, tmp_path / "link.db", tmp_path / "folder" / "shop.db", tmp_path / "folder" / ".." / "shop.db"):
        found = name if ".." not in name.parts else tmp_path / "folder" / "folder" / "shop.db"
        with pytest.raises(StoreLockedError, match=rf"this process \({os.getpid()}\)"):
            SqliteStore(found).open(app="shop")

    store.close()


def test_a_store_with_two_hard_links_is_refused(path: Path, tmp_path: Path) -> None:
    opened(path).close()
    (tmp_path / "second.db").hardlink_to(path)

    with pytest.raises(StoreError, match="has 2 names"):
        SqliteStore(path).open(app="shop")


def test_a_refused_open_leaves_the_lock_as_it_was(path: Path, tmp_path: Path) -> None:
    opened(path).close()

    with pytest.raises(StoreVersionError):
        SqliteStore(path).open(app="bank")

    assert list(files(tmp_path)) == ["shop.db"]
    store = opened(path)
    with pytest.raises(StoreLockedError):
        SqliteStore(path).open(app="shop")
    assert "shop.db-lock" in files(tmp_path), "who was refused does not take away the lock of who has it"
    store.close()
    assert list(files(tmp_path)) == ["shop.db"]


def test_a_lock_file_that_its_holder_takes_away_is_no_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    lockf = sqlite.fcntl.lockf

    def locks_a_file_that_goes(descriptor: int, how: int) -> None:
        lockf(descriptor, how)
        if not taken:
            taken.append(os.fstat(descriptor).st_ino)
            os.rename(f"{path}-lock", f"{path}-gone")  # the file stays, so that its number is not given again

    monkeypatch.setattr(sqlite.fcntl, "lockf", locks_a_file_that_goes)

    store = opened(path)

    assert os.stat(f"{path}-lock").st_ino not in taken
    store.close()


def test_a_program_that_writes_in_the_file_is_waited_for_and_then_named(path: Path) -> None:
    store = opened(path)
    pragma(store, "busy_timeout = 0")
    intruder = sqlite3.connect(path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreLockedError, match="another program writes in it"):
        store.append(1, b"one")
    with pytest.raises(StoreLockedError, match="another program writes in it"):
        store.fold(0, [("stock", b"nails", b"1")])
    intruder.execute("ROLLBACK")
    intruder.close()
    store.append(1, b"one")

    assert everything(store) == ({}, [(1, b"one")])
    store.close()


def test_what_is_read_ends_when_the_store_is_closed(path: Path) -> None:
    store = filled(path)
    rows, epochs = store.rows("table 0"), store.epochs()
    read = len([next(rows), next(epochs)])
    store.close()

    for left in (rows, epochs):
        with pytest.raises(StoreError, match="was it closed in the meantime"):
            read += sum(1 for _ in left)

    assert read == 2


# Reading what a host has open.


def test_a_store_is_read_checked_and_copied_by_another_process_while_a_host_writes(others: Others, path: Path) -> None:
    store = filled(path)

    others.start("look", path)
    said = others.rest()
    store.append(31, b"later")

    assert said == ["20"]
    copy = opened(Path(f"{path}-copy"))
    assert everything(copy)[0] == everything(store)[0]
    assert len(list(copy.epochs())) == 20
    copy.close()
    store.close()


def test_a_reader_shows_one_moment_and_writes_nothing(path: Path, tmp_path: Path) -> None:
    store = filled(path)
    before = everything(store)
    reader = open_for_reading(path)
    assert reader.opened is not None
    assert (reader.opened.app, reader.opened.epoch) == ("shop", 30)

    store.append(31, b"later")
    store.fold(31, [("table 0", b"later", b"")])

    assert everything(reader) == before
    assert reader.check() == []
    reader.backup(tmp_path / "copy.db")
    for write in (lambda: reader.append(31, b""), lambda: reader.fold(0, []), reader.compact):
        with pytest.raises(StoreError, match="is open for reading"):
            write()
    for again in (lambda: reader.open(app="shop"), reader.open_to_read):
        with pytest.raises(StoreError, match="is open"):
            again()
    reader.close()
    copy = opened(tmp_path / "copy.db")
    assert everything(copy) == before
    copy.close()
    assert store.check() == []
    store.close()


@pytest.mark.parametrize("crashed", [False, True])
def test_reading_a_store_that_no_host_has_does_not_change_it(path: Path, tmp_path: Path, crashed: bool) -> None:
    store = filled(path)
    before = everything(store)
    left = as_a_crash_leaves_it(store, tmp_path / "left.db") if crashed else path
    store.close()
    bytes_before = files(tmp_path)

    reader = open_for_reading(left)
    found, problems = everything(reader), reader.check()
    reader.close()

    assert (found, problems) == (before, [])
    assert {name: found for name, found in files(tmp_path).items() if not name.endswith("-shm")} == bytes_before


def test_a_url_names_what_is_to_be_read(path: Path) -> None:
    store = filled(path)

    reader = open_to_read(f"sqlite:///{path}")

    assert list(reader.epochs()) == list(store.epochs())
    reader.close()
    store.close()
    for url in ("memory:", "redis:"):
        with pytest.raises(StoreError):
            open_to_read(url)


def test_there_must_be_something_to_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file"):
        open_for_reading(path)
    path.touch()
    with pytest.raises(StoreError, match="nothing in it to read"):
        open_for_reading(path)

    assert list(files(tmp_path)) == ["shop.db"]


# What is not a store, or not ours, or not whole: refused, and left as it is.


def a_text(path: Path) -> None:
    path.write_text("All work and no play makes Jack a dull boy.\n" * 200)


def a_short_text(path: Path) -> None:
    path.write_text("x")


def a_foreign_file(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE albums (title TEXT)")
    connection.close()


def a_foreign_file_with_a_number(path: Path) -> None:
    a_foreign_file(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 252006674")
    connection.close()


def change(path: Path, statement: str) -> None:
    opened(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def a_newer_schema(path: Path) -> None:
    change(path, "PRAGMA user_version = 7")


def no_schema(path: Path) -> None:
    change(path, "PRAGMA user_version = 0")


def a_table_less(path: Path) -> None:
    change(path, "DROP TABLE rows")


def a_table_of_other_columns(path: Path) -> None:
    change(path, "ALTER TABLE epochs RENAME COLUMN crc32 TO sum")


def nothing_said_of_itself(path: Path) -> None:
    change(path, "DELETE FROM meta WHERE name = 'app'")


def a_number_that_is_none(path: Path) -> None:
    change(path, "UPDATE meta SET value = 'many' WHERE name = 'folded'")


def another_app(path: Path) -> None:
    store = SqliteStore(path)
    store.open(app="bank")
    store.append(1, b"money")
    store.close()


def another_app_that_crashed(path: Path) -> None:
    store = SqliteStore(path.with_name("origin.db"))
    store.open(app="bank")
    store.append(1, b"money")
    as_a_crash_leaves_it(store, path)
    store.close()
    store.path.unlink()


def an_epoch_less(path: Path) -> None:
    filled(path).close()
    change(path, "DELETE FROM epochs WHERE number = 15")


def the_first_epoch_less(path: Path) -> None:
    filled(path).close()
    change(path, "DELETE FROM epochs WHERE number = 11")


def a_cut_file(path: Path) -> None:
    filled(path).close()
    os.truncate(path, path.stat().st_size * 2 // 3)


def a_file_cut_within_its_head(path: Path) -> None:
    filled(path).close()
    os.truncate(path, 50)


def a_file_with_a_hole(path: Path) -> None:
    filled(path).close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(random.Random(1).randbytes(8192))


def an_empty_file_beside_a_log(path: Path) -> None:
    another_app_that_crashed(path)
    os.truncate(path, 0)


def a_log_alone(path: Path) -> None:
    another_app_that_crashed(path)
    path.unlink()


REFUSED: list[tuple[Callable[[Path], None], type[StoreError], str]] = [
    (a_text, StoreDamagedError, "file is not a database"),
    (a_short_text, StoreDamagedError, "it is 1 bytes long, and no SQLite file is shorter than 512"),
    (a_foreign_file, StoreVersionError, "SQLite file of other software: its application_id is 0x0, .*albums"),
    (a_foreign_file_with_a_number, StoreVersionError, "its application_id is 0xf055112, expected 0x41464c77"),
    (a_newer_schema, StoreVersionError, "has schema 7, and actorflow .* knows schemas up to 1"),
    (no_schema, StoreDamagedError, "schema 0 is said"),
    (a_table_less, StoreDamagedError, "is said to have the tables"),
    (a_table_of_other_columns, StoreDamagedError, "is said to have the tables"),
    (nothing_said_of_itself, StoreDamagedError, "of itself it says"),
    (a_number_that_is_none, StoreDamagedError, "of itself it says"),
    (another_app, StoreVersionError, "the store of app 'bank'"),
    (another_app_that_crashed, StoreVersionError, "the store of app 'bank'"),
    (an_epoch_less, StoreDamagedError, "up to 10 all epochs are folded, and those from 11 to 30 .* there are 19"),
    (the_first_epoch_less, StoreDamagedError, "those from 12 to 30 should follow"),
    (a_cut_file, StoreDamagedError, "malformed"),
    (a_file_cut_within_its_head, StoreDamagedError, "it is 50 bytes long"),
    (a_file_with_a_hole, StoreDamagedError, "its structure is broken"),
    (an_empty_file_beside_a_log, StoreDamagedError, r"the log beside it \(shop.db-wal\) has \d+ bytes"),
    (a_log_alone, StoreDamagedError, "it is empty or not there"),
]


@pytest.mark.parametrize(("make", "kind", "says"), REFUSED, ids=[make.__name__ for make, _, _ in REFUSED])
def test_what_cannot_be_opened_is_told_why_and_left_as_it_is(
    path: Path, tmp_path: Path, make: Callable[[Path], None], kind: type[StoreError], says: str
) -> None:
    make(path)
    before = files(tmp_path)

    with pytest.raises(StoreError, match=f"{path}: .*{says}") as caught:
        SqliteStore(path).open(app="shop")

    assert type(caught.value) is kind
    assert files(tmp_path) == before


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder; a store is a file"):
        SqliteStore(tmp_path).open(app="shop")


def test_a_device_is_no_store() -> None:
    with pytest.raises(StoreError, match="is no regular file"):
        SqliteStore("/dev/null").open(app="shop")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"there is no folder {tmp_path}/nowhere"):
        SqliteStore(tmp_path / "nowhere" / "shop.db").open(app="shop")


def test_links_in_a_circle_are_no_store(path: Path) -> None:
    path.symlink_to(path)

    with pytest.raises(StoreError, match=f"{path}: cannot open"):
        SqliteStore(path).open(app="shop")


def test_a_name_that_is_too_long_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open"):
        SqliteStore(tmp_path / ("x" * 300)).open(app="shop")


def test_an_empty_file_becomes_a_store_and_keeps_its_permissions(path: Path) -> None:
    path.touch()
    path.chmod(0o600)

    store = SqliteStore(path)

    assert store.open(app="shop").new
    assert path.stat().st_mode & 0o777 == 0o600
    store.close()


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "what?.db", "#1.db", "näme.db", "it's.db", "-wal"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path / name)
    store.append(1, b"one")
    store.close()

    again = opened(tmp_path / name)

    assert list(again.epochs()) == [(1, b"one")]
    again.close()
    assert list(files(tmp_path)) == [name]


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Do as root what others may: root may write what is not to be written."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """Give a folder that an ordinary user can reach: those of pytest are their owner's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        folder.chmod(0o777)


def test_a_file_that_cannot_be_written_is_refused_and_can_be_read(everybodys: Path) -> None:
    store = filled(everybodys / "shop.db")
    wanted = everything(store)
    store.close()
    store.path.chmod(0o444)
    before = files(everybodys)

    with as_an_ordinary_user(), pytest.raises(StoreError, match="must be read and written, and the system forbids"):
        SqliteStore(store.path).open(app="shop")
    assert files(everybodys) == before

    with as_an_ordinary_user():
        reader = open_for_reading(store.path)
        found = everything(reader)
        reader.close()
    assert found == wanted


def test_a_folder_that_cannot_be_written_is_refused(everybodys: Path) -> None:
    opened(everybodys / "shop.db").close()
    (everybodys / "shop.db").chmod(0o666)
    everybodys.chmod(0o555)
    before = files(everybodys)

    with as_an_ordinary_user():
        for name in ("shop.db", "new.db"):
            with pytest.raises(StoreError, match=f"{name}: its folder {everybodys} cannot be written"):
                SqliteStore(everybodys / name).open(app="shop")
        with pytest.raises(StoreError, match=r"look at the permissions of the file and of its folder"):
            open_for_reading(everybodys / "shop.db")

    assert files(everybodys) == before


def test_a_file_that_cannot_be_read_is_refused(everybodys: Path) -> None:
    opened(everybodys / "shop.db").close()
    (everybodys / "shop.db").chmod(0o000)

    with as_an_ordinary_user(), pytest.raises(StoreError, match="must be read, and the system forbids"):
        open_for_reading(everybodys / "shop.db")


@pytest.mark.parametrize("write", ["append", "fold"])
def test_what_was_written_by_older_software_says_so_until_it_is_written(path: Path, write: str) -> None:
    change(path, "UPDATE meta SET value = 'actorflow 0.0.1' WHERE name = 'written_by'")
    for _ in range(2):
        store = SqliteStore(path)
        assert store.open(app="shop").written_by == "actorflow 0.0.1"
        store.close()
    store = opened(path)

    if write == "append":
        store.append(1, b"one")
    else:
        store.fold(0, [])
    store.close()

    reader = SqliteStore(path)
    assert reader.open_to_read().written_by == software()
    reader.close()


# Damage that shows only when it is read.


def damage(path: Path, what: bytes) -> None:
    """Change one bit of something in the file."""
    found = path.read_bytes()
    assert found.count(what) == 1
    with path.open("r+b") as file:
        file.seek(found.index(what))
        file.write(bytes([what[0] ^ 1]))


def damaged(path: Path) -> SqliteStore:
    store = opened(path)
    for number, blob in enumerate([b"the first of all", b"the second of all", b"the third of all"], 1):
        store.append(number, blob)
    store.fold(0, [("stock", b"bolts", b"seven of them"), ("stock", b"nails", b"eight of them")])
    store.close()
    damage(path, b"second of all")
    damage(path, b"eight of them")
    return opened(path)


def test_an_epoch_that_changed_is_not_given_out(path: Path) -> None:
    store = damaged(path)
    epochs = store.epochs()
    assert next(epochs) == (1, b"the first of all")

    with pytest.raises(StoreDamagedError, match=f"{path}: is damaged: epoch 2 has not the checksum it had.*backup"):
        next(epochs)

    store.close()


def test_a_row_that_changed_is_not_given_out(path: Path) -> None:
    store = damaged(path)
    rows = store.rows("stock")
    assert next(rows) == (b"bolts", b"seven of them")

    with pytest.raises(StoreDamagedError, match="the row b'nails' of table 'stock' has not the checksum it had"):
        next(rows)

    store.close()


def test_a_check_finds_all_that_changed(path: Path) -> None:
    store = damaged(path)

    found = store.check()

    assert found == [
        f"{path}: epoch 2 has not the checksum it had when it was written",
        f"{path}: the row b'nails' of table 'stock' has not the checksum it had when it was written",
    ]
    store.close()


def test_a_check_finds_what_goes_missing_under_an_open_store(path: Path) -> None:
    store = filled(path)
    intruder = sqlite3.connect(path)
    with intruder:
        intruder.execute("DELETE FROM epochs WHERE number IN (15, 16, 30)")
    intruder.close()

    found = store.check()

    assert found == [
        f"{path}: epoch 15 should come next, and epoch 17 does",
        f"{path}: epoch 29 is the last, and 30 should be",
    ]
    with pytest.raises(StoreDamagedError, match="epoch 15 is missing"):
        list(store.epochs())
    store.close()


def test_a_check_goes_on_where_it_can_and_says_where_it_cannot(path: Path) -> None:
    store = filled(path)
    store.fold(30, [])
    store.append(31, b"the only epoch")
    store.compact()
    store.close()
    damage(path, b"the only epoch")
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b"key 0500") // 4096 * 4096)
        file.write(bytes(4096))
    reader = open_for_reading(path)

    found = reader.check()

    assert "broken" in found[0] or "malformed" in found[0]
    assert f"{path}: epoch 31 has not the checksum it had when it was written" in found[1:-1]
    assert "malformed" in found[-1], "the rows are there to half of them"
    with pytest.raises(StoreDamagedError):
        everything(reader)
    reader.close()


def test_names_of_tables_that_are_none_are_damage(path: Path) -> None:
    change(path, "INSERT INTO rows (name, key, value, crc32) VALUES (x'00', x'00', x'00', 0)")
    reader = open_for_reading(path)

    with pytest.raises(StoreDamagedError, match="tables of the names"):
        reader.tables()

    assert any("cannot read it" in fault or "is damaged" in fault for fault in reader.check())
    reader.close()


def test_what_was_found_damaged_takes_no_more_and_is_not_changed(path: Path, tmp_path: Path) -> None:
    damaged(path).close()
    store = opened(path)
    store.append(4, b"in the log")
    left = as_a_crash_leaves_it(store, tmp_path / "left.db")
    store.close()
    before = files(tmp_path)
    again = opened(left)
    with pytest.raises(StoreDamagedError):
        list(again.epochs())

    for write in (lambda: again.append(5, b""), lambda: again.fold(0, []), again.compact):
        with pytest.raises(StoreDamagedError, match="epoch 2 has not the checksum"):
            write()
    again.close()

    assert {name: found for name, found in files(tmp_path).items() if name != "left.db-shm"} == before


def test_a_store_with_a_broken_structure_is_not_copied(path: Path, tmp_path: Path) -> None:
    a_file_with_a_hole(path)
    reader = open_for_reading(path)

    with pytest.raises(StoreDamagedError, match="its structure is broken"):
        reader.backup(tmp_path / "copy.db")

    reader.close()
    assert list(files(tmp_path)) == ["shop.db"]


def damage_at_random(folder: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    path = folder / "shop.db"
    store = filled(path)
    wanted = everything(store)
    store.close()
    good = path.read_bytes()
    for turn in range(times):
        content = bytearray(good)
        at, length = chance.randrange(len(good)), min(4096, len(good))
        kind = chance.choice(["bit", "bytes", "zeros", "cut", "page", "page twice"])
        page = at // 4096 * 4096
        if kind == "bit":
            content[at] ^= 1 << chance.randrange(8)
        elif kind in {"bytes", "zeros"}:
            length = min(chance.choice([1, 4, 16, 512, 4096]), len(good) - at)
            content[at : at + length] = bytes(length) if kind == "zeros" else chance.randbytes(length)
        elif kind == "cut":
            del content[max(1, at) :]
        else:
            other = chance.randrange(len(good)) // 4096 * 4096
            content[page : page + 4096] = good[other : other + 4096] if kind == "page twice" else chance.randbytes(4096)
        path.write_bytes(content)

        found: object = None
        store = SqliteStore(path)
        try:
            store.open(app="shop")
            found = everything(store)
        except (StoreDamagedError, StoreVersionError):
            found = wanted
        store.close()

        where = f"seed {seed}, turn {turn}: {kind} at {at}"
        assert found == wanted, f"{where}: what was read is not what was written"
        assert path.read_bytes() == content, f"{where}: the file was changed"
        assert list(files(folder)) == ["shop.db"], where


def test_whatever_is_damaged_is_found_or_does_not_matter(tmp_path: Path) -> None:
    damage_at_random(tmp_path, times=150, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_damaged_is_found_or_does_not_matter_often(tmp_path: Path, seed: int) -> None:
    damage_at_random(tmp_path, times=1000, seed=seed)


# Room.


def test_compacting_gives_back_what_was_folded(path: Path) -> None:
    store = opened(path)
    for number in range(1, 101):
        store.append(number, bytes(50_000))
    store.fold(100, [])
    before = store.size_bytes()

    freed = store.compact()

    assert freed > 4_000_000
    assert store.size_bytes() == before - freed < 100_000
    assert store.check() == []
    store.close()


@contextmanager
def files_no_longer_than(length: int) -> Iterator[None]:
    """Let the system refuse to write behind so many bytes of any file: a disk that fails, for SQLite."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_copy_that_cannot_be_written_leaves_nothing(path: Path, tmp_path: Path) -> None:
    store = filled(path)

    with files_no_longer_than(100_000), pytest.raises(StoreError, match=f"cannot copy it to {tmp_path}/copy.db"):
        store.backup(tmp_path / "copy.db")

    assert not [name for name in files(tmp_path) if "copy" in name]
    store.append(31, b"next")
    store.close()


def test_a_store_that_cannot_be_made_leaves_nothing(path: Path, tmp_path: Path) -> None:
    with files_no_longer_than(5000), pytest.raises(StoreError, match="cannot make it: the disk fails"):
        SqliteStore(path).open(app="shop")

    assert files(tmp_path) == {}
    opened(path).close()


def test_a_disk_that_fails_loses_nothing_that_was_there(path: Path) -> None:
    store = filled(path)
    wanted = everything(store)

    for call, what in ((lambda: store.append(31, bytes(9_000_000)), "append epoch 31"), (store.compact, "compact it")):
        with files_no_longer_than(5000), pytest.raises(StoreError, match=f"cannot {what}: the disk fails"):
            call()

    assert everything(store) == wanted
    store.append(31, b"next")
    store.close()
    again = opened(path)
    assert len(list(again.epochs())) == 21
    again.close()


def test_a_disk_that_fails_for_want_of_room_is_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(path)
    found = os.statvfs(path)
    monkeypatch.setattr(sqlite.os, "statvfs", lambda _: os.statvfs_result([*found[:4], 10, *found[5:]]))

    with files_no_longer_than(os.stat(f"{path}-wal").st_size), pytest.raises(StoreFullError, match="make room"):
        store.append(31, bytes(1_000_000))

    store.append(31, b"next")
    store.close()


@pytest.mark.parametrize("call", ["replace", "open"])
def test_a_store_that_finds_no_room_to_be_made_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sqlite.os, call, no_room)
        with pytest.raises(StoreFullError, match="No space left on device; nothing of it was kept"):
            SqliteStore(path).open(app="shop")

    assert files(tmp_path) == {}
    opened(path).close()


def test_a_file_system_without_links_has_stores_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(sqlite.os, "link", no_links)

    store = filled(path)
    store.backup(tmp_path / "copy.db")

    assert {"shop.db", "copy.db"} <= set(files(tmp_path))
    store.close()


def test_locks_that_the_system_does_not_have_are_told(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(sqlite.fcntl, "lockf", no_locks)

    with pytest.raises(StoreError, match=r"cannot lock it: .*No locks available"):
        SqliteStore(path).open(app="shop")


def test_software_that_is_not_installed_writes_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", not_found)

    store = SqliteStore(path)

    assert store.open(app="shop").written_by == "actorflow (a copy that is not installed)"
    store.close()
