"""A data set that enters the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.source import DataSourceTask
from smallpond.logical.dataset import DataSet, ParquetDataSet
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class DataSourceNode(Node):
    """An input of the plan; it depends on no other node and has one partition."""

    def __init__(self, ctx: Context, dataset: DataSet | None) -> None:
        """Make `dataset` an input; None is a source without rows, for nodes that need an input."""
        assert dataset is None or isinstance(dataset, DataSet), f"not a data set: {dataset!r}"
        super().__init__(ctx, [])
        self.dataset: DataSet = dataset if dataset is not None else ParquetDataSet([])

    def __str__(self) -> str:
        return super().__str__() + f", dataset=<{self.dataset}>"

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> DataSourceTask:
        return DataSourceTask(runtime_ctx, self.dataset, partition_infos)

    @property
    def num_partitions(self) -> int:
        return 1
