"""User code that reads data sets and writes files by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.task.python_script import PythonScriptTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.node.context import Context


class PythonScriptNode(Node):
    """Call `process(runtime_ctx, input_datasets, output_path)` once a partition.

    Give the function as `process_func`, or override `process`, or override `spawn` to return an
    own subclass of `PythonScriptTask`. `runtime_ctx.task` is the running task.
    """

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        *,
        process_func: Callable[[RuntimeContext, list[DataSet], str], bool] | None = None,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int = 1,
        gpu_limit: float = 0,
        memory_limit: int | None = None,
    ) -> None:
        """Make the node; bind further arguments of `process_func` with `functools.partial`."""
        super().__init__(
            ctx, input_deps, output_name, output_path, cpu_limit, gpu_limit, memory_limit
        )
        self.process_func = process_func

    def __str__(self) -> str:
        return super().__str__() + f", process_func={self.process_func}"

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> PythonScriptTask:
        return self.spawn(
            runtime_ctx,
            input_deps,
            partition_infos,
            # Copied here and not in the constructor: a subclass sets its attributes after ours.
            self.process_func or self.slim_copy().process,  # type: ignore[attr-defined]
            self.output_name,
            self.output_path,
            self.cpu_limit,
            self.gpu_limit,
            self.memory_limit,
        )

    def spawn(self, *args: Any, **kwargs: Any) -> PythonScriptTask:
        """The task; override to return an own subclass made with the same arguments."""
        return PythonScriptTask(*args, **kwargs)

    def process(
        self, runtime_ctx: RuntimeContext, input_datasets: list[DataSet], output_path: str
    ) -> bool:
        """Write files below `output_path`; return True, or False (or raise) for a failure."""
        raise NotImplementedError(f"{self!r}: give process_func or override process()")
