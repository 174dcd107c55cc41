"""JSON files: with the columns given, as in 0.15, or inferred once for the whole data set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import GB, MB, SmallpondError
from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.sql import (
    memory_limits,
    open_connection,
    query_of_nothing,
    quoted_string,
    rows_of,
    struct_of_strings,
)

if TYPE_CHECKING:
    import duckdb

# DuckDB's own default for the largest object.
OBJECT_BYTES_MIN = 16 * MB
# In other files the objects may be compressed, and larger than the file.
PLAIN_SUFFIXES = (".json", ".jsonl", ".ndjson")
STATUS_CHECKS_MAX = 1000


class JsonDataSet(DataSet):
    """Objects, one a line (`newline_delimited`), in an `array`, or just one after the other."""

    not_identity = DataSet.not_identity | {"_inferred"}

    def __init__(
        self,
        paths: str | Sequence[str],
        schema: Mapping[str, str] | None = None,
        format: str = "newline_delimited",
        max_object_size: int = 1 * GB,
        root_dir: str | None = "",
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        union_by_name: bool = False,
        *,
        ignore_errors: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Describe JSON files.

        Args:
            paths: see `DataSet`, as all arguments not listed here.
            schema: SQL types by column name; None to find them out.
            format: `newline_delimited`, `array`, `unstructured` or `auto`.
            max_object_size: the largest object in bytes.
            ignore_errors: leave out lines that are not JSON (only when newline-delimited).
        """
        super().__init__(
            paths, root_dir, recursive, columns, union_by_name, storage_options=storage_options
        )
        self.schema = None if schema is None else dict(schema)
        self.format = format
        self.max_object_size = max_object_size
        self.ignore_errors = ignore_errors
        self._inferred: dict[str, str] | None = None

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> JsonDataSet:
        """The files of all the sets, read as the first says."""
        parts = [dataset for dataset in datasets if isinstance(dataset, JsonDataSet)]
        assert len(parts) == len(datasets)
        first = parts[0]
        merged = JsonDataSet(
            [path for part in parts for path in part.absolute_paths],
            first.schema,
            first.format,
            first.max_object_size,
            None,
            any(part.recursive for part in parts),
            first.columns,
            any(part.union_by_name for part in parts),
            ignore_errors=first.ignore_errors,
            storage_options=first.storage_options,
        )
        merged._inferred = first._inferred
        return merged

    def _options(self, conn: duckdb.DuckDBPyConnection | None) -> str:
        return (
            f"format={quoted_string(self.format)}, "
            f"maximum_object_size={self._object_bytes_max(conn)}, "
            f"union_by_name={self.union_by_name}, ignore_errors={self.ignore_errors}"
        )

    def _object_bytes_max(self, conn: duckdb.DuckDBPyConnection | None) -> int:
        """`max_object_size`, but no more than can occur and than fits into memory.

        DuckDB reserves twice as much for every thread at once, before it reads anything: with the
        default of 1 GB, a task with 2 threads and less than 4 GB could not read the smallest file.
        """
        limit = self.max_object_size
        if conn is not None:
            memory, threads = memory_limits(conn)
            limit = min(limit, memory // (4 * threads))
        files = self.resolved_paths
        if len(files) <= STATUS_CHECKS_MAX and all(path.endswith(PLAIN_SUFFIXES) for path in files):
            sizes = [os.path.getsize(path) for path in files if os.path.isfile(path)]
            if len(sizes) == len(files):
                limit = min(limit, max(sizes, default=0))
        return max(limit, min(self.max_object_size, OBJECT_BYTES_MIN))

    def infer_schema(self, conn: duckdb.DuckDBPyConnection | None = None) -> dict[str, str]:
        """SQL types by column name, as given or as found in the files; kept from then on."""
        if self.schema is not None:
            return self.schema
        if self._inferred is None:
            if not self.resolved_paths:
                raise SmallpondError(f"{self} has no files to find the columns in; give a schema")
            conn = conn or open_connection()
            self._prepare(conn, None)
            source = f"read_json({self._path_list}, {self._options(conn)})"
            rows = rows_of(conn, f"describe select * from {source}")
            self._inferred = {row[0]: row[1] for row in rows}
        return self._inferred

    def _init_file_partitions(self, npartition: int) -> list[Any]:
        if self.paths:
            self.infer_schema()
        return super()._init_file_partitions(npartition)

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """A call of `read_json` with the types spelled out."""
        self._prepare(conn, filesystem)
        types = self.infer_schema(conn)
        if not self.resolved_paths:
            return query_of_nothing(types, self.columns)
        schema = struct_of_strings(types)
        return (
            f"( select {self._column_str} from read_json({self._path_list}, "
            f"columns={schema}, {self._options(conn)}) )"
        )
