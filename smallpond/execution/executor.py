"""The executor: takes tasks from its work queue, runs them on worker processes, sends them back.

It makes no decisions. What the scheduler placed here goes to the pool of this machine; the main
loop only moves items between the queues and the pool, so that probes are answered at any load.

It leaves when it is told to, when the job's folders are gone, when the job's status says that the
scheduler has ended, when the scheduler's process on this machine is gone, or after long silence.
"""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import SmallpondError
from smallpond.execution.backends.outcome import outcome_light
from smallpond.execution.backends.presence import (
    presence_is_dead,
    presence_read,
    presence_write,
)
from smallpond.execution.backends.remote import (
    EVERYTHING,
    PRESENCE_NAME,
    SCHEDULER_PRESENCE_NAME,
)
from smallpond.execution.pool import LocalPool
from smallpond.execution.queue import UnreadableWork, WorkQueue, WorkQueueOnFilesystem
from smallpond.execution.task import Probe, Task
from smallpond.execution.workitem import StopExecutor, StopWorkItem, WorkItem, WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Backend, Machine
    from smallpond.execution.task import RuntimeContext

logger = logging.getLogger(__name__)

PAUSE_MIN_S = 0.005
PAUSE_MAX_S = 0.5
POP_COUNT_MAX = 64


class Executor:
    """Runs what its work queue brings."""

    def __init__(self, ctx: RuntimeContext, id: str, wq: WorkQueue, cq: WorkQueue) -> None:
        self.ctx = ctx
        self.id = id
        self.wq = wq
        self.cq = cq
        self.running_works: dict[str, Task] = {}
        self.running = True
        self.epochs_to_skip = 0
        self.numa_node = ctx.numa_node_id
        self.local_gpus: dict[Any, float] = dict.fromkeys(ctx.get_local_gpus(), 1.0)
        self._waiting_for_gpu: list[Task] = []
        self._granted: dict[str, dict[Any, float]] = {}
        self._heard_s = 0.0
        self._checked_s = 0.0
        self._beat_s = 0.0
        self._stop_request: StopExecutor | None = None
        self._leave_s = 0.0

    def __str__(self) -> str:
        names = list(self.running_works)
        return f"Executor({self.id}), running_works[{len(names)}]={names[:3]}..."

    @property
    def busy(self) -> bool:
        return bool(self.running_works)

    @property
    def available_gpu_quota(self) -> float:
        return sum(self.local_gpus.values())

    @staticmethod
    def create(ctx: RuntimeContext, id: str) -> Executor:
        """An executor of that name, with its queues in the job's folder."""
        folder = Path(ctx.queue_root, id)
        wq = WorkQueueOnFilesystem(str(folder / "wq"))
        cq = WorkQueueOnFilesystem(str(folder / "cq"))
        return Executor(ctx, id, wq, cq)

    def stop(self) -> None:
        """From outside, for tests: leave without a word to the scheduler."""
        self.wq.push(StopExecutor(f".FailStop-{self.id}", ack=False))

    def skip_probes(self, epochs: int) -> None:
        """From outside, for tests: leave that many probes unanswered."""
        self.wq.push(Probe(self.ctx, f".FalseFail-{self.id}", epoch=0, epochs_to_skip=epochs))

    def run(self) -> bool:
        """Work until there is a reason to leave; whether it left in order."""
        logger.info("executor %s runs on %s", self.id, socket.gethostname())
        pool = LocalPool()
        pool.start(self.ctx)
        self._heard_s = time.monotonic()
        presence_write(str(self._folder / PRESENCE_NAME))
        self._answer(Probe(self.ctx, f".Hello-{self.id}", epoch=0))
        try:
            self._loop(pool)
        finally:
            pool.stop()
        if self._stop_request is not None and self._stop_request.ack:
            self._stop_request.exec()
            self._send(self._stop_request)
        logger.info("executor exits: %s", self)
        return True

    @property
    def _folder(self) -> Path:
        return Path(self.ctx.queue_root, self.id)

    def _loop(self, pool: Backend) -> None:
        (machine,) = pool.capacity()
        pause_max_s = min(PAUSE_MAX_S, self.ctx.secs_wq_poll_interval)
        pause_s = PAUSE_MIN_S
        while self.running and not self._may_leave():
            items = self._pop()
            for item in items:
                self._accept(item, pool, machine)
            completions = pool.poll(pause_s) if self.running_works else []
            for completion in completions:
                self._finished(completion.task)
            self._flush()
            self._start_waiting(pool, machine)
            if items or completions:
                pause_s = PAUSE_MIN_S
                continue
            if not self.running_works:
                time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, pause_max_s)
            self.running = self.running and self._has_scheduler()

    def _may_leave(self) -> bool:
        """Told to leave, and what runs has ended or had its time."""
        if self._stop_request is None:
            return False
        return not self.running_works or time.monotonic() > self._leave_s

    def _pop(self) -> list[WorkItem]:
        try:
            return self.wq.pop(count=POP_COUNT_MAX)
        except FileNotFoundError:
            logger.info("the folder of %s is gone: the job is over", self.wq)
            self.running = False
            return []

    def _accept(self, item: WorkItem, pool: Backend, machine: Machine) -> None:
        if isinstance(item, StopExecutor):
            logger.info("told to leave: %s", item)
            self._stop_request = item
            grace_s = self.ctx.secs_executor_probe_interval if item.ack else 0.0
            self._leave_s = time.monotonic() + grace_s
        elif isinstance(item, Probe):
            self._heard_s = time.monotonic()
            self._answer_unless_skipped(item)
        elif isinstance(item, StopWorkItem):
            self._stop_work(item, pool)
        elif isinstance(item, UnreadableWork):
            self._send(item)
        elif not isinstance(item, Task):
            item.exec(self.cq)
            self._send(item)
        elif item.gpu_limit > 0:
            self._waiting_for_gpu.append(item)
        else:
            self._start(item, pool, machine)

    def _start(self, task: Task, pool: Backend, machine: Machine) -> None:
        task._numa_node = self.numa_node
        # The job's context is here already; the one that came along is a copy as old as the task.
        task.ctx = self.ctx
        self.running_works[repr(task)] = task
        pool.submit(task, machine)

    def _start_waiting(self, pool: Backend, machine: Machine) -> None:
        """Start tasks for which there is a GPU now; others wait without blocking the loop."""
        for task in list(self._waiting_for_gpu):
            # A task may ask for at most what is there.
            task.gpu_limit = min(task.gpu_limit, float(len(self.local_gpus)))
            granted = self.acquire_gpu(task.gpu_limit)
            if granted or not self.local_gpus:
                self._waiting_for_gpu.remove(task)
                # The pool says which GPU it is; here it is made sure that there is room.
                self._granted[repr(task)] = granted
                self._start(task, pool, machine)

    def _finished(self, task: Task) -> None:
        if task.status != WorkStatus.INCOMPLETE:
            self.running_works.pop(repr(task), None)
            self.release_gpu(self._granted.pop(repr(task), {}))
            if task.status == WorkStatus.EXEC_FAILED:
                # Here only a worker process was lost; the executor is well.
                task.status = WorkStatus.CRASHED
        # Sent with what else has finished in this round.
        self.cq.push(outcome_light(task), buffering=True)

    def _stop_work(self, item: StopWorkItem, pool: Backend) -> None:
        wanted = item.work_to_stop
        for name, task in list(self.running_works.items()):
            if wanted in (EVERYTHING, name, task.key):
                logger.info("stopping %s", name)
                del self.running_works[name]
                pool.cancel(task)
                self.release_gpu(self._granted.pop(name, {}))
        self._waiting_for_gpu = [
            task
            for task in self._waiting_for_gpu
            if wanted not in (EVERYTHING, repr(task), task.key)
        ]

    def _answer_unless_skipped(self, probe: Probe) -> None:
        self.epochs_to_skip += probe.epochs_to_skip
        if self.epochs_to_skip > 0:
            self.epochs_to_skip -= 1
        else:
            self._answer(probe)

    def _answer(self, probe: Probe) -> None:
        probe.ctx = self.ctx
        probe.exec()
        self._send(probe)

    def _flush(self) -> None:
        works = list(self.cq.outbound_works)
        if len(works) > 1:
            try:
                if self.cq.flush():
                    return
            except Exception as error:
                logger.warning("%d results cannot travel together: %s", len(works), error)
        self.cq.outbound_works = []
        for work in works:
            self._send(work)

    def _send(self, item: WorkItem) -> None:
        """Send an item back. What cannot be pickled is replaced by a text about it."""
        try:
            self.cq.push(item)
        except OSError as error:
            logger.error("cannot write into %s: %s", self.cq, error)
            self.running = self._folder.is_dir()
        except Exception as error:
            logger.error("the result of %r cannot travel: %s", item, error)
            item.status = WorkStatus.CRASHED
            item.exception = SmallpondError(f"the result of {item!r} cannot be pickled: {error}")
            if isinstance(item, Task):
                item.dataset = None
                item.runtime_state = None
            self.cq.push(item)

    def _has_scheduler(self) -> bool:
        """Whether there still is somebody to work for. Looks at files now and then only."""
        now_s = time.monotonic()
        if now_s - self._checked_s < 1.0:
            return True
        self._checked_s = now_s
        path = Path(self.ctx.queue_root, SCHEDULER_PRESENCE_NAME)
        if (beat_s := _mtime_s(path)) != self._beat_s:
            self._beat_s = beat_s
            self._heard_s = now_s
        if presence_is_dead(presence_read(str(path))):
            logger.error("the scheduler's process is gone: leaving")
            return False
        quiet_s = now_s - self._heard_s
        if quiet_s > 2 * self.ctx.secs_executor_probe_interval and not _job_runs(self.ctx):
            logger.error("the job's scheduler has ended: leaving")
            return False
        if quiet_s > 2 * self.ctx.secs_executor_probe_timeout:
            logger.error("no sign of a scheduler for %.1f s: leaving", quiet_s)
            return False
        return True

    def acquire_gpu(self, quota: float) -> dict[Any, float]:
        """Parts of GPUs that sum up to the quota; nothing when there is too little."""
        if quota > self.available_gpu_quota:
            return {}
        granted: dict[Any, float] = {}
        for gpu, available in self.local_gpus.items():
            if available > 0 and quota > 0:
                granted[gpu] = min(available, quota)
                quota -= granted[gpu]
        for gpu, part in granted.items():
            self.local_gpus[gpu] -= part
        return granted

    def release_gpu(self, gpus: dict[Any, float]) -> None:
        """Give back what acquire_gpu granted."""
        for gpu, part in gpus.items():
            self.local_gpus[gpu] += part
            assert self.local_gpus[gpu] <= 1.0 + 1e-6, f"GPU {gpu} was given back twice"


def _mtime_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _job_runs(ctx: RuntimeContext) -> bool:
    """What the status file says; a job without one has not begun."""
    try:
        status = Path(ctx.job_status_path).read_text().strip()
    except OSError:
        return True
    return not status or status.startswith("running")
