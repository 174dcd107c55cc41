"""Partitions by the hash of columns, at random, or by a column that holds the partition.

Unnamed outputs are written as one file a producer, rows grouped by partition, of which a consumer
reads its ranges; outputs that a person sees (a named node, a sink) have files of their own for
every partition.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from smallpond.common import DATA_PARTITION_COLUMN_NAME, DEFAULT_ROW_GROUP_SIZE
from smallpond.execution.task.hash_partition import HashPartitionTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.partition import PartitionNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context

HashEngine = Literal["duckdb", "arrow"]


class HashPartitionNode(PartitionNode):
    """Send each row of `input_deps` to the partition of its key.

    Equal keys meet: 1, 1.0 and DECIMAL 1 are one key, NULL is a key, text is compared by bytes.
    """

    default_cpu_limit = 1
    default_memory_limit: int | None = None
    default_data_partition_column = DATA_PARTITION_COLUMN_NAME
    default_engine_type: HashEngine = "duckdb"
    default_row_group_size = DEFAULT_ROW_GROUP_SIZE
    max_num_producer_tasks = 1000
    producers_share_files = True
    enable_resource_boost = True

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        hash_columns: list[str] | None = None,
        data_partition_column: str | None = None,
        *,
        dimension: str | None = None,
        nested: bool = False,
        engine_type: HashEngine | None = None,
        random_shuffle: bool = False,
        shuffle_only: bool = False,
        drop_partition_column: bool = False,
        use_parquet_writer: bool = False,
        hive_partitioning: bool = False,
        parquet_row_group_size: int | None = None,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        """Make the node.

        The key is `hash_columns`; with `random_shuffle` a random number; with `shuffle_only` the
        number which the column `data_partition_column` already holds. The partition is stored in
        `data_partition_column` unless `drop_partition_column`. `engine_type` says what reads the
        input: DuckDB, or Arrow's own reader; keys go to the same partition with both.
        `hive_partitioning` (DuckDB only) writes `column=value/` folders. `use_parquet_writer` is
        accepted and has no effect: every partition gets one file anyway.
        """
        assert not (random_shuffle and shuffle_only), (
            "random_shuffle and shuffle_only cannot be enabled at the same time"
        )
        assert not shuffle_only or data_partition_column is not None, (
            "data_partition_column not specified for shuffle-only partitioning"
        )
        assert data_partition_column is None or re.match("[a-zA-Z0-9_]+", data_partition_column), (
            f"data_partition_column has invalid format: {data_partition_column}"
        )
        assert engine_type in (None, "duckdb", "arrow"), f"unknown query engine type: {engine_type}"
        column = data_partition_column or self.default_data_partition_column
        super().__init__(
            ctx,
            input_deps,
            npartitions,
            dimension or column,
            nested,
            output_name,
            output_path,
            cpu_limit or self.default_cpu_limit,
            memory_limit or self.default_memory_limit,
        )
        self.hash_columns = ["random()"] if random_shuffle else hash_columns
        self.data_partition_column = column
        self.engine_type: HashEngine = engine_type or self.default_engine_type
        self.random_shuffle = random_shuffle
        self.shuffle_only = shuffle_only
        self.drop_partition_column = drop_partition_column
        self.use_parquet_writer = use_parquet_writer
        self.hive_partitioning = hive_partitioning and self.engine_type == "duckdb"
        self.parquet_row_group_size = parquet_row_group_size or self.default_row_group_size
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", hash_columns={self.hash_columns}, "
            + f"data_partition_column={self.data_partition_column}, "
            + f"engine_type={self.engine_type}, hive_partitioning={self.hive_partitioning}"
        )

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> HashPartitionTask:
        return HashPartitionTask.create(
            self.engine_type,
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            self.hash_columns,
            self.data_partition_column,
            self.random_shuffle,
            self.shuffle_only,
            self.drop_partition_column,
            self.use_parquet_writer,
            self.hive_partitioning,
            self.parquet_row_group_size,
            self.parquet_dictionary_encoding,
            self.parquet_compression,
            self.parquet_compression_level,
            self.output_name,
            self.output_path,
            self.cpu_limit,
            self.memory_limit,
        )


class ShuffleNode(HashPartitionNode):
    """Send each row to the partition whose number the column `data_partition_column` holds."""

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        data_partition_column: str | None = None,
        *,
        dimension: str | None = None,
        nested: bool = False,
        engine_type: HashEngine | None = None,
        use_parquet_writer: bool = False,
        hive_partitioning: bool = False,
        parquet_row_group_size: int | None = None,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        """Make the node; a row outside of [0, npartitions) fails the task."""
        super().__init__(
            ctx,
            input_deps,
            npartitions,
            hash_columns=None,
            data_partition_column=data_partition_column,
            dimension=dimension,
            nested=nested,
            engine_type=engine_type,
            shuffle_only=True,
            use_parquet_writer=use_parquet_writer,
            hive_partitioning=hive_partitioning,
            parquet_row_group_size=parquet_row_group_size,
            parquet_dictionary_encoding=parquet_dictionary_encoding,
            parquet_compression=parquet_compression,
            parquet_compression_level=parquet_compression_level,
            output_name=output_name,
            output_path=output_path,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )
