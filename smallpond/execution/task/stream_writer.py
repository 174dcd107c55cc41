"""One Parquet file of a stream's output: tables come in, row groups of the wanted size go out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from smallpond.common import MB

if TYPE_CHECKING:
    import pyarrow as arrow

    from smallpond.execution.task.arrow_stream import ArrowStreamTask

WRITE_BATCH_ROWS_MIN = 16 * 1024
DATA_PAGE_BYTES_MIN = 64 * MB
WRITE_BUFFER_BYTES = 4 * MB


class StreamWriter:
    """The next output file of `task`."""

    def __init__(self, task: ArrowStreamTask, schema: arrow.Schema) -> None:
        from pyarrow import parquet

        self.task = task
        done = {os.path.basename(path) for path in task.runtime_state.streaming_output_paths}
        # Finished files of earlier attempts are linked beside this one, so names must differ.
        index = len(done)
        self.path = os.path.join(
            task.runtime_output_abspath, f"{task.output_filename}-{index}.parquet"
        )
        self.schema = schema
        self.held: list[arrow.Table] = []
        self.held_rows = 0
        self.file = open(self.path, "wb", buffering=WRITE_BUFFER_BYTES)  # noqa: SIM115
        level = task.parquet_compression_level
        zstd = (task.parquet_compression or "").upper() == "ZSTD"
        self.writer: Any = parquet.ParquetWriter(
            self.file,
            schema.with_metadata(task.parquet_kv_metadata_bytes()),
            use_dictionary=task.parquet_dictionary_encoding,
            compression=task.parquet_compression or "NONE",
            compression_level=level if zstd else None,
            write_batch_size=max(WRITE_BATCH_ROWS_MIN, task.parquet_row_group_size // 8),
            data_page_size=max(DATA_PAGE_BYTES_MIN, task.parquet_row_group_bytes // 8),
        )

    def write(self, table: arrow.Table) -> None:
        """Take a table; it is written when a row group is full."""
        self.held.append(table)
        self.held_rows += table.num_rows
        if self.held_rows >= self.task.parquet_row_group_size:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as arrow

        if self.held_rows:
            table = arrow.concat_tables([self._conformed(table) for table in self.held])
            self.writer.write_table(table, self.task.parquet_row_group_size)
            self.task.perf_metrics["num output rows"] += self.held_rows
        self.held, self.held_rows = [], 0
        self.task.add_elapsed_time("output dump time (secs)")

    def _conformed(self, table: arrow.Table) -> arrow.Table:
        """The table with the types of the first one: a batch of NULLs does not know its own."""
        if not table.schema.equals(self.schema):
            table = table.cast(self.schema)
        return table.replace_schema_metadata(self.writer.schema.metadata)

    def close(self) -> str:
        """Finish the file; its path."""
        self._flush()
        self.writer.close()
        self.file.close()
        return self.path

    def abort(self) -> None:
        """Give the file up; the attempt failed and its folder goes."""
        self.writer.close()
        self.file.close()
