"""User code over a stream of batches, with checkpoints, as Arrow tables or pandas frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE, DEFAULT_ROW_GROUP_SIZE
from smallpond.execution.task.arrow_stream import ArrowBatchTask, ArrowStreamTask, PandasBatchTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as arrow

    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class ArrowStreamNode(Node):
    """Call `process(runtime_ctx, input_readers) -> Iterable[Table | StreamOutput]` a partition.

    A task that is interrupted starts again at its last checkpoint, not at the beginning.
    """

    default_batch_size = DEFAULT_BATCH_SIZE
    default_row_group_size = DEFAULT_ROW_GROUP_SIZE
    default_secs_checkpoint_interval = 180

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        *,
        process_func: Callable[..., Any] | None = None,
        background_io_thread: bool = True,
        streaming_batch_size: int | None = None,
        secs_checkpoint_interval: float | None = None,
        parquet_row_group_size: int | None = None,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
        use_duckdb_reader: bool = False,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int = 1,
        gpu_limit: float = 0,
        memory_limit: int | None = None,
    ) -> None:
        """Make the node.

        Batches have at most `streaming_batch_size` rows. `background_io_thread` reads and writes
        beside the user's code when the task has more than one core. A checkpoint is made every
        `secs_checkpoint_interval` seconds, sooner for tasks that cost more.
        """
        super().__init__(
            ctx, input_deps, output_name, output_path, cpu_limit, gpu_limit, memory_limit
        )
        self.background_io_thread = background_io_thread and self.cpu_limit > 1
        self.streaming_batch_size = streaming_batch_size or self.default_batch_size
        self.secs_checkpoint_interval = secs_checkpoint_interval or math.ceil(
            self.default_secs_checkpoint_interval / min(6, self.gpu_limit + 2, self.cpu_limit)
        )
        self.parquet_row_group_size = parquet_row_group_size or self.default_row_group_size
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level
        self.use_duckdb_reader = use_duckdb_reader
        self.process_func = process_func

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", process_func={self.process_func}, "
            + f"background_io_thread={self.background_io_thread}, "
            + f"streaming_batch_size={self.streaming_batch_size}, "
            + f"checkpoint_interval={self.secs_checkpoint_interval}s"
        )

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> ArrowStreamTask:
        return self.spawn(
            runtime_ctx,
            input_deps,
            partition_infos,
            # Copied here and not in the constructor: a subclass sets its attributes after ours.
            self.process_func or self.slim_copy().process,  # type: ignore[attr-defined]
            self.background_io_thread,
            self.streaming_batch_size,
            self.secs_checkpoint_interval,
            self.parquet_row_group_size,
            self.parquet_dictionary_encoding,
            self.parquet_compression,
            self.parquet_compression_level,
            self.use_duckdb_reader,
            self.output_name,
            self.output_path,
            self.cpu_limit,
            self.gpu_limit,
            self.memory_limit,
        )

    def spawn(self, *args: Any, **kwargs: Any) -> ArrowStreamTask:
        """The task; override to return an own subclass made with the same arguments."""
        return ArrowStreamTask(*args, **kwargs)

    def process(
        self, runtime_ctx: RuntimeContext, input_readers: list[arrow.RecordBatchReader]
    ) -> Iterable[arrow.Table]:
        """Yield output tables; a `StreamOutput` with batch indices allows a checkpoint there."""
        raise NotImplementedError(f"{self!r}: give process_func or override process()")


class ArrowBatchNode(ArrowStreamNode):
    """Call `process(runtime_ctx, input_tables) -> Table` once a batch.

    The n-th call gets the n-th batch of every input; inputs that ended give empty tables.
    """

    def spawn(self, *args: Any, **kwargs: Any) -> ArrowBatchTask:
        return ArrowBatchTask(*args, **kwargs)

    def process(self, runtime_ctx: RuntimeContext, input_tables: list[arrow.Table]) -> arrow.Table:
        raise NotImplementedError(f"{self!r}: give process_func or override process()")


class PandasBatchNode(ArrowStreamNode):
    """Call `process(runtime_ctx, input_dfs) -> DataFrame` once a batch."""

    def spawn(self, *args: Any, **kwargs: Any) -> PandasBatchTask:
        return PandasBatchTask(*args, **kwargs)

    def process(self, runtime_ctx: RuntimeContext, input_dfs: list[pd.DataFrame]) -> pd.DataFrame:
        raise NotImplementedError(f"{self!r}: give process_func or override process()")
