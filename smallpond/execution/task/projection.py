"""A choice of columns in the description of a data set."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.task.base import Task

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo


class ProjectionTask(Task):
    """Puts out its input with other columns to read."""

    __slots__ = ("columns", "generated_columns", "union_by_name")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        columns: Iterable[str],
        generated_columns: Iterable[str],
        union_by_name: bool | None,
    ) -> None:
        super().__init__(ctx, input_deps, partition_infos)
        self.columns = list(columns)
        self.generated_columns = list(generated_columns)
        self.union_by_name = union_by_name

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

        dataset: Any = copy.copy(self.input_datasets[0])
        assert not self.generated_columns or isinstance(dataset, ParquetDataSet), (
            f"generated columns can be only applied to parquet dataset, but found: {dataset}"
        )
        dataset.columns = self.columns
        if isinstance(dataset, ParquetDataSet):
            dataset.generated_columns = self.generated_columns
        if self.union_by_name is not None:
            dataset._union_by_name = self.union_by_name
        self.dataset = dataset
        return True
