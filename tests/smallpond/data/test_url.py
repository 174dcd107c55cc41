"""Data behind URLs gives the same rows as data in a directory."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.common import DataNotFound, InvalidArgument, SmallpondError
from smallpond.io.url import is_url, local_path
from smallpond.logical.dataset import CsvDataSet, JsonDataSet, ParquetDataSet, TextDataSet
from tests.smallpond.data import fake_s3

FILES = {
    f"k={k}/x.parquet": pa.table({"i": range(k * 10, k * 10 + 10), "s": ["é"] * 10})
    for k in range(3)
}


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink, row_group_size=4)
    return sink.getvalue()


@pytest.fixture
def memory_root() -> Iterator[str]:
    """A folder of fsspec's file system in memory, with the files in it."""
    root = f"memory://{uuid.uuid4().hex}"
    files = fsspec.filesystem("memory")
    for name, table in FILES.items():
        files.pipe_file(f"{root}/{name}", parquet_bytes(table))
    yield root
    files.rm(root, recursive=True)


def rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=lambda row: row["i"])


EXPECTED = [{"i": i, "s": "é", "k": i // 10} for i in range(30)]


def test_parquet_in_memory_file_system(memory_root: str) -> None:
    """Goal: patterns, hive keys and row ranges work on a URL, with Arrow and with DuckDB.
    Method: read whole and in 4 parts both ways. Oracle: the rows that were written.
    """
    dataset = ParquetDataSet(f"{memory_root}/*/*.parquet")
    assert dataset.num_rows == 30
    assert rows(dataset.to_arrow_table()) == EXPECTED
    conn = duckdb.connect()
    assert rows(dataset.to_arrow_table(conn=conn)) == EXPECTED
    parts = dataset.partition_by_rows(4)
    assert [part.num_rows for part in parts] == [8, 8, 7, 7]
    assert rows(pa.concat_tables([part.to_arrow_table() for part in parts])) == EXPECTED
    assert rows(pa.concat_tables([p.to_arrow_table(conn=conn) for p in parts])) == EXPECTED


def test_directory_url_stands_for_its_files(memory_root: str) -> None:
    """Goal: a folder can be named. Method: name it. Oracle: the files that are in it."""
    assert len(ParquetDataSet(memory_root).resolved_paths) == len(FILES)


def test_missing_url_is_an_error(memory_root: str) -> None:
    """Goal: never 0 rows without a word. Method: patterns, files and schemes that do not exist.
    Oracle: DataNotFound that names the URL.
    """
    for url in (f"{memory_root}/no/*.parquet", f"{memory_root}/no.parquet", "nosuch://a/b.parquet"):
        with pytest.raises(DataNotFound, match=url.split("://")[0]):
            _ = ParquetDataSet(url).num_rows


def test_text_formats_behind_urls(memory_root: str) -> None:
    """Goal: DuckDB's readers reach URLs, too. Method: CSV, JSON and text. Oracle: the content."""
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{memory_root}/a.csv", b"a,b\n1,x\n")
    files.pipe_file(f"{memory_root}/a.json", b'{"a": 1}\n{"a": 2}\n')
    files.pipe_file(f"{memory_root}/a.txt", b"one\n\ntwo")
    csv = CsvDataSet(f"{memory_root}/a.csv", header=None)
    assert csv.to_arrow_table().to_pylist() == [{"a": 1, "b": "x"}]
    assert JsonDataSet(f"{memory_root}/a.json").to_arrow_table().column("a").to_pylist() == [1, 2]
    text = TextDataSet(f"{memory_root}/a.txt").to_arrow_table().column("text").to_pylist()
    assert text == ["one", "", "two"]


def test_file_url_is_a_local_path(tmp_path: Path) -> None:
    """Goal: `file://` needs no fsspec. Method: read one. Oracle: rows and resolved path."""
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"i": [1, 2]}), path)
    dataset = ParquetDataSet(f"file://{path}")
    assert dataset.resolved_paths == [str(path)]
    assert dataset.num_rows == 2


def test_s3_without_s3fs() -> None:
    """Goal: `s3://` works with the base dependencies. Method: a small S3 server; read by pattern,
    by Arrow, by DuckDB, by row ranges. Oracle: the rows that are in the objects.
    """
    objects = {f"data/{name}": parquet_bytes(table) for name, table in FILES.items()}
    with fake_s3.serve(objects) as options:
        dataset = ParquetDataSet("s3://bucket/data/*/*.parquet", storage_options=options)
        assert dataset.resolved_paths == [f"s3://bucket/data/{name}" for name in FILES]
        assert rows(dataset.to_arrow_table()) == EXPECTED
        conn = duckdb.connect()
        parts = dataset.partition_by_rows(4)
        assert rows(pa.concat_tables([p.to_arrow_table(conn=conn) for p in parts])) == EXPECTED
        missing = ParquetDataSet("s3://bucket/no/*.parquet", storage_options=options)
        with pytest.raises(SmallpondError):
            _ = missing.num_rows


def test_http_without_aiohttp() -> None:
    """Goal: `http://` works with the base dependencies, by ranges. Method: a small server; Arrow,
    DuckDB, parts. Oracle: the rows; a missing file and a pattern are errors.
    """
    name = next(iter(FILES))
    with fake_s3.serve({"x.parquet": parquet_bytes(FILES[name])}) as options:
        url = f"http://{options['endpoint_override']}/bucket"
        dataset = ParquetDataSet(f"{url}/x.parquet?version=1")
        expected = FILES[name].to_pylist()
        assert dataset.to_arrow_table().to_pylist() == expected
        conn = duckdb.connect()
        parts = dataset.partition_by_rows(3)
        assert rows(pa.concat_tables([p.to_arrow_table(conn=conn) for p in parts])) == expected
        with pytest.raises(DataNotFound):
            _ = ParquetDataSet(f"{url}/no.parquet").num_rows
        with pytest.raises(OSError, match="no listings"):
            _ = ParquetDataSet(f"{url}/*.parquet").num_rows


def test_http_retries_what_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a busy server is asked again, a refusing one is not. Method: planned answers.
    Oracle: the number of requests.
    """
    import urllib.error
    import urllib.request
    from email.message import Message

    from smallpond.io import http

    answers: list[int] = []

    def planned(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        code = answers.pop(0)
        if code != 200:
            raise urllib.error.HTTPError(request.full_url, code, "no", Message(), None)
        return io.BytesIO(b"data")

    monkeypatch.setattr(http, "RETRY_DELAY_S", 0)
    monkeypatch.setattr(urllib.request, "urlopen", planned)
    files = http.HttpFileSystem()
    answers[:] = [503, 429, 200]
    assert files.request("http://h/x", "GET", {}).read() == b"data"
    answers[:] = [403, 200]
    with pytest.raises(OSError, match="403"):
        files.request("http://h/x", "GET", {})
    answers[:] = [500] * http.ATTEMPTS_MAX + [200]
    with pytest.raises(OSError, match="500"):
        files.request("http://h/x", "GET", {})
    assert answers == [200]


class AddressedFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """As firepond's: the address belongs to the instance and is in no name."""

    protocol = "addressed"
    contents: ClassVar[dict[str, dict[str, bytes]]] = {}

    def __init__(self, address: str = "", **kwargs: Any) -> None:
        super().__init__(address=address, **kwargs)
        self.address = address

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.split("://")[-1].partition("/")[2] if "://" in path else path

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"address": path.split("://")[1].partition("/")[0]}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        files = self.contents[self.address]
        path = self._strip_protocol(path).rstrip("/")
        below = [name for name in files if name == path or name.startswith(f"{path}/")]
        rows = [{"name": n, "size": len(files[n]), "type": "file"} for n in below]
        if not rows:
            raise FileNotFoundError(path)
        return rows if detail else below

    def modified(self, path: str) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        return io.BytesIO(self.contents[self.address][self._strip_protocol(path)])


def test_address_in_the_url() -> None:
    """Goal: `scheme://address/path` reaches that address and keeps it in the names; two addresses
    are never mixed up. Method: two servers with files of the same name. Oracle: their rows.
    """
    fsspec.register_implementation("addressed", AddressedFileSystem, clobber=True)
    tables = {"h1:7": FILES["k=1/x.parquet"], "h2:7": FILES["k=2/x.parquet"]}
    AddressedFileSystem.contents = {
        address: {"/d/x.parquet": parquet_bytes(table)} for address, table in tables.items()
    }
    conns = {address: duckdb.connect() for address in tables}
    for address, table in tables.items():
        dataset = ParquetDataSet(f"addressed://{address}/d/*.parquet")
        assert dataset.resolved_paths == [f"addressed://{address}/d/x.parquet"]
        assert dataset.to_arrow_table().to_pylist() == table.to_pylist()
        assert dataset.to_arrow_table(conn=conns[address]).to_pylist() == table.to_pylist()
    with pytest.raises(InvalidArgument, match="two addressed file systems"):
        dataset.to_arrow_table(conn=conns["h1:7"])


def test_what_is_a_url() -> None:
    """Goal: paths are not taken for URLs. Method: both kinds. Oracle: what each is."""
    for url in ("s3://b/k", "firepond://cluster/x", "memory://a", "simplecache::s3://b/k"):
        assert is_url(url)
    for path in ("/a/b", "a/b", "a:b", "c:/x", "./x://y", "/data/s3://x"):
        assert not is_url(path)
    assert local_path("file:///a/b") == "/a/b"
