"""A job on executors whose scheduler is killed, and that goes on where it stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from smallpond.execution.events import TaskSkipped
from smallpond.execution.scheduler import Scheduler
from smallpond.execution.task import RuntimeContext, Task
from tests.smallpond.core.plans import call_task, plan_of, wait_until, watched
from tests.smallpond.fabric import cluster
from tests.smallpond.fabric.cluster import backend_of, fast_context

TASK_COUNT = 60


def leave_a_mark(task: Task) -> None:
    """Each run of a task is seen in a folder of its own."""
    marks = Path(task.ctx.data_root, "marks")
    marks.mkdir(exist_ok=True)
    (marks / f"{task.key}-{task.sched_epoch}-{task.retry_count}").touch()
    cluster.short_sleep(task)


def scheduler_of(ctx: RuntimeContext) -> tuple[Scheduler, list[object]]:
    """The job: the same tasks each time."""
    tasks = [call_task(ctx, leave_a_mark) for _ in range(TASK_COUNT)]
    return watched(plan_of(ctx, tasks), backend=backend_of(ctx))


def main(folder: str) -> None:
    """The scheduler that is going to be killed."""
    scheduler, _ = scheduler_of(fast_context(Path(folder), 2))
    scheduler.run()


def test_resume_after_kill(tmp_path: Path) -> None:
    """Goal: kill -9 of the scheduler in the middle loses no finished task. Method: a job of 60
    tasks in a process that is killed after some of them; the same job again, with other executors.
    Oracle: success; what the first run finished is skipped and not run again."""
    code = f"import {__name__} as one; one.main({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env=cluster.python_environment())
    marks = tmp_path / "marks"
    try:
        wait_until(lambda: marks.is_dir() and len(list(marks.iterdir())) >= TASK_COUNT // 4)
    finally:
        process.kill()
        process.wait()
    ctx = fast_context(tmp_path, 2)
    scheduler, events = scheduler_of(ctx)
    try:
        assert scheduler.run(), scheduler.failure
        assert len(scheduler.remote_executors) >= 2
    finally:
        assert scheduler._backend is not None
        scheduler._backend.stop()
    skipped = {event.key for event in events if isinstance(event, TaskSkipped)}
    assert skipped
    again = {path.name.rsplit("-", 2)[0] for path in marks.glob("*-1-*")}
    assert not again & skipped
    assert len(again | skipped) == TASK_COUNT
