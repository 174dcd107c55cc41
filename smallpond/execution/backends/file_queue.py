"""Executors that share nothing with the scheduler but a file system.

Each has a folder `queue/{exec_id}` with a queue for work (`wq`) and one for results (`cq`). Folders
that appear are new executors, so that machines can join a running job. There is no connection whose
end would tell of a death: executors are probed every `secs_executor_probe_interval`, and one that
misses more than `max_num_missed_probes` has failed (a process that died on this machine is noticed
at once). What ran there is reported as EXEC_FAILED, another executor is started when there is a
launcher, and the failed one comes back when it answers.

Waiting: nothing tells that a file has appeared, so queues are looked at with growing pauses, from
5 ms while something happens to at most half a second (or `secs_wq_poll_interval`).

Invariant: an attempt is in `running_works` of exactly one executor until it is reported or
cancelled.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smallpond.common import SmallpondError, WorkerLost
from smallpond.execution.backends.outcome import outcome_copy
from smallpond.execution.backends.presence import Heartbeat
from smallpond.execution.backends.remote import (
    EVERYTHING,
    SCHEDULER_PRESENCE_NAME,
    RemoteExecutor,
)
from smallpond.execution.pool import codec
from smallpond.execution.scheduler.backend import Completion, Machine
from smallpond.execution.workitem import StopWorkItem, WorkItem, WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.backends.launch import ExecutorLauncher
    from smallpond.execution.task import RuntimeContext, Task

logger = logging.getLogger(__name__)

PAUSE_MIN_S = 0.005
PAUSE_MAX_S = 0.5
STOP_TIMEOUT_S = 10.0
LOOK_INTERVAL_S = 0.25
# How many probe timeouts without any executor are enough to give up.
LONELY_TIMEOUTS_MAX = 10
LONELY_MIN_S = 120.0
LONELY_WARNING_S = 30.0
# A queue on a shared file system is slow to answer, so tiny tasks wait at the executor.
PREFETCH = 64


class FileQueueBackend:
    """Runs tasks on the executors that meet in the job's queue folder."""

    def __init__(self, launcher: ExecutorLauncher | None = None) -> None:
        self.launcher = launcher
        self._ctx: RuntimeContext | None = None
        self._heartbeat: Heartbeat | None = None
        self._executors: dict[str, RemoteExecutor] = {}
        self._submitted: dict[str, Task] = {}
        self._ended: list[Completion] = []
        self._probe_epoch = 0
        self._probed_s = 0.0
        self._looked_s = 0.0
        self._working_s = 0.0
        self._warned_s = 0.0
        self._pause_s = PAUSE_MIN_S

    @property
    def executors(self) -> list[RemoteExecutor]:
        """Every executor that was ever seen, in order of appearance."""
        return list(self._executors.values())

    def start(self, ctx: RuntimeContext) -> None:
        if self._ctx is not None:
            return
        self._ctx = ctx
        # Names may come again, with other processes behind them.
        self._executors.clear()
        queue_root = Path(ctx.queue_root)
        queue_root.mkdir(parents=True, exist_ok=True)
        self._heartbeat = Heartbeat(
            str(queue_root / SCHEDULER_PRESENCE_NAME), ctx.secs_executor_probe_interval
        )
        self._working_s = self._warned_s = time.monotonic()
        self._discover(ctx)
        for executor in self.executors:
            # Left by an earlier scheduler of this job, which is gone: so are its wishes.
            self._abandon(executor)
        if self.launcher is not None:
            self.launcher.start(ctx.num_executors)

    def capacity(self) -> Sequence[Machine]:
        self._look()
        return [
            Machine(
                executor.id, executor.cpu_count, executor.gpu_count, executor.memory_size, PREFETCH
            )
            for executor in self._executors.values()
            if executor.good
        ]

    def submit(self, task: Task, machine: Machine) -> None:
        executor = self._executors[machine.name]
        self._submitted[repr(task)] = task
        self._pause_s = PAUSE_MIN_S
        # What is submitted in one round travels in one file.
        executor.push(task, buffering=True)

    def poll(self, timeout: float | None) -> list[Completion]:
        """Completions; an empty list after the timeout, or when there are other machines."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        for executor in self.executors:
            self._flush(executor)
        while True:
            changed = self._look()
            completions = self._collect()
            if completions or changed:
                self._pause_s = PAUSE_MIN_S
                return completions
            left_s = PAUSE_MAX_S if deadline_s is None else deadline_s - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(self._pause_s, left_s))
            self._pause_s = min(self._pause_s * 1.5, self._pause_max_s)

    def _flush(self, executor: RemoteExecutor) -> None:
        works = list(executor.wq.outbound_works)
        try:
            sent = executor.flush()
        except Exception:
            # Some item cannot be pickled: the others go alone.
            for work in works:
                self._send_alone(executor, work)
            return
        for work in [] if sent else works:
            executor.pop_running_work(repr(work))
            self._lose(executor, work, "its queue cannot be written")

    def _send_alone(self, executor: RemoteExecutor, work: WorkItem) -> None:
        try:
            executor.wq.push(work)
        except Exception as error:
            executor.pop_running_work(repr(work))
            task = self._submitted.pop(repr(work), None)
            if task is None:
                return
            task.status = WorkStatus.CRASHED
            task.finish_time = time.time()
            task.exception = codec.unpicklable(task, error)
            self._ended.append(Completion(task, executor.id))

    def cancel(self, task: Task) -> None:
        self._submitted.pop(repr(task), None)
        for executor in self._executors.values():
            executor.cancel(task)

    def stop(self) -> None:
        """Ask all executors to leave, wait a little for those that can answer."""
        if self._ctx is None:
            return
        ctx, self._ctx = self._ctx, None
        self._submitted.clear()
        self._ended.clear()
        for executor in self.executors:
            for work in list(executor.running_works.values()):
                executor.cancel(work)
            executor.stop()
        timeout_s = min(STOP_TIMEOUT_S, ctx.secs_executor_probe_timeout)
        deadline_s = time.monotonic() + timeout_s
        while any(map(_may_answer, self.executors)) and time.monotonic() < deadline_s:
            for executor in self.executors:
                if executor.alive:
                    executor.pop()
                    executor.check_presence()
                    executor.update_state(self._probe_epoch)
            time.sleep(PAUSE_MIN_S * 2)
        if self.launcher is not None:
            self.launcher.stop()
        if self._heartbeat is not None:
            self._heartbeat.stop()

    @property
    def _pause_max_s(self) -> float:
        assert self._ctx is not None
        return min(PAUSE_MAX_S, self._ctx.secs_wq_poll_interval)

    def _collect(self) -> list[Completion]:
        self._receive()
        completions, self._ended = self._ended, []
        return completions

    def _receive(self) -> None:
        """Take in what executors have answered: results, checkpoints, probes."""
        for executor in self.executors:
            if not executor.stopped:
                self._ended += self._results(executor)

    def _results(self, executor: RemoteExecutor) -> list[Completion]:
        completions = []
        for result in executor.pop():
            task = self._submitted.get(repr(result))
            if task is None:
                continue
            if result.status != WorkStatus.INCOMPLETE:
                del self._submitted[repr(result)]
            outcome_copy(result, task)
            completions.append(Completion(task, executor.id))
        return completions

    def _look(self) -> bool:
        """See to the executors; whether one of them changed its state."""
        assert self._ctx is not None, "the backend is not started"
        now_s = time.monotonic()
        if now_s - self._looked_s < min(LOOK_INTERVAL_S, self._ctx.secs_executor_probe_interval):
            return False
        self._looked_s = now_s
        self._discover(self._ctx)
        self._probe(self._ctx, now_s)
        self._receive()
        changed = False
        for executor in self.executors:
            executor.check_presence()
            before = executor.state
            if executor.update_state(self._probe_epoch):
                changed = True
                if executor.fail:
                    self._failed(executor)
                elif executor.stopped:
                    self._left(executor)
            if executor.working and before != executor.state:
                self._pause_s = PAUSE_MIN_S
        self._check_not_alone(self._ctx, now_s)
        return changed

    def _discover(self, ctx: RuntimeContext) -> None:
        try:
            entries = [entry for entry in os.scandir(ctx.queue_root) if entry.is_dir()]
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name not in self._executors and Path(entry.path, "cq", "enqueued").is_dir():
                self._executors[entry.name] = executor = RemoteExecutor.create(
                    ctx, entry.name, entry.path, self._probe_epoch
                )
                executor.probe(self._probe_epoch)
                logger.info("found executor #%d: %s", len(self._executors), entry.name)

    def _probe(self, ctx: RuntimeContext, now_s: float) -> None:
        if now_s - self._probed_s < ctx.secs_executor_probe_interval:
            return
        self._probed_s = now_s
        self._probe_epoch += 1
        unread_max = 2 * ctx.max_num_missed_probes
        for executor in self.executors:
            # The failed are asked as well, or they could not come back; but not into a full box.
            if executor.stopped or executor.dead or executor.stop_request_sent:
                continue
            if not executor.fail or self._unread_count(executor) <= unread_max:
                executor.probe(self._probe_epoch)

    @staticmethod
    def _unread_count(executor: RemoteExecutor) -> int:
        size: int = getattr(executor.wq, "size", lambda: 0)()
        return size

    def _failed(self, executor: RemoteExecutor) -> None:
        why = "its process is gone" if executor.dead else "it does not answer"
        for work in executor.pop_all_running_works():
            self._lose(executor, work, why)
        self._abandon(executor)
        if self.launcher is not None and not executor.stop_request_sent:
            self.launcher.replace(executor.id)

    def _left(self, executor: RemoteExecutor) -> None:
        """It has gone as it was told to; what it finished before counts, the rest is lost."""
        while executor.cq.size():  # type: ignore[attr-defined]
            self._ended += self._results(executor)
        for work in executor.pop_all_running_works():
            self._lose(executor, work, "the executor was stopped")

    def _abandon(self, executor: RemoteExecutor) -> None:
        """Take back what the executor has not begun, and tell it to stop what it has."""
        executor.wq.pop(count=sys.maxsize)
        executor.wq.push(StopWorkItem(f".StopWorkItem-{executor.id}", EVERYTHING))
        executor.probe(self._probe_epoch)

    def _lose(self, executor: RemoteExecutor, work: WorkItem, why: str) -> None:
        task = self._submitted.pop(repr(work), None)
        if task is None:
            return
        task.status = WorkStatus.EXEC_FAILED
        task.finish_time = time.time()
        task.exception = WorkerLost(f"{task!r} was lost with executor {executor.id}: {why}")
        self._ended.append(Completion(task, executor.id, reason=why))

    def _check_not_alone(self, ctx: RuntimeContext, now_s: float) -> None:
        """Nobody left to work is said aloud, and is an error when it lasts."""
        if any(executor.working for executor in self.executors):
            self._working_s = now_s
            return
        alone_s = now_s - self._working_s
        if self.launcher is not None and self.launcher.all_ended():
            raise SmallpondError(
                f"all executors have ended; their logs are in {ctx.log_root}. To see what stops "
                f"one, run: {self.launcher.command_line()}"
            )
        if alone_s > max(LONELY_MIN_S, LONELY_TIMEOUTS_MAX * ctx.secs_executor_probe_timeout):
            raise SmallpondError(
                f"no executor has worked in {ctx.queue_root} for {alone_s:.0f} s; start one with "
                f"driver.py --runtime_ctx_path {ctx.runtime_ctx_path} executor"
            )
        if alone_s > LONELY_WARNING_S and now_s - self._warned_s > LONELY_WARNING_S:
            self._warned_s = now_s
            logger.warning("no executor works in %s since %.0f s", ctx.queue_root, alone_s)


def _may_answer(executor: RemoteExecutor) -> bool:
    """Whether it is worth to wait for its farewell: it has spoken before, and not left."""
    return executor.alive and executor.last_acked_probe.status == WorkStatus.SUCCEED
