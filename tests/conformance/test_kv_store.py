"""The transactional store as Python sees it; what it promises is proved by the Rust suite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firepond import _native
from firepond.fs.errors import (
    Closed,
    InvalidArgument,
    StoreLocked,
    TransactionConflict,
    TransactionTooLarge,
)


@pytest.fixture(params=["memory", "embedded"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_native.KvStore]:
    """A store of each engine."""
    path = str(tmp_path / "store") if request.param == "embedded" else None
    with _native.KvStore.open(path, request.param) as opened:
        yield opened


def test_transactions_read_and_write(store: _native.KvStore) -> None:
    """Goal: every method. Method: one of each. Oracle: the values by hand."""
    first = store.begin()
    for key in (b"a", b"b", b"c"):
        first.set(key, b"1" + key)
    version = first.commit()
    second = store.begin()
    assert second.get(b"a") == b"1a"
    assert second.get(b"missing") is None
    assert second.range(b"a", b"z") == [(b"a", b"1a"), (b"b", b"1b"), (b"c", b"1c")]
    assert second.range(b"a", b"z", limit=1, reverse=True) == [(b"c", b"1c")]
    second.clear(b"a")
    second.clear_range(b"b", b"c")
    assert second.commit() > version
    assert store.begin().range(b"", b"\xff") == [(b"c", b"1c")]


def test_conflicts_raise(store: _native.KvStore) -> None:
    """Goal: a lost race is an exception. Oracle: its class."""
    loser = store.begin()
    assert loser.get(b"a") is None
    winner = store.begin()
    winner.set(b"a", b"1")
    winner.commit()
    loser.set(b"b", b"1")
    with pytest.raises(TransactionConflict):
        loser.commit()
    with pytest.raises(Closed):
        loser.commit()


def test_threads_count_exactly(store: _native.KvStore) -> None:
    """Goal: threads use one store. Method: increments with retries. Oracle: the sum."""

    def count() -> None:
        done = 0
        while done < 20:
            transaction = store.begin()
            value = int(transaction.get(b"counter") or b"0")
            transaction.set(b"counter", str(value + 1).encode())
            try:
                transaction.commit()
                done += 1
            except TransactionConflict:
                pass

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.begin().get(b"counter") == b"80"


def test_bad_input_is_refused(store: _native.KvStore) -> None:
    """Goal: nothing wrong is stored. Oracle: the classes."""
    for key, value, error in (
        (b"", b"", InvalidArgument),
        (b"k" * 5000, b"", TransactionTooLarge),
        (b"k", b"v" * 200_000, TransactionTooLarge),
    ):
        transaction = store.begin()
        transaction.set(key, value)
        with pytest.raises(error):
            transaction.commit()
    for path, engine in ((None, "embedded"), ("/tmp/x", "memory"), (None, "rocksdb")):
        with pytest.raises(InvalidArgument):
            _native.KvStore.open(path, engine)


def test_directories_are_locked_and_reopened(tmp_path: Path) -> None:
    """Goal: values survive closing, and one opener at a time. Oracle: the value and the error."""
    path = str(tmp_path / "store")
    store = _native.KvStore.open(path, "embedded")
    transaction = store.begin()
    transaction.set(b"a", b"1")
    version = transaction.commit()
    with pytest.raises(StoreLocked):
        _native.KvStore.open(path, "embedded")
    store.close()
    store.close()
    with pytest.raises(Closed):
        store.begin()
    with _native.KvStore.open(path, "embedded") as again:
        reader = again.begin()
        assert reader.get(b"a") == b"1"
        reader.set(b"b", b"2")
        assert reader.commit() == version + 1
