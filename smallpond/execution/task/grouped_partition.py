"""The producer side of every shuffle that moves rows: hash, range, exchange.

A subclass says which rows travel and to which partition (`shuffle_statement`); this class streams
them out of DuckDB, groups them, writes them and counts them. Between our own tasks the output is
one file; where somebody looks at paths (`file_per_partition`) it is a file for each partition.

Invariant: as many rows are written as were read, and, where nothing filters, as the input has.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import MB, OutOfMemory, RowCountMismatch
from smallpond.execution.shuffle.query import ShuffleQuery, restoring_columns
from smallpond.execution.shuffle.scatter import BATCH_ROWS, checked_partitions, grouped_batch
from smallpond.execution.task import limits
from smallpond.execution.task.base import Task
from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.partition import PartitionProducerTask
from smallpond.execution.task.sql_engine import INLINE_ROWS_MAX, small_rows
from smallpond.execution.task.sql_query import ExecSqlQueryMixin

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

    from smallpond.execution.shuffle.writer import GroupedFileWriter, PartitionFilesWriter
    from smallpond.execution.task.context import RuntimeContext

logger = logging.getLogger(__name__)

BUDGET_BYTES_MIN = 32 * MB
BUDGET_BYTES_MAX = 256 * MB

# From a batch to the partition of each of its rows.
Placement = Callable[["pa.RecordBatch"], "np.ndarray[Any, Any]"]


class GroupedPartitionTask(ExecSqlQueryMixin, PartitionProducerTask):
    """Sends each row of its first input to a partition."""

    # The rest of the task's memory holds the rows that wait to be written.
    memory_overcommit_ratio = 0.5

    __slots__ = ("_grouped", "_travelling", "file_per_partition", "partition_column")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(
            ctx,
            input_deps,
            partition_infos,
            npartitions,
            dimension,
            output_name,
            output_path,
            cpu_limit,
            memory_limit,
        )
        self.file_per_partition = not self.temp_output
        # The column, if any, that each file gets besides its rows' own.
        self.partition_column: str | None = None
        self._grouped: Any = None
        # Columns and their types; set with the statement.
        self._travelling: dict[str, str] = {}

    # --- what a subclass says ---

    def shuffle_statement(self, conn: duckdb.DuckDBPyConnection) -> tuple[str, Placement | None]:
        """The rows that travel; without a placement the last column is the partition."""
        raise NotImplementedError(f"{type(self).__name__} does not say where rows go")

    def shuffle_query(
        self,
        conn: duckdb.DuckDBPyConnection,
        source: str,
        columns: Sequence[str] | None = None,
        without: Sequence[str] = (),
    ) -> ShuffleQuery:
        """The builder of the statement over `source`; notes which columns travel."""
        query = ShuffleQuery(self, conn, source, columns, without)
        self._travelling = query.travelling_types()
        return query

    @property
    def keeps_every_row(self) -> bool:
        """Whether as many rows must come out as the input has."""
        return True

    def partition_path(self, partition: int, run: int) -> str:
        """A partition's own file, below the output folder."""
        return f"{self.output_filename}-{partition}.{run}.parquet"

    def file_options(self) -> dict[str, Any]:
        """How a partition's own file is written."""
        return {"compression": "ZSTD", "compression_level": 3, "use_dictionary": False}

    @property
    def file_row_group_rows(self) -> int:
        """Rows of a row group of a partition's own file."""
        return BATCH_ROWS

    # --- the work ---

    @property
    def budget_bytes(self) -> int:
        """Bytes of rows that wait to be written."""
        return max(BUDGET_BYTES_MIN, min(BUDGET_BYTES_MAX, self.memory_limit // 4))

    @property
    def exec_inline(self) -> bool:
        """A little data and no code of the user's: not worth a process."""
        inputs = self.input_datasets or []
        if self.udfs or not inputs or self.retry_count:
            return False
        return sum(small_rows(dataset) for dataset in inputs) <= INLINE_ROWS_MAX

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet

        self.add_elapsed_time()
        dataset = self.input_datasets[0]
        empty_input = (
            isinstance(dataset, ParquetDataSet)
            and not dataset.num_files
            and not dataset.skipped_files  # Then the columns are known, and files are to be told.
        )
        if empty_input or self.skip_when_any_input_empty:
            root = self.runtime_output_abspath
            self.partitioned_datasets = [
                ParquetDataSet([], root_dir=root) for _ in range(self.npartitions)
            ]
            return True
        with contextlib.closing(self.connect()) as conn:
            statement, placement = self.shuffle_statement(conn)
            logger.debug("%s: running query: %s", self.key, statement)
            self._scatter_all(conn, statement, placement)
            self.note_skipped(conn)
        self._check_rows()
        # A worker lives on: what the rows took goes back to the system, not to the next task.
        import pyarrow as pa

        pa.default_memory_pool().release_unused()
        self.add_elapsed_time("compute time (secs)")
        return True

    def _scatter_all(
        self, conn: duckdb.DuckDBPyConnection, statement: str, placement: Placement | None
    ) -> None:
        import duckdb

        from smallpond.logical.dataset.sql import arrow_reader

        try:
            reader = arrow_reader(conn, statement, BATCH_ROWS)
            width = len(reader.schema) - (placement is None)
            columns = list(range(width))
            writer = self._open_writer(_first_fields(reader.schema, width))
            with contextlib.closing(writer):
                for batch in reader:
                    if placement is None:
                        numbers = checked_partitions(batch.column(width), self.npartitions)
                    else:
                        numbers = placement(batch)
                    rows = batch.select(columns)
                    writer.add(grouped_batch(rows, numbers, self.npartitions))
        except duckdb.Error as error:
            if isinstance(error, duckdb.OutOfMemoryException):
                raise OutOfMemory(f"{self.key} ran out of memory: {error}") from error
            raise RuntimeError(f"{error}\nfailed to run query: {statement}") from error
        except OSError as error:
            # Errors of a running stream come through Arrow, which only keeps their text.
            if "out of memory" in str(error).lower():
                raise OutOfMemory(f"{self.key} ran out of memory: {error}") from error
            raise
        except MemoryError as error:
            raise OutOfMemory(f"{self.key} ran out of memory: {error}") from error
        self._take_output(conn, writer)

    def _open_writer(self, schema: pa.Schema) -> GroupedFileWriter | PartitionFilesWriter:
        from smallpond.execution.shuffle.writer import GroupedFileWriter, PartitionFilesWriter

        folder = self.runtime_output_abspath
        if not self.file_per_partition:
            return GroupedFileWriter(
                os.path.join(folder, f"{self.output_filename}.parquet"),
                self.npartitions,
                schema,
                self.budget_bytes,
                metadata=self.parquet_kv_metadata_bytes(),
                partition_column=self.partition_column,
            )
        return PartitionFilesWriter(
            lambda partition, run: os.path.join(folder, self.partition_path(partition, run)),
            self.npartitions,
            schema,
            self.budget_bytes,
            metadata_of=lambda partition: self.parquet_kv_metadata_bytes(
                self.partition_kv_infos(partition)
            ),
            partition_column=self.partition_column,
            row_group_rows=self.file_row_group_rows,
            writer_options=self.file_options(),
        )

    def _take_output(
        self, conn: duckdb.DuckDBPyConnection, writer: GroupedFileWriter | PartitionFilesWriter
    ) -> None:
        from smallpond.execution.shuffle.grouped_dataset import GroupedDataSet
        from smallpond.execution.shuffle.writer import GroupedFileWriter
        from smallpond.logical.dataset import ParquetDataSet

        self.perf_metrics["num input rows"] += writer.rows_in
        self.perf_metrics["input data size (MB)"] += self.input_bytes_count() / MB
        self.perf_metrics["num output rows"] += writer.rows_out
        if isinstance(writer, GroupedFileWriter):
            path = os.path.join(self.final_output_abspath, os.path.basename(writer.path))
            written = writer.path.replace("'", "''")
            described = self.fetch(conn, f"DESCRIBE SELECT * FROM read_parquet('{written}')")
            self._grouped = GroupedDataSet(
                path,
                writer.bounds,
                self.npartitions,
                writer.rows_out,
                writer.data_bytes,
                restoring_columns(self._travelling, {row[0]: row[1] for row in described}),
            )
            return
        self._restore_types(conn, writer.paths)
        root = self.runtime_output_abspath
        self.partitioned_datasets = [
            ParquetDataSet(
                [os.path.relpath(path, root) for path in paths],
                root_dir=root,
                hive_partitioning=False,
            )
            for paths in writer.paths
        ]

    def _restore_types(self, conn: duckdb.DuckDBPyConnection, paths: list[list[str]]) -> None:
        """Give the partitions' own files, also of those without rows, the types of the rows."""
        from smallpond.execution.shuffle.restore import FileRestorer

        model = next((one for some in paths for one in some), None)
        if model is None:
            return
        level, codec = self.file_options()["compression_level"], self.file_options()["compression"]
        # Arrow's word for it is not DuckDB's.
        codec = "uncompressed" if codec.upper() == "NONE" else codec
        options: dict[str, Any] = {"COMPRESSION": f"'{codec}'"}
        options |= {} if level is None else {"COMPRESSION_LEVEL": level}
        options["ROW_GROUP_SIZE"] = self.file_row_group_rows
        restorer = FileRestorer(conn, self._travelling, model, options)
        if restorer.columns is None:
            return
        # As in `finalize`: one producer's empty files are enough.
        fills = self.get_partition_info(PartitionInfo.toplevel_dimension).index == 0
        for partition, some in enumerate(paths):
            metadata = self.parquet_kv_metadata_str(self.partition_kv_infos(partition))
            for path in some:
                restorer.write(path, metadata, path)
            if not some and fills:
                path = os.path.join(self.runtime_output_abspath, self.partition_path(partition, 0))
                limits.folder_make(os.path.dirname(path))
                restorer.write(model, metadata, path, " LIMIT 0")
                some.append(path)

    def _check_rows(self) -> None:
        from smallpond.logical.dataset import ParquetDataSet

        rows_in = self.perf_metrics["num input rows"]
        rows_out = self.perf_metrics["num output rows"]
        if rows_in != rows_out:
            raise RowCountMismatch(
                f"num input rows {rows_in} != num output rows {rows_out}: {self}"
            )
        dataset = self.input_datasets[0]
        if self.keeps_every_row and isinstance(dataset, ParquetDataSet):
            expected = dataset.num_rows
            if expected != rows_out:
                raise RowCountMismatch(
                    f"num input rows {expected} != num output rows {rows_out}: {self}"
                )

    def finalize(self) -> None:
        if self._grouped is None:
            super().finalize()
        else:
            self.dataset, self._grouped = self._grouped, None
            Task.finalize(self)


def _first_fields(schema: pa.Schema, count: int) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([schema.field(index) for index in range(count)])
