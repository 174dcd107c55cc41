"""A worker as the driver sees it: its socket, what is in flight, its memory."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from smallpond.common import GB, MB, NonzeroExitCode, OutOfMemory
from smallpond.execution.pool import process
from smallpond.execution.pool.codec import name_of

if TYPE_CHECKING:
    from smallpond.execution.pool.wire import Channel
    from smallpond.execution.task.base import Task

# What a process needs for itself, whatever the task's limit says.
OVERHEAD_BYTES = 32 * MB


class Member:
    """One worker process; tasks in flight run in order, so the first is the running one."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self.name = f"worker-{number}"
        self.channel = channel
        self.pid: int | None = None
        self.context: bytes | None = None
        self.in_flight: dict[str, Task] = {}
        # Attempts that nobody wants any more; their outcomes are dropped.
        self.forgotten: set[str] = set()
        self.head_since_s = 0.0
        self.idle_bytes: int | None = None
        self.peak_bytes = 0
        # The limit of the task that the peak is of; 0 before it was looked at.
        self.head_limit_bytes = 0
        self.revoking = False
        self.ended = False
        # Set when it leaves by itself after its task, which nothing else is blamed for.
        self.worn = False
        # Why the driver killed it, if it did, and the attempt that this is about.
        self.death_error: BaseException | None = None
        self.death_name = ""
        self.nursery_lost = False

    @property
    def usable(self) -> bool:
        """Whether it may be given work."""
        return not (self.ended or self.worn or self.death_error is not None)

    @property
    def idle(self) -> bool:
        return not self.in_flight and self.usable

    @property
    def head(self) -> Task | None:
        return next(iter(self.in_flight.values()), None)

    @property
    def head_age_s(self) -> float:
        return time.monotonic() - self.head_since_s if self.in_flight else 0.0

    def took(self, tasks: list[Task]) -> None:
        if not self.in_flight:
            self.head_begins()
        self.in_flight.update((name_of(task), task) for task in tasks)

    def head_begins(self) -> None:
        self.head_since_s = time.monotonic()
        self.peak_bytes = 0
        self.head_limit_bytes = 0

    def hello(self, pid: int, start_bytes: int) -> None:
        self.pid = pid
        self.idle_bytes = start_bytes or None

    def memory_check(self) -> OutOfMemory | None:
        """An error when the running task uses more than its limit and a tenth."""
        task = self.head
        if task is None or self.pid is None or self.idle_bytes is None or not task.memory_limit:
            return None
        own = process.own_bytes(self.pid)
        if own is None:
            return None
        used = own - self.idle_bytes
        self.peak_bytes = max(self.peak_bytes, used)
        self.head_limit_bytes = task.memory_limit
        if used <= task.memory_limit * 11 // 10 + OVERHEAD_BYTES:
            return None
        return OutOfMemory(
            f"{task.key} used {used / GB:.2f} GB of memory and may use "
            f"{task.memory_limit / GB:.2f} GB: its worker was killed"
        )

    def death(self, status: int | None) -> BaseException:
        """The error of the task that was running when the process ended."""
        if self.death_error is not None:
            return self.death_error
        limit = self.head_limit_bytes
        if status is None:
            how = "is gone"
        elif (
            os.WIFSIGNALED(status)
            and os.WTERMSIG(status) == signal.SIGKILL
            and (0 < limit < 2 * self.peak_bytes)
        ):
            # Nobody here killed it, and it was large: the kernel did.
            return OutOfMemory(
                f"the process of {self.name} ({self.pid}) was killed, most likely by the kernel "
                f"for lack of memory: it had {self.peak_bytes / GB:.2f} GB"
            )
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            how = f"was killed by signal {number} ({signal.Signals(number).name})"
            if number == signal.SIGKILL:
                how += ", by somebody or by the kernel for lack of memory"
        else:
            how = f"exited with code {os.waitstatus_to_exitcode(status)}"
        return NonzeroExitCode(f"the process of {self.name} ({self.pid}) {how}")
