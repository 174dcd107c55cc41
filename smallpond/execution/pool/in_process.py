"""The backend for tests: tasks run one after the other in the scheduler's own thread.

Nothing is isolated: a task that kills its process kills the driver, and memory limits do not hold.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.scheduler.backend import Completion, Machine

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext


class _Checkpoints:
    """Stands in for a completion queue: what a running task pushes is a checkpoint of it."""

    def __init__(self) -> None:
        self.found: list[Completion] = []

    def push(self, item: Any, buffering: bool = False) -> bool:
        checkpoint = copy.copy(item)
        checkpoint.runtime_state = copy.deepcopy(item.runtime_state)
        self.found.append(Completion(checkpoint, "in-process"))
        return True


class InProcessBackend:
    """Runs a task when it is polled for results."""

    name = "in-process"

    def __init__(self) -> None:
        self._queue: deque[Task] = deque()
        self._machine: Machine | None = None

    def start(self, ctx: RuntimeContext) -> None:
        cpus = ctx.usable_cpu_count
        self._machine = Machine(self.name, cpus, ctx.usable_gpu_count, ctx.usable_memory_size)

    def capacity(self) -> Sequence[Machine]:
        return [self._machine] if self._machine is not None else []

    def submit(self, task: Task, machine: Machine) -> None:
        self._queue.append(task)

    def poll(self, timeout: float | None) -> list[Completion]:
        """Runs the oldest task; nothing to run means nothing to wait for."""
        if not self._queue:
            return []
        task = self._queue.popleft()
        task.runtime_state = copy.deepcopy(task.runtime_state)
        checkpoints: Any = _Checkpoints()
        task.exec(checkpoints)
        return [*checkpoints.found, Completion(task, self.name)]

    def cancel(self, task: Task) -> None:
        if task in self._queue:
            self._queue.remove(task)

    def stop(self) -> None:
        self._queue.clear()
