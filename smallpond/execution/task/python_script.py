"""User code that reads data sets and writes files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.base import Task
from smallpond.execution.task.sql_query import ExecSqlQueryMixin

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.dataset import DataSet


class PythonScriptTask(ExecSqlQueryMixin, Task):
    """Calls `process(runtime_ctx, input_datasets, output_path) -> bool`."""

    __slots__ = ("process_func",)

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        process_func: Callable[[RuntimeContext, list[DataSet], str], bool] | None = None,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        gpu_limit: float | None = None,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(
            ctx,
            input_deps,
            partition_infos,
            output_name,
            output_path,
            cpu_limit,
            gpu_limit,
            memory_limit,
        )
        self.process_func = process_func

    def clean_complex_attrs(self) -> None:
        self.process_func = None
        super().clean_complex_attrs()

    def process(
        self, runtime_ctx: RuntimeContext, input_datasets: list[DataSet], output_path: str
    ) -> bool:
        """Write files below `output_path`; False or an exception is a failure."""
        assert self.process_func is not None, f"{self.key} has no function to call"
        return self.process_func(runtime_ctx, input_datasets, output_path)

    def run(self) -> bool:
        from smallpond.logical.dataset import FileSet

        try:
            self.add_elapsed_time()
            if self.skip_when_any_input_empty:
                return True
            done = self.process(
                self.ctx.set_current_task(self), self.input_datasets, self.runtime_output_abspath
            )
            self.note_skipped(None)
            return done
        finally:
            self.dataset = FileSet(["*"], root_dir=self.final_output_abspath)
