"""What every store promises, asked of every store that there is."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow.errors import StoreError, StoreFullError, StoreLockedError, StoreVersionError
from actorflow.stores import MemoryStore, Row, Store, open_store, store
from actorflow.stores.sqlite import SqliteStore


class MemoryPlace:
    """Where the store of a test is, to be opened again; here it is one object."""

    def __init__(self, folder: Path) -> None:
        self._store = MemoryStore()

    def store(self) -> MemoryStore:
        return self._store

    def crash(self, opened: Store) -> None:
        opened.close()

    def fill(self, opened: Store) -> None:
        self._store.bytes_max = opened.size_bytes()

    def make_room(self, opened: Store) -> None:
        self._store.bytes_max = 1 << 30


class SqlitePlace:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "0" / "store.db"
        self._path.parent.mkdir()

    def store(self) -> Store:
        return open_store(f"sqlite:///{self._path}", sync=False)

    def crash(self, opened: Store) -> None:
        """Go on with the files as they are now, as if the process had ended here."""
        left = self._path
        self._path = self._folder / str(int(left.parent.name) + 1) / left.name
        self._path.parent.mkdir()
        for file in left.parent.iterdir():
            if not file.name.endswith(("-shm", "-lock")):
                shutil.copy(file, self._path.parent)
        opened.close()
        shutil.rmtree(left.parent)

    def fill(self, opened: Store) -> None:
        pragma(opened, "max_page_count = 1")  # SQLite makes that: no more than there are

    def make_room(self, opened: Store) -> None:
        pragma(opened, "max_page_count = 1000000")


def pragma(opened: Store, text: str) -> Any:
    assert isinstance(opened, SqliteStore)
    assert opened._connection is not None
    return opened._connection.execute(f"PRAGMA {text}").fetchone()


Place = MemoryPlace | SqlitePlace
PLACES: dict[str, Callable[[Path], Place]] = {"memory": MemoryPlace, "sqlite": SqlitePlace}
every_store = pytest.mark.parametrize("kind", PLACES)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


@pytest.fixture
def opened(place: Place) -> Iterator[Store]:
    found = place.store()
    found.open(app="shop")
    yield found
    found.close()


def everything(of: Store) -> tuple[dict[str, list[tuple[bytes, bytes]]], list[tuple[int, bytes]]]:
    return {table: list(of.rows(table)) for table in of.tables()}, list(of.epochs())


def append_all(to: Store, *blobs: bytes, first: int = 1) -> None:
    for number, blob in enumerate(blobs, first):
        to.append(number, blob)


# Opening.


def test_a_store_is_made_when_it_is_opened_first(place: Place) -> None:
    made = place.store()

    said = made.open(app="shop")

    assert said.new
    assert (said.epoch, said.app) == (0, "shop")
    assert said.identity
    assert said.written_by.startswith("actorflow ")
    assert everything(made) == ({}, [])
    made.close()


def test_opened_again_it_says_what_it_is_and_where_it_was(place: Place) -> None:
    first = place.store()
    made = first.open(app="shop")
    append_all(first, b"one", b"two", b"three")
    first.fold(2, [("stock", b"nails", b"7")])
    first.close()
    again = place.store()

    said = again.open(app="shop")

    assert not said.new
    assert (said.epoch, said.identity, said.app) == (3, made.identity, "shop")
    assert everything(again) == ({"stock": [(b"nails", b"7")]}, [(3, b"three")])
    again.close()


def test_the_last_epoch_is_known_when_all_are_folded(place: Place) -> None:
    first = place.store()
    first.open(app="shop")
    append_all(first, b"one", b"two")
    first.fold(2, [])
    first.close()
    again = place.store()

    said = again.open(app="shop")

    assert said.epoch == 2
    again.append(3, b"three")
    assert list(again.epochs()) == [(3, b"three")]
    again.close()


def test_a_store_is_open_once(place: Place, opened: Store) -> None:
    with pytest.raises(StoreLockedError):
        place.store().open(app="shop")

    opened.append(1, b"still mine")
    assert list(opened.epochs()) == [(1, b"still mine")]


def test_another_app_is_refused_and_told_whose_store_it_is(place: Place, opened: Store) -> None:
    opened.append(1, b"one")
    opened.close()
    other = place.store()

    with pytest.raises(StoreVersionError, match=r"'shop'.*'bank'"):
        other.open(app="bank")

    opened = place.store()
    assert not opened.open(app="shop").new, "its own app may still have it"
    assert list(opened.epochs()) == [(1, b"one")]
    opened.close()


def test_what_is_not_open_does_nothing(place: Place, tmp_path: Path) -> None:
    closed = place.store()
    closed.open(app="shop")
    closed.close()
    closed.close()

    for store_ in (closed, PLACES["memory" if isinstance(place, MemoryPlace) else "sqlite"](fresh(tmp_path)).store()):
        uses: list[Callable[[], object]] = [
            lambda store_=store_: store_.rows("stock"),
            lambda store_=store_: store_.tables(),
            lambda store_=store_: store_.epochs(),
            lambda store_=store_: store_.append(1, b""),
            lambda store_=store_: store_.fold(0, []),
            lambda store_=store_: store_.check(),
            lambda store_=store_: store_.backup(tmp_path / "copy.db"),
            lambda store_=store_: store_.compact(),
            lambda store_=store_: store_.size_bytes(),
        ]
        for use in uses:
            with pytest.raises(StoreError, match="is not open"):
                use()


def fresh(folder: Path) -> Path:
    (folder / "fresh").mkdir()
    return folder / "fresh"


def test_open_and_the_calls_after_it_may_come_from_different_threads(place: Place) -> None:
    store_ = place.store()
    opener = threading.Thread(target=store_.open, kwargs={"app": "shop"})
    opener.start()
    opener.join()

    store_.append(1, b"one")

    assert list(store_.epochs()) == [(1, b"one")]
    store_.close()


# Epochs.


def test_epochs_come_back_in_order_whatever_is_in_them(opened: Store) -> None:
    blobs = [b"", b"\0", bytes(range(256)) * 1000, b"four"]

    append_all(opened, *blobs)

    assert list(opened.epochs()) == list(enumerate(blobs, 1))
    assert opened.check() == []


@pytest.mark.parametrize("number", [-1, 0, 1, 2, 4])
def test_an_epoch_that_is_not_the_next_is_refused(opened: Store, number: int) -> None:
    append_all(opened, b"one", b"two")

    with pytest.raises(StoreError, match="the next to append is 3"):
        opened.append(number, b"wrong")

    opened.append(3, b"three")
    assert [number for number, _ in opened.epochs()] == [1, 2, 3]


def test_a_blob_that_is_too_long_is_refused(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EPOCH_BYTES_MAX", 10)

    with pytest.raises(StoreError, match="11 bytes long, at most 10"):
        opened.append(1, bytes(11))

    opened.append(1, bytes(10))


def test_a_full_store_appends_nothing_and_the_same_number_when_there_is_room(place: Place, opened: Store) -> None:
    opened.append(1, b"one")
    place.fill(opened)

    for _ in range(2):
        with pytest.raises(StoreFullError, match="no room to append epoch 2") as caught:
            opened.append(2, bytes(100_000))
    assert caught.value.overloaded
    assert list(opened.epochs()) == [(1, b"one")]
    place.make_room(opened)
    opened.append(2, bytes(100_000))

    assert list(opened.epochs()) == [(1, b"one"), (2, bytes(100_000))]
    assert opened.check() == []


def test_a_full_store_has_room_for_what_takes_less_than_what_it_folds(place: Place, opened: Store) -> None:
    opened.append(1, bytes(100_000))
    place.fill(opened)

    with pytest.raises(StoreFullError, match="no room to fold"):
        opened.fold(1, [("stock", b"%d" % number, bytes(1000)) for number in range(200)])
    assert everything(opened) == ({}, [(1, bytes(100_000))])
    opened.fold(1, [("stock", b"nails", bytes(50_000))])

    opened.append(2, bytes(10_000))
    assert everything(opened) == ({"stock": [(b"nails", bytes(50_000))]}, [(2, bytes(10_000))])


# Folding.


def test_a_fold_updates_rows_and_deletes_its_epochs(opened: Store) -> None:
    append_all(opened, b"one", b"two", b"three")
    opened.fold(1, [("stock", b"nails", b"1"), ("stock", b"bolts", b"2"), ("people", b"ann", b"3")])

    opened.fold(2, [("stock", b"nails", b"4"), ("people", b"ann", None), ("stock", b"never there", None)])

    assert everything(opened) == ({"stock": [(b"bolts", b"2"), (b"nails", b"4")]}, [(3, b"three")])
    assert opened.check() == []


def test_a_fold_of_rows_alone_keeps_every_epoch(opened: Store) -> None:
    opened.append(1, b"one")

    opened.fold(0, [("stock", b"nails", b"1")])

    assert everything(opened) == ({"stock": [(b"nails", b"1")]}, [(1, b"one")])


def test_a_fold_beyond_the_last_epoch_is_refused(opened: Store) -> None:
    opened.append(1, b"one")

    with pytest.raises(StoreError, match="the last that was appended is 1"):
        opened.fold(2, [("stock", b"nails", b"1")])

    assert everything(opened) == ({}, [(1, b"one")])


def test_a_fold_may_be_done_again(opened: Store) -> None:
    append_all(opened, b"one", b"two")
    opened.fold(2, [("stock", b"nails", b"1")])

    opened.fold(1, [("stock", b"nails", b"1")])

    opened.append(3, b"three")
    assert everything(opened) == ({"stock": [(b"nails", b"1")]}, [(3, b"three")])
    assert opened.check() == []


def test_a_fold_whose_rows_raise_changes_nothing(opened: Store) -> None:
    opened.append(1, b"one")
    opened.fold(0, [("stock", b"nails", b"1")])

    def rows() -> Iterator[Row]:
        for number in range(10_000):
            yield "stock", b"%d" % number, b"new"
        yield "stock", b"nails", None
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.fold(1, rows())

    assert everything(opened) == ({"stock": [(b"nails", b"1")]}, [(1, b"one")])
    opened.fold(1, [("stock", b"nails", b"2")])
    assert everything(opened) == ({"stock": [(b"nails", b"2")]}, [])


@pytest.mark.parametrize("between", [0, 10_000])
def test_of_several_rows_with_one_key_the_last_counts(opened: Store, between: int) -> None:
    filling: list[Row] = [("filling", b"%d" % number, b"") for number in range(between)]

    opened.fold(
        0,
        [
            *(("stock", b"a", b"1"), ("stock", b"b", b"1"), ("stock", b"c", None)),
            *filling,
            *(("stock", b"a", b"2"), ("stock", b"b", None), ("stock", b"c", b"2")),
        ],
    )

    assert list(opened.rows("stock")) == [(b"a", b"2"), (b"c", b"2")]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_rows_come_in_order_of_the_bytes_of_their_keys(opened: Store, count: int) -> None:
    keys = [number.to_bytes(2, "little") for number in range(count)]
    opened.fold(0, [("stock", key, key) for key in keys])
    opened.fold(0, [("stoc", b"before", b""), ("stocks", b"after", b"")])

    assert list(opened.rows("stock")) == [(key, key) for key in sorted(keys)]


def test_keys_and_tables_may_be_empty_long_or_strange(opened: Store) -> None:
    keys = [b"", b"\0", b"\0\0", b"a", b"a\0", b"a" * 10_000, b"\xff", b"\xff\xff"]
    tables = ["", "Stock", "stock", 'it\'s "one"; --', "näme", "a\0b"]

    for table in tables:
        opened.fold(0, [(table, key, key[::-1]) for key in keys])

    assert opened.tables() == sorted(tables)
    assert all(list(opened.rows(table)) == [(key, key[::-1]) for key in keys] for table in tables)
    assert opened.check() == []


def test_a_table_without_rows_is_none(opened: Store) -> None:
    opened.fold(0, [("stock", b"nails", b"1")])
    opened.fold(0, [("stock", b"nails", None)])

    assert opened.tables() == []
    assert list(opened.rows("stock")) == []
    assert list(opened.rows("never heard of")) == []


def test_reading_may_go_on_while_what_is_read_is_folded(opened: Store) -> None:
    append_all(opened, b"one", b"two", b"three")
    opened.fold(0, [("stock", b"%04d" % number, b"old") for number in range(1000)])
    rows, epochs = opened.rows("stock"), opened.epochs()
    assert (next(rows), next(epochs)) == ((b"0000", b"old"), (1, b"one"))

    opened.fold(2, [("stock", b"%04d" % number, b"new") for number in range(1000)])
    opened.compact()
    opened.append(4, b"four")

    assert [key for key, _ in rows] == [b"%04d" % number for number in range(1, 1000)]
    assert (3, b"three") in list(epochs)


# Care.


def test_a_copy_has_what_the_store_had(opened: Store, tmp_path: Path) -> None:
    append_all(opened, b"one", b"two", b"three", b"four")
    opened.fold(2, [("stock", b"nails", b"1"), ("people", b"ann", b"2")])
    before = everything(opened)

    opened.backup(tmp_path / "copy.db")
    opened.append(5, b"later")

    copy = open_store(f"sqlite:///{tmp_path}/copy.db")
    assert copy.open(app="shop").epoch == 4
    assert everything(copy) == before
    assert copy.check() == []
    copy.append(5, b"another")
    copy.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["copy.db"]


def test_a_copy_is_never_written_over_a_file(opened: Store, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(b"precious")

    with pytest.raises(StoreError, match="is there already"):
        opened.backup(tmp_path / "copy.db")

    assert (tmp_path / "copy.db").read_bytes() == b"precious"


def test_a_copy_needs_a_folder(opened: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        opened.backup(tmp_path / "nowhere" / "copy.db")


def test_compacting_changes_the_size_and_nothing_else(opened: Store) -> None:
    append_all(opened, *[bytes(10_000)] * 100)
    opened.fold(99, [("stock", b"nails", b"1")])
    before, size = everything(opened), opened.size_bytes()

    freed = opened.compact()

    assert freed >= 0
    assert opened.size_bytes() == size - freed
    assert everything(opened) == before
    opened.append(101, b"next")


# Any sequence, against a dictionary.

KEYS = st.sampled_from([b"", b"a", b"a\0", b"b", b"\xff"])
ROWS = st.lists(st.tuples(st.sampled_from(["", "s", "t"]), KEYS, st.none() | st.binary(max_size=5)), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.binary(max_size=5)),
        st.tuples(st.just("fold"), st.tuples(st.integers(0, 5), ROWS)),
        st.tuples(st.sampled_from(["reopen", "crash", "compact"]), st.none()),
    ),
    max_size=12,
)


@every_store
@settings(deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_calls_leaves_what_a_dictionary_would_have(kind: str, steps: list[tuple[str, Any]]) -> None:
    epochs: dict[int, bytes] = {}
    model: dict[tuple[str, bytes], bytes] = {}
    last = 0
    with TemporaryDirectory() as folder:
        place = PLACES[kind](Path(folder))
        store_ = place.store()
        store_.open(app="shop")
        for step, argument in steps:
            if step == "append":
                last += 1
                store_.append(last, argument)
                epochs[last] = argument
            elif step == "fold":
                upto, rows = max(0, last - argument[0]), argument[1]
                store_.fold(upto, rows)
                epochs = {number: blob for number, blob in epochs.items() if number > upto}
                for table, key, value in rows:
                    model.pop((table, key), None)
                    if value is not None:
                        model[table, key] = value
            elif step == "compact":
                store_.compact()
            else:
                place.crash(store_) if step == "crash" else store_.close()
                store_ = place.store()
                assert store_.open(app="shop").epoch == last
            assert list(store_.epochs()) == list(epochs.items())
        found = [(table, key, value) for table in store_.tables() for key, value in store_.rows(table)]
        problems = store_.check()
        store_.close()

    assert found == sorted((*place, value) for place, value in model.items())
    assert problems == []


# Urls.


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///shop.db", "shop.db"),
        ("sqlite:////var/shop.db", "/var/shop.db"),
        ("sqlite:///a b%20#?.db", "a b%20#?.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    found = open_store(url, sync=False)

    assert isinstance(found, SqliteStore)
    assert (found.path, found.sync) == (Path(path), False)


def test_a_url_names_memory() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.db",
        "sqlite://",
        "sqlite:///",
        "sqlite://shop.db",
        "sqlite:shop.db",
        "sqlite:///a\0b",
        "memory:x",
        "redis:",
    ],
)
def test_a_url_that_is_not_understood_is_told_which_are(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:///relative\.db, sqlite:////absolute/path\.db and memory:"):
        open_store(url)


def test_a_database_that_is_for_later_is_named_and_its_password_is_not() -> None:
    with pytest.raises(StoreError, match=r"'postgresql'.*comes later, as an extra") as caught:
        open_store("postgresql://ann:secret@db/shop")

    assert "secret" not in str(caught.value)
