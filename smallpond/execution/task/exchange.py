"""The producer of an exchange: the user's query in front, then rows by hash, range or number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.shuffle.ranges import SORT_KEY_COLUMN
from smallpond.execution.task.base import Task
from smallpond.execution.task.grouped_partition import GroupedPartitionTask, Placement
from smallpond.execution.task.sql_text import substituted

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.udf import UDFContext


class ExchangeTask(GroupedPartitionTask):
    """See `smallpond.logical.node.exchange`."""

    __slots__ = ("columns", "keys", "order_by", "partition_by", "query", "query_udfs")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        *,
        keys: list[str] | None = None,
        order_by: list[str] | None = None,
        partition_by: str | None = None,
        query: str | None = None,
        columns: list[str] | None = None,
        udfs: Sequence[UDFContext] = (),
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(
            ctx,
            input_deps,
            partition_infos,
            npartitions,
            dimension,
            cpu_limit=cpu_limit,
            memory_limit=memory_limit,
        )
        self.keys = keys
        self.order_by = order_by
        self.partition_by = partition_by
        self.query = query
        self.columns = columns
        self.query_udfs: Sequence[UDFContext] = list(udfs)

    def cleanup(self) -> None:
        self.query_udfs = []
        super().cleanup()

    @property
    def keeps_every_row(self) -> bool:
        return self.query is None

    def shuffle_statement(self, conn: duckdb.DuckDBPyConnection) -> tuple[str, Placement | None]:
        [view] = self.create_input_views(conn, self.input_datasets[:1])
        source = substituted(
            self.query or "SELECT * FROM {0}",
            [view],
            {
                "rand_seed": self.rand_seed_uint32,
                "cpu_limit": self.cpu_limit,
                "memory_limit": self.memory_limit,
                **self.partition_infos_as_dict,
            },
        )
        query = self.shuffle_query(conn, source, self.columns)
        if self.partition_by is not None:
            return query.by_expression(self.partition_by), None
        if self.order_by is not None:
            return query.by_range(self.order_by, self._split_points(conn)), None
        if not self.keys:
            return query.without_partition(), self._random_partitions
        return query.by_hash(self.keys, self.npartitions), None

    def _split_points(self, conn: duckdb.DuckDBPyConnection) -> list[Any]:
        """The rows of the last input, in order and distinct."""
        [view] = self.create_input_views(conn, self.input_datasets[-1:])
        rows = self.fetch(
            conn,
            f"SELECT DISTINCT {SORT_KEY_COLUMN} FROM {view} "
            f"WHERE {SORT_KEY_COLUMN} IS NOT NULL ORDER BY {SORT_KEY_COLUMN}",
        )
        assert len(rows) < self.npartitions, (
            f"{len(rows)} split points make more than {self.npartitions} partitions"
        )
        return [row[0] for row in rows]

    def _random_partitions(self, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
        numbers: np.ndarray[Any, Any] = self.numpy_random_gen.integers(
            self.npartitions, size=batch.num_rows
        )
        return numbers
