"""Partitions which the user's code or the user's lists of files define."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.user_defined import UserDefinedPartitionProducerTask
from smallpond.logical.dataset import DataSet
from smallpond.logical.node.base import Node
from smallpond.logical.node.partition import PartitionNode
from smallpond.logical.node.source import DataSourceNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class UserDefinedPartitionNode(PartitionNode):
    """Override `partition(runtime_ctx, dataset) -> list[DataSet]` to divide files or rows."""

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        dimension: str | None = None,
        nested: bool = False,
        cpu_limit: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        """Make the node; `partition` must return exactly `npartitions` data sets."""
        super().__init__(
            ctx,
            input_deps,
            npartitions,
            dimension,
            nested,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> UserDefinedPartitionProducerTask:
        return UserDefinedPartitionProducerTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            self.slim_copy().partition,  # type: ignore[attr-defined]
            self.cpu_limit,
            self.memory_limit,
        )

    def partition(self, runtime_ctx: RuntimeContext, dataset: DataSet) -> list[DataSet]:
        """Divide `dataset`; one data set a partition, in order."""
        raise NotImplementedError(f"{self!r}: override partition()")


class UserPartitionedDataSourceNode(UserDefinedPartitionNode):
    """An input of the plan that is a list of data sets, one a partition."""

    max_num_producer_tasks = 1

    def __init__(
        self, ctx: Context, partitioned_datasets: Iterable[DataSet], dimension: str | None = None
    ) -> None:
        """Make `partitioned_datasets` the partitions, in their order."""
        datasets = list(partitioned_datasets)
        assert all(isinstance(dataset, DataSet) for dataset in datasets), (
            f"not every element is a data set: {datasets}"
        )
        super().__init__(
            ctx, [DataSourceNode(ctx, dataset=None)], len(datasets), dimension, nested=False
        )
        self.partitioned_datasets = datasets

    def partition(self, runtime_ctx: RuntimeContext, dataset: DataSet) -> list[DataSet]:
        return self.partitioned_datasets
