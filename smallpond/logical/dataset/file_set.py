"""A set of files of any kind: what a Python script task reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE
from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.sql import string_list

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class FileSet(DataSet):
    """Files whose content is not known; as a table it is the list of their paths."""

    expands_directories = False
    # A script may have written nothing.
    patterns_must_match = False

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> FileSet:
        """The files of all the sets."""
        assert all(isinstance(dataset, FileSet) for dataset in datasets)
        merged = FileSet([path for dataset in datasets for path in dataset.absolute_paths], None)
        merged.recursive = any(dataset.recursive for dataset in datasets)
        if all(dataset._resolved_paths is not None for dataset in datasets):
            merged._resolved_paths = sorted(
                path for dataset in datasets for path in dataset.resolved_paths
            )
        return merged

    @property
    def num_rows(self) -> int:
        """The number of files."""
        return self.num_files

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """The paths as a table of one column."""
        return f"( select unnest({string_list(self.resolved_paths)}::VARCHAR[]) as resolved_paths )"

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """The paths as a table of one column, `resolved_paths`."""
        import pyarrow as pa

        return pa.table({"resolved_paths": pa.array(self.resolved_paths, pa.string())})

    def to_batch_reader(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.RecordBatchReader:
        """The paths in batches."""
        return self.to_arrow_table().to_reader(batch_size)
