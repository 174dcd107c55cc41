"""Small plans for the tests: tasks whose behaviour is written down where they are made."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from smallpond.execution.scheduler import Scheduler
from smallpond.execution.task import (
    ExecutionPlan,
    JobId,
    PartitionInfo,
    RuntimeContext,
    Task,
)

JOB_TIME = datetime(2026, 1, 2, 3, 4, 5)
MB = 1 << 20


class EndTask(Task):
    """The root of a plan: does nothing, in the scheduler's thread."""

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    def initialize(self) -> None:
        """Needs no folder."""

    def finalize(self) -> None:
        """Moves no file."""


class CallTask(Task):
    """Calls a function with itself; what the function returns is whether it succeeded."""

    def __init__(self, *args: Any, call: Callable[[Task], bool | None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.call: Any = call

    def run(self) -> bool:
        return self.call(self) is not False


class InlineTask(CallTask):
    """Small enough for the driver."""

    @property
    def exec_inline(self) -> bool:
        return True


class SteadyTask(CallTask):
    """Never speculated."""

    @property
    def allow_speculative_exec(self) -> bool:
        return False


def context(folder: Path, job: int = 1, **options: Any) -> RuntimeContext:
    """A job with logs but nothing on the console, and no executors."""
    options = {"num_executors": 0, "console_log_level": "CRITICAL", "random_seed": 7, **options}
    ctx = RuntimeContext(JobId(int=job), JOB_TIME, str(folder), **options)
    ctx.initialize("test")
    return ctx


def call_task(
    ctx: RuntimeContext,
    call: Callable[[Task], bool | None],
    deps: Sequence[Task] = (),
    **kwargs: Any,
) -> CallTask:
    node_id = kwargs.pop("node_id", 1)
    kind = kwargs.pop("kind", CallTask)
    task: CallTask = kind(ctx, list(deps), [PartitionInfo()], call=call, **kwargs)
    task.node_id = node_id
    return task


def plan_of(ctx: RuntimeContext, tasks: Sequence[Task]) -> ExecutionPlan:
    return ExecutionPlan(ctx, EndTask(ctx, list(tasks), [PartitionInfo()]), None)


def watched(plan: ExecutionPlan, **options: Any) -> tuple[Scheduler, list[Any]]:
    """A scheduler, and the list that its events will be in."""
    scheduler = Scheduler(plan, **options)
    events: list[Any] = []
    scheduler.subscribe(events.append)
    return scheduler, events


def wait_until(true: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Poll with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := true()):
        assert time.monotonic() < deadline, "this did not become true in time"
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- what tasks do ---


def nothing(task: Task) -> None:
    """No work at all."""


def fail_twice(task: Task) -> None:
    if task.retry_count < 2:
        raise ValueError(f"attempt {task.retry_count} fails")


def fail_always(task: Task) -> None:
    raise KeyError("always")


def false_once(task: Task) -> bool:
    return task.retry_count > 0


def leave_once(task: Task) -> None:
    if task.retry_count == 0:
        sys.exit(3)


def exit_once(task: Task) -> None:
    if task.retry_count == 0:
        os._exit(7)


def die_once(task: Task) -> None:
    if task.retry_count == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def nursery_die_once(task: Task) -> None:
    if task.retry_count == 0:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(30)


def memory_use(task: Task) -> None:
    """300 MB, which a limit of 100 MB does not allow."""
    data = bytearray(300 * MB)
    data[:: os.sysconf("SC_PAGE_SIZE")] = b"1" * len(data[:: os.sysconf("SC_PAGE_SIZE")])
    time.sleep(0.5)


def spill_or_fail(task: Task) -> None:
    if not task.low_memory:
        raise MemoryError("wants to spill")
    assert task.cpu_limit == 1


def stuck_thread(task: Task) -> None:
    """Raises, and leaves a thread behind that never ends: what a stream task may do."""
    threading.Thread(target=threading.Event().wait, name="stuck").start()
    if task.retry_count == 0:
        raise RuntimeError("the stream broke")


def slow_first_time(task: Task) -> None:
    """One straggler among equals; its second copy is quick."""
    if int(task.id) == 5 and task.retry_count == 0:
        time.sleep(60)
    time.sleep(0.01)


class StubbornError(Exception):
    """Cannot be rebuilt from its arguments."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.lock = threading.Lock()


def raise_stubborn(task: Task) -> None:
    raise StubbornError(5, "stubborn")
