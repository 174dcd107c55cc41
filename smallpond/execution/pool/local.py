"""The local pool: worker processes on this machine, started when there is work for them.

Tasks go to idle workers first, then to new ones up to the number of CPUs; when tasks are tiny, some
wait at a busy worker, as many as it finishes in a few milliseconds, and are taken back if one of
them turns out to be long. A task that uses more memory than its limit is killed with its worker. A
worker that dies is noticed by the end of its socket, and how it died by its parent, the nursery.

Invariants: every submitted attempt is reported once or cancelled, whatever happens to workers; the
first task in flight at a worker is the one blamed for its death, the others are handed out again.
"""

from __future__ import annotations

import atexit
import copy
import logging
import os
import pickle
import selectors
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.common import OutOfMemory, SmallpondError, WorkerLost
from smallpond.execution.pool import codec, wire
from smallpond.execution.pool.gpus import GpuShares
from smallpond.execution.pool.member import Member
from smallpond.execution.pool.nursery_client import NurseryClient
from smallpond.execution.scheduler.backend import Completion, Machine
from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext

logger = logging.getLogger(__name__)

MEMORY_CHECK_S = 0.05
# Work in flight for one worker: about this much time, this many tasks.
AHEAD_S = 0.01
AHEAD_COUNT_MAX = 64
# A task this old is not tiny: what waits behind it goes elsewhere.
STUCK_S = 0.1
NURSERY_DEATHS_MAX = 3


class LocalPool:
    """Runs tasks in worker processes of this machine."""

    def __init__(self, name: str = "local") -> None:
        self.name = name
        self._pid = os.getpid()
        self._ctx: RuntimeContext | None = None
        self._context = b""
        self._machine: Machine | None = None
        self._gpus = GpuShares(())
        self._selector: selectors.BaseSelector | None = None
        self._nursery: NurseryClient | None = None
        self._nursery_deaths = 0
        self._members: dict[int, Member] = {}
        self._numbers = 0
        self._backlog: deque[Task] = deque()
        self._done: list[Completion] = []
        self._mean_s = 1.0
        self._memory_next_s = 0.0

    # --- the backend's face ---

    def start(self, ctx: RuntimeContext) -> None:
        if self._ctx is not ctx:
            self._gpus = GpuShares(ctx.get_local_gpus() if ctx.max_usable_gpu_count else ())
        self._ctx = ctx
        # Pickled when the first task is sent: most small jobs send none.
        self._context = b""
        self._machine = Machine(
            self.name,
            cpus=ctx.usable_cpu_count,
            gpus=ctx.usable_gpu_count,
            memory_bytes=ctx.usable_memory_size,
            prefetch=AHEAD_COUNT_MAX,
        )

    def prepare(self, needed: Sequence[str]) -> None:
        """Start the first worker now: it imports what tasks need while the driver does so itself,
        and makes the plan."""
        if not self._members:
            self._nursery_start(needed)
            self._member_new()

    def capacity(self) -> Sequence[Machine]:
        return [self._machine] if self._machine is not None else []

    def submit(self, task: Task, machine: Machine) -> None:
        if task.gpu_limit:
            task._local_gpu = self._gpus.grant(task.gpu_limit)
        self._backlog.append(task)

    def poll(self, timeout: float | None) -> list[Completion]:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._hand_out()
        while not self._done:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._busy and not self._backlog:
                break
            self._wait(MEMORY_CHECK_S if left is None else min(left, MEMORY_CHECK_S))
            self._memory_watch()
            self._stuck_watch()
            self._hand_out()
            if left is not None and left <= 0:
                break
        done, self._done = self._done, []
        return done

    def cancel(self, task: Task) -> None:
        name = codec.name_of(task)
        for waiting in self._backlog:
            if codec.name_of(waiting) == name:
                self._backlog.remove(waiting)
                self._gpus.release(waiting._local_gpu)
                return
        for member in self._members.values():
            if name not in member.in_flight:
                continue
            member.forgotten.add(name)
            if member.head is member.in_flight[name]:
                # The next one may have begun by now: its worker's end will tell.
                self._kill(member, SmallpondError("its task was cancelled"))
            return

    def stop(self) -> None:
        if self._nursery is None or self._pid != os.getpid():
            return
        atexit.unregister(self.stop)
        self._nursery.stop()
        self._nursery = None
        for member in self._members.values():
            member.channel.close()
        self._members.clear()
        self._backlog.clear()
        self._done.clear()
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    @property
    def worker_pids(self) -> list[int]:
        """The processes of the workers that are up."""
        return [one.pid for one in self._members.values() if one.pid is not None]

    # --- handing out ---

    @property
    def _busy(self) -> bool:
        return any(
            len(member.in_flight) > len(member.forgotten) for member in self._members.values()
        )

    @property
    def _ahead_count(self) -> int:
        return max(1, min(AHEAD_COUNT_MAX, int(AHEAD_S / max(self._mean_s, 1e-5))))

    def _hand_out(self) -> None:
        while self._backlog:
            member = self._member_for_next()
            if member is None:
                return
            room = self._ahead_count - len(member.in_flight)
            fair = -(-len(self._backlog) // max(1, self._size))
            count = max(1, min(room, fair, len(self._backlog)))
            self._send(member, [self._backlog.popleft() for _ in range(count)])

    @property
    def _size(self) -> int:
        return self._machine.cpus if self._machine is not None else 1

    def _member_for_next(self) -> Member | None:
        usable = [one for one in self._members.values() if one.usable]
        for member in usable:
            if member.idle:
                return member
        if len(usable) < self._size:
            return self._member_new()
        # Refilled when half is done, so that groups stay groups.
        ahead = self._ahead_count
        open_ = [
            one
            for one in usable
            if len(one.in_flight) <= ahead // 2 and ahead > 1 and one.head_age_s < STUCK_S
        ]
        return min(open_, key=lambda one: len(one.in_flight), default=None)

    def _member_new(self) -> Member:
        self._nursery_start()
        assert self._nursery is not None and self._selector is not None
        self._numbers += 1
        member = Member(self._numbers, wire.Channel(self._nursery.fork(self._numbers)))
        self._members[member.number] = member
        self._selector.register(member.channel, selectors.EVENT_READ, member)
        return member

    def _nursery_start(self, needed: Sequence[str] = ()) -> None:
        if self._nursery is not None:
            return
        self._nursery = NurseryClient(needed)
        atexit.register(self.stop)
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        self._selector.register(self._nursery.sock, selectors.EVENT_READ, None)

    def _send(self, member: Member, tasks: list[Task]) -> None:
        if not self._context:
            self._context = codec.any_bytes((self._ctx, sys.path, os.getcwd()))
        if member.context is not self._context:
            member.context = self._context
            member.channel.send(wire.CONTEXT, self._context)
        try:
            data = codec.tasks_bytes(tasks)
        except Exception as error:
            self._unsendable(member, tasks, error)
            return
        member.took(tasks)
        member.channel.send(wire.TASKS, data)
        self._interest_update(member)

    def _unsendable(self, member: Member, tasks: list[Task], error: Exception) -> None:
        if len(tasks) > 1:
            for task in tasks:
                self._send(member, [task])
            return
        (task,) = tasks
        self._finish(task, member.name, WorkStatus.CRASHED, codec.unpicklable(task, error))

    def _interest_update(self, member: Member) -> None:
        if self._selector is not None and not member.ended:
            wanted = selectors.EVENT_READ
            if member.channel.unsent:
                wanted |= selectors.EVENT_WRITE
            self._selector.modify(member.channel, wanted, member)

    # --- listening ---

    def _wait(self, timeout: float) -> None:
        if self._selector is None:
            return
        for key, mask in self._selector.select(timeout):
            member: Member | None = key.data
            if member is None:
                self._nursery_heard()
            elif not member.ended:
                if mask & selectors.EVENT_WRITE:
                    member.channel.flush()
                    self._interest_update(member)
                if mask & selectors.EVENT_READ:
                    self._member_heard(member)

    def _nursery_heard(self) -> None:
        assert self._nursery is not None
        messages, gone = self._nursery.receive()
        for kind, number, value in messages:
            if kind == b"B":
                member = self._members.get(number)
                if member is not None:
                    member.pid = value
                    if member.death_error is not None:
                        self._nursery.kill(value)
            else:
                dead = [one for one in self._members.values() if one.pid == number]
                for member in dead:
                    self._member_heard(member)
                    self._bury(member, value)
        if gone:
            self._nursery_lost()

    def _nursery_lost(self) -> None:
        assert self._nursery is not None and self._selector is not None
        self._selector.unregister(self._nursery.sock)
        self._nursery.stop()
        self._nursery = None
        self._nursery_deaths += 1
        for member in list(self._members.values()):
            self._member_heard(member)
            member.nursery_lost = True
            self._bury(member, None)
        if self._nursery_deaths >= NURSERY_DEATHS_MAX:
            raise SmallpondError(
                "worker processes cannot be started: the process that starts them has ended "
                f"{self._nursery_deaths} times; what it wrote to stderr says why"
            )

    def _member_heard(self, member: Member) -> None:
        messages, gone = member.channel.receive()
        for kind, payload in messages:
            if kind == wire.OUTCOME:
                self._outcome(member, payload)
            elif kind == wire.HELLO:
                self._nursery_deaths = 0
                member.hello(*pickle.loads(payload))
            elif kind == wire.CHECKPOINT:
                self._checkpoint(member, payload)
            elif kind == wire.REVOKED:
                self._revoked(member, pickle.loads(payload))
        if gone and not member.ended:
            # How it ended comes from the nursery; it takes no more work until then.
            member.ended = True
            assert self._selector is not None
            self._selector.unregister(member.channel)
            if member.pid is not None and self._nursery is not None:
                self._nursery.kill(member.pid)

    def _outcome(self, member: Member, payload: bytes) -> None:
        outcome: codec.Outcome = pickle.loads(payload)
        task = member.in_flight.pop(outcome.name, None)
        member.head_begins()
        peak = max(outcome.rss_max_bytes, 0)
        member.idle_bytes = outcome.rss_bytes or None
        elapsed_s = outcome.finish_time - outcome.start_time
        self._mean_s += (elapsed_s - self._mean_s) * (0.5 if elapsed_s > self._mean_s else 0.25)
        if task is not None:
            forgotten = outcome.name in member.forgotten
            member.forgotten.discard(outcome.name)
            outcome.fill(task)
            self._gpus.release(task._local_gpu)
            if not forgotten:
                self._done.append(Completion(task, member.name, outcome.cpu_s, peak))
        if outcome.worn:
            # It leaves by itself, before it begins what waits there.
            logger.debug("%s ends: %s", member.name, outcome.worn)
            member.worn = True

    def _checkpoint(self, member: Member, payload: bytes) -> None:
        name, state = pickle.loads(payload)
        task = member.in_flight.get(name)
        if task is not None and name not in member.forgotten:
            checkpoint = copy.copy(task)
            checkpoint.runtime_state = state
            self._done.append(Completion(checkpoint, member.name))

    def _revoked(self, member: Member, names: list[str]) -> None:
        member.revoking = False
        for name in reversed(names):
            task = member.in_flight.pop(name, None)
            if task is None:
                continue
            if name in member.forgotten:
                member.forgotten.discard(name)
                self._gpus.release(task._local_gpu)
            else:
                self._backlog.appendleft(task)

    # --- watching ---

    def _memory_watch(self) -> None:
        now = time.monotonic()
        if now < self._memory_next_s:
            return
        self._memory_next_s = now + MEMORY_CHECK_S
        for member in list(self._members.values()):
            if member.ended or member.death_error is not None:
                continue
            error = member.memory_check()
            if error is not None:
                logger.warning("%s", error)
                self._kill(member, error)

    def _kill(self, member: Member, error: BaseException) -> None:
        """End a worker because of the task that it runs now."""
        member.death_error = error
        member.death_name = next(iter(member.in_flight), "")
        if member.pid is not None and self._nursery is not None:
            self._nursery.kill(member.pid)

    def _stuck_watch(self) -> None:
        for member in self._members.values():
            if (
                len(member.in_flight) > 1
                and not member.revoking
                and not member.ended
                and member.head_age_s > STUCK_S
            ):
                member.revoking = True
                self._mean_s = max(self._mean_s, member.head_age_s)
                member.channel.send(wire.REVOKE, b"")

    def _bury(self, member: Member, status: int | None) -> None:
        """A worker has ended: the first task in flight may have begun, the others have not."""
        if not member.ended and self._selector is not None:
            self._selector.unregister(member.channel)
        member.ended = True
        member.channel.close()
        self._members.pop(member.number, None)
        waiting = list(member.in_flight.items())
        member.in_flight.clear()
        if waiting and not member.worn:
            name, task = waiting.pop(0)
            if name in member.forgotten:
                self._gpus.release(task._local_gpu)
            else:
                self._head_lost(member, name, task, status)
        for name, task in reversed(waiting):
            if name in member.forgotten:
                self._gpus.release(task._local_gpu)
            else:
                self._backlog.appendleft(task)

    def _head_lost(self, member: Member, name: str, task: Task, status: int | None) -> None:
        other = member.death_error is not None and member.death_name != name
        if other or member.nursery_lost:
            lost = WorkerLost(f"{member.name} ended while {task.key} was there")
            self._finish(task, member.name, WorkStatus.EXEC_FAILED, lost)
            return
        error = member.death(status)
        logger.warning("%s was running at its worker: %s", task.key, error)
        peak = member.peak_bytes if isinstance(error, OutOfMemory) else -1
        self._finish(task, member.name, WorkStatus.CRASHED, error, peak)

    def _finish(
        self, task: Task, worker: str, status: WorkStatus, error: BaseException, peak: int = -1
    ) -> None:
        task.status, task.exception = status, error
        task.finish_time = time.time()
        self._gpus.release(task._local_gpu)
        self._done.append(Completion(task, worker, -1.0, peak, str(error)))
