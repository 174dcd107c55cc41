"""Equal shares of files or of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.base import Task
from smallpond.execution.task.partition import PartitionProducerTask

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo


class EvenlyDistributedPartitionProducerTask(PartitionProducerTask):
    """Deals the files, or the rows, of its input; only lists change."""

    __slots__ = ("partition_by_rows", "random_shuffle")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        partition_by_rows: bool = False,
        random_shuffle: bool = False,
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
        self.partition_by_rows = partition_by_rows
        self.random_shuffle = random_shuffle

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    @property
    def self_contained_output(self) -> bool:
        return False

    def initialize(self) -> None:
        """The folder is made if an empty partition needs a file."""
        self.inject_fault()

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet

        dataset = self.input_datasets[0]
        if self.partition_by_rows:
            assert isinstance(dataset, ParquetDataSet), (
                f"Only parquet dataset supports partition by rows, found: {dataset}"
            )
            # Lists of its own: the data set remembers its answers, and empty ones are replaced.
            self.partitioned_datasets = [
                *dataset.partition_by_rows(self.npartitions, self.random_shuffle)
            ]
        else:
            self.partitioned_datasets = [
                *dataset.partition_by_files(self.npartitions, self.random_shuffle)
            ]
        return True
