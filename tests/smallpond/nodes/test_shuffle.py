"""The shuffle: every row arrives once, where its key belongs, in few files and bounded memory."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.execution.shuffle.keys import partition_expression
from smallpond.execution.shuffle.scatter import GroupedBatch
from smallpond.execution.shuffle.writer import GroupedFileWriter
from smallpond.execution.task import ExecutionPlan, HashPartitionTask, RuntimeContext
from smallpond.execution.task.grouped_partition import GroupedPartitionTask
from smallpond.logical.dataset import ArrowTableDataSet, DataSet, ParquetDataSet
from smallpond.logical.node import (
    Context,
    DataSourceNode,
    ExchangeNode,
    HashPartitionNode,
    Node,
    PythonScriptNode,
    RangePartitionNode,
    ShuffleNode,
    SqlEngineNode,
)
from smallpond.logical.planner import Planner

RunPlan = Callable[..., ExecutionPlan]


def table_of(rows: int, seed: int = 1) -> pa.Table:
    generator = random.Random(seed)
    return pa.table(
        {
            "k": [generator.choice([None, *range(50)]) for _ in range(rows)],
            "s": [generator.choice(["", "ä", "b" * 40, None, "c"]) for _ in range(rows)],
            "v": list(range(rows)),
        }
    )


def source(ctx: Context, table: pa.Table) -> DataSourceNode:
    return DataSourceNode(ctx, ArrowTableDataSet(table))


def producers(plan: ExecutionPlan) -> list[GroupedPartitionTask]:
    return [task for task in plan.tasks.values() if isinstance(task, GroupedPartitionTask)]


def rows_by_partition(plan: ExecutionPlan) -> dict[int, list[tuple[Any, ...]]]:
    """Rows by their column p, which the query took from the partition's number."""
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in plan.final_output.to_arrow_table().to_pylist():
        found[row.pop("p")].append(tuple(row.values()))
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1::TINYINT", "1::DOUBLE"),
        ("1::BIGINT", "1.0::DECIMAL(10, 1)"),
        ("1::HUGEINT", "1::UTINYINT"),
        ("0.5::FLOAT", "0.50::DECIMAL(30, 20)"),
        ("123456789012345678.25::DECIMAL(20, 2)", "123456789012345678.250::DECIMAL(21, 3)"),
        ("0.0::DOUBLE", "-0.0::DOUBLE"),
        ("true", "1::INTEGER"),
        ("DATE '2024-02-29'", "TIMESTAMP '2024-02-29 00:00:00'"),
        ("TIMESTAMP_S '2024-02-29 01:02:03'", "TIMESTAMP_NS '2024-02-29 01:02:03'"),
        ("'x'::VARCHAR", "'x'::ENUM('y', 'x')"),
        ("NULL::INTEGER", "NULL::DOUBLE"),
    ],
)
def test_equal_keys_of_different_types_meet(one: str, other: str) -> None:
    """Goal: a join never loses rows to types. Oracle: DuckDB says that the values are equal."""
    conn = duckdb.connect()
    assert conn.sql(f"SELECT {one} IS NOT DISTINCT FROM {other}").fetchall() == [(True,)]
    places = []
    for value in (one, other):
        [(kind,)] = conn.sql(f"SELECT typeof({value})").fetchall()
        expression = partition_expression([(value, kind)], 1_000_003)
        places.append(conn.sql(f"SELECT {expression}").fetchall())
    assert places[0] == places[1]


def test_partitions_are_not_the_bits_of_duckdb_s_own_hash() -> None:
    """Goal: tables hashed inside a partition do not collide. Oracle: hash(k) % 64 stays even."""
    expression = partition_expression([("k", "BIGINT")], 64)
    query = f"SELECT count(DISTINCT hash(k) % 64) FROM range(20000) t(k) WHERE {expression} = 3"
    conn = duckdb.connect()
    [(classes,)] = conn.execute(query).fetchall()
    assert classes > 50


@pytest.mark.parametrize("engine", ["duckdb", "arrow"])
@pytest.mark.parametrize("budget", [1 << 30, 20_000])
def test_every_row_arrives_once_in_one_file_a_producer(
    run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch, engine: Any, budget: int
) -> None:
    """Goal: rows in = rows out, keys together. Method: with and without spilled runs.

    Oracle: the input's rows; the number of files.
    """
    monkeypatch.setattr(GroupedPartitionTask, "budget_bytes", budget)
    monkeypatch.setattr("smallpond.execution.task.grouped_partition.BATCH_ROWS", 500)
    table = table_of(9000)
    ctx = Context()
    node = HashPartitionNode(
        ctx, (source(ctx, table),), 7, hash_columns=["k", "s"], engine_type=engine
    )
    query = SqlEngineNode(ctx, (node,), "select k, s, v, {__data_partition__} as p from {0}")
    plan = run_plan(query)
    found = rows_by_partition(plan)
    everything = [row for rows in found.values() for row in rows]
    assert sorted(everything, key=lambda r: r[2]) == [tuple(r.values()) for r in table.to_pylist()]
    owners = defaultdict(set)
    for partition, rows in found.items():
        for k, s, _ in rows:
            owners[k, s].add(partition)
    assert all(len(partitions) == 1 for partitions in owners.values())
    for task in producers(plan):
        files = list(Path(task.final_output_abspath).iterdir())
        assert len(files) <= 1
        if budget < 1 << 20 and task.output.num_rows > 1000:
            assert len(task.output.bounds) > 1  # type: ignore[attr-defined]


def test_producers_use_every_core(make_ctx: Callable[..., RuntimeContext]) -> None:
    """Goal: no single producer on a machine of many cores. Oracle: the count for known machines."""
    ctx = Context()
    node = HashPartitionNode(ctx, (source(ctx, table_of(1)),), 8, hash_columns=["k"])
    runtime = make_ctx()
    cores = runtime.usable_cpu_count
    assert Planner(runtime).producers_count(node) == 2 * cores
    runtime.num_executors = 3
    assert Planner(runtime).producers_count(node) == 6 * cores
    node.max_num_producer_tasks = 1
    assert Planner(runtime).producers_count(node) == 1


def test_a_little_data_is_one_share(run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: no task for a few rows. Oracle: how many producers had rows, with each share size."""

    def busy_producers() -> int:
        ctx = Context()
        node = HashPartitionNode(ctx, (source(ctx, table_of(3000)),), 2, hash_columns=["k"])
        plan = run_plan(SqlEngineNode(ctx, (node,), "select * from {0}"))
        assert plan.final_output.num_rows == 3000
        return sum(task.output.num_rows > 0 for task in producers(plan))

    assert busy_producers() > 1
    monkeypatch.setattr("smallpond.execution.task.split.SHARE_BYTES_MIN", 1 << 20)
    assert busy_producers() == 1


def test_join_of_different_key_types_keeps_all_rows(run_plan: RunPlan) -> None:
    """Goal: 20 matching keys give 20 rows (0.15 gave 6). Oracle: the count."""
    ctx = Context()
    ints = source(ctx, pa.table({"a": pa.array(range(20), pa.int64())}))
    doubles = source(ctx, pa.table({"b": pa.array([float(i) for i in range(20)])}))
    left = HashPartitionNode(ctx, (ints,), 5, hash_columns=["a"])
    right = HashPartitionNode(ctx, (doubles,), 5, hash_columns=["b"])
    join = SqlEngineNode(ctx, (left, right), "select a from {0} join {1} on a = b")
    assert run_plan(join).final_output.num_rows == 20


def test_named_output_has_a_file_a_partition(run_plan: RunPlan) -> None:
    """Goal: 0.15's layout where people look. Oracle: paths, metadata, loading them back."""
    ctx = Context()
    node = HashPartitionNode(
        ctx, (source(ctx, table_of(900)),), 4, hash_columns=["k"], output_name="parts"
    )
    node.max_num_producer_tasks = 1
    output = run_plan(node).get_output("parts")
    assert isinstance(output, ParquetDataSet)
    assert output.num_files == 4
    parts = output.load_partitioned_datasets(4, "__data_partition__")
    assert sum(part.num_rows for part in parts) == 900
    for index, part in enumerate(parts):
        column = part.to_arrow_table().column("__data_partition__")
        assert set(column.to_pylist()) <= {index}


def test_user_code_sees_a_file_a_partition(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: code that opens paths reads its partition alone. Oracle: the rows that it counts."""
    seen = tmp_path / "seen"
    seen.mkdir()

    def count(runtime_ctx: RuntimeContext, datasets: list[DataSet], output_path: str) -> bool:
        rows = sum(ParquetDataSet([path]).num_rows for path in datasets[0].resolved_paths)
        (seen / runtime_ctx.task.key).write_text(str(rows))
        return True

    ctx = Context()
    node = HashPartitionNode(ctx, (source(ctx, table_of(900)),), 4, hash_columns=["k"])
    run_plan(PythonScriptNode(ctx, (node,), process_func=count))
    assert sum(int(path.read_text()) for path in seen.iterdir()) == 900


def test_hive_partitions(run_plan: RunPlan) -> None:
    """Goal: `column=value` folders. Oracle: the folders' rows."""
    ctx = Context()
    node = HashPartitionNode(
        ctx,
        (source(ctx, table_of(300)),),
        3,
        hash_columns=["k"],
        data_partition_column="bucket",
        hive_partitioning=True,
        output_name="hive",
    )
    output = run_plan(node).get_output("hive")
    assert isinstance(output, ParquetDataSet)
    assert all("/bucket=" in path for path in output.resolved_paths)
    parts = output.load_partitioned_datasets(3, "bucket", hive_partitioning=True)
    assert sum(part.num_rows for part in parts) == 300


@pytest.mark.parametrize("key", ["10", "-1", "NULL"])
def test_partition_numbers_out_of_range_are_an_error(run_plan: RunPlan, key: str) -> None:
    """Goal: no row is lost to a wrong number. Oracle: the message."""
    ctx = Context()
    keyed = SqlEngineNode(ctx, (source(ctx, table_of(9)),), f"select *, {key} as p from {{0}}")
    node = ShuffleNode(ctx, (keyed,), 10, data_partition_column="p")
    with pytest.raises(AssertionError, match=f"partition key {key} is out of range 0-9"):
        run_plan(node, succeeds=False)


def test_random_shuffle_spreads_rows_and_repeats(run_plan: RunPlan) -> None:
    """Goal: even parts, the same again for the same seed. Oracle: sizes; two runs."""

    def run() -> dict[int, list[tuple[Any, ...]]]:
        ctx = Context()
        node = HashPartitionNode(ctx, (source(ctx, table_of(4000)),), 4, random_shuffle=True)
        query = SqlEngineNode(ctx, (node,), "select v, {__data_partition__} as p from {0}")
        return {p: sorted(rows) for p, rows in rows_by_partition(run_plan(query)).items()}

    first = run()
    assert all(800 < len(rows) < 1200 for rows in first.values())
    assert run() == first


def test_engines_take_keyword_arguments(make_ctx: Callable[..., RuntimeContext]) -> None:
    """Goal: `create` passes keywords on (0.15 spread them as positions). Oracle: the attribute."""
    runtime = make_ctx()
    ctx = Context()
    node = source(ctx, table_of(1))
    [dep] = Planner(runtime).visit(node)
    task = HashPartitionTask.create(
        "arrow", runtime, [dep], dep.partition_infos, 2, "d", ["k"], "d", drop_partition_column=True
    )
    assert task.drop_partition_column


def sorted_in_parts(ctx: Context, data: Node, order_by: list[str], parts: int) -> Node:
    from smallpond.execution.shuffle.ranges import sort_key_sample_query, split_points_query

    sample = SqlEngineNode(ctx, (data,), sort_key_sample_query(order_by, rows=200))
    splits = SqlEngineNode(ctx, (sample,), split_points_query(parts))
    node = ExchangeNode(ctx, (data,), parts, order_by=order_by, split_points=splits)
    order = ", ".join(order_by)
    return SqlEngineNode(
        ctx, (node,), f"select *, {{__data_partition__}} as p from {{0}} order by {order}"
    )


@pytest.mark.parametrize(
    "order_by", [["k", "v desc"], ["s DESC NULLS FIRST", "k", "v"], ["k % 3 desc", "v"]]
)
def test_global_sort_by_sampled_ranges(run_plan: RunPlan, order_by: list[str]) -> None:
    """Goal: sorted partitions in order are the sorted whole. Oracle: DuckDB's ORDER BY."""
    data = table_of(3000)
    ctx = Context()
    plan = run_plan(sorted_in_parts(ctx, source(ctx, data), order_by, 5))
    found = rows_by_partition(plan)
    assert len(found) > 1
    rows = [row for partition in sorted(found) for row in found[partition]]
    order = ", ".join(order_by)
    expected = duckdb.execute(f"select * from data order by {order}").fetchall()
    assert rows == expected


def test_range_partition_between_given_points(run_plan: RunPlan) -> None:
    """Goal: a point belongs to the partition above it. Oracle: bounds of each partition."""
    ctx = Context()
    node = RangePartitionNode(ctx, (source(ctx, table_of(100)),), [10, 60], order_by="v")
    query = SqlEngineNode(ctx, (node,), "select v, {__data_partition__} as p from {0}")
    found = rows_by_partition(run_plan(query))
    bounds = {p: (min(rows)[0], max(rows)[0]) for p, rows in found.items()}
    assert bounds == {0: (0, 9), 1: (10, 59), 2: (60, 99)}


def test_exchange_runs_the_query_in_front_and_carries_needed_columns(run_plan: RunPlan) -> None:
    """Goal: a two-phase aggregate. Oracle: DuckDB's own; the columns of the producers' files."""
    data = table_of(5000)
    ctx = Context()
    node = ExchangeNode(
        ctx,
        (source(ctx, data),),
        3,
        keys=["k"],
        query="select k, sum(v) as total, count(*) as c from {0} where v > 10 group by k",
        columns=["k", "total"],
    )
    final = SqlEngineNode(ctx, (node,), "select k, sum(total)::hugeint as t from {0} group by k")
    plan = run_plan(final)
    query = "select k, sum(v) as t from data where v > 10 group by k"
    expected = duckdb.execute(query).fetchall()
    found = [tuple(row.values()) for row in plan.final_output.to_arrow_table().to_pylist()]
    assert sorted(found, key=str) == sorted(expected, key=str)
    files = [path for task in producers(plan) for path in task.output.resolved_paths]
    described = duckdb.execute(f"describe select * from read_parquet({files})").fetchall()
    assert [row[0] for row in described] == ["k", "total"]


def test_a_lost_row_is_noticed(run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: rows in = rows out is checked. Method: a writer that drops one partition.

    Oracle: the error.
    """
    original = GroupedFileWriter.write_partition

    def dropping(self: GroupedFileWriter, partition: int, table: pa.Table) -> None:
        original(self, partition, table)
        self.rows_out -= 1

    monkeypatch.setattr(GroupedFileWriter, "write_partition", dropping)
    ctx = Context()
    node = HashPartitionNode(ctx, (source(ctx, table_of(90)),), 2, hash_columns=["k"])
    with pytest.raises(AssertionError, match="num output rows"):
        run_plan(SqlEngineNode(ctx, (node,), "select * from {0}"), succeeds=False)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([os.urandom(100) for _ in range(3_000)]), "UNCOMPRESSED"),
        (pa.array(["the same words again and again"] * 3_000), "LZ4"),
        (pa.array([[1, 2, 3]] * 3_000), "LZ4"),
    ],
)
def test_rows_are_compressed_where_it_pays(tmp_path: Path, column: pa.Array, wanted: str) -> None:
    """Goal: no time is spent on bytes that do not shrink. Oracle: the codec, the rows."""
    table = pa.table({"c": column})
    path = str(tmp_path / "f.parquet")
    writer = GroupedFileWriter(path, 1, table.schema, 1 << 20, metadata={}, partition_column=None)
    [batch] = table.to_batches()
    writer.add(GroupedBatch(batch, np.array([0, batch.num_rows])))
    writer.close()
    codec = parquet.read_metadata(path).row_group(0).column(0).compression
    assert codec.startswith(wanted)
    assert parquet.read_table(path).equals(table)


VALUES = [
    "'6f1c2a52-58e5-4f7e-9d0a-3f4bb3b0a001'::UUID",
    "INTERVAL '1 month 2 days 3 seconds'",
    "12345678901234567890123456789::HUGEINT",
    "[1, NULL]::HUGEINT[]",
    "'b'::ENUM('a', 'b')",
    "'10101'::BIT",
    "'x'::BLOB",
    "1.25::DECIMAL(12, 2)",
    "'infinity'::DOUBLE",
    "TIMESTAMP_NS '2024-02-29 01:02:03.123456789'",
    "TIMESTAMP_S '2024-02-29 01:02:03'",
    "TIMESTAMPTZ '2024-02-29 01:02:03+00'",
    "TIME '01:02:03.5'",
    "TIMETZ '01:02:03+02'",
    "DATE '2024-02-29'",
    "{'a': 1::TINYINT, 'b': ['x']}",
    "MAP {'k': 1::UBIGINT}",
    "[1, 2, 3]::INTEGER[3]",
    "'[1]'::JSON",
    "true",
    "NULL::UUID",
]


def test_every_type_arrives_as_it_was(run_plan: RunPlan) -> None:
    """Goal: a shuffle changes no type and no value. Oracle: DuckDB's text of both."""
    columns = ", ".join(f"{value} as c{index}" for index, value in enumerate(VALUES))
    texts = ", ".join(
        f"typeof(c{index}) as t{index}, c{index}::VARCHAR as v{index}"
        for index in range(len(VALUES))
    )
    ctx = Context()
    node = ExchangeNode(
        ctx,
        (source(ctx, pa.table({"a b": [1]})),),
        2,
        keys=["1"],
        query=f'select {columns}, "a b" as "x y()" from {{0}}'.replace("{'a'", "{{'a'")
        .replace("['x']}", "['x']}}")
        .replace("MAP {", "MAP {{")
        .replace("UBIGINT}", "UBIGINT}}"),
    )
    query = SqlEngineNode(ctx, (node,), f'select {texts}, "x y()" from {{0}}')
    [found] = run_plan(query).final_output.to_arrow_table().to_pylist()
    expected = duckdb.execute(f'select {texts}, 1 as "x y()" from (select {columns})').fetchall()
    assert list(found.values()) == list(expected[0])


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_injected_faults_change_nothing(run_plan: RunPlan, seed: int) -> None:
    """Goal: attempts that fail anywhere leave no row behind and lose none. Oracle: DuckDB alone.

    Method: a shuffle, a join and an aggregate whose tasks fail at random.
    """
    data = table_of(2000, seed)
    ctx = Context()
    left = HashPartitionNode(ctx, (source(ctx, data),), 3, hash_columns=["k"], engine_type="arrow")
    right = ExchangeNode(
        ctx, (source(ctx, data),), 3, keys=["k::double"], query="select distinct k from {0}"
    )
    # Each producer's keys are distinct; together they are so only after the exchange.
    joined = SqlEngineNode(
        ctx,
        (left, right),
        "select k, count(*) as c from {0} join (select distinct k from {1}) using (k) group by k",
    )
    plan = run_plan(joined, fault_inject_prob=0.3, random_seed=seed, max_fail_count=5)
    found = [tuple(row.values()) for row in plan.final_output.to_arrow_table().to_pylist()]
    query = "select k, count(*) as c from data where k is not null group by k order by k"
    assert sorted(found) == duckdb.execute(query).fetchall()
    assert any(task.retry_count for task in plan.tasks.values())
