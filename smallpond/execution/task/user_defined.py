"""Partitions that the user's function makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.base import Task
from smallpond.execution.task.partition import PartitionProducerTask

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.dataset import DataSet


class UserDefinedPartitionProducerTask(PartitionProducerTask):
    """Calls `partition_func(runtime_ctx, dataset) -> list[DataSet]`."""

    __slots__ = ("partition_func",)

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        partition_func: Callable[[RuntimeContext, DataSet], list[DataSet]],
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(
            ctx,
            input_deps,
            partition_infos,
            npartitions,
            dimension,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )
        self.partition_func: Callable[[RuntimeContext, DataSet], list[DataSet]] | None = (
            partition_func
        )

    def run(self) -> bool:
        assert self.partition_func is not None, f"{self.key} has no function to call"
        try:
            ctx = self.ctx.set_current_task(self)
            self.partitioned_datasets = list(self.partition_func(ctx, self.input_datasets[0]))
            return True
        finally:
            self.partition_func = None
