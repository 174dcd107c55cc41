"""Grouped batches into Parquet files, in bounded memory.

Batches are held until they reach a budget and then written as one run, partition by partition. In
the grouped form all runs of a producer are in one file, and every partition of a run is a row group
or a few; in the other form each partition has a file, which stays open when there are not too many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from smallpond.common import MB
from smallpond.execution.shuffle.scatter import GroupedBatch

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

# Row groups of a grouped file: large enough to cost little, small enough for a reader's threads.
GROUP_ROWS_MAX = 512 * 1024
OPEN_FILES_MAX = 256
DATA_PAGE_BYTES = 64 * MB
WRITE_BATCH_ROWS = 16 * 1024
# What is compressed to learn whether that pays, and the share of the bytes that it must save.
SAMPLE_BYTES = 4 * MB
SAVED_SHARE_MIN = 0.1


class RunBuffer:
    """Holds grouped batches up to `budget_bytes`; `write_partition(p, table)` gets a full run."""

    def __init__(self, npartitions: int, schema: pa.Schema, budget_bytes: int) -> None:
        self.npartitions = npartitions
        self.schema = schema
        self.budget_bytes = budget_bytes
        self.batches: list[GroupedBatch] = []
        self.held_bytes = 0
        self.rows_in = 0
        self.rows_out = 0
        self.run_count = 0

    def add(self, batch: GroupedBatch) -> None:
        """Take a batch; write a run when the budget is reached."""
        self.batches.append(batch)
        self.held_bytes += batch.rows.nbytes
        self.rows_in += batch.rows.num_rows
        if self.held_bytes >= self.budget_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is held as one run."""
        import pyarrow as pa

        if not self.batches:
            return
        self.begin_run()
        for partition in range(self.npartitions):
            parts = [
                rows.slice(offsets[partition], offsets[partition + 1] - offsets[partition])
                for rows, offsets in self.batches
                if offsets[partition + 1] > offsets[partition]
            ]
            if parts:
                table = pa.Table.from_batches(parts, self.schema)
                self.write_partition(partition, table)
                self.rows_out += table.num_rows
        self.end_run()
        self.batches, self.held_bytes = [], 0
        self.run_count += 1

    def begin_run(self) -> None:
        """Called before the partitions of a run."""

    def end_run(self) -> None:
        """Called after the partitions of a run."""

    def write_partition(self, partition: int, table: pa.Table) -> None:
        """Write the rows of one partition of the run."""
        raise NotImplementedError


def with_constant(table: pa.Table, column: str | None, value: int) -> pa.Table:
    """The table with the partition as its last column, if it is to have one."""
    if column is None:
        return table
    import numpy as np
    import pyarrow as pa

    return table.append_column(column, pa.array(np.full(table.num_rows, value, dtype=np.uint64)))


def with_constant_field(schema: pa.Schema, column: str | None) -> pa.Schema:
    """The schema of such a table."""
    import pyarrow as pa

    return schema if column is None else schema.append(pa.field(column, pa.uint64()))


def paying_compression(rows: pa.RecordBatch) -> str:
    """LZ4 if it makes some of the rows smaller; random bytes would only cost time."""
    import pyarrow as pa
    from pyarrow import parquet

    count = max(1, rows.num_rows * SAMPLE_BYTES // max(SAMPLE_BYTES, rows.nbytes))
    sample = pa.Table.from_batches([rows.slice(0, count)])

    def size(compression: str) -> int:
        target = pa.BufferOutputStream()
        parquet.write_table(
            sample, target, compression=compression, use_dictionary=False, write_statistics=False
        )
        written: int = target.getvalue().size
        return written

    return "LZ4" if size("LZ4") < (1 - SAVED_SHARE_MIN) * size("NONE") else "NONE"


class GroupedFileWriter(RunBuffer):
    """One file for all partitions; `bounds[run][p]` is where partition p of a run begins.

    The file is compressed if that pays for the first rows.
    """

    def __init__(
        self,
        path: str,
        npartitions: int,
        schema: pa.Schema,
        budget_bytes: int,
        *,
        metadata: dict[bytes, bytes],
        partition_column: str | None,
    ) -> None:
        super().__init__(npartitions, schema, budget_bytes)
        self.path = path
        self.metadata = metadata
        self.partition_column = partition_column
        self.bounds: list[list[int]] = []
        self.position = 0
        self.data_bytes = 0

    @cached_property
    def file(self) -> parquet.ParquetWriter:
        """Opened by the first run, which is still held then."""
        from pyarrow import parquet

        column = self.partition_column
        return parquet.ParquetWriter(
            self.path,
            with_constant_field(self.schema, column).with_metadata(self.metadata),
            compression=paying_compression(self.batches[0].rows) if self.batches else "NONE",
            use_dictionary=[column] if column else False,
            write_statistics=False,
            data_page_size=DATA_PAGE_BYTES,
            write_batch_size=WRITE_BATCH_ROWS,
        )

    def begin_run(self) -> None:
        self.bounds.append([self.position])

    def end_run(self) -> None:
        run = self.bounds[-1]
        run += [self.position] * (self.npartitions + 1 - len(run))

    def write_partition(self, partition: int, table: pa.Table) -> None:
        run = self.bounds[-1]
        run += [self.position] * (partition + 1 - len(run))
        self.data_bytes += table.nbytes
        self.file.write_table(
            with_constant(table, self.partition_column, partition), row_group_size=GROUP_ROWS_MAX
        )
        self.position += table.num_rows

    def close(self) -> None:
        """Write the rest and the footer."""
        self.flush()
        self.file.close()


class PartitionFilesWriter(RunBuffer):
    """A file for each partition (one a run when too many would be open)."""

    def __init__(
        self,
        path_of: Callable[[int, int], str],
        npartitions: int,
        schema: pa.Schema,
        budget_bytes: int,
        *,
        metadata_of: Callable[[int], dict[bytes, bytes]],
        partition_column: str | None,
        row_group_rows: int,
        writer_options: dict[str, Any],
    ) -> None:
        """`path_of(partition, run)` and `metadata_of(partition)` say what the files are."""
        super().__init__(npartitions, schema, budget_bytes)
        self.path_of = path_of
        self.metadata_of = metadata_of
        self.partition_column = partition_column
        self.row_group_rows = row_group_rows
        self.options = writer_options
        self.paths: list[list[str]] = [[] for _ in range(npartitions)]
        self.open_files: dict[int, parquet.ParquetWriter] = {}

    def write_partition(self, partition: int, table: pa.Table) -> None:
        writer = self.open_files.get(partition) or self._open(partition)
        writer.write_table(
            with_constant(table, self.partition_column, partition),
            row_group_size=self.row_group_rows,
        )

    def _open(self, partition: int) -> parquet.ParquetWriter:
        from pyarrow import parquet

        path = self.path_of(partition, self.run_count)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        schema = with_constant_field(self.schema, self.partition_column)
        writer = parquet.ParquetWriter(
            path, schema.with_metadata(self.metadata_of(partition)), **self.options
        )
        self.open_files[partition] = writer
        self.paths[partition].append(path)
        return writer

    def end_run(self) -> None:
        if self.npartitions > OPEN_FILES_MAX:
            self._close_files()

    def _close_files(self) -> None:
        for writer in self.open_files.values():
            writer.close()
        self.open_files = {}

    def close(self) -> None:
        """Write the rest and all footers."""
        self.flush()
        self._close_files()
