"""Fewer, larger partitions without moving data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.merge import MergeDataSetsTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.logical.node.context import Context


class ConsolidateNode(Node):
    """Merge the partitions that agree in `dimensions`; all other dimensions disappear."""

    def __init__(self, ctx: Context, input_dep: Node, dimensions: Iterable[str]) -> None:
        """Keep only `dimensions`; none of them leaves one partition."""
        assert isinstance(dimensions, Iterable), f"dimensions is not iterable: {dimensions}"
        kept = list(dimensions)
        assert all(isinstance(dim, str) for dim in kept), f"some dimensions are not strings: {kept}"
        super().__init__(ctx, [input_dep])
        self.dimensions = {*kept, PartitionInfo.toplevel_dimension}

    def __str__(self) -> str:
        return super().__str__() + f", dimensions={self.dimensions}"

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> MergeDataSetsTask:
        return MergeDataSetsTask(runtime_ctx, input_deps, partition_infos)
