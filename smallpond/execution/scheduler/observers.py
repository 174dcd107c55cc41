"""Those who look at the scheduler while it runs: observers of its state, and its status file.

Observers see the whole scheduler at intervals (the published interface); subscribers of events
(`execution/events.py`) hear of each step. An observer that is too slow is asked less often, and
then not at all, because it runs on the scheduler's thread.
"""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.execution.scheduler.scheduler import Scheduler

logger = logging.getLogger(__name__)


class StateObserver:
    """Calls back with the scheduler at intervals, at the start and at the end."""

    def __init__(self, callback: Callable[[Any], Any] | None = None) -> None:
        assert callback is None or callable(callback), f"{callback!r} cannot be called"
        self.enabled = True
        self.callback = callback

    def __repr__(self) -> str:
        return repr(self.callback) if self.callback is not None else object.__repr__(self)

    __str__ = __repr__

    def update(self, sched_state: Scheduler) -> None:
        assert self.callback is not None, "an observer needs a callback or its own update()"
        self.callback(sched_state)


class Observers:
    """The observers of one scheduler, and when they were last asked."""

    def __init__(self, observers: list[StateObserver], probe_interval_s: float) -> None:
        self.all = observers
        self._slow_s = probe_interval_s
        self.interval_s = probe_interval_s * 2
        self._last_s = 0.0

    def notify(self, scheduler: Scheduler, force: bool = False) -> bool:
        now = time.monotonic()
        if not force and now - self._last_s < self.interval_s:
            return False
        self._last_s = now
        for observer in list(self.all):
            if force or observer.enabled:
                self._update(observer, scheduler)
        return True

    def _update(self, observer: StateObserver, scheduler: Scheduler) -> None:
        begin = time.monotonic()
        observer.update(scheduler)
        elapsed = time.monotonic() - begin
        if elapsed >= self._slow_s / 2:
            self.interval_s = max(self.interval_s, scheduler.ctx.secs_executor_probe_timeout)
        if elapsed >= self._slow_s:
            observer.enabled = False
            logger.warning("disabled a state observer that takes %.1f s: %s", elapsed, observer)


def status_write(scheduler: Scheduler) -> None:
    """`log/.STATUS`: running, success or failure, and since when."""
    ended = "success" if scheduler.success else "failure"
    status = "running" if scheduler.sched_running else ended
    os.makedirs(scheduler.ctx.log_root, exist_ok=True)
    with open(scheduler.ctx.job_status_path, "w") as file:
        file.write(f"{status}@{int(time.time())}")


_COLUMNS = ("key", "id", "node_id", "sched_epoch", "retry_count", "fail_count", "status")


def metrics_write(scheduler: Scheduler) -> None:
    """`log/task_metrics.csv`: one line for each attempt, one column for each metric."""
    attempts = list(scheduler.finished_tasks.values())
    names = sorted({name for attempt in attempts for name in attempt.perf_metrics})
    path = os.path.join(scheduler.ctx.log_root, "task_metrics.csv")
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "exec_id", "start_time", "finish_time", "partition", *names])
        for attempt in attempts:
            row = [getattr(attempt, column) for column in _COLUMNS]
            row += [attempt.exec_id, attempt.start_time, attempt.finish_time]
            row.append(" ".join(map(str, attempt.partition_infos)))
            row += [attempt.perf_metrics.get(name, "") for name in names]
            writer.writerow(row)
    if scheduler.ctx.shared_log_root and os.path.isdir(scheduler.ctx.shared_log_root):
        import shutil

        shutil.copy(path, scheduler.ctx.shared_log_root)
