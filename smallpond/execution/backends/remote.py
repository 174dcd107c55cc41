"""An executor as its scheduler sees it: a pair of queues, its state, and what runs there.

States: RESOURCE_LOW (new, or short of memory) and GOOD get work from GOOD on; FAIL after too many
missed probes, or at once when its process is known to be dead; STOPPING and STOPPED on request.
FAIL is not for ever: an executor that answers again is readmitted. What ran on it is retried
elsewhere meanwhile, so it is told to stop that before it gets anything new.

Objects of this class travel inside pickles of the scheduler, so they hold nothing open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from smallpond.common import GB
from smallpond.execution.backends.presence import Presence, presence_is_dead, presence_read
from smallpond.execution.queue import UnreadableWork, WorkQueue, WorkQueueOnFilesystem
from smallpond.execution.task import Probe
from smallpond.execution.workitem import (
    StopExecutor,
    StopWorkItem,
    WorkItem,
    WorkStatus,
)

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext, Task

logger = logging.getLogger(__name__)

PRESENCE_NAME = "presence.json"
SCHEDULER_PRESENCE_NAME = "scheduler.json"
EVERYTHING = "*"
START_TIMEOUT_S = 30.0


class ExecutorState(Enum):
    """What a scheduler thinks of an executor."""

    GOOD = 1
    FAIL = 2
    RESOURCE_LOW = 3
    STOPPING = 4
    STOPPED = 5


class RemoteExecutor:
    """The scheduler's end of an executor in another process."""

    def __init__(
        self, ctx: RuntimeContext, id: str, wq: WorkQueue, cq: WorkQueue, init_epoch: int = 0
    ) -> None:
        self.ctx = ctx
        self.id = id
        self.wq = wq
        self.cq = cq
        # Attempts by their full name: a task may be here twice while an old attempt is stopping.
        self.running_works: dict[str, WorkItem] = {}
        self.state = ExecutorState.RESOURCE_LOW
        self.last_acked_probe = Probe(ctx, f"Probe-{id}#0", init_epoch)
        self.stop_request_sent = False
        self.stop_request_acked = False
        self.dead = False
        self._presence: Presence = {}
        # Which attempts went in which batch, for one that cannot be read at the other end.
        self._batches: dict[str, set[str]] = {}
        self._allocated_cpus = 0
        self._allocated_gpus = 0.0
        self._allocated_memory = 0

    def __str__(self) -> str:
        return (
            f"{type(self).__name__}({self.id}), running_works[{len(self.running_works)}]="
            f"{list(self.running_works)[:3]}..., allocated={self.allocated_cpus}CPUs/"
            f"{self.allocated_gpus}GPUs/{self.allocated_memory // GB}GB, "
            f"state={self.state}, probe={self.last_acked_probe}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}):{self.state}"

    @staticmethod
    def create(ctx: RuntimeContext, id: str, queue_dir: str, init_epoch: int = 0) -> RemoteExecutor:
        """The executor whose queues are in `queue_dir`."""
        wq = WorkQueueOnFilesystem(str(Path(queue_dir, "wq")))
        cq = WorkQueueOnFilesystem(str(Path(queue_dir, "cq")))
        return RemoteExecutor(ctx, id, wq, cq, init_epoch)

    @property
    def idle(self) -> bool:
        return not self.running_works

    @property
    def busy(self) -> bool:
        """Whether it has all the work that fits."""
        return (
            len(self.running_works) >= self.max_running_works
            or (self.cpu_count > 0 and self.allocated_cpus >= self.cpu_count)
            or (self.gpu_count > 0 and self.allocated_gpus >= self.gpu_count)
            or (self.memory_size > 0 and self.allocated_memory >= self.memory_size)
        )

    @property
    def local(self) -> bool:
        return False

    @property
    def good(self) -> bool:
        return self.state == ExecutorState.GOOD

    @property
    def fail(self) -> bool:
        return self.state == ExecutorState.FAIL

    @property
    def stopping(self) -> bool:
        return self.state == ExecutorState.STOPPING

    @property
    def stopped(self) -> bool:
        return self.state == ExecutorState.STOPPED

    @property
    def resource_low(self) -> bool:
        return self.state == ExecutorState.RESOURCE_LOW

    @property
    def working(self) -> bool:
        return self.good or self.resource_low

    @property
    def alive(self) -> bool:
        return self.working or self.stopping

    @property
    def cpu_count(self) -> int:
        return self.last_acked_probe.cpu_count

    @property
    def gpu_count(self) -> int:
        return self.last_acked_probe.gpu_count

    @property
    def memory_size(self) -> int:
        return self.last_acked_probe.total_memory

    @property
    def allocated_cpus(self) -> int:
        return self._allocated_cpus

    @property
    def allocated_gpus(self) -> float:
        return self._allocated_gpus

    @property
    def allocated_memory(self) -> int:
        return self._allocated_memory

    @property
    def available_cpus(self) -> int:
        return self.cpu_count - self.allocated_cpus

    @property
    def available_memory(self) -> int:
        return self.memory_size - self.allocated_memory

    @property
    def max_running_works(self) -> int:
        """One core in sixteen is left to the file system."""
        return self.cpu_count - self.cpu_count // 16

    def add_running_work(self, item: WorkItem) -> None:
        """Account for an attempt that runs there from now on."""
        name = repr(item)
        assert name not in self.running_works, f"{name} already runs on {self!r}"
        self.running_works[name] = item
        self._allocated_cpus += item.cpu_limit
        self._allocated_gpus += item.gpu_limit
        self._allocated_memory += item.memory_limit

    def pop_running_work(self, name: str) -> WorkItem | None:
        """The attempt of that name, which runs there no longer; None if it did not."""
        item = self.running_works.pop(name, None)
        if item is not None:
            self._allocated_cpus -= item.cpu_limit
            self._allocated_gpus -= item.gpu_limit
            self._allocated_memory -= item.memory_limit
        return item

    def pop_all_running_works(self) -> list[WorkItem]:
        """Everything that ran there."""
        return [item for name in list(self.running_works) if (item := self.pop_running_work(name))]

    def pop(self) -> list[Task]:
        """Tasks that ended (or left a checkpoint: INCOMPLETE) since the last call."""
        finished: list[Task] = []
        for item in self.cq.pop(count=max(16, len(self.running_works))):
            finished.extend(self._accept(item))
        return finished

    def _accept(self, item: WorkItem) -> Iterable[Task]:
        if isinstance(item, Probe):
            if not item < self.last_acked_probe:
                self.last_acked_probe = item
        elif isinstance(item, StopWorkItem):
            self.pop_running_work(item.work_to_stop)
        elif isinstance(item, StopExecutor):
            self.stop_request_acked |= not self.stopped
            self.pop_running_work(repr(item))
        elif isinstance(item, UnreadableWork):
            yield from self._unreadable(item)
        elif repr(item) not in self.running_works:
            # It was given up: the executor fell silent, or somebody else was faster.
            logger.debug("%r of %r is no longer waited for", item, self)
        elif item.status == WorkStatus.INCOMPLETE:
            yield item  # type: ignore[misc]
        else:
            self.pop_running_work(repr(item))
            item.finish_time = item.finish_time or time.time()
            yield item  # type: ignore[misc]

    def _unreadable(self, item: UnreadableWork) -> Iterable[Task]:
        """Whatever of that key runs there has failed: its task or its result cannot be read."""
        members = self._batches.pop(item.key, ())
        for name, work in list(self.running_works.items()):
            if work.key == item.key or name in members:
                self.pop_running_work(name)
                work.status = WorkStatus.CRASHED
                work.exception = item.exception
                work.finish_time = time.time()
                yield work  # type: ignore[misc]

    def push(self, item: WorkItem, buffering: bool = False) -> bool:
        """Send an item to run; False when it runs there already."""
        if repr(item) in self.running_works:
            logger.warning("%r already runs on %r", item, self)
            return False
        item.start_time = time.time()
        item.exec_id = self.id
        self.add_running_work(item)
        return self.wq.push(item, buffering)

    def flush(self) -> bool:
        """Send what was pushed with buffering."""
        works = self.wq.outbound_works
        if len(works) == len(self.running_works):
            # Nothing older runs, so no older batch can turn out to be unreadable.
            self._batches.clear()
        if len(works) > 1:
            self._batches[f"WorkBatch-{works[0].key}"] = {repr(work) for work in works}
        return self.wq.flush()

    def probe(self, epoch: int) -> None:
        """Ask how it is doing."""
        self.wq.push(Probe(self.ctx, f".Probe-{self.id}#{epoch:06d}", epoch))

    def cancel(self, item: WorkItem) -> None:
        """Stop an attempt; nobody waits for its result any more."""
        if self.pop_running_work(repr(item)) is not None:
            self.wq.push(StopWorkItem(f".StopWorkItem-{item.key}", repr(item)))

    def stop(self) -> None:
        """Ask it to leave; what runs there is stopped."""
        if self.working and not self.stop_request_sent:
            logger.info("stopping remote executor: %s", self)
            self.push(StopExecutor(f".StopExecutor-{self.id}"))
            self.stop_request_sent = True

    def reset_state(self, current_epoch: int) -> None:
        """Forget what is known of it."""
        self.__init__(self.ctx, self.id, self.wq, self.cq, current_epoch)  # type: ignore[misc]

    def check_presence(self) -> None:
        """Ask the kernel whether its process is gone, if that was on this machine."""
        root = getattr(self.wq, "workq_root", None)
        if root is None or (self._presence and not presence_is_dead(self._presence)):
            return
        # Read again when dead: another process may have taken the name over.
        self._presence = presence_read(str(Path(root).parent / PRESENCE_NAME))
        self.dead = presence_is_dead(self._presence)

    def update_state(self, current_epoch: int) -> bool:
        """Move to the state that the latest answers call for; whether that is another one."""
        before = self.state
        missed = current_epoch - self.last_acked_probe.epoch
        if self.state == ExecutorState.STOPPED:
            return False
        if self.stop_request_acked:
            self.state = ExecutorState.STOPPED
        elif self.dead or missed > self._missed_max:
            self.state = ExecutorState.FAIL
        elif self.stop_request_sent:
            self.state = ExecutorState.STOPPING
        elif self.last_acked_probe.status != WorkStatus.SUCCEED or (
            self.last_acked_probe.resource_low
        ):
            self.state = ExecutorState.RESOURCE_LOW
        else:
            self.state = ExecutorState.GOOD
        if before == self.state:
            return False
        self._log_change(before, missed)
        return True

    @property
    def _missed_max(self) -> float:
        """Probes that may be unanswered; more at first, as starting takes longer than answering."""
        allowed = self.ctx.max_num_missed_probes
        if self.last_acked_probe.status == WorkStatus.SUCCEED:
            return allowed
        return max(allowed, START_TIMEOUT_S / self.ctx.secs_executor_probe_interval)

    def _log_change(self, before: ExecutorState, missed: int) -> None:
        if self.fail:
            why = "its process is gone" if self.dead else f"it missed {missed} probes"
            logger.error("executor %s fails: %s; its tasks run elsewhere", self.id, why)
        elif before == ExecutorState.FAIL:
            logger.warning("executor %s answers again: it is %s", self.id, self.state.name)
        elif self.resource_low:
            logger.warning("executor %s is short of memory: %s", self.id, self.last_acked_probe)
        else:
            logger.info("executor %s is %s", self.id, self.state.name)
