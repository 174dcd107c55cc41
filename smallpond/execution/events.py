"""What a scheduler tells those who watch it.

Subscribers (`scheduler.subscribe(callback)`) are called on the scheduler's thread, in order, with
one of these; they must be quick and must not call back into the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.execution.task.ids import TaskRuntimeId
    from smallpond.execution.task.plan import ExecutionPlan
    from smallpond.execution.workitem import WorkStatus


@dataclass(frozen=True)
class PlanStarted:
    """The scheduler begins with a plan."""

    time_s: float
    plan: ExecutionPlan


@dataclass(frozen=True)
class TaskStarted:
    """One attempt of a task was handed to a worker."""

    time_s: float
    key: str
    node_id: int
    runtime_id: TaskRuntimeId
    worker: str
    cpu_limit: int
    memory_limit: int


@dataclass(frozen=True)
class TaskFinished:
    """One attempt of a task ended, well or badly. Counts are -1 where nobody counted."""

    time_s: float
    key: str
    node_id: int
    runtime_id: TaskRuntimeId
    worker: str
    status: WorkStatus
    elapsed_s: float
    cpu_s: float
    rss_max_bytes: int
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: BaseException | None = None


@dataclass(frozen=True)
class TaskRetried:
    """A task will run again: `reason` is a sentence for people."""

    time_s: float
    key: str
    reason: str
    retry_count: int


@dataclass(frozen=True)
class TaskSkipped:
    """The journal has this task's result already."""

    time_s: float
    key: str


@dataclass(frozen=True)
class PlanFinished:
    """The scheduler is done with the plan."""

    time_s: float
    success: bool


Event = PlanStarted | TaskStarted | TaskFinished | TaskRetried | TaskSkipped | PlanFinished
Subscriber = Callable[[Any], None]
