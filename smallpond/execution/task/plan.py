"""The execution plan: a directed acyclic graph of tasks under one root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.node import LogicalPlan


class ExecutionPlan:
    """All tasks of a job, reached from `root_task`, and the logical plan they come from."""

    def __init__(
        self, ctx: RuntimeContext, root_task: Task, logical_plan: LogicalPlan | None
    ) -> None:
        self.ctx = ctx
        self.root_task = root_task
        self.logical_plan: LogicalPlan = logical_plan  # type: ignore[assignment]

    def __str__(self) -> str:
        lines: list[str] = []
        visited: set[str] = set()
        stack: list[tuple[Task, int]] = [(self.root_task, 0)]
        while stack:
            task, depth = stack.pop()
            lines.append("  " * depth + str(task))
            if task.key in visited:
                lines.append("  " * depth + " (omitted ...)")
                continue
            visited.add(task.key)
            stack.extend((dep, depth + 1) for dep in reversed(task.input_deps.values()))
        return os.linesep.join(lines)

    @cached_property
    def _final_results(self) -> Any:
        for task in self.root_task.input_deps.values():
            if getattr(task, "is_final_node", False):
                return task
        raise RuntimeError("no final results found")

    @property
    def final_output(self) -> DataSet:
        output: DataSet = self._final_results.output
        return output

    @property
    def final_output_path(self) -> str:
        return str(self._final_results.final_output_abspath)

    @property
    def successful(self) -> bool:
        return self.root_task.status == WorkStatus.SUCCEED

    @property
    def leaves(self) -> list[Task]:
        return [task for task in self.tasks.values() if not task.input_deps]

    @staticmethod
    def iter_tasks(task: Task, visited: set[str] | None = None) -> Iterator[Task]:
        """Each task once, a task before its inputs; no recursion, plans may be deep."""
        visited = set() if visited is None else visited
        stack = [task]
        while stack:
            one = stack.pop()
            if one.key in visited:
                continue
            visited.add(one.key)
            yield one
            stack.extend(dep for dep in reversed(one.input_deps.values()) if dep is not None)

    @property
    def tasks(self) -> dict[str, Task]:
        return {task.key: task for task in self.iter_tasks(self.root_task)}

    def tasks_inputs_first(self) -> list[Task]:
        """All tasks in an order in which inputs come before those who read them."""
        order: list[Task] = []
        done: set[str] = set()
        stack: list[tuple[Task, bool]] = [(self.root_task, False)]
        while stack:
            task, inputs_done = stack.pop()
            if inputs_done:
                order.append(task)
            elif task.key not in done:
                done.add(task.key)
                stack.append((task, True))
                deps = [dep for dep in task.input_deps.values() if dep.key not in done]
                stack.extend((dep, False) for dep in reversed(deps))
        return order

    @cached_property
    def named_outputs(self) -> dict[str, DataSet]:
        """The output data sets of nodes that were given a name."""
        assert self.successful, "the plan has not succeeded"
        parts: dict[str, list[DataSet]] = {}
        for task in self.tasks.values():
            if task.output_name:
                parts.setdefault(task.output_name, []).append(task.output)
        return {name: datasets[0].merge(datasets) for name, datasets in parts.items()}

    def get_output(self, output_name: str) -> DataSet | None:
        return self.named_outputs.get(output_name)

    @property
    def analyzed_logical_plan(self) -> LogicalPlan:
        """The logical plan with the statistics of its tasks."""
        assert self.successful, "the plan has not succeeded"
        for node in self.logical_plan.nodes.values():
            for name in list(node.perf_metrics):
                node.get_perf_stats(name)
        return self.logical_plan
