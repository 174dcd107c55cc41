"""The planner: dimensions, broadcasts, sinks of named outputs, and what it leaves untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.task import ExecutionPlan, RuntimeContext
from smallpond.logical.dataset import DataSet, ParquetDataSet, SqlQueryDataSet
from smallpond.logical.node import (
    ConsolidateNode,
    Context,
    DataSourceNode,
    EvenlyDistributedPartitionNode,
    HashPartitionNode,
    LoadPartitionedDataSetNode,
    LogicalPlan,
    LogicalPlanVisitor,
    Node,
    ProjectionNode,
    RepeatPartitionNode,
    SqlEngineNode,
    UnionNode,
    UserDefinedPartitionNode,
    UserPartitionedDataSourceNode,
)
from smallpond.logical.planner import Planner

RunPlan = Callable[..., ExecutionPlan]


def numbers(ctx: Context, count: int) -> DataSourceNode:
    return DataSourceNode(ctx, SqlQueryDataSet(f"select range as item from range({count})"))


def rows_of(plan: ExecutionPlan) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in plan.final_output.to_arrow_table().to_pylist()]


def by_rows(ctx: Context, node: Node, parts: int, dimension: str, nested: bool = False) -> Node:
    return EvenlyDistributedPartitionNode(
        ctx, (node,), parts, dimension=dimension, nested=nested, partition_by_rows=True
    )


def test_inputs_without_a_dimension_are_broadcast(run_plan: RunPlan) -> None:
    """Goal: each of 3 partitions meets the whole other input. Oracle: the counts."""
    ctx = Context()
    parts = by_rows(ctx, numbers(ctx, 9), 3, "a")
    node = SqlEngineNode(
        ctx, (parts, numbers(ctx, 4)), "select {a} as a, count(*) as c from {0}, {1}"
    )
    assert sorted(rows_of(run_plan(node))) == [(0, 12), (1, 12), (2, 12)]


def test_incompatible_dimensions_are_named(make_ctx: Callable[..., RuntimeContext]) -> None:
    """Goal: the error says which partitions do not fit and whose line it is. Oracle: its text."""
    ctx = Context()
    one = by_rows(ctx, numbers(ctx, 9), 3, "a")
    other = by_rows(ctx, numbers(ctx, 9), 2, "a")
    node = SqlEngineNode(ctx, (one, other), "select 1")
    with pytest.raises(AssertionError, match=r"not compatible \(made at .*test_planner.py:\d+\)"):
        Planner(make_ctx()).create_exec_plan(LogicalPlan(ctx, node))
    with pytest.raises(AssertionError, match="different dimensions"):
        union = UnionNode(ctx, (one, numbers(ctx, 1)))
        Planner(make_ctx()).create_exec_plan(LogicalPlan(ctx, union))


def test_every_side_of_a_union_is_there(
    run_plan: RunPlan, make_ctx: Callable[..., RuntimeContext]
) -> None:
    """Goal: tasks of a union that are of the same partition do not stand for each other (0.15 loses
    one and doubles the other). Method: a query over a union, alone, beside a broadcast input, and
    as the input that is looked up. Oracle: the rows; an error where the partner is unclear."""
    ctx = Context()
    union = UnionNode(ctx, (numbers(ctx, 1), numbers(ctx, 3)))
    alone = SqlEngineNode(ctx, (union,), "select item from {0}")
    assert sorted(rows_of(run_plan(alone))) == [(0,), (0,), (1,), (2,)]
    parts = UnionNode(ctx, (by_rows(ctx, numbers(ctx, 4), 2, "a"), by_rows(ctx, union, 2, "a")))
    joined = SqlEngineNode(ctx, (parts, numbers(ctx, 10)), "select {0}.item from {0}, {1}")
    assert len(rows_of(run_plan(joined))) == 80
    other = UnionNode(ctx, (numbers(ctx, 1), numbers(ctx, 1)))
    unclear = SqlEngineNode(ctx, (by_rows(ctx, numbers(ctx, 4), 2, "a"), other), "select 1")
    with pytest.raises(AssertionError, match="partition or consolidate it first"):
        Planner(make_ctx()).create_exec_plan(LogicalPlan(ctx, unclear))


def test_nested_partitions_and_consolidation(run_plan: RunPlan) -> None:
    """Goal: 2 x 3 partitions, merged back along one dimension. Oracle: counts at both levels."""
    ctx = Context()
    outer = HashPartitionNode(
        ctx, (numbers(ctx, 60),), 2, hash_columns=["item"], data_partition_column="o"
    )
    inner = HashPartitionNode(
        ctx, (outer,), 3, hash_columns=["item"], data_partition_column="i", nested=True
    )
    counts = SqlEngineNode(ctx, (inner,), "select {o} as o, {i} as i, count(*) as c from {0}")
    merged = ConsolidateNode(ctx, counts, ["o"])
    node = SqlEngineNode(ctx, (merged,), "select {o} as o, count(*) as n, sum(c) as c from {0}")
    found = rows_of(run_plan(node))
    assert [n for _, n, _ in found] == [3, 3]
    assert sum(c for _, _, c in found) == 60


def test_load_partitions_of_a_shuffle(run_plan: RunPlan) -> None:
    """Goal: partitions found in files that a shuffle of the same plan wrote. Oracle: rows agree."""
    ctx = Context()
    written = HashPartitionNode(
        ctx, (numbers(ctx, 50),), 4, hash_columns=["item"], data_partition_column="bucket"
    )
    loaded = LoadPartitionedDataSetNode(ctx, (written,), 4, data_partition_column="bucket")
    node = SqlEngineNode(ctx, (loaded,), "select item, bucket = {bucket} as ok from {0}")
    found = rows_of(run_plan(node))
    assert sorted(item for item, _ in found) == list(range(50))
    assert all(ok for _, ok in found)


def test_repeat_and_user_defined_partitions(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: a broadcast dimension, user code over files, a list of data sets. Oracle: rows."""
    import duckdb

    for index in range(3):
        duckdb.sql(f"copy (select {index} as item) to '{tmp_path}/{index}.parquet'")
    files = ParquetDataSet([str(tmp_path / "*.parquet")])

    class OneFileEach(UserDefinedPartitionNode):
        def partition(self, runtime_ctx: RuntimeContext, dataset: DataSet) -> list[DataSet]:
            return [ParquetDataSet([path]) for path in dataset.resolved_paths]

    ctx = Context()
    given = OneFileEach(ctx, (DataSourceNode(ctx, files),), 3, "d")
    given.max_num_producer_tasks = 1
    listed = UserPartitionedDataSourceNode(
        ctx, [ParquetDataSet([path]) for path in files.resolved_paths], "d"
    )
    joined = SqlEngineNode(
        ctx, (given, listed), "select item, {d} as d from {0} join {1} using (item)"
    )
    repeated = RepeatPartitionNode(ctx, (joined,), 2, "r")
    node = SqlEngineNode(ctx, (repeated,), "select item, d, {r} as r from {0}")
    expected = [(i, i, r) for i in range(3) for r in range(2)]
    assert sorted(rows_of(run_plan(node))) == expected


def test_projection_reaches_the_reader(run_plan: RunPlan) -> None:
    """Goal: chosen and computed columns. Oracle: names and values."""
    ctx = Context()
    columns = ProjectionNode(ctx, numbers(ctx, 3), ["item + 1 as next"], ["file_row_number"])
    node = SqlEngineNode(ctx, (columns,), "select * from {0}")
    table = run_plan(node).final_output.to_arrow_table()
    assert table.to_pydict() == {"next": [1, 2, 3], "file_row_number": [0, 1, 2]}


def test_named_outputs_go_to_the_output_path(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: copies under the names, and the results. Oracle: folders and rows."""
    ctx = Context()
    named = SqlEngineNode(ctx, (numbers(ctx, 5),), "select item from {0}", output_name="fives")
    node = SqlEngineNode(ctx, (named,), "select item + 1 as item from {0}")
    plan = run_plan(node, output_path=str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["FinalResults", "fives"]
    assert ParquetDataSet([str(tmp_path / "out/fives/*.parquet")]).num_rows == 5
    assert plan.final_output_path == str(tmp_path / "out/FinalResults")


def test_the_given_plan_is_not_changed(make_ctx: Callable[..., RuntimeContext]) -> None:
    """Goal: a plan can be planned twice, data sets are not copied. Oracle: its nodes before."""
    ctx = Context()
    source = numbers(ctx, 5)
    plan = LogicalPlan(ctx, SqlEngineNode(ctx, (source,), "select 1 from {0}", output_name="x"))
    before, text = dict(plan.nodes), plan.explain_str()
    runtime = make_ctx()
    first = Planner(runtime).create_exec_plan(plan)
    second = Planner(runtime).create_exec_plan(plan)
    assert plan.nodes == before and plan.explain_str() == text
    assert len(first.tasks) == len(second.tasks)
    copied = next(n for n in first.logical_plan.nodes.values() if isinstance(n, DataSourceNode))
    assert copied is not source and copied.dataset is source.dataset


def test_nodes_know_the_user_s_line_and_reject_wrong_arguments() -> None:
    """Goal: errors where the mistake is. Oracle: location and exceptions."""
    ctx = Context()
    source = numbers(ctx, 1)
    line = int(SqlEngineNode(ctx, (source,), "select 1").location.rsplit(":", 1)[1])
    assert "SqlEngineNode(ctx, (source,)" in Path(__file__).read_text().splitlines()[line - 1]
    with pytest.raises(AssertionError, match="output_name has invalid format"):
        SqlEngineNode(ctx, (source,), "select 1", output_name="a/b")
    with pytest.raises(AssertionError, match="nested partition should have dimension"):
        EvenlyDistributedPartitionNode(ctx, (source,), 2, nested=True)
    with pytest.raises(AssertionError, match="share common columns"):
        ProjectionNode(ctx, source, ["filename"], ["filename"])


def test_every_published_name_is_there() -> None:
    """Goal: star-imports of old scripts. Oracle: the names that they use."""
    import smallpond.execution.task as tasks
    import smallpond.logical.node as nodes

    names: dict[str, Any] = {}
    exec("from smallpond.execution.task import *", names)
    exec("from smallpond.logical.node import *", names)
    for name in ("StreamOutput", "RootTask", "HashPartitionDuckDbTask", "NodeId", "ShuffleNode"):
        assert name in names, name
    for name in nodes.__all__:
        assert hasattr(nodes, name)
    assert set(tasks.__all__) <= set(names)


def test_visitor_finds_the_method_of_each_kind() -> None:
    """Goal: one visit a node, by kind. Oracle: the order of calls."""
    calls: list[str] = []

    class Recorder(LogicalPlanVisitor[None]):
        def visit_partition_node(self, node: Any, depth: int) -> None:
            calls.append(f"partition {depth}")
            self.generic_visit(node, depth)

        def visit_data_source_node(self, node: Any, depth: int) -> None:
            calls.append(f"source {depth}")

    ctx = Context()
    Recorder().visit(by_rows(ctx, numbers(ctx, 1), 2, "d"))
    assert calls == ["partition 0", "source 1"]


def test_only_files_that_are_kept_are_compressed_to_be_kept(run_plan: RunPlan) -> None:
    """Goal: fast compression between tasks, the asked one for outputs. Oracle: the footers."""
    from pyarrow import parquet

    ctx = Context()
    inner = SqlEngineNode(ctx, (numbers(ctx, 50),), "select item from {0}")
    asked = SqlEngineNode(ctx, (inner,), "select item from {0}", parquet_compression="SNAPPY")
    node = SqlEngineNode(ctx, (asked,), "select item from {0}")
    plan = run_plan(node)
    codecs = {
        task.node_id: parquet.read_metadata(task.output.resolved_paths[0])
        .row_group(0)
        .column(0)
        .compression
        for task in plan.tasks.values()
        if task.node_id in (inner.id, asked.id, node.id)
    }
    assert codecs == {inner.id: "LZ4", asked.id: "SNAPPY", node.id: "ZSTD"}
