"""Data sets in memory, unions, file sets, queries."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.logical.dataset import (
    ArrowFileDataSet,
    ArrowTableDataSet,
    CsvDataSet,
    DataSet,
    FileSet,
    PandasDataSet,
    ParquetDataSet,
    SqlQueryDataSet,
    UnionDataSet,
)

BIG = (1 << 53) + 1


def test_pandas_integers_stay_integers() -> None:
    """Goal: 64-bit integers survive (0.15 crashed above 2**31). Method: through Arrow and SQL, and
    through a pickle. Oracle: exact values and types.
    """
    frame = pd.DataFrame({"a": [BIG, -BIG, 0], "s": ["x", None, "é"]}, index=[7, 8, 9])
    for dataset in (PandasDataSet(frame), pickle.loads(pickle.dumps(PandasDataSet(frame)))):
        table = dataset.to_arrow_table()
        assert table.schema.field("a").type == pa.int64()
        assert table.column_names == ["a", "s"]
        conn = duckdb.connect()
        query = f"select a, typeof(a), s from {dataset.sql_query_fragment(None, conn)}"
        assert conn.execute(query).fetchall() == [
            (BIG, "BIGINT", "x"),
            (-BIG, "BIGINT", None),
            (0, "BIGINT", "é"),
        ]
        pd.testing.assert_frame_equal(dataset.to_pandas(), frame)
        assert dataset.num_rows == 3


def test_pandas_into_sql_is_not_row_by_row() -> None:
    """Goal: a million rows enter a query in no time (0.15 took 45 s for 20 000).
    Method: sum a column. Oracle: the sum; a bound that row-wise inserts miss by far.
    """
    frame = pd.DataFrame({"a": range(1_000_000)})
    conn = duckdb.connect()
    start = time.perf_counter()
    dataset = PandasDataSet(frame)
    query = f"select sum(a) from {dataset.sql_query_fragment(None, conn)}"
    assert conn.execute(query).fetchall()[0][0] == 499_999_500_000
    assert time.perf_counter() - start < 5


def test_slices_pickle_only_themselves() -> None:
    """Goal: a partition of a table in memory does not carry the table. Oracle: bytes; rows."""
    table = pa.table({"a": range(200_000), "s": ["text"] * 200_000})
    parts = ArrowTableDataSet(table).partition_by_rows(100)
    whole = len(pickle.dumps(ArrowTableDataSet(table)))
    assert len(pickle.dumps(parts[3])) < whole / 50
    again = [pickle.loads(pickle.dumps(part)).to_arrow_table() for part in parts]
    assert pa.concat_tables(again).equals(table)


@pytest.mark.parametrize("count", [1, 3, 10, 50])
def test_splitting_memory(count: int) -> None:
    """Goal: from_pandas and from_arrow can be repartitioned (0.15 could not), by files or rows.
    Oracle: even sizes; the rows in order.
    """
    frame = pd.DataFrame({"a": range(17)})
    for dataset in (PandasDataSet(frame), ArrowTableDataSet(pa.Table.from_pandas(frame))):
        for method in (dataset.partition_by_files, dataset.partition_by_rows):
            parts = method(count)
            sizes = [part.num_rows for part in parts]
            assert len(sizes) == count and max(sizes) - min(sizes) <= 1
            rows = pa.concat_tables([part.to_arrow_table() for part in parts])
            assert rows.column("a").to_pylist() == list(range(17))


def test_merging(tmp_path: Path) -> None:
    """Goal: one kind stays that kind; mixed kinds become a union by name. Oracle: rows."""
    tables = [ArrowTableDataSet(pa.table({"a": [n], "b": ["x"]})) for n in range(3)]
    merged = DataSet.merge(tables)
    assert type(merged) is ArrowTableDataSet
    assert merged.to_arrow_table().column("a").to_pylist() == [0, 1, 2]
    parquet.write_table(pa.table({"b": ["y"], "a": [7]}), tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("8,z\n")
    csv = CsvDataSet([str(tmp_path / "x.csv")], {"a": "BIGINT", "b": "VARCHAR"})
    mixed = DataSet.merge([*tables, ParquetDataSet([str(tmp_path / "x.parquet")]), csv])
    assert type(mixed) is UnionDataSet
    expected = [(0, "x"), (1, "x"), (2, "x"), (7, "y"), (8, "z")]
    rows = mixed.to_arrow_table().to_pylist()
    assert sorted((row["a"], row["b"]) for row in rows) == expected
    assert mixed.num_rows == 5
    parts = mixed.partition_by_files(2)
    rows = [row for part in parts for row in part.to_arrow_table().to_pylist()]
    assert sorted((row["a"], row["b"]) for row in rows) == expected
    same = DataSet.merge([ParquetDataSet([]), csv])
    assert type(same) is CsvDataSet and same.num_rows == 1


def test_file_set(tmp_path: Path) -> None:
    """Goal: files of any kind, none included; as a table they are paths. Oracle: the folder."""
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "b.txt").write_bytes(b"2")
    expected = [str(tmp_path / "a.bin"), str(tmp_path / "b.txt")]
    files = FileSet(["*"], str(tmp_path))
    assert files.resolved_paths == files.to_arrow_table().column(0).to_pylist() == expected
    conn = duckdb.connect()
    query = f"select * from {files.sql_query_fragment()}"
    assert [row[0] for row in conn.execute(query).fetchall()] == expected
    assert FileSet(["*.no"], str(tmp_path)).empty
    assert FileSet.merge([files, FileSet(["no*"], str(tmp_path))]).resolved_paths == expected
    assert FileSet([str(tmp_path)]).resolved_paths == [str(tmp_path)]
    assert [part.num_files for part in files.partition_by_files(3)] == [1, 1, 0]


def test_queries() -> None:
    """Goal: a query, given or built late, is a data set. Oracle: its rows."""
    assert SqlQueryDataSet("select range a from range(5)").num_rows == 5
    built = SqlQueryDataSet("", lambda conn, filesystem: "select 42 as a")
    assert built.to_arrow_table().to_pylist() == [{"a": 42}]
    assert not built.empty


def test_arrow_files(tmp_path: Path) -> None:
    """Goal: IPC files and streams, mapped, chosen columns, damage. Oracle: rows; the error."""
    from smallpond.common import CorruptFile

    table = pa.table({"i": range(10), "s": ["x"] * 10})
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as w,
    ):
        w.write_table(table)
    with (
        pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as w,
    ):
        w.write_table(table)
    dataset = ArrowFileDataSet(str(tmp_path / "*.arrow"))
    assert dataset.num_rows == 20
    conn = duckdb.connect()
    query = f"select sum(i), count(*) from {dataset.sql_query_fragment(None, conn)}"
    assert conn.execute(query).fetchall() == [(90, 20)]
    chosen = ArrowFileDataSet(str(tmp_path / "*.arrow"), columns=["s"])
    assert chosen.to_arrow_table().column_names == ["s"]
    (tmp_path / "c.arrow").write_bytes(b"ARROW1 or not")
    with pytest.raises(CorruptFile, match=r"c\.arrow"):
        ArrowFileDataSet(str(tmp_path / "*.arrow")).to_arrow_table()


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    """Goal: the first rows are in the log. Oracle: its text."""
    with caplog.at_level("INFO"):
        ArrowTableDataSet(pa.table({"name": ["alpha", "beta"]})).log(1)
    assert "alpha" in caplog.text and "beta" not in caplog.text
