"""Rows to the partition between two split points that the user gave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.task.base import Task
from smallpond.execution.task.grouped_partition import GroupedPartitionTask, Placement
from smallpond.execution.task.sql_text import quoted_identifier

if TYPE_CHECKING:
    import duckdb

    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo


class RangePartitionTask(GroupedPartitionTask):
    """Partition i gets the rows at or above point i-1 and below point i."""

    __slots__ = ("order_by", "split_points")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        *,
        split_points: Sequence[Sequence[Any]],
        order_by: list[str] | None = None,
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
        self.split_points = [tuple(point) for point in split_points]
        self.order_by = order_by

    def shuffle_statement(self, conn: duckdb.DuckDBPyConnection) -> tuple[str, Placement | None]:
        [view] = self.create_input_views(conn, self.input_datasets[:1])
        query = self.shuffle_query(conn, f"SELECT * FROM {view}")
        order_by = self.order_by or [quoted_identifier(query.columns[0])]
        points = query.sort_keys_of(order_by, self.split_points)
        return query.by_range(order_by, points), None
