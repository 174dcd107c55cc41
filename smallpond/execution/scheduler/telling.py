"""Events made of attempts: what those who watch are told of a start and of an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from smallpond.common import MB
from smallpond.execution.events import TaskFinished, TaskStarted

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Completion
    from smallpond.execution.task.base import Task


def started_event(attempt: Task, worker: str) -> TaskStarted:
    return TaskStarted(
        time_s=time.time(),
        key=attempt.key,
        node_id=attempt.node_id,
        runtime_id=attempt.runtime_id,
        worker=worker,
        cpu_limit=attempt.cpu_limit,
        memory_limit=attempt.memory_limit,
    )


def finished_event(completion: Completion) -> TaskFinished:
    """Counts come from the metrics that tasks keep; -1 where a task does not count."""
    attempt = completion.task
    metrics = attempt.perf_metrics
    cpu_s = completion.cpu_s
    if cpu_s < 0:
        cpu_s = float(
            sum(metrics.get(f"{mode} mode cpu time (secs)", 0.0) for mode in ("user", "system"))
        )
    files = attempt._output_files
    input_mb = metrics.get("input data size (MB)")
    return TaskFinished(
        time_s=time.time(),
        key=attempt.key,
        node_id=attempt.node_id,
        runtime_id=attempt.runtime_id,
        worker=completion.worker,
        status=attempt.status,
        elapsed_s=attempt.elapsed_time,
        cpu_s=cpu_s,
        rss_max_bytes=completion.rss_max_bytes,
        rows_in=int(metrics.get("num input rows", -1)),
        rows_out=int(metrics.get("num output rows", -1)),
        bytes_in=-1 if input_mb is None else int(input_mb * MB),
        bytes_out=-1 if files is None else sum(max(size, 0) for _, size in files),
        metrics=dict(metrics),
        error=attempt.exception,
    )
