"""Events of jobs that never ran, with real nodes and tasks, for tests of what is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from smallpond.execution.events import PlanFinished, PlanStarted, TaskFinished, TaskStarted
from smallpond.execution.task import ExecutionPlan, JobId, PartitionInfo, RuntimeContext, Task
from smallpond.execution.task.ids import TaskId, TaskRuntimeId
from smallpond.execution.workitem import WorkStatus
from smallpond.logical.node import Context, DataSourceNode, LogicalPlan, SqlEngineNode, UnionNode
from smallpond.show.record import JobRecord

START_S = 1_700_000_000.0


def runtime_context(folder: Path) -> RuntimeContext:
    """A context in `folder`; no folder is made."""
    return RuntimeContext(JobId(int=7), datetime(2026, 1, 2, 3, 4, 5), str(folder))


def diamond_plan() -> LogicalPlan:
    """A source that two queries read, and their union."""
    ctx = Context()
    source = DataSourceNode(ctx, None)
    left = SqlEngineNode(ctx, (source,), "select 1 as a from {0}")
    right = SqlEngineNode(ctx, (source,), "select 2 as a from {0}", cpu_limit=4, output_name="two")
    return LogicalPlan(ctx, UnionNode(ctx, (left, right)))


def flat_plan(folder: Path, counts: Sequence[int]) -> ExecutionPlan:
    """A plan of as many nodes as counts, each with so many tasks, all below one root task."""
    ctx = runtime_context(folder)
    nodes = Context()
    node = DataSourceNode(nodes, None)
    tasks: list[Task] = []
    for index, count in enumerate(counts):
        if index:
            node = SqlEngineNode(nodes, (node,), "select * from {0}")  # type: ignore[assignment]
        for part in range(count):
            infos = [PartitionInfo(), PartitionInfo(part, count, "part")]
            task = Task(ctx, [], infos)
            task.node_id = node.id
            task.location = node.location
            tasks.append(task)
    root = Task(ctx, tasks, [PartitionInfo()])
    root.node_id = 99
    return ExecutionPlan(ctx, root, LogicalPlan(nodes, node))


def started(task: Task, time_s: float, worker: str = "w0", retry: int = 0) -> TaskStarted:
    """The start of one attempt."""
    run = TaskRuntimeId(TaskId(task.id), 0, retry)
    return TaskStarted(time_s, task.key, task.node_id, run, worker, 1, 0)


def finished(task: Task, time_s: float, elapsed_s: float, **fields: Any) -> TaskFinished:
    """The end of one attempt; `fields` replace counts of nothing."""
    run = TaskRuntimeId(TaskId(task.id), 0, fields.pop("retry", 0))
    values: dict[str, Any] = {
        "worker": "w0",
        "status": WorkStatus.SUCCEED,
        "elapsed_s": elapsed_s,
        "cpu_s": elapsed_s,
        "rss_max_bytes": -1,
        "rows_in": -1,
        "rows_out": -1,
        "bytes_in": -1,
        "bytes_out": -1,
    }
    return TaskFinished(time_s, task.key, task.node_id, run, **(values | fields))


def recorded(*events: Any) -> JobRecord:
    """A record of these events, folded."""
    record = JobRecord()
    for event in events:
        record.append(event)
    record.advance()
    return record


def two_stage_record(folder: Path, workers: int = 2) -> JobRecord:
    """A finished job: four tasks of one second and two of two, on so many workers."""
    plan = flat_plan(folder, [4, 2])
    events: list[Any] = [PlanStarted(START_S, plan)]
    free = [START_S] * workers
    for task in plan.tasks.values():
        if task is plan.root_task:
            continue
        slot = free.index(min(free))
        elapsed_s = 1.0 if task.node_id == 1 else 2.0
        events.append(started(task, free[slot], f"w{slot}"))
        free[slot] += elapsed_s
        counts = {"rows_in": 10, "rows_out": 5, "bytes_in": 1000, "bytes_out": 500}
        memory = {"rss_max_bytes": 64 << 20, "worker": f"w{slot}"}
        metrics = {"num output rows": 5, "spilled (bytes)": 100}
        events.append(finished(task, free[slot], elapsed_s, metrics=metrics, **counts, **memory))
    events.append(started(plan.root_task, max(free), "scheduler"))
    events.append(finished(plan.root_task, max(free) + 0.001, 0.001, worker="scheduler"))
    events.append(PlanFinished(max(free) + 0.01, True))
    return recorded(*events)
