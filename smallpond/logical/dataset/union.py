"""Several data sets as one: the same kind becomes one of that kind, mixed kinds a union of
queries."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.skipped import Skipped
from smallpond.logical.udf import UDFContext

if TYPE_CHECKING:
    import duckdb


class UnionDataSet(DataSet):
    """The rows of data sets of different kinds, columns matched by name."""

    reader_knows_skipped = True

    def __init__(self, datasets: Sequence[DataSet]) -> None:
        assert len(datasets) > 0, "a union needs at least one data set"
        self.datasets = list(datasets)
        paths = [path for dataset in self.datasets for path in dataset.absolute_paths]
        super().__init__(paths, None)

    def identity_parts(self) -> tuple[Any, ...]:
        """Those of the members, in their order."""
        return tuple((type(dataset), dataset.identity_parts()) for dataset in self.datasets)

    def skipped(self, conn: duckdb.DuckDBPyConnection | None = None) -> list[Skipped]:
        """What was left out of any member."""
        conn = conn or self._reader
        return [part for dataset in self.datasets for part in dataset.skipped(conn)]

    @property
    def udfs(self) -> list[UDFContext]:
        """The functions that any member needs."""
        return [udf for dataset in self.datasets for udf in dataset.udfs]

    @property
    def resolved_paths(self) -> list[str]:
        """The files of all members, sorted."""
        return sorted(path for dataset in self.datasets for path in dataset.resolved_paths)

    @property
    def num_rows(self) -> int:
        """The rows of all members."""
        return sum(dataset.num_rows for dataset in self.datasets)

    @property
    def empty(self) -> bool:
        """Whether every member is."""
        return all(dataset.empty for dataset in self.datasets)

    def _split_by_files(self, npartition: int, random_shuffle: bool) -> list[Any]:
        """Each member is split, and each partition gets a share of each."""
        shares = [d.partition_by_files(npartition, random_shuffle) for d in self.datasets]
        return [UnionDataSet(list(parts)) for parts in zip(*shares, strict=True)]

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """A union of the members' queries."""
        members = [dataset for dataset in self.datasets if not dataset.empty]
        queries = [
            f"select * from {dataset.sql_query_fragment(filesystem, conn)}"
            for dataset in members or self.datasets
        ]
        return f"( {' union all by name '.join(queries)} )"


def merged(datasets: Sequence[DataSet]) -> DataSet:
    """The rows of all data sets as one data set of their kind, or a union if the kinds differ."""
    from smallpond.logical.dataset.partitioned import PartitionedDataSet

    assert len(datasets) > 0, "nothing to merge"
    if len(datasets) == 1 and not isinstance(datasets[0], PartitionedDataSet):
        # Tasks set columns of what they merged; that must not reach their input.
        return copy.copy(datasets[0])
    kinds = {type(dataset) for dataset in datasets}
    if len(kinds) > 1:
        # An empty list of Parquet files stands for "no input"; it decides nothing.
        kinds = {type(dataset) for dataset in datasets if not dataset.empty} or kinds
        datasets = [dataset for dataset in datasets if type(dataset) in kinds]
    kind = next(iter(kinds))
    if len(kinds) == 1 and kind.merge is not DataSet.merge:
        return kind.merge(datasets)
    return UnionDataSet(datasets)
