"""The first rows.

A limit is planned in two steps: each partition's first `limit` rows, then the first of those. It
is therefore never to be fused with a query before or after it, though it is made of SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.merge import MergeDataSetsTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.sql_engine import SqlEngineNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class LimitNode(SqlEngineNode):
    """At most `limit` rows of all partitions together, in one partition."""

    def __init__(self, ctx: Context, input_dep: Node, limit: int) -> None:
        """Keep `limit` rows of `input_dep`."""
        super().__init__(ctx, (input_dep,), f"select * from {{0}} limit {int(limit)}")
        self.limit = limit

    def __str__(self) -> str:
        return super().__str__() + f", limit={self.limit}"

    @Node.task_factory
    def create_merge_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> MergeDataSetsTask:
        """The task that unites the partitions' first rows."""
        return MergeDataSetsTask(runtime_ctx, input_deps, partition_infos)

    @property
    def num_partitions(self) -> int:
        return 1
