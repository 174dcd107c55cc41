"""Partitions between split points that are known in advance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.task.range_partition import RangePartitionTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.partition import PartitionNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class RangePartitionNode(PartitionNode):
    """Partition i holds the rows at or above split point i-1 and below split point i."""

    default_cpu_limit = 1
    max_num_producer_tasks = 1000
    producers_share_files = True

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        split_points: Sequence[Any],
        dimension: str | None = None,
        nested: bool = False,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
        *,
        order_by: str | Sequence[str] | None = None,
    ) -> None:
        """Divide at `split_points`, n of which make n + 1 partitions.

        `order_by` names the columns or SQL expressions that are compared, each with an optional
        `ASC`/`DESC` and `NULLS FIRST`/`NULLS LAST`; the first column of the input by default. With
        several of them, every split point is a tuple. Split points must be in that order.
        """
        points = [tuple(p) if isinstance(p, list | tuple) else (p,) for p in split_points]
        columns = [order_by] if isinstance(order_by, str) else order_by
        width = 1 if columns is None else len(columns)
        assert all(len(point) == width for point in points), (
            f"every split point needs {width} values, as many as order_by: {split_points}"
        )
        super().__init__(
            ctx,
            input_deps,
            len(points) + 1,
            dimension,
            nested,
            output_name,
            output_path,
            cpu_limit or self.default_cpu_limit,
            memory_limit,
        )
        self.split_points = points
        self.order_by = None if columns is None else list(columns)

    def __str__(self) -> str:
        return super().__str__() + f", order_by={self.order_by}"

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> RangePartitionTask:
        return RangePartitionTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            split_points=self.split_points,
            order_by=self.order_by,
            output_name=self.output_name,
            output_path=self.output_path,
            cpu_limit=self.cpu_limit,
            memory_limit=self.memory_limit,
        )
