"""The outcome of an attempt: what a worker's copy of a task learned, brought into the sender's.

What the sender alone has (the context, the graph around the task, its inputs) stays as it is.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from smallpond.common import SmallpondError
from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task import Task

KEPT_ATTRIBUTES = frozenset(
    ("ctx", "exec_cq", "input_datasets", "input_deps", "output_deps", "_dataset_ref")
)


def outcome_copy(result: Task, task: Task) -> None:
    """Fill the outcome, which came back in a copy, into the task that was sent."""
    for name in set(task._pristine_attrs) - KEPT_ATTRIBUTES:
        if hasattr(result, name):
            setattr(task, name, getattr(result, name))
    if hasattr(task, "__dict__"):
        task.__dict__.update(
            (name, value) for name, value in vars(result).items() if name not in KEPT_ATTRIBUTES
        )


def outcome_bytes(task: Task) -> bytes:
    """A finished attempt, fit to be sent back.

    Many exceptions can be pickled and not unpickled (they want other arguments), so both are tried.
    """
    import cloudpickle

    task.ctx = None  # type: ignore[assignment]
    task.input_datasets = []
    try:
        packed = bytes(cloudpickle.dumps(task))
        pickle.loads(packed)
    except Exception as error:
        if task.exception is not None:
            what = f"{type(task.exception).__name__}: {task.exception}"
            text = getattr(task.exception, "task_traceback", "")
        else:
            what, text = f"its result cannot be pickled: {error!r}", ""
        task.exception = SmallpondError(f"{task.key} failed with {what}")
        if text:
            task.exception.task_traceback = text  # type: ignore[attr-defined]
        task.status = WorkStatus.CRASHED
        task.dataset = None
        task.runtime_state = None
        packed = bytes(cloudpickle.dumps(task))
    return packed


def outcome_of(packed: bytes) -> Task:
    """The copy that outcome_bytes packed."""
    task: Task = pickle.loads(packed)
    return task
