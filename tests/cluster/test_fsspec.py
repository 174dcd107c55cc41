"""`firepond://` on a real cluster: fsspec's own suites, and the engines that read through it."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import fsspec
import numpy as np
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
from fsspec.tests import abstract

from firepond.client.fsspec import FirepondFileSystem
from tests.fixtures.cluster import TestCluster, close_file_systems, wait_until


@pytest.fixture
def files(cluster: TestCluster) -> FirepondFileSystem:
    """A file system that was found by its URL."""
    url = f"{cluster.address}/"
    found, path = fsspec.core.url_to_fs(url)
    assert isinstance(found, FirepondFileSystem) and path == "/"
    return found


@pytest.fixture
def folder(files: FirepondFileSystem) -> Iterator[str]:
    """The URL of a directory of the test's own."""
    path = f"/fsspec-{os.urandom(6).hex()}"
    files.mkdir(path)
    yield files.unstrip_protocol(path)
    files.rm(path, recursive=True)


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    """What fsspec's suites run on."""

    @pytest.fixture
    def fs(self, files: FirepondFileSystem) -> FirepondFileSystem:
        return files

    @pytest.fixture
    def fs_path(self, files: FirepondFileSystem, folder: str) -> str:
        return str(files._strip_protocol(folder))

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    """Goal: copies as fsspec defines them. Method and oracle: its own suite."""


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    """Goal: downloads as fsspec defines them. Method and oracle: its own suite."""


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    """Goal: uploads as fsspec defines them. Method and oracle: its own suite."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    """Goal: opens as fsspec defines them. Method and oracle: its own suite."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    """Goal: pipes as fsspec defines them. Method and oracle: its own suite."""


def test_names_and_attributes(files: FirepondFileSystem, folder: str) -> None:
    """Goal: what programs ask of names. Method: make, list, move, remove. Oracle: the answers."""
    path = files._strip_protocol(folder)
    files.pipe_file(f"{path}/a", b"0123456789")
    assert files.info(f"{path}/a")["size"] == 10
    files.pipe_file(f"{path}/a", b"012")
    assert files.info(f"{folder}/a")["size"] == 3, "what this instance changed is not remembered"
    files.mv(f"{folder}/a", f"{folder}/b")
    assert files.ls(folder, detail=False) == [f"{path}/b"]
    assert not files.exists(f"{folder}/a") and files.isfile(f"{folder}/b")
    assert files.glob(f"{folder}/*") == [f"{path}/b"]
    assert files.cat_file(f"{folder}/b", -2, None) == b"12"
    answers = files.cat_ranges([f"{path}/b", f"{path}/gone", f"{path}/b"], [0, 0, 1], [2, 1, 9])
    assert answers[0] == b"01" and answers[2] == b"12"
    assert isinstance(answers[1], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        files.open(f"{folder}/gone")
    assert pickle.loads(pickle.dumps(files)) is files, "instances are shared by their arguments"
    with files.open(f"{folder}/text", "w", encoding="utf-8") as writer:
        writer.write("Grüße\n")
    with files.open(f"{folder}/text", "r", encoding="utf-8") as reader:
        assert reader.read() == "Grüße\n"


def test_transactions(files: FirepondFileSystem, folder: str) -> None:
    """Goal: names appear at the end of a transaction, or never. Oracle: the listing."""
    with files.transaction, files.open(f"{folder}/kept", "wb") as file:
        file.write(b"all")
        file.flush()
        assert not files.exists(f"{folder}/kept")
    assert files.cat_file(f"{folder}/kept") == b"all"
    with pytest.raises(ZeroDivisionError), files.transaction:
        with files.open(f"{folder}/lost", "wb") as file:
            file.write(b"some")
        raise ZeroDivisionError
    assert [name.rpartition("/")[2] for name in files.ls(folder, detail=False)] == ["kept"]


def test_engines_read_and_write(files: FirepondFileSystem, folder: str) -> None:
    """Goal: pandas, pyarrow and DuckDB work on URLs. Method: each writes, all read. Oracle: the
    table.
    """
    table = pyarrow.table({"a": np.arange(1000), "b": [f"row {i}" for i in range(1000)]})
    with files.open(f"{folder}/arrow.parquet", "wb") as file:
        pyarrow.parquet.write_table(table, file)
    table.to_pandas().to_parquet(f"{folder}/pandas.parquet")
    connection = duckdb.connect()
    connection.register_filesystem(files)
    connection.register("rows", table)
    connection.execute(f"copy (from rows) to '{folder}/duck.parquet' (format parquet)")
    arrow_files = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(files))
    for name in ("arrow", "pandas", "duck"):
        url = f"{folder}/{name}.parquet"
        assert pandas.read_parquet(url).equals(table.to_pandas())
        path = files._strip_protocol(url)
        found = pyarrow.dataset.dataset(path, filesystem=arrow_files).to_table()
        assert found.sort_by("a").to_pydict() == table.to_pydict()
        count, total = connection.sql(f"select count(*), sum(a) from '{url}'").fetchall()[0]
        assert (count, total) == (1000, 499_500)
    count = connection.sql(f"select count(*) from '{folder}/*.parquet'").fetchall()[0][0]
    assert count == 3000


def test_one_handle_many_threads(files: FirepondFileSystem, folder: str) -> None:
    """Goal: reads of one handle do not take each other's place, as DuckDB 2 needs it.

    Method: eight threads seek and read one handle while the interpreter switches as often as it
    can; the same through DuckDB. Oracle: every read has the bytes of its place.
    """
    numbers = np.arange(1 << 17, dtype="<u4")
    files.pipe_file(f"{folder}/numbers", numbers.tobytes())
    table = pyarrow.table({"n": numbers, "m": numbers % 7})
    with files.open(f"{folder}/numbers.parquet", "wb") as file:
        pyarrow.parquet.write_table(table, file, row_group_size=4096)
    wrong: list[int] = []

    def work(seed: int, handle: Any) -> None:
        places = np.random.default_rng(seed).integers(0, len(numbers) - 64, 400)
        for place in places.tolist():
            handle.seek(place * 4)
            if handle.read(256) != numbers[place : place + 64].tobytes():
                wrong.append(place)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with files.open(f"{folder}/numbers", "rb") as handle:
            threads = [threading.Thread(target=work, args=(seed, handle)) for seed in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        connection = duckdb.connect()
        connection.register_filesystem(files)
        for _ in range(10):
            query = f"select count(*), sum(n), sum(m) from '{folder}/numbers.parquet'"
            found = connection.sql(query).fetchall()[0]
            assert found == (len(numbers), int(numbers.sum(dtype="u8")), int((numbers % 7).sum()))
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_a_closed_file_system_connects_again(cluster: TestCluster) -> None:
    """Goal: an instance that fsspec keeps need not keep its connection. Oracle: no thread that
    follows routing is left after `close`; the next use works."""

    def followers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if "routing" in thread.name}

    address = cluster.address.removeprefix("firepond://")
    close_file_systems()
    before = followers()
    files = FirepondFileSystem(address=address, skip_instance_cache=True)
    assert files.exists("/")
    begun = followers() - before
    assert begun
    files.close()
    wait_until(lambda: not begun & followers(), 20, "routing is followed no more")
    assert files.exists("/")
    files.close()
