"""User code over a stream of batches, as Arrow tables or pandas frames, with checkpoints.

A checkpoint closes the current output file and sends a copy of the task, with its state, to whoever
schedules; another attempt skips the batches that are done and links the files that hold their
results. A checkpoint is only made where the user's code said which batches are done.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_ROW_GROUP_SIZE,
    KB,
    MB,
    OutOfMemory,
    clamp_row_group_bytes,
)
from smallpond.execution.task.base import Task
from smallpond.execution.task.sql_query import ExecSqlQueryMixin
from smallpond.execution.task.stream_output import StreamOutput, StreamState
from smallpond.execution.task.stream_writer import StreamWriter

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as arrow

    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo

logger = logging.getLogger(__name__)

__all__ = ["ArrowBatchTask", "ArrowStreamTask", "PandasBatchTask", "StreamOutput"]


class ArrowStreamTask(ExecSqlQueryMixin, Task):
    """Calls `process(runtime_ctx, input_readers) -> Iterable[Table | StreamOutput]`."""

    RuntimeState = StreamState
    cpu_overcommit_ratio = 0.5
    memory_overcommit_ratio = 0.5

    __slots__ = (
        "background_io_thread",
        "parquet_compression",
        "parquet_compression_level",
        "parquet_dictionary_encoding",
        "parquet_row_group_bytes",
        "parquet_row_group_size",
        "process_func",
        "secs_checkpoint_interval",
        "streaming_batch_count",
        "streaming_batch_size",
        "use_duckdb_reader",
    )

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        process_func: Callable[..., Any] | None = None,
        background_io_thread: bool = True,
        streaming_batch_size: int = DEFAULT_BATCH_SIZE,
        secs_checkpoint_interval: float | None = None,
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
        self.background_io_thread = background_io_thread
        self.streaming_batch_size = streaming_batch_size
        self.streaming_batch_count = 1
        self.parquet_row_group_size = parquet_row_group_size
        self.parquet_row_group_bytes = clamp_row_group_bytes(parquet_row_group_size * 4 * KB)
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level
        self.use_duckdb_reader = use_duckdb_reader
        self.secs_checkpoint_interval = (
            secs_checkpoint_interval or self.ctx.secs_executor_probe_timeout
        )

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", background_io_thread={self.background_io_thread}, "
            + f"streaming_batch_size={self.streaming_batch_size}, "
            + f"checkpoint_interval={self.secs_checkpoint_interval}s"
        )

    @property
    def max_batch_size(self) -> int:
        """Bytes of one batch of all inputs together."""
        return self.memory_limit // 2

    def finalize(self) -> None:
        if self.runtime_state is not None:
            # What earlier attempts finished lies in their folders.
            for path in self.runtime_state.streaming_output_paths:
                if not path.startswith(self.runtime_output_abspath + os.sep):
                    here = os.path.join(self.runtime_output_abspath, os.path.basename(path))
                    os.link(path, here)
            self.runtime_state = None
        super().finalize()

    def clean_complex_attrs(self) -> None:
        self.exec_cq = None
        self.process_func = None
        super().clean_complex_attrs()

    def process(self, runtime_ctx: RuntimeContext, input_readers: list[Any]) -> Any:
        """Yield tables or `StreamOutput`, from one reader an input. May be overridden."""
        assert self.process_func is not None, f"{self.key} has no function to call"
        return self.process_func(runtime_ctx, input_readers)

    def _wrap_output(
        self, output: arrow.Table | StreamOutput, batch_indices: list[int] | None = None
    ) -> StreamOutput:
        if isinstance(output, StreamOutput):
            assert len(output.batch_indices) in (0, len(self.input_deps)), (
                f"num of batch indices {len(output.batch_indices)} "
                f"not equal to num of inputs {len(self.input_deps)}"
            )
            return output
        return StreamOutput(output, batch_indices)

    def _call_process(
        self, runtime_ctx: RuntimeContext, input_readers: list[Any]
    ) -> Iterator[StreamOutput]:
        for output in self.process(runtime_ctx, input_readers):
            yield self._wrap_output(output)

    def _plan_batches(self) -> None:
        """Bound the batch size by the memory limit, and estimate the number of batches."""
        from smallpond.logical.dataset import ParquetDataSet

        ranges = [
            d.resolved_row_ranges for d in self.input_datasets if isinstance(d, ParquetDataSet)
        ]
        nbytes = [sum(one.estimated_data_size for one in part) for part in ranges]
        rows = [sum(one.num_rows for one in part) for part in ranges]
        self.perf_metrics["num input rows"] += sum(rows)
        self.perf_metrics["input data size (MB)"] += sum(nbytes) / MB
        if self.runtime_state is not None:
            self.streaming_batch_size = self.runtime_state.streaming_batch_size
            self.streaming_batch_count = self.runtime_state.streaming_batch_count
            return
        row_bytes = sum(map(self.compute_avg_row_size, nbytes, rows)) or 1
        rows_max = max(1, self.max_batch_size // row_bytes)
        if self.streaming_batch_size > rows_max:
            logger.warning(
                "%s: batches of %d rows would not fit into memory; they will have %d",
                self.key,
                self.streaming_batch_size,
                rows_max,
            )
            self.streaming_batch_size = rows_max
        files = max((len({one.path for one in part}) for part in ranges), default=1)
        count = math.ceil(max(rows, default=0) / self.streaming_batch_size)
        self.streaming_batch_count = max(1, files, count)

    def restore_input_state(
        self, runtime_state: StreamState, input_readers: Sequence[Iterable[Any]]
    ) -> None:
        """Skip the batches that an earlier attempt finished."""
        offsets = runtime_state.input_batch_offsets or [0] * len(input_readers)
        assert len(offsets) == len(input_readers), (
            f"num of batch offsets {len(offsets)} not equal to readers {len(input_readers)}"
        )
        logger.info("%s: continues after %s", self.key, runtime_state)
        for offset, reader in zip(offsets, input_readers, strict=True):
            for _ in itertools.islice(reader, offset):
                pass

    def run(self) -> bool:
        import pyarrow as arrow

        self.add_elapsed_time()
        if self.skip_when_any_input_empty:
            return True
        self._plan_batches()
        with contextlib.ExitStack() as stack:
            conn = None
            if self.use_duckdb_reader:
                conn = stack.enter_context(contextlib.closing(self.connect()))
                # Batch numbers only mean the same rows again when the order is kept.
                self.fetch(conn, "SET preserve_insertion_order = true")
            readers = [
                dataset.to_batch_reader(batch_size=self.streaming_batch_size, conn=conn)
                for dataset in self.input_datasets
            ]
            if self.runtime_state is None:
                self.runtime_state = StreamState(
                    self.streaming_batch_size, self.streaming_batch_count
                )
            else:
                self.restore_input_state(self.runtime_state, readers)
                self.runtime_state.last_batch_indices = None
            try:
                outputs = self._call_process(self.ctx.set_current_task(self), readers)
                done = self._dump_all(outputs)
                self.note_skipped(conn)
                return done
            except arrow.lib.ArrowMemoryError as error:
                raise OutOfMemory(f"{self.key} ran out of memory in Arrow: {error}") from error

    def _dump_all(self, outputs: Iterator[StreamOutput]) -> bool:
        from smallpond.utility import ConcurrentIter, ConcurrentIterError

        # Closed last, when no thread runs it any more: that ends the readers inside it.
        with contextlib.closing(outputs):  # type: ignore[type-var]
            if not self.background_io_thread:
                return self.dump_output(outputs)
            try:
                with ConcurrentIter(outputs) as ahead:
                    return self.dump_output(ahead)
            except ConcurrentIterError as error:
                # The user's own error says more than that it came out of a thread.
                raise (error.__cause__ or error) from None

    def dump_output(self, output_iter: Iterator[StreamOutput]) -> bool:
        """Write what comes, with checkpoints in between."""
        state = self.runtime_state
        jitter = self.random_float() * self.secs_checkpoint_interval / 2
        last_checkpoint = time.time() - jitter
        writer: StreamWriter | None = None
        wrote = False
        try:
            for output in output_iter:
                self.add_elapsed_time("compute time (secs)")
                if not wrote and self.parquet_row_group_size == DEFAULT_ROW_GROUP_SIZE:
                    count, table = self.streaming_batch_count, output.output_table
                    self.adjust_row_group_size(count * table.nbytes, count * table.num_rows)
                if writer is None:
                    writer = StreamWriter(self, output.output_table.schema)
                writer.write(output.output_table)
                wrote = True
                due = time.time() - last_checkpoint >= self.secs_checkpoint_interval
                if output.force_checkpoint or (due and output.batch_indices):
                    state.streaming_output_paths.append(writer.close())
                    writer = None
                    state.update_batch_offsets(output.batch_indices)
                    last_checkpoint = time.time()
                    self._send_checkpoint()
            self.add_elapsed_time("compute time (secs)")
            if writer is not None:
                state.streaming_output_paths.append(writer.close())
                writer = None
        finally:
            if writer is not None:
                writer.abort()
        if not wrote and not state.streaming_output_paths:
            logger.warning("%s: process() yielded nothing, so it has no output", self.key)
        return True

    def _begin_again(self) -> None:
        # The last checkpoint names files that go now: the next attempt starts where this one does.
        self.runtime_state = None
        self._send_checkpoint()
        super()._begin_again()

    def _send_checkpoint(self) -> None:
        if self.exec_cq is None:
            return
        checkpoint = copy.copy(self)
        checkpoint.runtime_state = copy.deepcopy(self.runtime_state)
        checkpoint.clean_complex_attrs()
        self.exec_cq.push(checkpoint, buffering=False)
        logger.debug("%s: checkpoint: %s", self.key, self.runtime_state)


class ArrowBatchTask(ArrowStreamTask):
    """Calls `process(runtime_ctx, input_tables) -> Table` once a batch."""

    @property
    def max_batch_size(self) -> int:
        return self.memory_limit // 3

    def _call_process(
        self, runtime_ctx: RuntimeContext, input_readers: list[arrow.RecordBatchReader]
    ) -> Iterator[StreamOutput]:
        import pyarrow as arrow

        from smallpond.utility import ConcurrentIter

        with contextlib.ExitStack() as stack:
            ahead: list[Iterable[Any]] = [
                stack.enter_context(ConcurrentIter(reader) if self.background_io_thread else reader)
                for reader in input_readers
            ]
            for index, batches in enumerate(itertools.zip_longest(*ahead)):
                tables = [
                    reader.schema.empty_table()
                    if batch is None
                    else arrow.Table.from_batches([batch], reader.schema)
                    for reader, batch in zip(input_readers, batches, strict=True)
                ]
                output = self._process_batches(runtime_ctx, tables)
                yield self._wrap_output(output, [index] * len(batches))

    def _process_batches(self, runtime_ctx: RuntimeContext, input_tables: list[Any]) -> Any:
        return self.process(runtime_ctx, input_tables)


class PandasBatchTask(ArrowBatchTask):
    """Calls `process(runtime_ctx, input_dfs) -> DataFrame` once a batch."""

    def _process_batches(self, runtime_ctx: RuntimeContext, input_tables: list[Any]) -> Any:
        import pyarrow as arrow

        frames: list[pd.DataFrame] = [table.to_pandas() for table in input_tables]
        return arrow.Table.from_pandas(self.process(runtime_ctx, frames), preserve_index=False)
