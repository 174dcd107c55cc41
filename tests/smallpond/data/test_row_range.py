"""Row ranges and their reader: every cut gives the rows back, and decodes few others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from smallpond.common import ColumnNotFound, CorruptFile
from smallpond.io.arrow import (
    RowRange,
    build_batch_reader_from_files,
    cast_columns_to_large_string,
    convert_type_to_large,
    dump_to_parquet_files,
    filter_schema,
    load_from_parquet_files,
)
from smallpond.io.arrow.reader import rechunked

ROWS = 1000
GROUP_ROWS = 64


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of 1000 rows in 16 row groups."""
    path = str(tmp_path_factory.mktemp("ranges") / "x.parquet")
    table = pa.table({"i": range(ROWS), "s": [f"row {i}" for i in range(ROWS)]})
    parquet.write_table(table, path, row_group_size=GROUP_ROWS)
    return path


def make_range(path: str, begin: int, end: int) -> RowRange:
    return RowRange(path, 10 * ROWS, ROWS, begin, end)


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 40))
def test_partition_by_rows(lengths: list[int], count: int) -> None:
    """Goal: parts are even, complete, in order; the given ranges stay as they are.
    Method: ranges of any lengths, any count. Oracle: the rows listed one by one.
    """
    ranges = [RowRange(f"f{i}", 1, 100, 7, 7 + length) for i, length in enumerate(lengths)]
    before = copy.deepcopy(ranges)
    parts = RowRange.partition_by_rows(ranges, count)
    assert ranges == before

    def listed(some: list[RowRange]) -> list[tuple[str, int]]:
        return [(one.path, row) for one in some for row in range(one.begin, one.end)]

    assert listed([one for part in parts for one in part]) == listed(ranges)
    sizes = [len(listed(part)) for part in parts]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


def test_take() -> None:
    """Goal: cutting a head off. Oracle: by hand, with more than there is."""
    one = RowRange("f", 1000, 100, 10, 30)
    head = one.take(5)
    assert (head.begin, head.end, one.begin, one.end) == (10, 15, 15, 30)
    assert head.estimated_data_size == 50
    rest = one.take(100)
    assert (rest.num_rows, one.num_rows) == (15, 0)
    assert RowRange("f", 5, 0, 0, 0).estimated_data_size == 0


@settings(max_examples=60, deadline=None)
@given(begin=st.integers(0, ROWS), length=st.integers(0, ROWS), batch=st.integers(1, 700))
def test_a_range_is_a_slice(file: str, begin: int, length: int, batch: int) -> None:
    """Goal: a range reads exactly its rows, whole or streamed. Method: any range, any batch size.
    Oracle: the slice of the whole table; every batch but the last is full.
    """
    end = min(ROWS, begin + length)
    one = make_range(file, begin, end)
    assert load_from_parquet_files([one]).column("i").to_pylist() == list(range(begin, end))
    batches = list(build_batch_reader_from_files([one], batch_size=batch))
    streamed = [value for part in batches for value in part.column("i").to_pylist()]
    assert streamed == list(range(begin, end))
    assert all(part.num_rows == batch for part in batches[:-1])


def test_a_range_decodes_only_its_row_groups(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: the last slice of a file costs no more than the first (0.15 decoded from row 0).
    Method: record the row groups that are decoded for each tenth. Oracle: rows decoded.
    """
    decoded: list[int] = []

    def recording(name: str, position: int) -> Any:
        original = getattr(parquet.ParquetFile, name)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            groups = args[position] if len(args) > position else kwargs["row_groups"]
            decoded.append(sum(self.metadata.row_group(g).num_rows for g in groups))
            return original(self, *args, **kwargs)

        return method

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", recording("iter_batches", 1))
    monkeypatch.setattr(parquet.ParquetFile, "read_row_groups", recording("read_row_groups", 0))
    for tenth in range(10):
        one = make_range(file, tenth * 100, tenth * 100 + 100)
        decoded.clear()
        assert load_from_parquet_files([one]).num_rows == 100
        assert sum(decoded) <= 100 + 2 * GROUP_ROWS
        decoded.clear()
        assert build_batch_reader_from_files([one]).read_all().num_rows == 100
        assert sum(decoded) <= 100 + 2 * GROUP_ROWS


def test_a_file_that_changed_since_planning_is_found(file: str) -> None:
    """Goal: rows are not lost. Method: a range made for another file. Oracle: the error."""
    one = RowRange(file, 1, ROWS + 1, 0, 10)
    with pytest.raises(CorruptFile, match="when the work was planned"):
        load_from_parquet_files([one])


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 50), st.integers(1, 400))
def test_rechunked(lengths: list[int], size: int, bytes_max: int) -> None:
    """Goal: full batches across borders, bounded bytes. Oracle: rows in order, sizes."""
    batches, row = [], 0
    for length in lengths:
        batches.append(pa.record_batch({"i": pa.array(range(row, row + length), pa.int64())}))
        row += length
    full = list(rechunked(batches, size))
    assert [v for b in full for v in b.column(0).to_pylist()] == list(range(row))
    assert all(b.num_rows == size for b in full[:-1])
    bounded = list(rechunked(batches, size, bytes_max))
    assert [v for b in bounded for v in b.column(0).to_pylist()] == list(range(row))
    largest = max((8 * length for length in lengths), default=0)
    assert all(b.nbytes <= max(bytes_max, largest) for b in bounded)


def test_columns(file: str) -> None:
    """Goal: columns in the order asked for; one that is missing is an error that names it.
    Oracle: names; the error is an AssertionError as in 0.15.
    """
    assert load_from_parquet_files([file], ["s", "i"]).column_names == ["s", "i"]
    with pytest.raises(ColumnNotFound, match="nope"):
        load_from_parquet_files([file], ["i", "nope"])
    with pytest.raises(AssertionError):
        build_batch_reader_from_files([file], columns=["nope"])


def test_wide_types_at_every_depth() -> None:
    """Goal: no 32-bit offsets are left. Oracle: the types, by hand."""
    kinds = {
        pa.string(): pa.large_string(),
        pa.binary(): pa.large_binary(),
        pa.int32(): pa.int32(),
        pa.list_(pa.string()): pa.list_(pa.large_string()),
        pa.large_list(pa.binary()): pa.large_list(pa.large_binary()),
        pa.struct([("a", pa.string())]): pa.struct([("a", pa.large_string())]),
        pa.map_(pa.string(), pa.binary()): pa.map_(pa.large_string(), pa.large_binary()),
    }
    for kind, wide in kinds.items():
        assert convert_type_to_large(kind) == wide
    table = pa.table({"a": [{"b": ["x"]}], "c": [1]})
    assert cast_columns_to_large_string(table).to_pylist() == table.to_pylist()
    assert filter_schema(table.schema, excluded_cols=["a"]).names == ["c"]


def test_dump_and_load(tmp_path: Path) -> None:
    """Goal: tables come back with rows, order, schema metadata; empty ones keep their schema.
    Method: write in several files. Oracle: equality.
    """
    table = pa.table({"i": range(5000), "s": [str(i) for i in range(5000)]})
    table = cast_columns_to_large_string(table).replace_schema_metadata({"a": "1"})
    assert dump_to_parquet_files(table, str(tmp_path), "t", row_group_size=500, max_workers=4)
    files = [str(tmp_path / f"t-{i}.parquet") for i in range(4)]
    loaded = load_from_parquet_files(files)
    assert loaded.equals(table)
    assert loaded.schema.metadata == {b"a": b"1"}
    assert dump_to_parquet_files(table.slice(0, 0), str(tmp_path), "empty")
    empty = load_from_parquet_files([str(tmp_path / "empty-0.parquet")])
    assert empty.schema == table.schema and empty.num_rows == 0
