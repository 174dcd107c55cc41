"""A data set cut into partitions, each a data set of its own: what partition tasks put out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.skipped import Skipped
from smallpond.logical.udf import UDFContext

if TYPE_CHECKING:
    import duckdb


class PartitionedDataSet(DataSet):
    """Partitions by index; as a whole it is all their rows."""

    reader_knows_skipped = True

    def __init__(self, datasets: Sequence[DataSet]) -> None:
        assert len(datasets) > 0, "a partitioned data set needs at least one partition"
        self.datasets = list(datasets)
        first = self.datasets[0]
        super().__init__(
            [path for dataset in self.datasets for path in dataset.absolute_paths],
            first.root_dir,
            first.recursive,
            first.columns,
            first.union_by_name,
            storage_options=first.storage_options,
        )

    def __getitem__(self, key: int) -> DataSet:
        return self.datasets[key]

    def __len__(self) -> int:
        return len(self.datasets)

    def __iter__(self) -> Iterator[DataSet]:
        return iter(self.datasets)

    def identity_parts(self) -> tuple[Any, ...]:
        """Those of the members, in their order."""
        return tuple((type(dataset), dataset.identity_parts()) for dataset in self.datasets)

    def skipped(self, conn: duckdb.DuckDBPyConnection | None = None) -> list[Skipped]:
        """What was left out of any member."""
        conn = conn or self._reader
        return [part for dataset in self.datasets for part in dataset.skipped(conn)]

    @property
    def udfs(self) -> list[UDFContext]:
        """The functions that any partition needs."""
        return [udf for dataset in self.datasets for udf in dataset.udfs]

    @property
    def resolved_paths(self) -> list[str]:
        """The files of all partitions, sorted."""
        if self._resolved_paths is None:
            self._resolved_paths = sorted(
                path for dataset in self.datasets for path in dataset.resolved_paths
            )
        return self._resolved_paths

    @property
    def num_rows(self) -> int:
        """The rows of all partitions."""
        return sum(dataset.num_rows for dataset in self.datasets)

    @property
    def empty(self) -> bool:
        """Whether every partition is."""
        return all(dataset.empty for dataset in self.datasets)

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> DataSet:
        """All partitions of all the sets as one data set without partitions."""
        assert all(isinstance(dataset, PartitionedDataSet) for dataset in datasets)
        parts = [
            part
            for dataset in datasets
            if isinstance(dataset, PartitionedDataSet)
            for part in dataset.datasets
        ]
        return DataSet.merge(parts)

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """All partitions together."""
        return DataSet.merge(self.datasets).sql_query_fragment(filesystem, conn)
