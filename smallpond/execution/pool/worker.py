"""A worker: a process that runs tasks, one after the other, until its driver is gone.

The main thread runs tasks. A second thread reads the socket: it queues tasks, gives back those that
wait behind a long one when asked to, and ends the process when the driver's end closes, whatever
the main thread is doing. Prints of tasks go to `log/worker-N-user.log`.
"""

from __future__ import annotations

import os
import pickle
import random
import resource
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from smallpond.common import MB, SmallpondError
from smallpond.execution.pool import codec, process, wire
from smallpond.execution.task import limits, logs
from smallpond.execution.workitem import WorkStatus
from smallpond.io.scratch import scratch_cursor

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext

# Memory that a task leaves behind up to here is not worth giving back.
KEPT_BYTES_MAX = 64 * MB
# A worker that cannot give back so much is replaced by a new one.
WORN_BYTES_MIN = 512 * MB
# Peaks of tasks shorter than this are not asked for.
PEAK_TASK_S = 0.005


class _Checkpoints:
    """Stands in for a completion queue: what a running task pushes becomes its checkpoint."""

    def __init__(self, end: wire.WorkerEnd, name: str) -> None:
        self._end = end
        self._name = name

    def push(self, item: Any, buffering: bool = False) -> bool:
        data = codec.any_bytes((self._name, item.runtime_state))
        self._end.send(wire.CHECKPOINT, data)
        return True


class Worker:
    """The state of a worker process."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.name = f"worker-{number}"
        self._end = wire.WorkerEnd(sock)
        self._ctx: RuntimeContext | None = None
        self._log_root: str | None = None
        self._changed = threading.Condition()
        # In the order of arrival: contexts (as bytes), and groups of tasks with their names.
        self._inbox: deque[tuple[bytes, Any]] = deque()
        self._waiting: dict[str, None] = {}
        self._start_bytes = 0
        self._threads_before = 0

    def run(self) -> None:
        limits.worker_enter(self.name)
        self._start_bytes = process.own_bytes() or 0
        self._end.send(wire.HELLO, pickle.dumps((os.getpid(), self._start_bytes)))
        reader = threading.Thread(target=self._read_loop, name="smallpond-reader", daemon=True)
        reader.start()
        if "duckdb" in sys.modules and not self._inbox:
            # Nothing to do yet: DuckDB's first database takes longest to open.
            with scratch_cursor():
                pass
        while True:
            kind, value = self._next()
            if kind == wire.CONTEXT:
                self._context_use(value)
            else:
                self._group_run(*value)

    def _read_loop(self) -> None:
        while (message := self._end.receive()) is not None:
            kind, payload = message
            if kind == wire.REVOKE:
                self._revoke()
                continue
            with self._changed:
                if kind == wire.TASKS:
                    names, closed = codec.tasks_names(payload)
                    self._waiting.update(dict.fromkeys(names))
                    self._inbox.append((kind, (names, closed)))
                else:
                    self._inbox.append((kind, payload))
                self._changed.notify()
        os._exit(0)

    def _revoke(self) -> None:
        with self._changed:
            names = list(self._waiting)
            self._waiting.clear()
        self._end.send(wire.REVOKED, pickle.dumps(names))

    def _next(self) -> tuple[bytes, Any]:
        with self._changed:
            while not self._inbox:
                self._changed.wait()
            return self._inbox.popleft()

    def _begins(self, name: str) -> bool:
        with self._changed:
            if name not in self._waiting:
                return False
            del self._waiting[name]
            return True

    def _context_use(self, data: bytes) -> None:
        ctx, path, folder = pickle.loads(data)
        sys.path[:] = path
        os.chdir(folder)
        self._ctx = ctx
        os.environ.update({key: str(value) for key, value in ctx.env_overrides.items()})
        if self._log_root != ctx.log_root:
            self._log_root = ctx.log_root
            self._output_redirect(ctx)

    def _output_redirect(self, ctx: RuntimeContext) -> None:
        os.makedirs(ctx.log_root, exist_ok=True)
        path = os.path.join(ctx.log_root, f"{self.name}-user.log")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for target in (1, 2):
            os.dup2(fd, target)
        os.close(fd)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        logs.logs_start(ctx, self.name, console=False)

    def _group_run(self, names: list[str], closed: bytes) -> None:
        try:
            tasks: list[Task] = pickle.loads(closed)
        except BaseException as error:
            self._unreadable(names, error)
            return
        for name, task in zip(names, tasks, strict=True):
            if self._begins(name):
                self._task_run(name, task)

    def _unreadable(self, names: list[str], error: BaseException) -> None:
        text = (
            f"a worker cannot load the task: {type(error).__name__}: {error}. What the task's "
            "functions use must be importable in a new Python process, or defined in the script."
        )
        now = time.time()
        for name in names:
            if self._begins(name):
                failure = SmallpondError(text)
                outcome = codec.Outcome(name, WorkStatus.CRASHED, now, now, exception=failure)
                self._end.send(wire.OUTCOME, codec.outcome_bytes(outcome))

    def _task_run(self, name: str, task: Task) -> None:
        assert self._ctx is not None, "a task came before its context"
        task.ctx = self._ctx
        task.exec_id = self.name
        threads_before = set(threading.enumerate())
        usage_before = resource.getrusage(resource.RUSAGE_SELF)
        process.peak_reset()
        checkpoints: Any = _Checkpoints(self._end, name)
        try:
            task.exec(checkpoints)
        except BaseException as error:
            task.status, task.exception = WorkStatus.CRASHED, error
        usage = resource.getrusage(resource.RUSAGE_SELF)
        outcome = codec.Outcome(
            name=name,
            status=task.status,
            start_time=task.start_time or 0.0,
            finish_time=task.finish_time or time.time(),
            dataset=task.dataset,
            perf_metrics=dict(task.perf_metrics),
            exception=task.exception,
            memory_limit=task._memory_limit,
            output_files=task._output_files,
        )
        outcome.cpu_s = usage.ru_utime + usage.ru_stime
        outcome.cpu_s -= usage_before.ru_utime + usage_before.ru_stime
        del task
        self._measure(outcome, threads_before)
        self._end.send(wire.OUTCOME, codec.outcome_bytes(outcome))
        if outcome.worn:
            os._exit(0)

    def _measure(self, outcome: codec.Outcome, threads_before: set[threading.Thread]) -> None:
        if outcome.finish_time - outcome.start_time > PEAK_TASK_S:
            outcome.rss_max_bytes = process.peak_bytes()
        kept = process.own_bytes() or 0
        if kept - self._start_bytes > KEPT_BYTES_MAX:
            process.memory_give_back()
            kept = process.own_bytes() or 0
        outcome.rss_bytes = kept
        outcome.rss_max_bytes = outcome.rss_max_bytes or kept
        left = set(threading.enumerate()) - threads_before
        stuck = [thread.name for thread in left if thread.is_alive() and not thread.daemon]
        if kept - self._start_bytes > WORN_BYTES_MIN:
            outcome.worn = f"it keeps {(kept - self._start_bytes) // MB} MB that no task uses"
        if stuck:
            outcome.worn = f"threads of a task still run: {', '.join(stuck[:3])}"


def worker_main(sock: socket.socket, number: int) -> None:
    """The life of a worker after its fork."""
    process.die_with_parent()
    os.setsid()
    random.seed()
    Worker(sock, number).run()
