"""Hive partitions as columns, pruning, and the partitions that earlier jobs wrote."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.common import InvalidArgument, SmallpondError
from smallpond.logical.dataset import ParquetDataSet
from smallpond.logical.dataset.hive import NULL_VALUE, HivePartitions


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 rows that DuckDB wrote by k (0, 1, 2), day (two) and name (with a slash, or null)."""
    folder = tmp_path_factory.mktemp("hive") / "t"
    duckdb.connect().execute(
        "copy (select range i, range % 3 k, date '2024-01-01' + (range % 2)::int as day, "
        f"if(range % 5 = 0, null, 'a/b') as name from range(1000)) to '{folder}' "
        "(format parquet, partition_by (k, day, name))"
    )
    # DuckDB before 2.0 has a mark of its own for null.
    for path in list(folder.rglob("name=NULL")):
        path.rename(path.with_name(f"name={NULL_VALUE}"))
    return folder


def expected_rows() -> list[dict[str, object]]:
    days = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]
    return [
        {"i": i, "k": i % 3, "day": days[i % 2], "name": None if i % 5 == 0 else "a/b"}
        for i in range(1000)
    ]


def test_keys_are_columns(root: Path) -> None:
    """Goal: values from paths, unescaped, typed, NULL as NULL; whole, split and streamed.
    Method: a table that DuckDB partitioned. Oracle: the rows it was made of.
    """
    dataset = ParquetDataSet(f"{root}/**/*.parquet", recursive=True)
    assert dataset.hive.types == {"k": "BIGINT", "day": "DATE", "name": "VARCHAR"}
    schema = dataset.arrow_schema
    assert schema is not None and schema.names == ["i", "k", "day", "name"]
    conn = duckdb.connect()
    for table in (
        dataset.to_arrow_table(),
        dataset.to_arrow_table(conn=conn),
        dataset.to_batch_reader(77).read_all(),
        pa.concat_tables([part.to_arrow_table() for part in dataset.partition_by_rows(7)]),
        pa.concat_tables([p.to_arrow_table(conn=conn) for p in dataset.partition_by_rows(7)]),
        pa.concat_tables([p.to_arrow_table(conn=conn) for p in dataset.partition_by_files(3)]),
    ):
        assert table.sort_by("i").to_pylist() == expected_rows()


def test_numbers_that_are_missing(tmp_path: Path) -> None:
    """Goal: NULL in a column of numbers, as Hive and as old DuckDB write it. Oracle: by hand."""
    for name in (NULL_VALUE, "NULL", "3"):
        (tmp_path / f"k={name}").mkdir()
        parquet.write_table(pa.table({"i": [len(name)]}), tmp_path / f"k={name}" / "x.parquet")
    dataset = ParquetDataSet(str(tmp_path))
    expected = {(len(NULL_VALUE), None), (4, None), (1, 3)}
    for table in (dataset.to_arrow_table(), dataset.to_arrow_table(conn=duckdb.connect())):
        assert {(row["i"], row["k"]) for row in table.to_pylist()} == expected


def test_pruning(root: Path) -> None:
    """Goal: only the files that can matter are left. Oracle: rows; a filter on all of them."""
    dataset = ParquetDataSet(str(root))
    kept = dataset.prune("k = 1 and day > '2024-01-01' and name is null")
    expected = [
        row["i"]
        for row in expected_rows()
        if row["k"] == 1 and row["day"] == datetime.date(2024, 1, 2) and row["name"] is None
    ]
    assert sorted(kept.to_arrow_table().column("i").to_pylist()) == expected
    assert kept.num_files == 1
    assert kept.hive == dataset.hive
    halves = dataset.partition_by_rows(2)
    assert sum(half.prune("k = 1").num_rows for half in halves) == 333
    assert dataset.prune("k = 17").empty
    with pytest.raises(SmallpondError, match="cannot prune by"):
        dataset.prune("i = 3")


def test_duckdb_prunes_by_filter(root: Path) -> None:
    """Goal: a filter in the query reads only its partitions. Oracle: DuckDB's own plan."""
    dataset = ParquetDataSet(str(root))
    conn = duckdb.connect()
    plan = conn.execute(
        f"explain analyze select sum(i) from {dataset.sql_query_fragment(None, conn)} where k = 1"
    ).fetchall()[0][1]
    kept = sum("/k=1/" in path for path in dataset.resolved_paths)
    assert f"{kept}/{dataset.num_files}" in plan.replace(" ", "")


def test_when_there_are_no_partitions(tmp_path: Path) -> None:
    """Goal: mixed paths are not partitioned unless asked for, and then it is an error.
    Oracle: columns; the error.
    """
    (tmp_path / "k=1").mkdir()
    for name in ("k=1/x.parquet", "y.parquet"):
        parquet.write_table(pa.table({"i": [1]}), tmp_path / name)
    assert ParquetDataSet(str(tmp_path)).to_arrow_table().column_names == ["i"]
    with pytest.raises(InvalidArgument):
        _ = ParquetDataSet(str(tmp_path), hive_partitioning=True).hive
    one = [str(tmp_path / "k=1/x.parquet")]
    assert ParquetDataSet(one).to_arrow_table().column_names == ["i", "k"]
    off = ParquetDataSet(one, hive_partitioning=False)
    assert off.to_arrow_table().column_names == ["i"]
    assert off.to_arrow_table(conn=duckdb.connect()).column_names == ["i"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20"], "BIGINT"),
        (["01", "2"], "VARCHAR"),
        (["2024-02-29"], "DATE"),
        (["2023-02-29"], "VARCHAR"),
        (["1", "x"], "VARCHAR"),
        (["__HIVE_DEFAULT_PARTITION__", "3"], "BIGINT"),
        (["NULL", "3"], "BIGINT"),
        (["NULL", "x"], "VARCHAR"),
        (["__HIVE_DEFAULT_PARTITION__"], "VARCHAR"),
        (["12345678901234567890"], "VARCHAR"),
    ],
)
def test_types(values: list[str], kind: str) -> None:
    """Goal: a type only if every value reads back the same. Oracle: by hand."""
    found = HivePartitions.detect([f"/t/k={value}/x.parquet" for value in values], None)
    assert found.types == {"k": kind}


def write_partition(path: Path, rows: int, metadata: dict[str, str], **columns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"i": list(range(rows))} | {n: [v] * rows for n, v in columns.items()})
    parquet.write_table(table.replace_schema_metadata(metadata), path)


def test_partitions_of_an_earlier_job(tmp_path: Path) -> None:
    """Goal: found by metadata, by path, by column; empty ones exist; their indices are right.
    Method: each layout. Oracle: rows by partition.
    """
    for key in (0, 2):
        write_partition(tmp_path / f"meta/{key}.parquet", key + 1, {"SMALLPOND:p": str(key)})
        write_partition(tmp_path / f"hive/p={key}/x.parquet", key + 1, {})
        write_partition(tmp_path / f"column/{key}.parquet", key + 1, {}, p=key)
    for layout, hive in (("meta", False), ("hive", True), ("column", False)):
        dataset = ParquetDataSet(str(tmp_path / layout))
        parts = dataset.load_partitioned_datasets(3, "p", hive)
        assert [part.num_rows for part in parts] == [1, 0, 3], layout
        assert [part.num_files for part in parts] == [1, 0, 1]


@pytest.mark.parametrize("layout", ["meta", "hive", "column"])
def test_partition_index_out_of_range(tmp_path: Path, layout: str) -> None:
    """Goal: index n of n partitions is refused (0.15 let it in and failed with an IndexError).
    Oracle: the error names the file, the index and the range.
    """
    write_partition(tmp_path / "meta/x.parquet", 1, {"SMALLPOND:p": "3"})
    write_partition(tmp_path / "hive/p=3/x.parquet", 1, {})
    write_partition(tmp_path / "column/x.parquet", 1, {}, p=3)
    dataset = ParquetDataSet(str(tmp_path / layout))
    with pytest.raises(InvalidArgument, match=r"x\.parquet' is of partition 3 .*0 to 2"):
        dataset.load_partitioned_datasets(3, "p", layout == "hive")
    assert len(dataset.load_partitioned_datasets(4, "p", layout == "hive")) == 4


def test_files_that_are_in_no_single_partition(tmp_path: Path) -> None:
    """Goal: mixed files and files without a key are errors, not guesses. Oracle: the messages."""
    parquet.write_table(pa.table({"p": [0, 1]}), tmp_path / "x.parquet")
    dataset = ParquetDataSet(str(tmp_path))
    with pytest.raises(InvalidArgument, match="several partitions"):
        dataset.load_partitioned_datasets(2, "p")
    with pytest.raises(InvalidArgument, match="neither the metadata"):
        dataset.load_partitioned_datasets(2, "q")
    with pytest.raises(InvalidArgument, match="directory"):
        dataset.load_partitioned_datasets(2, "p", hive_partitioning=True)
