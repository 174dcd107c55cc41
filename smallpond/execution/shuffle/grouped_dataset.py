"""A producer's one file, as the partitions it holds.

Only the bounds travel to the scheduler; the description of a partition is made when its consumer
asks. A partition has a row range in each run of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from smallpond.io.arrow.row_range import RowRange
from smallpond.logical.dataset import DataSet, ParquetDataSet, PartitionedDataSet


class GroupedDataSet(PartitionedDataSet):
    """All partitions of one file; `bounds[run]` has npartitions + 1 row numbers."""

    def __init__(
        self,
        path: str,
        bounds: Sequence[Sequence[int]],
        npartitions: int,
        num_rows: int,
        data_bytes: int,
        columns: Sequence[str] | None = None,
    ) -> None:
        """`columns` are expressions that give back the types which a file cannot hold."""
        DataSet.__init__(self, [path], None)
        self.path = path
        self.bounds = [list(run) for run in bounds]
        self.npartitions = npartitions
        self.file_num_rows = num_rows
        self.data_bytes = data_bytes
        self.part_columns = None if columns is None else list(columns)
        self._absolute_paths = self._resolved_paths = [path]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("datasets", None)
        return state

    def __len__(self) -> int:
        return self.npartitions

    def __getitem__(self, key: int) -> DataSet:
        ranges = [
            RowRange(self.path, self.data_bytes, self.file_num_rows, run[key], run[key + 1])
            for run in self.bounds
            if run[key] < run[key + 1]
        ]
        # No rows, but the file tells the columns.
        ranges = ranges or [RowRange(self.path, self.data_bytes, self.file_num_rows, 0, 0)]
        dataset = ParquetDataSet(
            [self.path], None, columns=self.part_columns, hive_partitioning=False
        )
        dataset._resolved_row_ranges = ranges
        dataset._absolute_paths = dataset._resolved_paths = [self.path]
        return dataset

    @cached_property
    def datasets(self) -> list[DataSet]:  # type: ignore[override]
        """The partitions, made all at once."""
        return [self[index] for index in range(self.npartitions)]

    @property
    def udfs(self) -> list[Any]:
        """A file needs none."""
        return []

    @property
    def resolved_paths(self) -> list[str]:
        """The one file."""
        return [self.path]

    @property
    def num_rows(self) -> int:
        """The rows of the file."""
        return self.file_num_rows

    @property
    def empty(self) -> bool:
        """Whether the file has no rows."""
        return self.file_num_rows == 0
