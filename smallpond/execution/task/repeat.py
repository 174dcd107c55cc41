"""The same data set for every partition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.base import Task
from smallpond.execution.task.partition import PartitionProducerTask

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo


class RepeatPartitionProducerTask(PartitionProducerTask):
    """Puts out its input `npartitions` times."""

    __slots__ = ()

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
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

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    @property
    def self_contained_output(self) -> bool:
        return False

    def initialize(self) -> None:
        """Needs no folder."""

    def finalize(self) -> None:
        from smallpond.logical.dataset import PartitionedDataSet

        self.dataset = PartitionedDataSet(self.partitioned_datasets)

    def run(self) -> bool:
        self.partitioned_datasets = [self.input_datasets[0]] * self.npartitions
        return True
