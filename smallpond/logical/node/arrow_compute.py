"""User code over whole partitions, as Arrow tables or pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_ROW_GROUP_SIZE
from smallpond.execution.task.arrow_compute import ArrowComputeTask, PandasComputeTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as arrow

    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class ArrowComputeNode(Node):
    """Call `process(runtime_ctx, input_tables) -> Table` once a partition.

    Give the function as `process_func`, or override `process`, or override `spawn` to return an
    own subclass of `ArrowComputeTask`. The whole partition is in memory.
    """

    default_row_group_size = DEFAULT_ROW_GROUP_SIZE

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        *,
        process_func: Callable[..., Any] | None = None,
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

        `use_duckdb_reader` loads the inputs with DuckDB, which a projection with SQL expressions
        needs. The `parquet_*` options shape the output files.
        """
        super().__init__(
            ctx, input_deps, output_name, output_path, cpu_limit, gpu_limit, memory_limit
        )
        self.parquet_row_group_size = parquet_row_group_size or self.default_row_group_size
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level
        self.use_duckdb_reader = use_duckdb_reader
        self.process_func = process_func

    def __str__(self) -> str:
        return super().__str__() + f", process_func={self.process_func}"

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> ArrowComputeTask:
        return self.spawn(
            runtime_ctx,
            input_deps,
            partition_infos,
            # Copied here and not in the constructor: a subclass sets its attributes after ours.
            self.process_func or self.slim_copy().process,  # type: ignore[attr-defined]
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

    def spawn(self, *args: Any, **kwargs: Any) -> ArrowComputeTask:
        """The task; override to return an own subclass made with the same arguments."""
        return ArrowComputeTask(*args, **kwargs)

    def process(self, runtime_ctx: RuntimeContext, input_tables: list[arrow.Table]) -> arrow.Table:
        """Return the partition's output; the tables come in the order of `input_deps`."""
        raise NotImplementedError(f"{self!r}: give process_func or override process()")


class PandasComputeNode(ArrowComputeNode):
    """Call `process(runtime_ctx, input_dfs) -> DataFrame` once a partition."""

    def spawn(self, *args: Any, **kwargs: Any) -> PandasComputeTask:
        return PandasComputeTask(*args, **kwargs)

    def process(self, runtime_ctx: RuntimeContext, input_dfs: list[pd.DataFrame]) -> pd.DataFrame:
        raise NotImplementedError(f"{self!r}: give process_func or override process()")
