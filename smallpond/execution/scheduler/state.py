"""What a scheduler knows: tasks, attempts, successes. It may be pickled at any time and looked at.

A pickle leaves out what is open (backend, journal, observers) and keeps the executors as they were
seen last, so that another process can see how a run went.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from smallpond.execution.scheduler.backend import remote_executors_of
from smallpond.execution.scheduler.ready import ReadyQueue

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Backend
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.ids import TaskRuntimeId
    from smallpond.execution.task.plan import ExecutionPlan

_NOT_PICKLED = (
    "_backend",
    "_journal",
    "_observers",
    "_subscribers",
    "sched_state_observers",
    "_records",
    "_inline",
)


class SchedulerState:
    """The state of a scheduler, and the published ways to look at it."""

    _backend: Backend | None = None

    def __init__(self, exec_plan: ExecutionPlan) -> None:
        self.ctx = exec_plan.ctx
        self.exec_plan = exec_plan
        self.logical_plan = exec_plan.logical_plan
        self.logical_nodes: dict[Any, Any] = (
            exec_plan.logical_plan.nodes if exec_plan.logical_plan is not None else {}
        )
        self.standalone_mode = self.ctx.num_executors == 0
        self.tasks: dict[str, Task] = exec_plan.tasks
        self.nontrivial_tasks = {
            key: task for key, task in self.tasks.items() if not task.exec_on_scheduler
        }
        self.sched_queue = ReadyQueue()
        self.scheduled_tasks: OrderedDict[TaskRuntimeId, Task] = OrderedDict()
        self.finished_tasks: OrderedDict[TaskRuntimeId, Task] = OrderedDict()
        self.succeeded_tasks: OrderedDict[str, Task] = OrderedDict()
        self.succeeded_nontrivial_tasks: OrderedDict[str, Task] = OrderedDict()
        self._running: dict[TaskRuntimeId, Task] = {}
        # Inputs of each needed task that have not succeeded yet.
        self._missing: dict[str, int] = {}
        self.sched_running = False
        self.sched_start_time = 0.0
        self.sched_epoch = 0
        self.failure: BaseException | None = None
        self.failed_task: Task | None = None
        self.executors_seen: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in _NOT_PICKLED}
        state["executors_seen"] = self.remote_executors
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend = None
        self.sched_state_observers: list[Any] = []
        self._subscribers: list[Any] = []

    def _succeeded(self, task: Task) -> None:
        self.succeeded_tasks[task.key] = task
        if not task.exec_on_scheduler:
            self.succeeded_nontrivial_tasks[task.key] = task

    @property
    def elapsed_time(self) -> float:
        return time.time() - self.sched_start_time

    @property
    def success(self) -> bool:
        return self.exec_plan.root_task.key in self.succeeded_tasks

    @property
    def progress(self) -> tuple[int, int, float]:
        """Tasks done, tasks in all, and their ratio in percent; metadata tasks do not count."""
        done, total = len(self.succeeded_nontrivial_tasks), len(self.nontrivial_tasks)
        return done, total, done / total * 100.0 if total else 100.0

    @property
    def running_works(self) -> list[Task]:
        return list(self._running.values())

    @property
    def num_running_works(self) -> int:
        return len(self._running)

    @property
    def num_local_running_works(self) -> int:
        return sum(task.exec_id == "localhost" for task in self._running.values())

    @property
    def num_pending_tasks(self) -> int:
        return len(self.tasks) - len(self.succeeded_tasks)

    @property
    def pending_nontrivial_tasks(self) -> dict[str, Task]:
        done = self.succeeded_nontrivial_tasks
        return {key: task for key, task in self.nontrivial_tasks.items() if key not in done}

    @property
    def num_pending_nontrivial_tasks(self) -> int:
        return len(self.nontrivial_tasks) - len(self.succeeded_nontrivial_tasks)

    @property
    def succeeded_task_ids(self) -> set[TaskRuntimeId]:
        return {task.runtime_id for task in self.succeeded_tasks.values()}

    @property
    def abandoned_tasks(self) -> list[Task]:
        """Attempts that were started and did not become the result of their task."""
        useful = self.succeeded_task_ids
        attempts = {**self.scheduled_tasks, **self.finished_tasks}
        return [attempt for key, attempt in attempts.items() if key not in useful]

    # --- executors, where the backend has any ---

    @property
    def remote_executors(self) -> list[Any]:
        if self._backend is None:
            return self.executors_seen
        return remote_executors_of(self._backend)

    @property
    def available_executors(self) -> dict[str, Any]:
        return {executor.id: executor for executor in self.remote_executors}

    @property
    def working_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.working]

    @property
    def alive_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.alive]

    @property
    def good_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.good]

    @property
    def failed_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.fail]

    @property
    def stopped_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.stopped]

    @property
    def stopping_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.stopping]

    @property
    def low_resource_executors(self) -> list[Any]:
        return [executor for executor in self.remote_executors if executor.resource_low]
