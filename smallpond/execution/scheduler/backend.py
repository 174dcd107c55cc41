"""The seam between the one scheduler and whatever runs tasks.

A backend knows machines and runs one attempt of a task on one of them. It makes no decision: when
to run, where, how often again and with what limits is the scheduler's. Backends report each attempt
exactly once, by a Completion whose `task` is the submitted object with its outcome filled in:

- SUCCEED, FAILED, CRASHED: the task ran (or its process died: CRASHED with NonzeroExitCode, or with
  OutOfMemory when it was killed for using too much);
- EXEC_FAILED: the machine was lost; nobody blames the task;
- INCOMPLETE: a checkpoint; the attempt goes on, and will be reported once more.

After `cancel(task)` the attempt is forgotten: it is stopped and not reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext


@dataclass(frozen=True)
class Machine:
    """Where tasks run, and how much of it. `prefetch` tiny tasks may be in flight for a CPU."""

    name: str
    cpus: int
    gpus: float
    memory_bytes: int
    prefetch: int = 1


@dataclass(frozen=True)
class Completion:
    """The outcome of one attempt, or a checkpoint of it."""

    task: Task
    worker: str
    cpu_s: float = -1.0
    rss_max_bytes: int = -1
    reason: str = ""


class Backend(Protocol):
    """Runs attempts of tasks on machines."""

    def start(self, ctx: RuntimeContext) -> None:
        """Get ready; called before each plan, does nothing when ready already."""

    def capacity(self) -> Sequence[Machine]:
        """The machines that take work now. Cheap: asked for in every round."""

    def submit(self, task: Task, machine: Machine) -> None:
        """Run this attempt there; must not block."""

    def poll(self, timeout: float | None) -> list[Completion]:
        """Wait for at least one completion, or for the timeout; sleeps without polling."""

    def cancel(self, task: Task) -> None:
        """Stop this attempt and forget it."""

    def stop(self) -> None:
        """End all workers, now."""


def backend_for(ctx: RuntimeContext) -> Backend:
    """Local worker processes, or executors that meet at the job's folder when there are any."""
    if ctx.num_executors > 0:
        from smallpond.execution.backends.file_queue import FileQueueBackend

        return FileQueueBackend()
    from smallpond.execution.pool import LocalPool

    return LocalPool()


def remote_executors_of(backend: Any) -> list[Any]:
    """The executors a backend shows to those who watch it; most have none."""
    return list(getattr(backend, "executors", ()))
