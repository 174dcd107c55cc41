"""SQL tasks: exact numbers, placeholders, order, functions, pieces, spilling, the limit."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from smallpond.common import MB
from smallpond.execution.task import ExecutionPlan, SqlEngineTask
from smallpond.execution.task.sql_text import has_outer_order, substituted
from smallpond.logical.dataset import ArrowTableDataSet, PandasDataSet, SqlQueryDataSet
from smallpond.logical.node import (
    ArrowComputeNode,
    Context,
    DataSetPartitionNode,
    DataSourceNode,
    EvenlyDistributedPartitionNode,
    LimitNode,
    Node,
    SqlEngineNode,
)
from smallpond.logical.udf import UDFType

RunPlan = Callable[..., ExecutionPlan]


def numbers(ctx: Context, count: int) -> DataSourceNode:
    return DataSourceNode(ctx, SqlQueryDataSet(f"select range as item from range({count})"))


def rows_of(plan: ExecutionPlan) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = plan.final_output.to_arrow_table().to_pylist()
    return rows


def test_sum_of_integers_is_exact(run_plan: RunPlan) -> None:
    """Goal: no digit is lost (0.15 wrote DOUBLE). Oracle: 2**53 + 3, and its type."""
    ctx = Context()
    table = pa.table({"a": pa.array([9007199254740992, 3], pa.int64())})
    source = DataSourceNode(ctx, ArrowTableDataSet(table))
    node = SqlEngineNode(ctx, (source,), "select sum(a) as total, [sum(a)] as l from {0}")
    output = run_plan(node).final_output.to_arrow_table()
    assert output.to_pylist() == [{"total": 9007199254740995, "l": [9007199254740995]}]
    assert output.schema.field("total").type == pa.int64()


def test_sum_beyond_64_bits_is_exact(run_plan: RunPlan) -> None:
    """Goal: what BIGINT cannot hold is DECIMAL(38, 0). Oracle: Python's integers."""
    ctx = Context()
    table = pa.table({"a": pa.array([2**63 - 1] * 3, pa.int64())})
    source = DataSourceNode(ctx, ArrowTableDataSet(table))
    node = SqlEngineNode(ctx, (source,), "select sum(a) as total from {0}")
    assert rows_of(run_plan(node)) == [{"total": decimal.Decimal(3 * (2**63 - 1))}]


def test_limit_holds_before_another_query(run_plan: RunPlan) -> None:
    """Goal: limit(2) over 10 partitions and a query after it give 2 rows (0.15: 20)."""
    ctx = Context()
    parts = DataSetPartitionNode(ctx, (numbers(ctx, 1000),), 10, partition_by_rows=True)
    node = SqlEngineNode(ctx, (LimitNode(ctx, parts, 2),), "select item from {0}")
    assert run_plan(node).final_output.num_rows == 2


def test_placeholders_and_braces(run_plan: RunPlan) -> None:
    """Goal: partition numbers, seeds and struct literals in one query. Oracle: the rows."""
    ctx = Context()
    parts = EvenlyDistributedPartitionNode(ctx, (numbers(ctx, 4),), 2, partition_by_rows=True)
    node = SqlEngineNode(
        ctx,
        (parts,),
        "select {{'x': item}} as s, {__data_partition__} as p, {rand_seed} >= 0 as r from {0}",
    )
    rows = sorted(rows_of(run_plan(node)), key=lambda row: row["s"]["x"])
    assert [(row["s"], row["p"], row["r"]) for row in rows] == [
        ({"x": 0}, 0, True),
        ({"x": 1}, 0, True),
        ({"x": 2}, 1, True),
        ({"x": 3}, 1, True),
    ]


def test_unknown_placeholder_says_which_there_are() -> None:
    """Goal: the message helps. Oracle: names and the way to keep a brace."""
    with pytest.raises(ValueError, match=r"\{0\}, \{p\}; double a brace to keep it"):
        substituted("select {q} from {0}", ["v"], {"p": 1})


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("select * from t order by a", True),
        ("select * from t ORDER\n BY a limit 3", True),
        ("select * from (select * from t order by a)", False),
        ("select row_number() over (order by a) from t", False),
        ("select 'order by' as x -- order by\n from t /* order by */", False),
        ('select "order by" from t', False),
    ],
)
def test_outer_order_is_recognised(query: str, ordered: bool) -> None:
    """Goal: only the order of the whole result counts. Oracle: the cases."""
    assert has_outer_order(query) is ordered


@pytest.mark.parametrize("in_memory", [False, True])
def test_ordered_query_writes_rows_in_order(run_plan: RunPlan, in_memory: bool) -> None:
    """Goal: ORDER BY survives threads and files. Oracle: the rows as they lie in the one file."""
    ctx = Context()
    node = SqlEngineNode(
        ctx,
        (numbers(ctx, 400_000),),
        "select item from {0} order by hash(item), item",
        cpu_limit=2,
        materialize_in_memory=in_memory,
    )
    output = run_plan(node).final_output
    assert output.num_files == 1
    check = "select bool_and(o) from (select hash(item) >= lag(hash(item)) over () as o from "
    import duckdb

    [(in_order,)] = duckdb.execute(f"{check}read_parquet({output.resolved_paths}))").fetchall()
    assert in_order


def test_frames_with_large_integers_are_sources(run_plan: RunPlan) -> None:
    """Goal: integers above 2**31 in a frame (0.15 crashed), in partitions. Oracle: the frame."""
    ctx = Context()
    frame = pd.DataFrame({"a": [2**40 + i for i in range(100)]})
    source = DataSourceNode(ctx, PandasDataSet(frame))
    parts = DataSetPartitionNode(ctx, (source,), 4, partition_by_rows=True)
    node = SqlEngineNode(ctx, (parts,), "select a + 1 as a from {0}")
    assert sorted(row["a"] for row in rows_of(run_plan(node))) == [
        2**40 + i + 1 for i in range(100)
    ]


def test_python_functions_in_sql(run_plan: RunPlan) -> None:
    """Goal: a function called from SQL. Oracle: its values."""
    ctx = Context()
    ctx.create_function("twice", lambda x: 2 * x, [UDFType.BIGINT], UDFType.BIGINT)
    node = SqlEngineNode(
        ctx, (numbers(ctx, 5),), "select twice(item) as t from {0}", udfs=["twice"]
    )
    assert sorted(row["t"] for row in rows_of(run_plan(node))) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("in_memory", [False, True])
def test_query_list_in_pieces(
    run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """Goal: several queries over pieces of the input. Oracle: rows, and more files than one."""
    ctx = Context()
    node = SqlEngineNode(
        ctx,
        (numbers(ctx, 300_000),),
        ["create or replace temp table t as select item + 1 as i from {0}", "select i from t"],
        batched_processing=True,
        materialize_in_memory=in_memory,
    )
    monkeypatch.setattr(SqlEngineTask, "max_batch_size", 500_000)
    output = run_plan(node).final_output
    assert output.num_rows == 300_000
    assert output.num_files > 1


def test_sort_larger_than_memory_spills(run_plan: RunPlan) -> None:
    """Goal: a sort beyond its limit finishes (0.15 gave OutOfMemory). Oracle: all rows."""
    ctx = Context()
    source = DataSourceNode(
        ctx, SqlQueryDataSet("select hash(range) as h, repeat('x', 90) as s from range(600000)")
    )
    node = SqlEngineNode(ctx, (source,), "select * from {0} order by h", memory_limit=40 * MB)
    assert run_plan(node).final_output.num_rows == 600_000


def test_empty_partitions_have_columns(run_plan: RunPlan) -> None:
    """Goal: user code over partitions without rows (0.15: ArrowInvalid). Oracle: the columns."""
    ctx = Context()
    one = SqlEngineNode(ctx, (numbers(ctx, 5),), "select * from {0} where item = 3")
    parts = DataSetPartitionNode(ctx, (one,), 4, partition_by_rows=True)

    def check(runtime_ctx: Any, tables: list[pa.Table]) -> pa.Table:
        assert tables[0].column_names == ["item"]
        return tables[0]

    node: Node = ArrowComputeNode(ctx, (parts,), process_func=check)
    node = SqlEngineNode(ctx, (node,), "select item from {0}")
    assert rows_of(run_plan(node)) == [{"item": 3}]


def test_errors_hold_the_query_and_the_line(run_plan: RunPlan) -> None:
    """Goal: a wrong query is found at once. Oracle: the message has query and reason."""
    ctx = Context()
    node = SqlEngineNode(ctx, (numbers(ctx, 5),), "select nonsense from {0}")
    assert __file__ in node.location
    with pytest.raises(AssertionError, match=r"(?s)nonsense.*"):
        run_plan(node, succeeds=False)
