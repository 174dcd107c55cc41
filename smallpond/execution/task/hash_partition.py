"""Rows to the partition of their key: hashed, at random, or as a column says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from smallpond.common import DEFAULT_ROW_GROUP_SIZE, KB, clamp_row_group_bytes
from smallpond.execution.task.base import Task
from smallpond.execution.task.grouped_partition import GroupedPartitionTask, Placement
from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.sql_text import quoted_identifier

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

    from smallpond.execution.task.context import RuntimeContext


class HashPartitionTask(GroupedPartitionTask):
    """What both engines share: everything but how the input is read."""

    __slots__ = (
        "data_partition_column",
        "drop_partition_column",
        "hash_columns",
        "hive_partitioning",
        "parquet_compression",
        "parquet_compression_level",
        "parquet_dictionary_encoding",
        "parquet_row_group_bytes",
        "parquet_row_group_size",
        "random_shuffle",
        "shuffle_only",
        "use_parquet_writer",
    )

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        hash_columns: list[str] | None,
        data_partition_column: str,
        random_shuffle: bool = False,
        shuffle_only: bool = False,
        drop_partition_column: bool = False,
        use_parquet_writer: bool = False,
        hive_partitioning: bool = False,
        parquet_row_group_size: int = DEFAULT_ROW_GROUP_SIZE,
        parquet_dictionary_encoding: bool | list[str] = False,
        parquet_compression: str | None = "ZSTD",
        parquet_compression_level: int | None = 3,
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
        self.hash_columns = ["random()"] if random_shuffle else hash_columns
        self.data_partition_column = data_partition_column
        self.random_shuffle = random_shuffle
        self.shuffle_only = shuffle_only
        self.drop_partition_column = drop_partition_column
        self.use_parquet_writer = use_parquet_writer
        self.hive_partitioning = hive_partitioning
        self.parquet_row_group_size = parquet_row_group_size
        self.parquet_row_group_bytes = clamp_row_group_bytes(parquet_row_group_size * 4 * KB)
        self.parquet_dictionary_encoding = parquet_dictionary_encoding
        self.parquet_compression = parquet_compression
        self.parquet_compression_level = parquet_compression_level
        self.file_per_partition = self.file_per_partition or hive_partitioning
        # A shuffled column is among the rows' own; the other partition numbers are new.
        if not (shuffle_only or drop_partition_column):
            self.partition_column = data_partition_column

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", hash_columns={self.hash_columns}, "
            + f"data_partition_column={self.data_partition_column}, "
            + f"hive_partitioning={self.hive_partitioning}"
        )

    @staticmethod
    def create(
        engine_type: Literal["duckdb", "arrow"], *args: Any, **kwargs: Any
    ) -> HashPartitionTask:
        """The task of the engine."""
        if engine_type == "duckdb":
            return HashPartitionDuckDbTask(*args, **kwargs)
        if engine_type == "arrow":
            return HashPartitionArrowTask(*args, **kwargs)
        raise ValueError(f"Unknown hash partition engine: '{engine_type}'")

    def partition_kv_infos(self, partition_idx: int) -> list[PartitionInfo]:
        return [
            PartitionInfo(partition_idx, self.npartitions, self.dimension),
            PartitionInfo(partition_idx, self.npartitions, self.data_partition_column),
        ]

    def empty_file_dir(self, partition_idx: int) -> str:
        return f"{self.data_partition_column}={partition_idx}" if self.hive_partitioning else ""

    def partition_path(self, partition: int, run: int) -> str:
        name = f"{self.output_filename}-{partition}.{run}.parquet"
        folder = self.empty_file_dir(partition)
        return f"{folder}/{name}" if folder else name

    def file_options(self) -> dict[str, Any]:
        zstd = (self.parquet_compression or "").upper() == "ZSTD"
        return {
            "compression": self.parquet_compression or "NONE",
            "compression_level": self.parquet_compression_level if zstd else None,
            "use_dictionary": self.parquet_dictionary_encoding,
        }

    @property
    def file_row_group_rows(self) -> int:
        return self.parquet_row_group_size

    def input_query(self, conn: duckdb.DuckDBPyConnection) -> str:
        """The input as a query."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it reads")

    def shuffle_statement(self, conn: duckdb.DuckDBPyConnection) -> tuple[str, Placement | None]:
        column = self.data_partition_column
        drop = self.drop_partition_column or not self.shuffle_only
        query = self.shuffle_query(conn, self.input_query(conn), without=[column] if drop else [])
        if self.shuffle_only:
            # A name, or any expression that is the number of the partition.
            named = quoted_identifier(column) if column in query.types else column
            return query.by_expression(named), None
        if self.random_shuffle:
            return query.without_partition(), self._random_partitions
        assert self.hash_columns, f"no columns to hash: {self}"
        return query.by_hash(self.hash_columns, self.npartitions), None

    def _random_partitions(self, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
        numbers: np.ndarray[Any, Any] = self.numpy_random_gen.integers(
            self.npartitions, size=batch.num_rows
        )
        return numbers


class HashPartitionDuckDbTask(HashPartitionTask):
    """DuckDB reads the input."""

    def input_query(self, conn: duckdb.DuckDBPyConnection) -> str:
        [view] = self.create_input_views(conn, self.input_datasets[:1])
        return f"SELECT * FROM {view}"


class HashPartitionArrowTask(HashPartitionTask):
    """Arrow's reader reads the input; keys are hashed as by the other engine."""

    def input_query(self, conn: duckdb.DuckDBPyConnection) -> str:
        reader = self.input_datasets[0].to_batch_reader()
        conn.register("shuffle_arrow_input", reader)
        return "SELECT * FROM shuffle_arrow_input"
