"""From nodes to tasks: the one planner, for plans written by hand and for lowered data frames.

Partitions are known when planning: every task has a tuple of partition infos, and inputs of a node
are matched by the dimensions they share, so an input without a dimension is broadcast along it.

How many producers divide the input of a partition node: twice as many as tasks run at once on the
cores of this machine, or of the cluster when there are executors; within the node's own bounds.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from smallpond.common import split_into_rows
from smallpond.execution.task.base import Task
from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.plan import ExecutionPlan
from smallpond.execution.task.root import RootTask
from smallpond.logical.node import (
    ArrowComputeNode,
    ArrowStreamNode,
    ConsolidateNode,
    DataSinkNode,
    DataSourceNode,
    EvenlyDistributedPartitionNode,
    ExchangeNode,
    LimitNode,
    LogicalPlan,
    LogicalPlanVisitor,
    Node,
    PartitionNode,
    ProjectionNode,
    PythonScriptNode,
    RootNode,
    SqlEngineNode,
    UnionNode,
)
from smallpond.logical.visible_partitions import mark_visible_partitions
from smallpond.recursion import deep_recursion

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext

logger = logging.getLogger(__name__)

TaskGroup = list[Task]
# The tasks of an input by the partitions that they are of, and the dimensions of those.
Parts = tuple[tuple[str, ...], dict[tuple[PartitionInfo, ...], TaskGroup]]
FINAL_RESULTS = "FinalResults"


class Planner(LogicalPlanVisitor[TaskGroup]):
    """Makes tasks; each node once, however many nodes read it."""

    def __init__(self, runtime_ctx: RuntimeContext) -> None:
        self.runtime_ctx = runtime_ctx
        self.node_to_tasks: dict[Node, TaskGroup] = {}

    @deep_recursion()
    def create_exec_plan(
        self, logical_plan: LogicalPlan, manifest_only_final_results: bool = True
    ) -> ExecutionPlan:
        """All tasks of `logical_plan`, with a sink for every named output and for the results.

        With an output path in the runtime context the outputs are copied there; else they stay and
        only manifests are written (for the results: links, unless `manifest_only_final_results`).
        The plan that is given stays as it is; the one in the result has the tasks' names.
        """
        plan = logical_plan.private_copy()
        sinks = self._output_sinks(plan)
        sinks[FINAL_RESULTS] = self._final_sink(plan, sinks, manifest_only_final_results)
        root = RootNode(plan.ctx, tuple(sinks.values()))
        plan = LogicalPlan(plan.ctx, root)
        [root_task] = self.visit(root)
        mark_visible_partitions(root_task)
        if logger.isEnabledFor(logging.INFO):
            logger.info("logical plan:%s%s", os.linesep, plan)
        return ExecutionPlan(self.runtime_ctx, root_task, plan)

    def _output_folder(self, name: str) -> str:
        return os.path.join(
            self.runtime_ctx.final_output_path or self.runtime_ctx.output_root, name
        )

    def _output_sinks(self, plan: LogicalPlan) -> dict[str, DataSinkNode]:
        """A sink for each output name; nodes of the same name share one."""
        named: dict[str, list[Node]] = defaultdict(list)
        for node in plan.nodes.values():
            if node.output_name is not None:
                if node.output_name in named:
                    warnings.warn(
                        f"{node!r} has duplicate output name: {node.output_name}", stacklevel=3
                    )
                named[node.output_name].append(node)
        copied = self.runtime_ctx.final_output_path is not None
        return {
            name: DataSinkNode(
                plan.ctx,
                tuple(nodes),
                self._output_folder(name),
                type="copy" if copied else "manifest",
            )
            for name, nodes in named.items()
        }

    def _final_sink(
        self, plan: LogicalPlan, sinks: dict[str, DataSinkNode], manifest_only: bool
    ) -> DataSinkNode:
        """The sink of the root's output; only a manifest where named sinks hold the files."""
        root = plan.root_node
        inner = root.input_deps[0] if isinstance(root, ConsolidateNode) else None
        inputs: tuple[Node, ...]
        if isinstance(inner, EvenlyDistributedPartitionNode) and all(
            dep.output_name is not None for dep in inner.input_deps
        ):
            inputs = tuple(sinks[str(dep.output_name)] for dep in inner.input_deps)
            covered = True
        else:
            covered = root.output_name is not None
            inputs = (sinks[str(root.output_name)],) if covered else (root,)
        if covered:
            kind = "manifest"
        elif self.runtime_ctx.final_output_path is not None:
            kind = "copy"
        else:
            kind = "manifest" if manifest_only else "link"
        return DataSinkNode(
            plan.ctx,
            inputs,
            output_path=self._output_folder(FINAL_RESULTS),
            type=kind,  # type: ignore[arg-type]
            is_final_node=True,
        )

    def visit(self, node: Node, depth: int = 0) -> TaskGroup:
        """The tasks of `node`, made when they are first asked for."""
        if node not in self.node_to_tasks:
            self.node_to_tasks[node] = super().visit(node, depth)
        return self.node_to_tasks[node]

    def _tasks_of(self, nodes: Sequence[Node], depth: int) -> TaskGroup:
        return [task for node in nodes for task in self.visit(node, depth + 1)]

    def visit_data_source_node(self, node: DataSourceNode, depth: int) -> TaskGroup:
        assert not node.input_deps, f"data source should be leaf node: {node}"
        return [node.create_task(self.runtime_ctx, [], [PartitionInfo()])]

    def visit_data_sink_node(self, node: DataSinkNode, depth: int) -> TaskGroup:
        inputs = self._tasks_of(node.input_deps, depth)
        return [node.create_task(self.runtime_ctx, inputs, [PartitionInfo()])]

    def visit_root_node(self, node: RootNode, depth: int) -> TaskGroup:
        inputs = self._tasks_of(node.input_deps, depth)
        return [RootTask(self.runtime_ctx, inputs, [PartitionInfo()])]

    def visit_union_node(self, node: UnionNode, depth: int) -> TaskGroup:
        tasks = self._tasks_of(node.input_deps, depth)
        _only_dimensions(tasks, f"union {node!r} made at {node.location}")
        return tasks

    def visit_consolidate_node(self, node: ConsolidateNode, depth: int) -> TaskGroup:
        assert len(node.input_deps) == 1, f"consolidate node accepts one input: {node.input_deps}"
        tasks = self.visit(node.input_deps[0], depth + 1)
        existing = set(_only_dimensions(tasks, f"consolidate {node!r} made at {node.location}"))
        assert node.dimensions <= existing, (
            f"cannot found some of {node.dimensions} in {existing}: {node!r} at {node.location}"
        )
        groups: dict[tuple[PartitionInfo, ...], TaskGroup] = defaultdict(list)
        for task in tasks:
            kept = tuple(info for info in task.partition_infos if info.dimension in node.dimensions)
            groups[kept].append(task)
        return [node.create_task(self.runtime_ctx, group, infos) for infos, group in groups.items()]

    # --- partition nodes ---

    def visit_partition_node(self, node: PartitionNode, depth: int) -> TaskGroup:
        shared: TaskGroup = []
        deps: Sequence[Node] = node.input_deps
        if isinstance(node, ExchangeNode) and node.split_points is not None:
            deps = node.data_deps
            shared = self.visit(node.split_points, depth + 1)
            assert len(shared) == 1, (
                f"the split points of {node!r} must be one partition, not {len(shared)}"
            )
        inputs = self._tasks_of(deps, depth)
        dimensions = _only_dimensions(inputs, f"partition {node!r} made at {node.location}")
        if node.nested:
            return self._nested_partitions(node, inputs, dimensions, shared)
        producers = [
            node.create_producer_task(self.runtime_ctx, [part, *shared], part.partition_infos)
            for part in self._producer_inputs(node, inputs)
        ]
        return [
            node.create_consumer_task(
                self.runtime_ctx,
                producers,  # type: ignore[arg-type]
                [PartitionInfo(), PartitionInfo(idx, node.npartitions, node.dimension)],
            )
            for idx in range(node.npartitions)
        ]

    def _nested_partitions(
        self, node: PartitionNode, inputs: TaskGroup, dimensions: Sequence[str], shared: TaskGroup
    ) -> TaskGroup:
        assert node.dimension not in dimensions, (
            f"found duplicate partition dimension '{node.dimension}', "
            f"existing dimensions: {dimensions}: {node!r} made at {node.location}"
        )
        count = len(inputs) * node.npartitions
        assert count <= node.max_card_of_producers_x_consumers, (
            f"{len(inputs)=} * {node.npartitions=} > {node.max_card_of_producers_x_consumers=}"
        )
        producers = [
            node.create_producer_task(self.runtime_ctx, [task, *shared], task.partition_infos)
            for task in inputs
        ]
        return [
            node.create_consumer_task(
                self.runtime_ctx,
                [producer],
                [
                    *producer.partition_infos,
                    PartitionInfo(idx, node.npartitions, node.dimension),
                ],
            )
            for producer in producers
            for idx in range(node.npartitions)
        ]

    def producers_count(self, node: PartitionNode) -> int:
        """How many tasks divide the input of `node`."""
        ctx = self.runtime_ctx
        bound = math.ceil(node.max_card_of_producers_x_consumers / node.npartitions)
        machines = max(1, ctx.num_executors)
        at_once = machines * max(1, ctx.usable_cpu_count // max(1, node.cpu_limit))
        return max(1, min(node.max_num_producer_tasks, bound, 2 * at_once))

    def _producer_inputs(self, node: PartitionNode, inputs: TaskGroup) -> TaskGroup:
        """One task for each producer, that puts out its share of the inputs."""
        count = self.producers_count(node)
        ctx = self.runtime_ctx
        if len(inputs) >= count:
            return [
                node.create_merge_task(ctx, tasks, [PartitionInfo(idx, count)])
                for idx, tasks in enumerate(split_into_rows(inputs, count))
            ]
        merged = node.create_merge_task(ctx, inputs, [PartitionInfo()])
        if count == 1:
            return [merged]
        return [
            node.create_split_task(ctx, [merged], [PartitionInfo(idx, count)])
            for idx in range(count)
        ]

    # --- nodes with one task a partition ---

    def broadcast_input_deps(
        self, node: Node, depth: int
    ) -> Iterator[tuple[TaskGroup, tuple[PartitionInfo, ...]]]:
        """The inputs of each partition; the input with most dimensions says which there are."""
        if not node.input_deps:
            yield [], (PartitionInfo(),)
            return
        groups = [self.visit(dep, depth + 1) for dep in node.input_deps]
        leading = max(
            groups,
            key=lambda group: (
                len(group[0].partition_dims),
                max(task.partition_infos for task in group),
            ),
        )
        parts = [None if group is leading else _by_partition(group) for group in groups]
        for main in leading:
            # After a union several tasks of an input may be of one partition. Each of the leading
            # input is taken in its turn.
            yield (
                [main if one is None else self._part_of(one, main, node) for one in parts],
                main.partition_infos,
            )

    def _part_of(self, parts: Parts, main: Task, node: Node) -> Task:
        """The task of another input that goes with a task of the leading one."""
        dims, tasks = parts
        infos = tuple(info for info in main.partition_infos if info.dimension in dims)
        found = tasks.get(infos, [])
        assert found, (
            f"the partition dimensions or npartitions of inputs {node.input_deps} of "
            f"{node!r} are not compatible (made at {node.location})\n"
            f"  cannot match {main.partition_infos} against any of {tasks.keys()}"
        )
        assert len(found) == 1, (
            f"{len(found)} tasks of an input of {node!r} (made at {node.location}) are of the same "
            f"partition {infos}, as those of a union are: partition or consolidate it first"
        )
        return found[0]

    def _task_per_partition(self, node: Node, depth: int) -> TaskGroup:
        return [
            node.create_task(self.runtime_ctx, inputs, infos)
            for inputs, infos in self.broadcast_input_deps(node, depth)
        ]

    def visit_python_script_node(self, node: PythonScriptNode, depth: int) -> TaskGroup:
        return self._task_per_partition(node, depth)

    def visit_arrow_compute_node(self, node: ArrowComputeNode, depth: int) -> TaskGroup:
        return self._task_per_partition(node, depth)

    def visit_arrow_stream_node(self, node: ArrowStreamNode, depth: int) -> TaskGroup:
        return self._task_per_partition(node, depth)

    def visit_query_engine_node(self, node: SqlEngineNode, depth: int) -> TaskGroup:
        return self._task_per_partition(node, depth)

    def visit_projection_node(self, node: ProjectionNode, depth: int) -> TaskGroup:
        assert len(node.input_deps) == 1, f"projection accepts one input: {node.input_deps}"
        return [
            node.create_task(self.runtime_ctx, [task], task.partition_infos)
            for task in self.visit(node.input_deps[0], depth + 1)
        ]

    def visit_limit_node(self, node: LimitNode, depth: int) -> TaskGroup:
        assert len(node.input_deps) == 1, f"limit node accepts one input: {node.input_deps}"
        ctx = self.runtime_ctx
        inputs = self.visit(node.input_deps[0], depth + 1)
        firsts: TaskGroup = [node.create_task(ctx, [task], task.partition_infos) for task in inputs]
        if len(firsts) == 1 and len(firsts[0].partition_dims) == 1:
            return firsts
        merged = node.create_merge_task(ctx, firsts, [PartitionInfo()])
        return [node.create_task(ctx, [merged], merged.partition_infos)]


def _by_partition(tasks: Sequence[Task]) -> Parts:
    found: dict[tuple[PartitionInfo, ...], TaskGroup] = defaultdict(list)
    for task in tasks:
        found[task.partition_infos].append(task)
    return tasks[0].partition_dims, found


def _only_dimensions(tasks: Sequence[Task], what: str) -> tuple[str, ...]:
    """The partition dimensions that all tasks have; an error if they differ."""
    found = {task.partition_dims for task in tasks}
    assert len(found) == 1, f"cannot {what}: partitions with different dimensions: {found}"
    return found.pop()
