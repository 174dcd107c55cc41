"""What runs inside a Ray worker process: one attempt after the other.

The job's logs and environment are set up at the first attempt of each job in the process. What the
user's code prints goes to the job's log folder, where a person looks, not into Ray's.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import SmallpondError
from smallpond.execution.backends.outcome import outcome_bytes
from smallpond.execution.task.limits import worker_enter
from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext, Task

_jobs_entered: set[str] = set()


def worker_name() -> str:
    """Names this process among all of a cluster."""
    return f"{socket.gethostname()}-ray{os.getpid()}"


@contextlib.contextmanager
def _job(ctx: RuntimeContext, task: Task) -> Iterator[None]:
    name = worker_name()
    if ctx.job_root not in _jobs_entered:
        worker_enter(name)
        ctx.initialize(name)
        _jobs_entered.add(ctx.job_root)
    multiprocessing.current_process().name = task.key
    user_log = Path(ctx.log_root, f"{name}-user.log")
    with (
        user_log.open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def run_attempt(ctx: RuntimeContext, task_bytes: bytes) -> bytes:
    """Run one attempt; its outcome, errors included."""
    task: Task = pickle.loads(task_bytes)
    task.ctx = ctx
    with _job(ctx, task):
        task.exec()
    return outcome_bytes(task)


def run_for_output(ctx: RuntimeContext, task_bytes: bytes, inputs: list[Any]) -> Any:
    """Run a task; its output data set, or its error raised."""
    task: Task = pickle.loads(task_bytes)
    task.ctx = ctx
    task.input_datasets = inputs
    with _job(ctx, task):
        status = task.exec()
    if status != WorkStatus.SUCCEED:
        raise task.exception or SmallpondError(f"{task.key} ended with {status}")
    return task.output
