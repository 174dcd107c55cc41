"""Parquet data sets: by Arrow and by DuckDB, whole and cut in any way, the rows are the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from smallpond.common import ColumnNotFound, DataNotFound, InvalidArgument, SmallpondError
from smallpond.io.arrow import RowRange
from smallpond.logical.dataset import DataSet, ParquetDataSet, PartitionedDataSet

FILE_ROWS = (0, 1, 700, 250, 1000)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of different lengths, one of them empty; row numbers run through."""
    folder = tmp_path_factory.mktemp("parquet")
    row = 0
    for index, rows in enumerate(FILE_ROWS):
        table = pa.table(
            {
                "i": pa.array(range(row, row + rows), pa.int64()),
                "s": pa.array([f"s{n}" for n in range(row, row + rows)], pa.string()),
            }
        )
        parquet.write_table(table, folder / f"{index}.parquet", row_group_size=300)
        row += rows
    return folder


def numbers(table: pa.Table) -> list[int]:
    return sorted(table.column("i").to_pylist())


READERS: dict[str, Callable[[DataSet], pa.Table]] = {
    "arrow": lambda dataset: dataset.to_arrow_table(),
    "arrow stream": lambda dataset: dataset.to_batch_reader(123).read_all(),
    "duckdb": lambda dataset: dataset.to_arrow_table(conn=duckdb.connect()),
    "duckdb stream": lambda dataset: dataset.to_batch_reader(123, conn=duckdb.connect()).read_all(),
    "sql": lambda dataset: pa.table(
        {
            "i": [
                row[0]
                for row in duckdb.connect()
                .execute(f"select i from {dataset.sql_query_fragment()}")
                .fetchall()
            ]
        }
    ),
}


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(1, 12),
    method=st.sampled_from(["partition_by_rows", "partition_by_files"]),
    shuffle=st.booleans(),
    again=st.integers(1, 3),
    reader=st.sampled_from(sorted(READERS)),
)
def test_partitions_hold_every_row_once(
    root: Path, count: int, method: str, shuffle: bool, again: int, reader: str
) -> None:
    """Goal: no cut loses or doubles a row, nor does a cut of a cut, nor merging them back.
    Method: any cut, any reader. Oracle: the numbers of all rows.
    """
    expected = list(range(sum(FILE_ROWS)))
    dataset = ParquetDataSet([str(root / "*.parquet")])
    parts = getattr(dataset, method)(count, shuffle)
    assert parts is getattr(dataset, method)(count, shuffle)
    smaller = [piece for part in parts for piece in part.partition_by_rows(again)]
    assert sum(piece.num_rows for piece in smaller) == len(expected)
    read = [READERS[reader](piece) for piece in smaller if not piece.empty]
    assert sorted(n for table in read for n in numbers(table)) == expected
    assert numbers(READERS[reader](ParquetDataSet.merge(smaller))) == expected
    if method == "partition_by_rows":
        sizes = [part.num_rows for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_partition_by_size(root: Path) -> None:
    """Goal: no part is much larger than asked. Oracle: estimates; all rows are there."""
    dataset = ParquetDataSet([str(root / "*.parquet")])
    limit = dataset.estimated_data_size // 5
    parts = dataset.partition_by_size(limit)
    assert all(part.estimated_data_size <= limit * 1.3 for part in parts)
    assert sum(part.num_rows for part in parts) == sum(FILE_ROWS)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_generated_columns_and_order(root: Path, reader: str) -> None:
    """Goal: Arrow and DuckDB hand out the same columns in the same order.
    Method: the file's name and row number, for a part of a file. Oracle: by hand.
    """
    if reader == "sql":
        return
    dataset = ParquetDataSet(
        [str(root / "4.parquet")],
        columns=["s", "i"],
        generated_columns=["filename", "file_row_number"],
    )
    part = dataset.partition_by_rows(4)[1]
    table = READERS[reader](part)
    assert table.column_names == ["s", "i", "filename", "file_row_number"]
    assert table.column("file_row_number").to_pylist() == list(range(250, 500))
    assert set(table.column("filename").to_pylist()) == {str(root / "4.parquet")}


def test_files_with_different_columns(tmp_path: Path) -> None:
    """Goal: matched by name, missing ones null, types widened. Oracle: by hand, both readers."""
    parquet.write_table(
        pa.table({"a": pa.array([1], pa.int32()), "b": ["x"]}), tmp_path / "1.parquet"
    )
    parquet.write_table(
        pa.table({"c": [2.5], "a": pa.array([2], pa.int64())}), tmp_path / "2.parquet"
    )
    dataset = ParquetDataSet([str(tmp_path / "*.parquet")], union_by_name=True)
    expected = [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": 2.5}]
    assert dataset.to_arrow_table().to_pylist() == expected
    assert dataset.to_arrow_table(conn=duckdb.connect()).sort_by("a").to_pylist() == expected
    with pytest.raises(ColumnNotFound, match="nope"):
        ParquetDataSet([str(tmp_path / "*.parquet")], columns=["nope"]).to_arrow_table()


def test_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: patterns, ranges of letters, root directories, relative paths, directories, lists.
    Oracle: the files of the folder, sorted.
    """
    files = [str(root / f"{index}.parquet") for index in range(5)]
    monkeypatch.chdir(root)
    for dataset in (
        ParquetDataSet("*.parquet"),
        ParquetDataSet(["[0-4].parquet"]),
        ParquetDataSet(["*"], root_dir=str(root)),
        ParquetDataSet(str(root)),
        ParquetDataSet([f"{root}/"]),
        ParquetDataSet(list(reversed(files)), None),
        ParquetDataSet([f"{root.parent}/**/{root.name}/*.parquet"], recursive=True),
    ):
        assert dataset.resolved_paths == files
        assert not dataset.empty
    assert ParquetDataSet([]).empty
    assert ParquetDataSet([]).to_arrow_table().num_rows == 0
    assert ParquetDataSet([], columns=["a"]).to_arrow_table().column_names == ["a"]


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    """Goal: a mistyped path never gives 0 rows. Method: each way to ask. Oracle: DataNotFound
    that names the path; only `*` in a given directory, the output of a task, may be nothing.
    """
    conn = duckdb.connect()
    asks: list[Callable[[ParquetDataSet], Any]] = [
        lambda dataset: dataset.num_rows,
        lambda dataset: dataset.to_arrow_table(),
        lambda dataset: dataset.to_arrow_table(conn=conn),
        lambda dataset: dataset.sql_query_fragment(),
        lambda dataset: dataset.partition_by_rows(2),
    ]
    for path in ("no/*.parquet", "*.parquet", "no.parquet", "no[0-9].parquet"):
        for ask in asks:
            with pytest.raises(DataNotFound, match=r"no.*parquet|\*\.parquet"):
                ask(ParquetDataSet(str(tmp_path / path)))
    with pytest.raises(DataNotFound):
        _ = ParquetDataSet(str(tmp_path / "*.parquet")).empty
    with pytest.raises(DataNotFound):
        _ = ParquetDataSet(str(tmp_path)).resolved_paths
    assert ParquetDataSet(["*"], root_dir=str(tmp_path)).empty
    with pytest.raises(SmallpondError, match="columns are not known"):
        ParquetDataSet([]).sql_query_fragment()


def test_file_names_that_look_like_patterns(tmp_path: Path) -> None:
    """Goal: what a directory lists is read as it is called. Oracle: rows, by both readers."""
    for name in ("a[1].parquet", "a1.parquet", "it's.parquet"):
        parquet.write_table(pa.table({"i": [1]}), tmp_path / name)
    dataset = ParquetDataSet(str(tmp_path))
    assert dataset.to_arrow_table().num_rows == 3
    assert dataset.to_arrow_table(conn=duckdb.connect()).num_rows == 3
    parts = dataset.partition_by_files(3)
    assert [part.to_arrow_table(conn=duckdb.connect()).num_rows for part in parts] == [1, 1, 1]


def test_manifest_decides_what_a_directory_holds(root: Path, tmp_path: Path) -> None:
    """Goal: a directory of links to files elsewhere is read through its manifest. Oracle: rows."""
    (tmp_path / ".MANIFEST.txt").write_text(f"{root}/1.parquet\n{root}/2.parquet\n")
    assert ParquetDataSet(str(tmp_path)).num_rows == 701


def test_remove_empty_files(root: Path) -> None:
    """Goal: files without rows go, but one stays if all are so. Oracle: the paths."""
    dataset = ParquetDataSet([str(root / "*.parquet")])
    dataset.remove_empty_files()
    assert [Path(path).name for path in dataset.resolved_paths] == [
        f"{i}.parquet" for i in range(1, 5)
    ]
    only = ParquetDataSet([str(root / "0.parquet")])
    only.remove_empty_files()
    assert only.num_files == 1
    assert only.to_arrow_table(conn=duckdb.connect()).num_rows == 0


def test_reset_and_copies(root: Path) -> None:
    """Goal: reset forgets, copies are independent, pickles are small. Oracle: counts, sizes."""
    dataset = ParquetDataSet([str(root / "*.parquet")])
    dataset.partition_by_rows(500)
    twin = copy.copy(dataset)
    twin.reset([str(root / "1.parquet")], None)
    assert (twin.num_rows, dataset.num_rows) == (1, sum(FILE_ROWS))
    assert len(pickle.dumps(dataset)) < 4000
    assert pickle.loads(pickle.dumps(dataset)).num_rows == dataset.num_rows
    merged = DataSet.merge([dataset])
    merged.columns = ["i"]
    assert dataset.columns is None


def test_partitioned_data_set(root: Path) -> None:
    """Goal: partitions by index, all rows as a whole, merged back. Oracle: row numbers."""
    parts = ParquetDataSet([str(root / "*.parquet")]).partition_by_rows(3)
    dataset = PartitionedDataSet(parts)
    assert dataset[1] is parts[1]
    assert dataset.num_rows == sum(FILE_ROWS)
    merged = PartitionedDataSet.merge([dataset])
    assert type(merged) is ParquetDataSet
    assert numbers(merged.to_arrow_table()) == list(range(sum(FILE_ROWS)))


def test_partitions_without_files_know_their_columns(root: Path) -> None:
    """Goal: more partitions than files, and missing partitions, are readable tables of no rows.
    Oracle: the columns and their types, by each reader, merged and pickled as well.
    """
    dataset = ParquetDataSet([str(root / "1.parquet")])
    for part in (
        dataset.partition_by_files(3)[2],
        dataset.partition_by_rows(3)[2],
        pickle.loads(pickle.dumps(dataset.partition_by_rows(3)[2])),
        DataSet.merge(dataset.partition_by_rows(4)[2:]),
    ):
        assert part.empty
        assert part.to_arrow_table().schema == dataset.to_arrow_table().schema
        by_duckdb = part.to_arrow_table(conn=duckdb.connect())
        assert (by_duckdb.schema.names, by_duckdb.num_rows) == (["i", "s"], 0)
        assert by_duckdb.schema.field("i").type == pa.int64()


def test_counts_that_make_no_sense(root: Path) -> None:
    """Goal: zero partitions is an error, as in 0.15. Oracle: AssertionError and ours."""
    for error in (InvalidArgument, AssertionError):
        with pytest.raises(error):
            ParquetDataSet([str(root / "*.parquet")]).partition_by_rows(0)


def test_row_ranges_given_by_hand(root: Path) -> None:
    """Goal: several ranges of a file, adjacent or not, in any order. Oracle: row numbers."""
    path = str(root / "2.parquet")
    dataset = ParquetDataSet([path])
    size = dataset.resolved_row_ranges[0].data_size
    cuts = [(600, 700), (0, 10), (10, 30)]
    some = dataset.with_row_ranges([RowRange(path, size, 700, *cut) for cut in cuts])
    expected = [1 + n for n in (*range(30), *range(600, 700))]
    for reader in READERS.values():
        assert numbers(reader(some)) == expected
    assert some.sql_query_fragment().count("read_parquet") == 2
