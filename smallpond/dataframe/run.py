"""Running data frames: optimise, plan, schedule, and say clearly what went wrong.

All frames of one call are optimised together, so that what they share is computed once. A frame
that has run keeps its result as files; plans on top of it begin there.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from smallpond.common import SmallpondError
from smallpond.recursion import deep_recursion

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame
    from smallpond.dataframe.session import Session
    from smallpond.execution.scheduler import Scheduler
    from smallpond.execution.task import Task
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.node import Node


class TaskFailed(SmallpondError, RuntimeError):
    """A job ended because one of its tasks failed; the message is the task's report."""

    error: BaseException | None = None
    """The task's own error. Not the cause: Python would print both, and the report tells it."""


def computed(session: Session, frames: Sequence[DataFrame]) -> list[list[DataSet]]:
    """The data sets of the frames, one for each partition; computes what has not been."""
    with session._run_lock:
        waiting = [frame for frame in frames if frame.plan.id not in session._results]
        if waiting:
            compute(session, waiting)
        return [
            [task.output for task in session._node_to_tasks[session._results[frame.plan.id]]]
            for frame in frames
        ]


def compute(session: Session, frames: Sequence[DataFrame]) -> None:
    """Run the plans of the frames as one job."""
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.execution.task.plan import ExecutionPlan
    from smallpond.execution.task.root import RootTask
    from smallpond.logical.node import LogicalPlan, RootNode
    from smallpond.logical.optimizer.graph import nodes_of
    from smallpond.logical.planner import Planner

    for frame in frames:
        if frame.optimized_plan is None:
            optimize(session, frames)
            break
    nodes = [frame.optimized_plan for frame in frames]
    optimized = [node for node in nodes if node is not None]
    planner = Planner(session._runtime_ctx)
    planner.node_to_tasks = session._node_to_tasks
    with deep_recursion():
        tasks = [task for node in dict.fromkeys(optimized) for task in planner.visit(node)]
    for node in nodes_of(optimized):
        if is_random(node):
            # Another draw of the same kind is not this one; a resumed job draws it again.
            made = session._node_to_tasks.get(node, [])
            producers = [dep for task in made for dep in task.input_deps.values()]
            fresh = [task for task in [*producers, *made] if task._identity is None]
            renamed(list(dict.fromkeys(fresh)), f"node {node.id}")
    for frame, node in zip(frames, optimized, strict=True):
        number = getattr(frame.plan, "write_number", 0)
        if frame.need_recompute or number:
            renamed(planner.visit(node), uuid.uuid4().hex if frame.need_recompute else str(number))
    context = session._runtime_ctx
    root = RootTask(context, tasks, [PartitionInfo()])
    plan = LogicalPlan(session._ctx, RootNode(session._ctx, tuple(dict.fromkeys(optimized))))
    scheduled(session, ExecutionPlan(context, root, plan))
    for frame, node in zip(frames, optimized, strict=True):
        session._results[frame.plan.id] = node


def optimize(session: Session, frames: Sequence[DataFrame]) -> None:
    """Give each frame its optimised plan, and what `explain` shows of it."""
    from smallpond.logical.optimizer import Optimizer

    optimizer = Optimizer(
        settings=session._settings(), finished=session._results, schemas=session._schemas
    )
    with deep_recursion():
        optimized = optimizer.visit_all([frame.plan for frame in frames])
    for frame, node in zip(frames, optimized, strict=True):
        frame.optimized_plan = node
        frame.optimizer = optimizer


def is_random(node: Node) -> bool:
    """Whether a node's rows are drawn by chance."""
    from smallpond.logical.node import PartitionNode, SqlEngineNode
    from smallpond.logical.optimizer.rules.common import is_volatile_template

    if isinstance(node, SqlEngineNode):
        text = node.sql_queries[-1]
        return ("random" in text or "sample" in text) and is_volatile_template(text)
    if isinstance(node, PartitionNode):
        return bool(getattr(node, "random_shuffle", False)) or getattr(node, "keys", None) == []
    return False


def renamed(tasks: Sequence[Task], salt: str) -> None:
    """Give tasks identities of their own, so that results of equal tasks do not stand for them."""
    for task in tasks:
        task._identity = sha256(f"{task.identity} {salt}".encode()).hexdigest()


def scheduled(session: Session, plan: object) -> None:
    """Run an execution plan to its end; an error of a task is raised with its report."""
    from smallpond.execution.scheduler import Scheduler
    from smallpond.execution.task.plan import ExecutionPlan

    assert isinstance(plan, ExecutionPlan)
    scheduler = Scheduler(
        plan,
        max_fail_count=session.config.max_fail_count,
        backend=session._get_backend(),
    )
    with session.view.watch(scheduler):
        success = scheduler.run()
    if not success:
        session._failed = True
        replan(session)
        raise failure_of(scheduler)


def replan(session: Session) -> None:
    """Forget tasks that did not succeed: the next attempt plans them anew, and what did succeed is
    found in the journal."""
    from smallpond.execution.workitem import WorkStatus

    kept = {
        node: tasks
        for node, tasks in session._node_to_tasks.items()
        if all(task.status == WorkStatus.SUCCEED for task in tasks)
    }
    session._node_to_tasks.clear()
    session._node_to_tasks.update(kept)


def failure_of(scheduler: Scheduler) -> Exception:
    """The error to raise, with the task's report as the message."""
    from smallpond.show import failure_report

    error, task = scheduler.failure, scheduler.failed_task
    failed = TaskFailed(str(error) if task is None else failure_report(task, error=error))
    failed.error = error
    return failed
