"""One producer's share of a data set; only lists of files and row ranges change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.common import MB
from smallpond.execution.task.base import Task

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo

# Less than this (before compression) is not worth another task.
SHARE_BYTES_MIN = 8 * MB


class SplitDataSetTask(Task):
    """Puts out the index-th of npartitions shares of its only input."""

    __slots__ = ("by_rows", "npartitions", "partition")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Sequence[PartitionInfo],
        *,
        by_rows: bool = False,
    ) -> None:
        """With `by_rows` files are cut when there are fewer than shares; else they stay whole."""
        assert len(input_deps) == 1, f"wrong number of input deps for data set split: {input_deps}"
        super().__init__(ctx, input_deps, partition_infos)
        self.partition = partition_infos[-1].index
        self.npartitions = partition_infos[-1].npartitions
        self.by_rows = by_rows

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    @property
    def self_contained_output(self) -> bool:
        return False

    def initialize(self) -> None:
        """Needs no folder."""

    def finalize(self) -> None:
        """Has no files to move."""

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet

        dataset = self.input_datasets[0]
        cut = self.by_rows and isinstance(dataset, ParquetDataSet)
        if not cut or not 0 < dataset.num_files < self.npartitions:
            self.dataset = dataset.partition_by_files(self.npartitions)[self.partition]
            return True
        assert isinstance(dataset, ParquetDataSet)
        # A little data is one share, and so are files without rows, whose columns somebody must
        # know; the other shares are empty, which costs their tasks nothing.
        shares = min(self.npartitions, dataset.estimated_data_size // SHARE_BYTES_MIN + 1)
        if self.partition >= shares:
            self.dataset = dataset._init_file_partitions(1)[0]
        elif shares == 1:
            self.dataset = dataset
        else:
            self.dataset = dataset.partition_by_rows(shares)[self.partition]
        return True
