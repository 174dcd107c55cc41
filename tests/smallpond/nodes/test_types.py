"""A shuffle changes no type and no value: what comes out is what DuckDB alone writes and reads."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import smallpond
from smallpond.dataframe import DataFrame
from smallpond.execution.shuffle.restore import FileRestorer
from smallpond.execution.task import ExecutionPlan
from smallpond.logical.dataset import ParquetDataSet
from smallpond.logical.node import Context, DataSourceNode, HashPartitionNode

RunPlan = Callable[..., ExecutionPlan]

# Values of each type that Parquet has, or that comes out as another type on every way.
VALUES = {
    "UUID": ["'6f1c2a52-58e5-4f7e-9d0a-3f4bb3b0a001'", "'00000000-0000-0000-0000-000000000000'"],
    "UUID[]": ["['6f1c2a52-58e5-4f7e-9d0a-3f4bb3b0a001', NULL]", "[]"],
    "STRUCT(u UUID, b BOOLEAN)": ["row('ffffffff-ffff-ffff-ffff-ffffffffffff', true)"],
    "MAP(VARCHAR, UUID)": ["MAP {'k': '6f1c2a52-58e5-4f7e-9d0a-3f4bb3b0a001'}", "MAP {}"],
    "DECIMAL(4, 1)": ["-999.9", "0", "1.5"],
    "DECIMAL(38, 10)": ["1234567890123456789012345678.0123456789", "-0.0000000001"],
    "TIMESTAMP": ["'2024-02-29 01:02:03.123456'", "'infinity'", "'1400-01-01'"],
    "TIMESTAMP_NS": ["'2024-02-29 01:02:03.123456789'", "'1700-01-01'"],
    "TIMESTAMP_MS": ["'2024-02-29 01:02:03.123'"],
    "TIMESTAMP_S": ["'2024-02-29 01:02:03'"],
    "TIMESTAMPTZ": ["'2024-02-29 01:02:03.5+02'", "'-infinity'"],
    "DATE": ["'2024-02-29'", "'0001-01-01'"],
    "TIME": ["'01:02:03.123456'", "'24:00:00'"],
    "TIMETZ": ["'01:02:03+02'", "'00:00:00-08'"],
    "INTERVAL": ["'1 month 2 days 3 seconds'", "'5 hours'"],
    "BLOB": ["'\\x00\\xFF'", "''"],
    "ENUM('a', 'b c')": ["'a'", "'b c'"],
    "BIT": ["'10101'", "'0'"],
    "HUGEINT": ["99999999999999999999999999999999999999", "-1"],
    "UHUGEINT": ["12345678901234567890123", "0"],
    "BIGINT[]": ["[1, NULL]", "[]"],
    "INTEGER[3]": ["[1, 2, 3]"],
    "JSON": ["'{\"a\": [1]}'", "'null'"],
    "DOUBLE": ["'nan'", "'-infinity'", "0.1"],
    "UBIGINT": ["18446744073709551615"],
    "VARCHAR": ["'ä \\0'", "''"],
    "BOOLEAN": ["true", "false"],
}
STORED_AS = {"HUGEINT": "DECIMAL(38, 0)", "UHUGEINT": "DECIMAL(38, 0)"}


def query_of(seed: int, rows: int = 9) -> str:
    """Rows of random values of all types, numbered."""
    generator = random.Random(seed)
    lines = []
    for number in range(rows):
        values = [
            f"{generator.choice(['NULL', *given])}::{kind} as c{index}"
            for index, (kind, given) in enumerate(VALUES.items())
        ]
        lines.append(f"select {number} as i, {', '.join(values)}")
    return "\nunion all\n".join(lines)


def contents(source: str) -> tuple[list[Any], list[Any]]:
    """The types of the columns, and the rows as text, in order; as 0.15 does, repartition adds a
    column, which is left out."""
    conn = duckdb.connect()
    described = conn.execute(f"describe select * from {source}").fetchall()
    kinds = [row[:2] for row in described if row[0] != "__data_partition__"]
    texts = ", ".join(f'"{name}"::VARCHAR' for name, _ in kinds)
    return kinds, conn.execute(f"select {texts} from {source} order by i").fetchall()


@pytest.fixture(params=[1, 2])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The values as DuckDB alone writes them; integers that Parquet lacks as decimals."""
    path = tmp_path / "alone.parquet"
    casts = ", ".join(
        f"c{index}::{STORED_AS[kind]} as c{index}"
        for index, kind in enumerate(VALUES)
        if kind in STORED_AS
    )
    query = f"select * replace ({casts}) from ({query_of(request.param)})"
    duckdb.execute(f"copy ({query}) to '{path}' (format parquet)")
    return path


WAYS: dict[str, Callable[[DataFrame], DataFrame]] = {
    "hash": lambda frame: frame.repartition(4, hash_by="i"),
    "hash by uuid": lambda frame: frame.repartition(3, hash_by=["c0", "c10"]),
    "random shuffle": lambda frame: frame.random_shuffle(),
    "sort": lambda frame: frame.sort("i desc"),
    "sort by uuid": lambda frame: frame.sort("c0", "i"),
    "hash, then sql": lambda frame: frame.repartition(4, hash_by="i").filter("i >= 0"),
}


@pytest.mark.parametrize("lowering", ["single", "exchange"])
@pytest.mark.parametrize("way", WAYS)
def test_every_type_survives_to_the_folder(
    tmp_path: Path, file: Path, way: str, lowering: str
) -> None:
    """Goal: dealing rows out and writing them is as writing them. Method: random rows of all types,
    each way. Oracle: types and texts of the file that DuckDB wrote alone.
    """
    with smallpond.init(
        executor="inprocess",
        progress=False,
        data_root=str(tmp_path / "root"),
        lowering=lowering,
        npartitions=3,
    ) as sp:
        frame = WAYS[way](sp.read_parquet(str(file)))
        frame.write_parquet(str(tmp_path / "out"))
        kept = [f"typeof(c{index}) as t{index}" for index in range(len(VALUES))]
        inside = frame.map(", ".join(kept)).take(1)[0]
    kinds, rows = contents(f"'{file}'")
    found_kinds, found = contents(f"read_parquet('{tmp_path}/out/*.parquet')")
    assert found_kinds == kinds
    assert found == rows
    assert list(inside.values()) == [kind for _, kind in kinds[1:]]


@pytest.mark.parametrize("hive", [False, True])
@pytest.mark.parametrize("npartitions", [2, 30])
def test_every_type_survives_in_a_named_output(
    run_plan: RunPlan, file: Path, npartitions: int, hive: bool
) -> None:
    """Goal: the files of a named shuffle hold what its input held, also those without rows.
    Oracle: as above; types of each file; the metadata that names its partition.
    """
    ctx = Context()
    node = HashPartitionNode(
        ctx,
        (DataSourceNode(ctx, ParquetDataSet([str(file)])),),
        npartitions,
        hash_columns=["i"],
        data_partition_column="part",
        drop_partition_column=True,
        hive_partitioning=hive,
        output_name="parts",
    )
    output = run_plan(node).get_output("parts")
    assert isinstance(output, ParquetDataSet)
    kinds, rows = contents(f"'{file}'")
    for path in output.resolved_paths:
        assert contents(f"read_parquet('{path}', hive_partitioning=false)")[0] == kinds
    files = ", ".join(f"'{path}'" for path in output.resolved_paths)
    found = contents(f"read_parquet([{files}], hive_partitioning=false)")
    assert found == (kinds, rows)
    parts = output.load_partitioned_datasets(npartitions, "part", hive_partitioning=hive)
    assert sum(part.num_rows for part in parts) == len(rows)


@pytest.mark.parametrize("compression", [None, "NONE", "snappy", "GZIP", "lz4", "zstd"])
def test_named_outputs_are_compressed_as_asked(
    run_plan: RunPlan, file: Path, compression: str | None
) -> None:
    """Goal: files that are written again for their types have the compression that was asked for,
    also none. Oracle: DuckDB's reading of the files.
    """
    ctx = Context()
    node = HashPartitionNode(
        ctx,
        (DataSourceNode(ctx, ParquetDataSet([str(file)])),),
        2,
        hash_columns=["i"],
        drop_partition_column=True,
        parquet_compression=compression,
        output_name="parts",
    )
    output = run_plan(node).get_output("parts")
    assert isinstance(output, ParquetDataSet)
    for path in output.resolved_paths:
        query = f"select distinct compression from parquet_metadata('{path}')"
        [(found,)] = duckdb.execute(query).fetchall()
        asked = (compression or "NONE").upper()
        assert found.removesuffix("_RAW") == asked.replace("NONE", "UNCOMPRESSED")


def test_rows_keep_their_order_when_types_are_restored(tmp_path: Path) -> None:
    """Goal: a file that is written again has its rows where they were. Method: a connection as
    tasks have it, that forgets the order, with several threads. Oracle: the numbers of the rows.
    """
    rows, path = 2_000_000, tmp_path / "part.parquet"
    uuid = "00000000-0000-0000-0000-000000000000"
    numbers = pa.array(range(rows), pa.int64())
    table = pa.table({"i": numbers, "u": pa.repeat(uuid, rows)})
    pq.write_table(table, path, row_group_size=20_000)
    with duckdb.connect(config={"threads": 4}) as conn:
        conn.execute("SET preserve_insertion_order = false").fetchall()
        types = {"i": "BIGINT", "u": "UUID"}
        options = {"COMPRESSION": "'zstd'", "ROW_GROUP_SIZE": 20_000}
        restorer = FileRestorer(conn, types, str(path), options)
        restorer.write(str(path), {"part": "0"}, str(path))
        described = conn.execute(f"describe from '{path}'").fetchall()
    assert {row[0]: row[1] for row in described} == types
    assert pq.read_table(path, columns=["i"])["i"].combine_chunks() == numbers
