"""SQL over partitions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_ROW_GROUP_SIZE
from smallpond.execution.task.sql_engine import SqlEngineTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context
    from smallpond.logical.udf import UserDefinedFunction


def registered_udfs(ctx: Context, udfs: Iterable[str | UserDefinedFunction]) -> list[str]:
    """The names under which `ctx` knows `udfs`, after registering those that it did not know."""
    from smallpond.logical.udf import UserDefinedFunction

    names = []
    for udf in udfs:
        if isinstance(udf, UserDefinedFunction):
            names.append(
                ctx.create_function(
                    udf.name, udf.func, udf.params, udf.return_type, udf.use_arrow_type
                )
            )
            continue
        assert isinstance(udf, str), f"udf must be a string: {udf}"
        if udf in ctx.udfs:
            names.append(udf)
        elif udf.endswith(".duckdb_extension"):
            names.append(ctx.create_duckdb_extension(udf))
        elif udf.endswith(".so"):
            names.append(ctx.create_external_module(udf))
        else:
            raise ValueError(f"invalid udf: {udf}")
    return names


class SqlEngineNode(Node):
    """Run SQL (DuckDB's) once a partition."""

    max_udf_cpu_limit: int | None = 3
    default_cpu_limit = 1
    default_memory_limit: int | None = None
    default_row_group_size = DEFAULT_ROW_GROUP_SIZE
    enable_resource_boost = True

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        sql_query: str | Iterable[str],
        *,
        udfs: list[str | UserDefinedFunction] | None = None,
        per_thread_output: bool = True,
        materialize_output: bool = True,
        materialize_in_memory: bool = False,
        relax_memory_if_oom: bool | None = None,
        batched_processing: bool = False,
        extension_paths: list[str] | None = None,
        udf_module_paths: list[str] | None = None,
        enable_temp_directory: bool = False,
        parquet_row_group_size: int | None = None,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
        cpu_overcommit_ratio: float = 1.0,
        memory_overcommit_ratio: float = 0.9,
    ) -> None:
        """Make the node.

        `sql_query` is a query or a list of them; all run, the result of the last is the output.
        A query may hold `{0}`, `{1}`, ... for the inputs, `{batch_index}`, `{query_index}`,
        `{rand_seed}`, `{cpu_limit}`, `{memory_limit}`, `{output_filename}`, and the name of any
        partition dimension, for instance `{__data_partition__}`. Double a brace to keep it.
        `per_thread_output` writes a file a thread; without it, one file. `materialize_output=False`
        is for queries that write by themselves. `batched_processing` runs the queries over one
        piece after another of an only input, each of which fits into memory.
        """
        if relax_memory_if_oom is not None:
            warnings.warn(
                "Argument 'relax_memory_if_oom' has been deprecated",
                DeprecationWarning,
                stacklevel=3,
            )
        cpu_limit, memory_limit = self._limits(cpu_limit, memory_limit, udfs is not None)
        queries = [sql_query] if isinstance(sql_query, str) else list(sql_query)
        assert queries and all(isinstance(q, str) for q in queries), f"not SQL: {sql_query!r}"
        super().__init__(
            ctx,
            input_deps,
            output_name,
            output_path,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )
        self.sql_queries = queries
        self.udfs = [
            *(ctx.create_duckdb_extension(path) for path in extension_paths or []),
            *(ctx.create_external_module(path) for path in udf_module_paths or []),
            *registered_udfs(ctx, udfs or []),
        ]
        self.per_thread_output = per_thread_output
        self.materialize_output = materialize_output
        self.materialize_in_memory = materialize_in_memory
        self.batched_processing = batched_processing and len(input_deps) == 1
        self.enable_temp_directory = enable_temp_directory
        self.parquet_row_group_size = parquet_row_group_size or self.default_row_group_size
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level
        self.cpu_overcommit_ratio = cpu_overcommit_ratio
        self.memory_overcommit_ratio = memory_overcommit_ratio

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", sql_query=<{self.oneline_query[:100]}...>, udfs={self.udfs}, "
            + f"batched_processing={self.batched_processing}"
        )

    def _limits(
        self, cpu_limit: int | None, memory_limit: int | None, calls_python: bool
    ) -> tuple[int, int | None]:
        """The limits, by default those of the class; fewer cores for Python functions."""
        cpu_limit = cpu_limit or self.default_cpu_limit
        if calls_python and self.max_udf_cpu_limit and cpu_limit > self.max_udf_cpu_limit:
            warnings.warn(
                f"Python functions run on few cores at once: cpu_limit lowered from {cpu_limit} "
                f"to {self.max_udf_cpu_limit}",
                stacklevel=4,
            )
            return self.max_udf_cpu_limit, None
        return cpu_limit, memory_limit or self.default_memory_limit

    @property
    def oneline_query(self) -> str:
        """The queries on one line."""
        return "; ".join(" ".join(query.split()) for query in self.sql_queries)

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> SqlEngineTask:
        return self.spawn(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.sql_queries,
            udfs=[self.ctx.udfs[name] for name in self.udfs],
            per_thread_output=self.per_thread_output,
            materialize_output=self.materialize_output,
            materialize_in_memory=self.materialize_in_memory,
            batched_processing=self.batched_processing,
            enable_temp_directory=self.enable_temp_directory,
            parquet_row_group_size=self.parquet_row_group_size,
            parquet_dictionary_encoding=self.parquet_dictionary_encoding,
            parquet_compression=self.parquet_compression,
            parquet_compression_level=self.parquet_compression_level,
            output_name=self.output_name,
            output_path=self.output_path,
            cpu_limit=self.cpu_limit,
            gpu_limit=self.gpu_limit,
            memory_limit=self.memory_limit,
            cpu_overcommit_ratio=self.cpu_overcommit_ratio,
            memory_overcommit_ratio=self.memory_overcommit_ratio,
        )

    def spawn(self, *args: Any, **kwargs: Any) -> SqlEngineTask:
        """The task; override to return an own subclass made with the same arguments."""
        return SqlEngineTask(*args, **kwargs)

    @property
    def num_partitions(self) -> int:
        return self.input_deps[0].num_partitions
