"""A choice of columns which only the description of the data carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.common import GENERATED_COLUMNS
from smallpond.execution.task.projection import ProjectionTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context


class ProjectionNode(Node):
    """Let the readers of `input_dep` load only `columns`; no data moves.

    `columns` are names or, for readers that use DuckDB, SQL expressions.
    """

    def __init__(
        self,
        ctx: Context,
        input_dep: Node,
        columns: list[str] | None = None,
        generated_columns: list[str] | None = None,
        union_by_name: bool | None = None,
    ) -> None:
        """Choose `columns` (None: all); add `filename` and `file_row_number` when asked.

        `union_by_name` matches the columns of different files by name instead of by position.
        """
        columns = columns or ["*"]
        generated_columns = generated_columns or []
        assert all(col in GENERATED_COLUMNS for col in generated_columns), (
            f"invalid values found in generated columns: {generated_columns}"
        )
        assert not set(columns) & set(generated_columns), (
            f"columns {columns} and generated columns {generated_columns} share common columns"
        )
        super().__init__(ctx, [input_dep])
        self.columns = columns
        self.generated_columns = generated_columns
        self.union_by_name = union_by_name

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", columns={self.columns}, generated_columns={self.generated_columns}, "
            + f"union_by_name={self.union_by_name}"
        )

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> ProjectionTask:
        return ProjectionTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.columns,
            self.generated_columns,
            self.union_by_name,
        )

    @property
    def num_partitions(self) -> int:
        return self.input_deps[0].num_partitions
