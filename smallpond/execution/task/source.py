"""A data set enters the plan.

Data that lives in this process (a table, a frame) or is the result of a query becomes Parquet files
once, here, so that every later task reads files and nothing is copied into messages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from smallpond.execution.task.base import Task

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.dataset import DataSet

logger = logging.getLogger(__name__)


class DataSourceTask(Task):
    """Puts out the data set it was made with."""

    def __init__(
        self,
        ctx: RuntimeContext,
        dataset: DataSet,
        partition_infos: Iterable[PartitionInfo],
    ) -> None:
        super().__init__(ctx, [], partition_infos)
        self.dataset = dataset
        # Whether this attempt writes files; asked before `dataset` is replaced by them.
        self._writes_files = False

    def __str__(self) -> str:
        return super().__str__() + f", dataset=<{self.dataset}>"

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    def _lives_in_files(self) -> bool:
        from smallpond.logical.dataset import ArrowTableDataSet, PandasDataSet, SqlQueryDataSet

        return not isinstance(self.dataset, ArrowTableDataSet | PandasDataSet | SqlQueryDataSet)

    def initialize(self) -> None:
        self._writes_files = not self._lives_in_files()
        if self._writes_files:
            super().initialize()

    def finalize(self) -> None:
        if self._writes_files:
            super().finalize()

    def run(self) -> bool:
        assert self.dataset is not None
        if self._writes_files:
            from smallpond.logical.dataset import ParquetDataSet

            table = self.dataset.to_arrow_table()
            ParquetDataSet.create_from(table, self.runtime_output_abspath)
            self.perf_metrics["num output rows"] += table.num_rows
            dataset = ParquetDataSet(["data*.parquet"], root_dir=self.final_output_abspath)
            self.dataset, logged = dataset, self.dataset
            logger.debug("%s: wrote %s to files", self.key, logged)
        return True
