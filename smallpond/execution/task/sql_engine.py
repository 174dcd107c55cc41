"""SQL over one partition, its result written as Parquet files.

HUGEINT (what DuckDB makes of sum(BIGINT)) has no Parquet type, and DuckDB would write it as DOUBLE
and lose digits. It is written as BIGINT, and as DECIMAL(38, 0) when a value does not fit.
A query that ends in ORDER BY gets one file with rows in that order.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import KB, MB, clamp_row_group_bytes
from smallpond.execution.task.base import Task
from smallpond.execution.task.sql_query import ExecSqlQueryMixin
from smallpond.execution.task.sql_text import has_outer_order, quoted_identifier, substituted

if TYPE_CHECKING:
    import duckdb

    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.udf import UDFContext

# An input of so little is read faster than a worker starts.
INLINE_ROWS_MAX = 10_000
INLINE_FILE_BYTES_MAX = 1 << 20
INLINE_FILES_MAX = 8

HUGEINT = re.compile(r"\bU?HUGEINT\b")


class SqlEngineTask(ExecSqlQueryMixin, Task):
    """Runs the queries one after the other; the result of the last is the output."""

    __slots__ = (
        "batched_processing",
        "materialize_in_memory",
        "materialize_output",
        "parquet_dictionary_encoding",
        "parquet_row_group_bytes",
        "parquet_row_group_size",
        "per_thread_output",
        "sql_queries",
    )

    memory_overcommit_ratio = 0.9

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        sql_queries: list[str],
        udfs: list[UDFContext] | None = None,
        per_thread_output: bool = True,
        materialize_output: bool = True,
        materialize_in_memory: bool = False,
        batched_processing: bool = False,
        enable_temp_directory: bool = False,
        parquet_row_group_size: int = 122880,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        gpu_limit: float | None = None,
        memory_limit: int | None = None,
        cpu_overcommit_ratio: float = 1.0,
        memory_overcommit_ratio: float = 0.9,
    ) -> None:
        super().__init__(
            ctx,
            input_deps,
            partition_infos,
            output_name,
            output_path,
            cpu_limit,
            gpu_limit,
            memory_limit,
        )
        self.cpu_overcommit_ratio = cpu_overcommit_ratio
        self.memory_overcommit_ratio = memory_overcommit_ratio
        self.sql_queries = sql_queries
        self.query_udfs = list(udfs or [])
        self.per_thread_output = per_thread_output
        self.materialize_output = materialize_output
        self.materialize_in_memory = materialize_in_memory
        self.batched_processing = batched_processing and len(self.input_deps) == 1
        self.enable_temp_directory = enable_temp_directory
        self.parquet_row_group_size = parquet_row_group_size
        self.parquet_row_group_bytes = clamp_row_group_bytes(parquet_row_group_size * 4 * KB)
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", sql_query=<{self.oneline_query[:100]}...>, udfs={self.udfs}, "
            + f"batched_processing={self.batched_processing}"
        )

    @property
    def oneline_query(self) -> str:
        """The queries on one line."""
        return "; ".join(" ".join(query.split()) for query in self.sql_queries)

    @property
    def max_batch_size(self) -> int:
        """Bytes of input at a time with `batched_processing`."""
        return max(1, self.memory_limit // 2)

    @property
    def exec_inline(self) -> bool:
        """A little data and no code of the user's: not worth a process."""
        inputs = self.input_datasets or []
        if self.udfs or not inputs or self.retry_count:
            return False
        return sum(small_rows(dataset) for dataset in inputs) <= INLINE_ROWS_MAX

    def cleanup(self) -> None:
        self.query_udfs = []
        super().cleanup()

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet

        if self.skip_when_any_input_empty or any(map(is_formless, self.input_datasets)):
            return True
        self.add_elapsed_time()
        batches: list[list[DataSet]] = [self.input_datasets]
        first = self.input_datasets[0] if self.input_datasets else None
        if self.batched_processing and isinstance(first, ParquetDataSet):
            pieces = first.partition_by_size(self.max_batch_size)
            # No piece at all is an input without rows: its schema still has to come out.
            batches = [[piece] for piece in pieces] or batches
        for batch_index, batch in enumerate(batches):
            with contextlib.closing(self.connect()) as conn:
                self.process_batch(batch_index, batch, conn)
                if batch_index + 1 == len(batches):
                    # Rows left out are known to the connection, files to the whole input.
                    self.note_skipped(conn)
        self.perf_metrics["num input rows"] += self.input_rows_count()
        self.perf_metrics["input data size (MB)"] += self.input_bytes_count() / MB
        self.add_elapsed_time("compute time (secs)")
        return True

    def process_batch(
        self,
        batch_index: int,
        input_datasets: Sequence[DataSet],
        conn: duckdb.DuckDBPyConnection,
    ) -> None:
        """Run all queries over one set of inputs."""
        views = self.create_input_views(conn, input_datasets)
        for query_index, query in enumerate(self.sql_queries):
            filename = f"{self.output_filename}-{batch_index}.{query_index}"
            sql = substituted(
                query,
                views,
                {
                    "batch_index": batch_index,
                    "query_index": query_index,
                    "cpu_limit": self.cpu_limit,
                    "memory_limit": self.memory_limit,
                    "rand_seed": self.rand_seed_uint32,
                    "output_filename": filename,
                    **self.partition_infos_as_dict,
                },
            )
            last = query_index + 1 == len(self.sql_queries)
            if last and self.materialize_output:
                self._write(conn, sql, filename)
            else:
                self.exec_query(conn, sql, enable_profiling=True)

    def _write(self, conn: duckdb.DuckDBPyConnection, sql: str, filename: str) -> None:
        # An earlier query of the node may have asked to keep the order of rows.
        setting = "SELECT current_setting('preserve_insertion_order')"
        ordered = has_outer_order(sql) or self.fetch(conn, setting)[0][0] is True
        if ordered:
            self.fetch(conn, "SET preserve_insertion_order = true")
        if self.materialize_in_memory:
            self.exec_query(conn, f"CREATE OR REPLACE TEMP TABLE temp_query_result AS {sql}")
            sql = "SELECT * FROM temp_query_result"
        described = self.fetch(conn, f"DESCRIBE {sql}")
        wide = [(name, kind) for name, kind, *_ in described if HUGEINT.search(kind)]
        query = narrowed(sql, wide, "BIGINT")
        try:
            metrics = self.exec_query(
                conn, self._copy_statement(query, filename, ordered), enable_profiling=True
            )
        except RuntimeError as error:
            if not wide or "Conversion Error" not in str(error):
                raise
            for path in Path(self.runtime_output_abspath).glob(f"{filename}.*"):
                path.unlink()
            query = narrowed(sql, wide, "DECIMAL(38, 0)")
            metrics = self.exec_query(conn, self._copy_statement(query, filename, ordered))
        self.merge_metrics(metrics)

    def _copy_statement(self, query: str, filename: str, ordered: bool) -> str:
        options = [
            "FORMAT PARQUET",
            f"KV_METADATA {struct_literal(self.parquet_kv_metadata_str())}",
            self.compression_options,
            f"ROW_GROUP_SIZE {self.parquet_row_group_size}",
        ]
        if not ordered:
            # DuckDB cannot bound row groups by bytes and keep the order of rows.
            options.append(f"ROW_GROUP_SIZE_BYTES {self.parquet_row_group_bytes}")
        encoding = self.parquet_dictionary_encoding
        if isinstance(encoding, list | tuple):
            columns = ", ".join(quoted_identifier(name) for name in encoding)
            options.append(f"DICTIONARY_ENCODING ({columns})")
        elif encoding:
            options.append("DICTIONARY_ENCODING TRUE")
        path = self.runtime_output_abspath
        if self.per_thread_output and not ordered:
            options.append("PER_THREAD_OUTPUT TRUE")
            options.append(f"FILENAME_PATTERN '{filename}.{{i}}'")
            options.append("OVERWRITE_OR_IGNORE TRUE")
        else:
            path = os.path.join(path, f"{filename}.parquet")
        escaped = path.replace("'", "''")
        return f"COPY (\n{query}\n) TO '{escaped}' ({', '.join(options)})"


def is_formless(dataset: DataSet) -> bool:
    """Whether this is the output of Python code that made no row, so that nobody knows its columns.

    A query over it has no columns either, and puts out no file.
    """
    if not dataset.root_dir or dataset.paths != ["*"]:
        return False
    return not dataset.resolved_paths


def small_rows(dataset: DataSet) -> int:
    """The rows of a data set that knows them at once; of others more than is small."""
    from smallpond.logical.dataset import ArrowTableDataSet, ParquetDataSet

    if isinstance(dataset, ArrowTableDataSet):
        return dataset.num_rows
    if isinstance(dataset, ParquetDataSet):
        ranges = dataset._resolved_row_ranges
        if ranges is not None:
            return sum(one.num_rows for one in ranges)
        paths = dataset.resolved_paths
        local = len(paths) <= INLINE_FILES_MAX and all(os.path.exists(path) for path in paths)
        if local and sum(map(os.path.getsize, paths)) <= INLINE_FILE_BYTES_MAX:
            return dataset.num_rows
    return INLINE_ROWS_MAX + 1


def narrowed(sql: str, wide: list[tuple[str, str]], kind: str) -> str:
    """The query with its HUGEINT columns (also inside lists and structs) cast to `kind`."""
    if not wide:
        return sql
    casts = ", ".join(
        f"CAST({quoted_identifier(name)} AS {HUGEINT.sub(kind, old)}) AS {quoted_identifier(name)}"
        for name, old in wide
    )
    return f"SELECT * REPLACE ({casts}) FROM (\n{sql}\n)"


def struct_literal(pairs: dict[str, Any]) -> str:
    """The pairs as SQL's struct of strings."""

    def text(value: Any) -> str:
        return "'" + str(value).replace("'", "''") + "'"

    return "{" + ", ".join(f"{text(key)}: {text(value)}" for key, value in pairs.items()) + "}"
