"""A pipeline script as users write it: the documented one, with a count of rows as its check."""

from __future__ import annotations

from typing import Any

from smallpond.execution.driver import Driver
from smallpond.logical.dataset import ParquetDataSet
from smallpond.logical.node import (
    ArrowComputeNode,
    Context,
    DataSetPartitionNode,
    DataSourceNode,
    LogicalPlan,
)


def double(runtime_ctx: Any, tables: list[Any]) -> Any:
    """One more column, twice the first."""
    import pyarrow.compute

    (table,) = tables
    return table.append_column("doubled", pyarrow.compute.multiply(table.column(0), 2))


def pipeline(input_paths: list[str], npartitions: int) -> LogicalPlan:
    """Rows in parts, each doubled."""
    ctx = Context()
    source = DataSourceNode(ctx, ParquetDataSet(input_paths))
    parts = DataSetPartitionNode(ctx, (source,), npartitions=npartitions, partition_by_rows=True)
    doubled = ArrowComputeNode(ctx, (parts,), process_func=double, output_name="doubled")
    return LogicalPlan(ctx, doubled)


if __name__ == "__main__":
    driver = Driver()
    driver.add_argument("-i", "--input_paths", nargs="+")
    driver.add_argument("-n", "--npartitions", type=int, default=10)
    plan = pipeline(**driver.get_arguments())
    driver.run(plan)
