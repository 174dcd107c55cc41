"""Partitions that exist already in files, and the short way to make even ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.load_partitioned import LoadPartitionedDataSetProducerTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.consolidate import ConsolidateNode
from smallpond.logical.node.evenly import EvenlyDistributedPartitionNode
from smallpond.logical.node.partition import PartitionNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class LoadPartitionedDataSetNode(PartitionNode):
    """Find the partition of each Parquet file: from its metadata, its hive path, or its rows."""

    max_num_producer_tasks = 10

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        dimension: str | None = None,
        nested: bool = False,
        data_partition_column: str | None = None,
        hive_partitioning: bool = False,
        cpu_limit: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        """Load `npartitions` along `dimension`, which is the name of the column by default."""
        assert dimension or data_partition_column, (
            "Both 'dimension' and 'data_partition_column' are none or empty"
        )
        super().__init__(
            ctx,
            input_deps,
            npartitions,
            dimension or data_partition_column,
            nested,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )
        self.data_partition_column = data_partition_column or self.dimension
        self.hive_partitioning = hive_partitioning

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", data_partition_column={self.data_partition_column}, "
            + f"hive_partitioning={self.hive_partitioning}"
        )

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> LoadPartitionedDataSetProducerTask:
        return LoadPartitionedDataSetProducerTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            self.data_partition_column,
            self.hive_partitioning,
            self.cpu_limit,
            self.memory_limit,
        )


def DataSetPartitionNode(
    ctx: Context,
    input_deps: Sequence[Node],
    npartitions: int,
    *,
    partition_by_rows: bool = False,
    random_shuffle: bool = False,
    data_partition_column: str | None = None,
) -> Node:
    """The node that divides `input_deps` into `npartitions`.

    Evenly by files, or by rows with `partition_by_rows`; with `data_partition_column`, by the
    partition keys which an earlier `HashPartitionNode` left in the files. One partition is all
    inputs consolidated.
    """
    assert not (partition_by_rows and data_partition_column), (
        "partition_by_rows and data_partition_column cannot be set at the same time"
    )
    if data_partition_column is not None:
        return LoadPartitionedDataSetNode(
            ctx,
            input_deps,
            npartitions,
            dimension=data_partition_column,
            data_partition_column=data_partition_column,
        )
    node = EvenlyDistributedPartitionNode(
        ctx,
        input_deps,
        npartitions,
        partition_by_rows=partition_by_rows,
        random_shuffle=random_shuffle,
    )
    return ConsolidateNode(ctx, node, dimensions=[]) if npartitions == 1 else node
