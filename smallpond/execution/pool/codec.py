"""Tasks and outcomes as bytes.

Tasks travel in groups, because cloudpickle writes a user's function once for a group; the context
stays behind (every worker has it), and so do the objects of the plan. What comes back is not the
task but what became of it: small, and safe to read even where the user's exception is not.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smallpond.common import SmallpondError

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.workitem import WorkStatus


def any_bytes(value: Any) -> bytes:
    """Pickle anything, code of the user's script included."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


def tasks_bytes(tasks: Sequence[Task]) -> bytes:
    """The names of the attempts, and below them the tasks themselves in one pickle."""
    bare = []
    for task in tasks:
        one = copy.copy(task)
        one.ctx = None  # type: ignore[assignment]
        one.input_deps = dict.fromkeys(one.input_deps)
        one.output_deps = set()
        one._dataset_ref = None
        bare.append(one)
    return pickle.dumps(([name_of(task) for task in tasks], any_bytes(bare)), protocol=5)


def unpicklable(task: Task, error: Exception) -> SmallpondError:
    """What to tell of a task that cannot travel."""
    where = f" (made at {task.location})" if task.location else ""
    # The commonest case: loguru's logger holds open files and locks.
    hint = (
        "\nHINT: DO NOT use externally imported loguru logger in your task. "
        "Please import it within the task."
        if "loguru" in sys.modules
        else ""
    )
    failure = SmallpondError(
        f"Can't pickle task '{task.key}'{where}: {type(error).__name__}: {error}. Please check "
        f"if your function has captured unpicklable objects.{hint}"
    )
    failure.__cause__ = error
    return failure


def tasks_names(data: bytes) -> tuple[list[str], bytes]:
    """The names, and the pickle of the tasks still closed."""
    names, closed = pickle.loads(data)
    return names, closed


def name_of(task: Task) -> str:
    """What an attempt is called on the wire: unique in a job."""
    return f"{task.key}.{task.sched_epoch}.{task.retry_count}"


@dataclass
class Outcome:
    """What became of an attempt, and how its worker is."""

    name: str
    status: WorkStatus
    start_time: float
    finish_time: float
    dataset: Any = None
    perf_metrics: dict[str, Any] | None = None
    exception: BaseException | None = None
    memory_limit: int | None = None
    output_files: tuple[tuple[str, int], ...] | None = None
    cpu_s: float = 0.0
    rss_bytes: int = 0
    rss_max_bytes: int = 0
    # The worker is not to be used again: something of the task stays in it.
    worn: str = ""

    def fill(self, task: Task) -> None:
        """Write the outcome into the attempt that the driver holds."""
        task.status = self.status
        task.start_time = self.start_time
        task.finish_time = self.finish_time
        task.exception = self.exception
        task.dataset = self.dataset
        task._output_files = self.output_files
        if task._memory_limit is None:
            task._memory_limit = self.memory_limit
        task.perf_metrics.clear()
        task.perf_metrics.update(self.perf_metrics or {})


def outcome_bytes(outcome: Outcome) -> bytes:
    """An outcome as bytes, whatever it holds: what cannot travel is replaced by its text."""
    if outcome.exception is not None:
        outcome.exception = _exception_safe(outcome.exception)
    try:
        return pickle.dumps(outcome, protocol=5)
    except Exception:
        return any_bytes(outcome)


def _exception_safe(error: BaseException) -> BaseException:
    # Causes and frames may hold anything; the text of the traceback says the same.
    error.__traceback__ = None
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        pass
    try:
        pickle.loads(any_bytes(error))
        return error
    except Exception:
        plain = SmallpondError(f"{type(error).__name__}: {error}")
        plain.task_traceback = getattr(error, "task_traceback", "")  # type: ignore[attr-defined]
        return plain
