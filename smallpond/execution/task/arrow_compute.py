"""User code over a whole partition as Arrow tables or pandas frames."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_ROW_GROUP_SIZE, KB, MB, OutOfMemory, clamp_row_group_bytes
from smallpond.execution.task.base import Task
from smallpond.execution.task.sql_query import ExecSqlQueryMixin

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as arrow

    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo

logger = logging.getLogger(__name__)


class ArrowComputeTask(ExecSqlQueryMixin, Task):
    """Calls `process(runtime_ctx, input_tables) -> Table` and writes the result."""

    cpu_overcommit_ratio = 0.5
    memory_overcommit_ratio = 0.5

    __slots__ = (
        "parquet_dictionary_encoding",
        "parquet_row_group_bytes",
        "parquet_row_group_size",
        "process_func",
        "use_duckdb_reader",
    )

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        process_func: Callable[..., Any] | None = None,
        parquet_row_group_size: int = DEFAULT_ROW_GROUP_SIZE,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
        use_duckdb_reader: bool = False,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        gpu_limit: float | None = None,
        memory_limit: int | None = None,
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
        self.process_func = process_func
        self.parquet_row_group_size = parquet_row_group_size
        self.parquet_row_group_bytes = clamp_row_group_bytes(parquet_row_group_size * 4 * KB)
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level
        self.use_duckdb_reader = use_duckdb_reader

    def clean_complex_attrs(self) -> None:
        self.exec_cq = None
        self.process_func = None
        super().clean_complex_attrs()

    def _call_process(
        self, runtime_ctx: RuntimeContext, input_tables: list[arrow.Table]
    ) -> arrow.Table | None:
        return self.process(runtime_ctx, input_tables)

    def process(self, runtime_ctx: RuntimeContext, input_tables: list[Any]) -> Any:
        """The partition's output, from one table an input. May be overridden."""
        assert self.process_func is not None, f"{self.key} has no function to call"
        return self.process_func(runtime_ctx, input_tables)

    def _input_tables(self) -> list[arrow.Table]:
        with contextlib.ExitStack() as stack:
            conn = None
            if self.use_duckdb_reader:
                conn = stack.enter_context(contextlib.closing(self.connect()))
            tables = [
                dataset.to_arrow_table(max_workers=self.cpu_limit, conn=conn)
                for dataset in self.input_datasets
            ]
            self.note_skipped(conn)
            return tables

    def run(self) -> bool:
        import pyarrow as arrow

        self.add_elapsed_time()
        if self.skip_when_any_input_empty:
            return True
        try:
            tables = self._input_tables()
            self.perf_metrics["num input rows"] += sum(table.num_rows for table in tables)
            self.perf_metrics["input data size (MB)"] += sum(one.nbytes for one in tables) / MB
            self.add_elapsed_time("input load time (secs)")
            output = self._call_process(self.ctx.set_current_task(self), tables)
            self.add_elapsed_time("compute time (secs)")
            return self.dump_output(output)
        except arrow.lib.ArrowMemoryError as error:
            raise OutOfMemory(f"{self.key} ran out of memory in Arrow: {error}") from error

    def dump_output(self, output_table: arrow.Table | None) -> bool:
        """Write the table into the output folder."""
        from smallpond.io.arrow import dump_to_parquet_files

        if output_table is None:
            logger.warning("%s: process() returned None, so it has no output", self.key)
            return True
        if self.parquet_row_group_size == DEFAULT_ROW_GROUP_SIZE:
            self.adjust_row_group_size(output_table.nbytes, output_table.num_rows)
        dump_to_parquet_files(
            output_table.replace_schema_metadata(self.parquet_kv_metadata_bytes()),
            self.runtime_output_abspath,
            self.output_filename,
            compression=self.parquet_compression,
            compression_level=self.parquet_compression_level,
            row_group_size=self.parquet_row_group_size,
            row_group_bytes=self.parquet_row_group_bytes,
            use_dictionary=self.parquet_dictionary_encoding,
            max_workers=self.cpu_limit,
        )
        self.perf_metrics["num output rows"] += output_table.num_rows
        self.add_elapsed_time("output dump time (secs)")
        return True


class PandasComputeTask(ArrowComputeTask):
    """Calls `process(runtime_ctx, input_dfs) -> DataFrame` and writes the result."""

    def _call_process(
        self, runtime_ctx: RuntimeContext, input_tables: list[arrow.Table]
    ) -> arrow.Table | None:
        import pyarrow as arrow

        frames: list[pd.DataFrame] = [table.to_pandas() for table in input_tables]
        output = self.process(runtime_ctx, frames)
        return None if output is None else arrow.Table.from_pandas(output, preserve_index=False)
