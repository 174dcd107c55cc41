"""A broadcast: the same data in every partition of a new dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.repeat import RepeatPartitionProducerTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.partition import PartitionNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class RepeatPartitionNode(PartitionNode):
    """Repeat each partition of `input_deps` along a new dimension; always nested."""

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        dimension: str,
        cpu_limit: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        """Repeat `npartitions` times; no data is copied."""
        super().__init__(
            ctx,
            input_deps,
            npartitions,
            dimension,
            nested=True,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> RepeatPartitionProducerTask:
        return RepeatPartitionProducerTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            self.cpu_limit,
            self.memory_limit,
        )
