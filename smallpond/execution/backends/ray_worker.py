"""What runs inside a Ray worker process: one attempt after the other.

The job's logs and environment are set up at the first attempt of each job in the process. What the
user's code prints goes to the job's log folder, where a person looks, not into Ray's.

A checkpoint is a file in the job's folder, as results are: it outlives the process and its node.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import SmallpondError
from smallpond.execution.pool import codec, process
from smallpond.execution.task.limits import worker_enter
from smallpond.execution.workitem import WorkStatus
from smallpond.io.filesystem import dump

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext, Task

_jobs_entered: set[str] = set()


class _Checkpoints:
    """Stands in for a completion queue: what a running task pushes becomes its checkpoint."""

    def __init__(self, path: str) -> None:
        self._path = path

    def push(self, item: Any, buffering: bool = False) -> bool:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        dump(item.runtime_state, self._path, atomic_write=True)
        return True


def checkpoint_path(task: Task) -> str:
    """Where the last checkpoint of this attempt is, if it made one."""
    return os.path.join(task.ctx.started_task_dir, f"{codec.name_of(task)}.checkpoint")


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
    begin = resource.getrusage(resource.RUSAGE_SELF)
    task = _task_of(ctx, task_bytes)
    process.peak_reset()
    checkpoints: Any = _Checkpoints(checkpoint_path(task))
    with _job(ctx, task):
        task.exec(checkpoints)
    end = resource.getrusage(resource.RUSAGE_SELF)
    return codec.outcome_bytes(
        codec.Outcome(
            name=codec.name_of(task),
            status=task.status,
            start_time=task.start_time or 0.0,
            finish_time=task.finish_time or time.time(),
            dataset=task.dataset,
            perf_metrics=dict(task.perf_metrics),
            exception=task.exception,
            memory_limit=task._memory_limit,
            output_files=task._output_files,
            cpu_s=end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime,
            rss_max_bytes=process.peak_bytes(),
        )
    )


def _task_of(ctx: RuntimeContext, task_bytes: bytes) -> Task:
    _, closed = codec.tasks_names(task_bytes)
    (task,) = pickle.loads(closed)
    task.ctx = ctx
    task.exec_id = worker_name()
    return task  # type: ignore[no-any-return]


def run_for_output(ctx: RuntimeContext, task_bytes: bytes, inputs: list[Any]) -> Any:
    """Run a task; its output data set, or its error raised."""
    task = _task_of(ctx, task_bytes)
    task.input_datasets = inputs
    with _job(ctx, task):
        status = task.exec()
    if status != WorkStatus.SUCCEED:
        raise task.exception or SmallpondError(f"{task.key} ended with {status}")
    return task.output
