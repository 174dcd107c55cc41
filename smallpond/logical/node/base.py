"""What every logical node has: an id, inputs, resource requests, the user's line that made it.

A node describes work and never does it. The planner asks a node for tasks (`create_task` and its
kin, each wrapped by `Node.task_factory`, which ties the task to the node and to the user's line).

Invariant: `input_deps` never changes after construction except in copies which the planner or the
optimiser made for themselves.
"""

from __future__ import annotations

import copy
import functools
import math
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smallpond.common import GB

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo, PerfStats
    from smallpond.logical.node.context import Context

_Builder = TypeVar("_Builder", bound=Callable[..., Any])
_OUTPUT_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*")
_PACKAGE_DIR = str(Path(__file__).resolve().parents[2]) + "/"
# The package is also reached through a link; both spellings are "inside".
_PACKAGE_DIRS = (_PACKAGE_DIR, str(Path(__file__).absolute().parents[2]) + "/")


class NodeId(int):
    """The number of a node within its plan; prints with six digits, so that names sort."""

    def __str__(self) -> str:
        return f"{int(self):06d}"


def user_location() -> str:
    """`file:line` of the innermost frame outside this package: the user's own line."""
    frame = sys._getframe(1)
    last = frame
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_PACKAGE_DIRS):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        last = frame
        frame = frame.f_back  # type: ignore[assignment]
    return f"{last.f_code.co_filename}:{last.f_lineno}"


class Node:
    """The base class of all nodes of a logical plan."""

    enable_resource_boost = False

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int = 1,
        gpu_limit: float = 0,
        memory_limit: int | None = None,
    ) -> None:
        """Make a node over `input_deps`.

        `output_name` makes the node's files outputs of the job, found under that name; without it
        they are temporary. `output_path` is an absolute folder for them. The limits are what a task
        of this node asks of a machine; `memory_limit=None` is the share that goes with `cpu_limit`.
        """
        assert isinstance(input_deps, Iterable), f"input_deps is not iterable: {input_deps}"
        assert all(isinstance(node, Node) for node in input_deps), (
            f"some of input_deps are not instances of Node: {input_deps}"
        )
        assert output_name is None or _OUTPUT_NAME.fullmatch(output_name), (
            f"output_name has invalid format: {output_name}"
        )
        assert output_path is None or Path(output_path).is_absolute(), (
            f"output_path is not an absolute path: {output_path}"
        )
        self.ctx = ctx
        self.id = ctx._new_node_id()
        self.input_deps = input_deps
        self.output_name = output_name
        self.output_path = output_path
        self.cpu_limit = max(cpu_limit, math.ceil(gpu_limit * 8))
        self.gpu_limit = gpu_limit
        self.memory_limit = memory_limit
        self.generated_tasks: list[str] = []
        self.perf_stats: dict[str, PerfStats] = {}
        self.perf_metrics: dict[str, list[float]] = defaultdict(list)
        self.location = user_location()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}-{self.id}"

    def __str__(self) -> str:
        tasks = f"{self.generated_tasks[:1]}...{self.generated_tasks[-1:]}"
        return (
            f"{self!r}: input_deps={self.input_deps}, output_name={self.output_name}, "
            f"tasks[{len(self.generated_tasks)}]={tasks}, "
            f"resource_limit={self.cpu_limit}CPUs/{self.gpu_limit}GPUs/"
            f"{(self.memory_limit or 0) // GB}GB"
        )

    @staticmethod
    def task_factory(task_builder: _Builder) -> _Builder:
        """Tie each task that `task_builder` returns to its node and to the user's line."""

        @functools.wraps(task_builder)
        def wrapper(self: Node, *args: Any, **kwargs: Any) -> Any:
            task: Task = task_builder(self, *args, **kwargs)
            task.node_id = self.id
            task.location = self.location
            self.generated_tasks.append(task.key)
            return task

        return wrapper  # type: ignore[return-value]

    def slim_copy(self) -> Node:
        """A copy without the graph: what travels with a task that calls the node's code."""
        node = copy.copy(self)
        del node.input_deps, node.generated_tasks
        return node

    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> Task:
        """The task that does this node's work for one partition."""
        raise NotImplementedError(f"{self!r} is planned as several tasks, not as one")

    def add_perf_metrics(self, name: str, value: float) -> None:
        """Record one task's value of the metric `name`."""
        self.perf_metrics[name].append(value)
        self.perf_stats.pop(name, None)

    def get_perf_stats(self, name: str) -> PerfStats | None:
        """Count, sum, extremes, mean and percentiles of the metric `name` over the node's tasks."""
        if name not in self.perf_stats:
            if name not in self.perf_metrics:
                return None
            import numpy as np

            from smallpond.execution.task import PerfStats

            values = self.perf_metrics[name]
            p50, p75, p95, p99 = np.percentile(values, (50, 75, 95, 99))
            self.perf_stats[name] = PerfStats(
                len(values),
                sum(values),
                np.min(values),
                np.max(values),
                np.average(values),
                p50,
                p75,
                p95,
                p99,
            )
        return self.perf_stats[name]

    @property
    def num_partitions(self) -> int:
        """How many partitions the node puts out, when the plan alone tells."""
        raise NotImplementedError("num_partitions")
