"""Partitions that exist already in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.base import Task
from smallpond.execution.task.partition import PartitionProducerTask

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo


class LoadPartitionedDataSetProducerTask(PartitionProducerTask):
    """Sorts files by the partition that their metadata, path or rows name."""

    __slots__ = ("data_partition_column", "hive_partitioning")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        data_partition_column: str,
        hive_partitioning: bool,
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
        self.data_partition_column = data_partition_column
        self.hive_partitioning = hive_partitioning

    @property
    def self_contained_output(self) -> bool:
        return False

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet

        dataset = self.input_datasets[0]
        assert isinstance(dataset, ParquetDataSet), f"Not parquet dataset: {dataset}"
        self.partitioned_datasets = list(
            dataset.load_partitioned_datasets(
                self.npartitions, self.data_partition_column, self.hive_partitioning
            )
        )
        return True
