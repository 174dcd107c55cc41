"""Footers: what they say, that they are cached, that damage is found."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.common import CorruptFile, DataNotFound
from smallpond.io.arrow import footer
from smallpond.logical.dataset import ParquetDataSet


def write(path: Path, table: pa.Table, group_rows: int = 10) -> str:
    parquet.write_table(table, path, row_group_size=group_rows)
    return str(path)


def test_contents(tmp_path: Path) -> None:
    """Goal: rows, groups, bytes, schema, bounds, nulls. Oracle: what was written."""
    table = pa.table({"i": [*range(24), None], "s": [f"{i:03}" for i in range(25)]})
    table = table.replace_schema_metadata({"SMALLPOND:part": "3", "other": "x"})
    path = write(tmp_path / "x.parquet", table)
    found = footer.read_footer(path)
    assert (found.num_rows, found.row_group_rows) == (25, (10, 10, 5))
    assert found.file_bytes == os.path.getsize(path)
    assert found.schema == table.schema.remove_metadata()
    assert found.key_value_metadata == {"SMALLPOND:part": "3"}
    columns = footer.read_column_statistics(path)
    assert (columns["i"].minimum, columns["i"].maximum, columns["i"].null_count) == (0, 23, 1)
    assert (columns["s"].minimum, columns["s"].maximum) == ("000", "024")
    assert sum(column.data_bytes for column in columns.values()) == found.data_bytes


def test_cache_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a footer is read once, and again when the file was replaced.
    Method: count reads. Oracle: the count and the number of rows.
    """
    reads = []
    original = footer._metadata

    def counted(path: str, filesystem: object) -> object:
        reads.append(path)
        return original(path, filesystem)

    monkeypatch.setattr(footer, "_metadata", counted)
    path = write(tmp_path / "x.parquet", pa.table({"i": range(5)}))
    assert [footer.read_footer(path).num_rows for _ in range(3)] == [5, 5, 5]
    assert len(reads) == 1
    write(tmp_path / "x.parquet", pa.table({"i": range(7)}))
    assert footer.read_footer(path).num_rows == 7
    assert len(reads) == 2


def test_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a million files do not fill the memory. Method: a small bound. Oracle: its size."""
    monkeypatch.setattr(footer, "CACHED_FOOTERS_MAX", 3)
    footer.clear_footer_cache()
    for index in range(8):
        footer.read_footer(write(tmp_path / f"{index}.parquet", pa.table({"i": [1]})))
    assert len(footer._cache._entries) == 3


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three files of 10 rows; `bad` has lost its end."""
    for name in ("a", "bad", "c"):
        write(tmp_path / f"{name}.parquet", pa.table({"i": range(10)}))
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(bad.read_bytes()[:-20])
    return tmp_path


def test_damaged_files_fail(files: Path) -> None:
    """Goal: damage is an error, with the path and the way out. Oracle: the message."""
    dataset = ParquetDataSet(str(files / "*.parquet"))
    with pytest.raises(CorruptFile, match=r"bad\.parquet.*ignore_corrupt_files"):
        _ = dataset.num_rows
    assert list(dataset.verify()) == [str(files / "bad.parquet")]


def test_damaged_files_are_skipped_when_asked(files: Path) -> None:
    """Goal: skipping is complete and reported. Method: rows by footers, Arrow and DuckDB, whole
    and split. Oracle: the rows of the good files; the report.
    """
    import duckdb

    dataset = ParquetDataSet(str(files / "*.parquet"), ignore_corrupt_files=True)
    conn = duckdb.connect()
    assert dataset.to_arrow_table(conn=conn).num_rows == 20
    assert dataset.num_rows == dataset.to_arrow_table().num_rows == 20
    assert list(dataset.skipped_files) == [str(files / "bad.parquet")]
    assert dataset.num_files == 2
    parts = ParquetDataSet(str(files / "*.parquet"), ignore_corrupt_files=True).partition_by_files(
        3
    )
    assert sum(part.to_arrow_table().num_rows for part in parts if not part.empty) == 20
    assert list(dataset.verify()) == [str(files / "bad.parquet")]


def test_damage_in_the_middle_is_found_by_looking(files: Path) -> None:
    """Goal: `verify(deep=True)` sees what footers cannot tell. Method: overwrite the pages.
    Oracle: nothing by footers, the file by looking; reading it fails.
    """
    path = files / "a.parquet"
    (files / "bad.parquet").unlink()
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(bytes(data))
    dataset = ParquetDataSet(str(files / "*.parquet"))
    assert dataset.verify() == {}
    assert list(dataset.verify(deep=True)) == [str(path)]
    with pytest.raises(CorruptFile, match=r"a\.parquet"):
        dataset.to_arrow_table()
    assert list(dataset.leave_out_damaged_files()) == [str(path)]
    assert dataset.to_arrow_table().num_rows == dataset.num_rows == 10
    assert list(dataset.skipped_files) == [str(path)]


def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    """Goal: what DuckDB refuses to read is found, though Arrow reads it. Oracle: the file."""
    text = pa.array([b"\xff\xfe"]).view(pa.string())
    # Arrow has no such time, but DuckDB has.
    time = pa.array([86_400_000_000]).view(pa.time64("us"))
    sound = write(tmp_path / "sound.parquet", pa.table({"t": time}))
    assert ParquetDataSet(sound).verify(deep=True) == {}
    path = write(tmp_path / "x.parquet", pa.table({"s": text}))
    dataset = ParquetDataSet(path, ignore_corrupt_files=True)
    assert list(dataset.leave_out_damaged_files()) == [path]
    assert dataset.leave_out_damaged_files() == {}, "it is left out already"


def test_missing_file(tmp_path: Path) -> None:
    """Goal: a missing file is no damaged one. Oracle: the kind of error."""
    with pytest.raises(DataNotFound):
        footer.read_footer(str(tmp_path / "no.parquet"))


def test_statistics_of_a_data_set(tmp_path: Path) -> None:
    """Goal: sums over files and parts of files. Oracle: by hand, for two files and a half."""
    for index in range(2):
        table = pa.table({"i": range(index * 100, index * 100 + 100)})
        write(tmp_path / f"{index}.parquet", table, 50)
    dataset = ParquetDataSet(str(tmp_path / "*.parquet"))
    found = dataset.statistics()
    assert (found.num_files, found.num_rows) == (2, 200)
    assert (found.columns["i"].minimum, found.columns["i"].maximum) == (0, 199)
    assert found.file_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    half = dataset.partition_by_rows(4)[0].statistics()
    assert (half.num_files, half.num_rows) == (1, 50)
    assert (half.columns["i"].minimum, half.columns["i"].maximum) == (0, 99)
    assert abs(half.columns["i"].data_bytes * 4 - found.columns["i"].data_bytes) <= 4


@pytest.mark.parametrize("place", ["footer", "file", "pages"])
@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("no answer"),
        ConnectionError("reset"),
        OSError(errno.EIO, "the disk fails"),
        pa.ArrowMemoryError("malloc failed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_around_files_are_no_damage(
    files: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    """Goal: no sound file is left out, or called damaged, for what is around it. Method: each error
    where a footer or a file is opened or pages are read. Oracle: that error; nothing is left out.
    """

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    (files / "bad.parquet").unlink()
    dataset = ParquetDataSet(str(files / "*.parquet"), ignore_corrupt_files=True)
    if place == "footer":
        footer.clear_footer_cache()
        monkeypatch.setattr(parquet, "read_metadata", fail)
    else:
        assert dataset.num_rows == 20
        owner = parquet if place == "file" else parquet.ParquetFile
        monkeypatch.setattr(owner, "ParquetFile" if place == "file" else "iter_batches", fail)
    for read in (dataset.leave_out_damaged_files, lambda: dataset.to_batch_reader().read_all()):
        with pytest.raises(type(error)) as caught:
            read()
        assert type(caught.value) is type(error)
    assert dataset.skipped_files == {}


def test_a_file_that_vanished_is_no_damage(files: Path) -> None:
    """Goal: what is gone is missed, not left out. Oracle: the kind of error, before and after."""
    (files / "bad.parquet").unlink()
    dataset = ParquetDataSet(str(files / "*.parquet"), ignore_corrupt_files=True)
    assert dataset.num_rows == 20
    (files / "c.parquet").unlink()
    for read in (dataset.leave_out_damaged_files, dataset.to_arrow_table):
        with pytest.raises(DataNotFound, match=r"c\.parquet"):
            read()
    assert dataset.skipped_files == {}


def test_only_columns_that_are_read_are_checked(tmp_path: Path) -> None:
    """Goal: damage that nobody reads is none. Oracle: the file, where the column is read."""
    table = pa.table({"i": range(1000), "s": [f"{row * 7919}" for row in range(1000)]})
    path = tmp_path / "x.parquet"
    parquet.write_table(table, path, use_dictionary=False)
    begin = parquet.read_metadata(path).row_group(0).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[begin : begin + 60] = b"\xff" * 60
    path.write_bytes(bytes(data))
    for columns, damaged in ((["i"], False), (["I"], False), (["i", "s"], True), (None, True)):
        found = ParquetDataSet(str(path), columns=columns).verify(deep=True)
        assert list(found) == [str(path)] * damaged
    assert ParquetDataSet(str(path), columns=["i"]).to_arrow_table().num_rows == 1000
