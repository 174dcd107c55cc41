"""Equal shares of files or of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.evenly import EvenlyDistributedPartitionProducerTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.partition import PartitionNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class EvenlyDistributedPartitionNode(PartitionNode):
    """Deal the files (or the rows) of `input_deps` to `npartitions`; only lists change."""

    max_num_producer_tasks = 1

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        dimension: str | None = None,
        nested: bool = False,
        *,
        partition_by_rows: bool = False,
        random_shuffle: bool = False,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        """Deal files, or rows with `partition_by_rows`; `random_shuffle` deals them at random."""
        super().__init__(
            ctx,
            input_deps,
            npartitions,
            dimension,
            nested,
            output_name=output_name,
            output_path=output_path,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )
        self.partition_by_rows = partition_by_rows and npartitions > 1
        self.random_shuffle = random_shuffle

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", partition_by_rows={self.partition_by_rows}, random_shuffle={self.random_shuffle}"
        )

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> EvenlyDistributedPartitionProducerTask:
        return EvenlyDistributedPartitionProducerTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            self.partition_by_rows,
            self.random_shuffle,
            self.cpu_limit,
            self.memory_limit,
        )
