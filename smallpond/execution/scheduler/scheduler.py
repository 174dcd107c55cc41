"""The scheduler: runs an execution plan on a backend, whatever goes wrong.

One thread, one loop: run metadata tasks, hand out what is ready, wait for completions, answer each.
Policy lives beside it: the order (`ready`), the machines (`placement`), failures (`attempts`),
second copies (`speculation`), results of earlier runs (`resume`). What all tasks share is kept in
`state`, the base class, which is also what may be pickled and looked at.

Invariants: a task succeeds once (the first attempt that does; the others are cancelled); its record
is added to the journal before anything that reads its output is started; `run()` returns True only
when the journal is on the disk.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from smallpond.common import DEFAULT_MAX_FAIL_COUNT, DEFAULT_MAX_RETRY_COUNT, SmallpondError
from smallpond.execution import events
from smallpond.execution.journal import (
    DATASET_GIVEN,
    Journal,
    TaskRecord,
    journal_of,
    record_of,
)
from smallpond.execution.scheduler.attempts import Recovery, attempt_of
from smallpond.execution.scheduler.backend import Backend, Completion, Machine, backend_for
from smallpond.execution.scheduler.observers import (
    Observers,
    StateObserver,
    metrics_write,
    status_write,
)
from smallpond.execution.scheduler.placement import Placement
from smallpond.execution.scheduler.ready import ReadyQueue, group_of
from smallpond.execution.scheduler.resume import needed_tasks, usable_records
from smallpond.execution.scheduler.speculation import Speculation
from smallpond.execution.scheduler.state import SchedulerState
from smallpond.execution.scheduler.telling import finished_event, started_event
from smallpond.execution.task.discard import tree_discard
from smallpond.execution.task.identity import plan_identities
from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.plan import ExecutionPlan

logger = logging.getLogger(__name__)

# Metadata tasks run this long before completions are looked at again.
INLINE_SLICE_S = 0.02
# Tasks of a node that takes less than this on average travel in groups.
TINY_S = 0.02
# No more than this many tasks are worth the driver's own time.
INLINE_COUNT_MAX = 4


class Scheduler(SchedulerState):
    """Runs an execution plan. The published face is that of smallpond 0.15."""

    # The published place of the class.
    StateObserver = StateObserver
    StateCallback = Callable[["Scheduler"], Any]

    def __init__(
        self,
        exec_plan: ExecutionPlan,
        max_retry_count: int = DEFAULT_MAX_RETRY_COUNT,
        max_fail_count: int = DEFAULT_MAX_FAIL_COUNT,
        prioritize_retry: bool = False,
        speculative_exec: Literal["disable", "enable", "aggressive"] = "enable",
        stop_executor_on_failure: bool = False,
        nonzero_exitcode_as_oom: bool = False,
        remove_output_root: bool = False,
        sched_state_observers: list[Any] | None = None,
        *,
        backend: Backend | None = None,
        resume: bool = True,
    ) -> None:
        super().__init__(exec_plan)
        self.max_retry_count = max_retry_count
        self.max_fail_count = max_fail_count
        self.prioritize_retry = prioritize_retry
        self.speculative_exec = speculative_exec
        self.stop_executor_on_failure = stop_executor_on_failure
        self.nonzero_exitcode_as_oom = nonzero_exitcode_as_oom
        self.remove_output_root = remove_output_root
        self.resume = resume
        self.sched_state_observers = list(sched_state_observers or [])
        self._subscribers: list[events.Subscriber] = []
        # A backend that was given is its giver's to stop; it may serve many plans.
        self._backend = backend
        self._backend_own = backend is None
        self._subscriber_errors = 0

    def __call__(self, *args: Any, **kwds: Any) -> bool:
        return self.run()

    def add_state_observer(self, observer: Any) -> None:
        self.sched_state_observers.append(observer)

    def subscribe(self, callback: events.Subscriber) -> None:
        """Hear of each step (`execution/events.py`), on the scheduler's thread."""
        self._subscribers.append(callback)

    def _tell(self, event: events.Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception as error:
                self._subscriber_errors += 1
                if self._subscriber_errors == 1:
                    logger.warning("a subscriber fails on %r", event, exc_info=error)

    # --- the run ---

    def run(self) -> bool:
        """Run the plan to its end; whether it succeeded. Why it did not is in `failure`."""
        self.sched_start_time = time.time()
        self.sched_running = True
        self.failure = None
        self._prepare()
        self._observers.notify(self, force=True)
        self._tell(events.PlanStarted(time.time(), self.exec_plan))
        try:
            self._backend_used().start(self.ctx)
            if self._begin():
                self._loop()
            self._journal.flush()
        finally:
            self.sched_running = False
            self._end()
        return self.success

    def _prepare(self) -> None:
        self._journal: Journal = journal_of(self.ctx)
        self.sched_epoch = self._journal.epoch
        self._observers = Observers(
            self.sched_state_observers, self.ctx.secs_executor_probe_interval
        )
        self._placement = Placement()
        self._recovery = Recovery(self.max_fail_count, self.nonzero_exitcode_as_oom)
        floor_s = self.ctx.secs_executor_probe_interval
        self._speculation = Speculation(self.speculative_exec, floor_s, self.max_retry_count)
        self._speculation_next_s = time.monotonic() + self._speculation.interval_s
        self._inline: deque[Task] = deque()
        self.sched_queue = ReadyQueue(self.prioritize_retry)
        self._records: dict[str, TaskRecord] = {}
        self._checked: set[tuple[Any, ...]] = set()
        self._idle_since_s: float | None = None

    def _backend_used(self) -> Backend:
        if self._backend is None:
            self._backend = backend_for(self.ctx)
        return self._backend

    def _begin(self) -> bool:
        """Take over what the journal has, and queue what can start; False if it cannot be done."""
        plan_identities(self.exec_plan)
        if self.resume:
            self._records = usable_records(self.exec_plan, self._journal)
        needed = needed_tasks(self.exec_plan, self._records)
        for key, record in self._records.items():
            self._skip(self.tasks[key], record)
        self._placement.update(self._backend_used().capacity())
        if not self._elastic and not self._satisfiable(self.tasks[key] for key in needed):
            return False
        self._missing = {
            key: sum(dep not in self.succeeded_tasks for dep in self.tasks[key].input_deps)
            for key in needed
        }
        for key in sorted(needed, key=lambda key: self.tasks[key].id):
            self._begin_anew(self.tasks[key])
            if self._missing[key] == 0:
                self._enqueue(self.tasks[key])
        return True

    def _begin_anew(self, task: Task) -> None:
        """A task that an earlier plan of this run has tried gets its chances and a name again."""
        task.fail_count = 0
        task.sched_epoch = self.sched_epoch
        while task.runtime_id in self._journal.attempts:
            task.retry_count += 1

    @property
    def _elastic(self) -> bool:
        """Whether machines may still join: then nothing is hopeless at the start."""
        return bool(getattr(self._backend_used(), "elastic", hasattr(self._backend, "executors")))

    def _skip(self, task: Task, record: TaskRecord) -> None:
        if record.dataset_pickle != DATASET_GIVEN:
            task.dataset = record.dataset()
        if task.dataset is None and record.folder is not None:
            from smallpond.logical.dataset import ParquetDataSet

            task.dataset = ParquetDataSet(["*"], root_dir=record.folder)
        task.status = WorkStatus.SUCCEED
        number, epoch, retry = record.run_id.split(".")
        if int(number) == task.id:
            # The same task of the same plan: its folder is found by its name as well.
            task.sched_epoch, task.retry_count = int(epoch), int(retry)
        task.perf_metrics.update(record.metrics)
        self._succeeded(task)
        self._tell(events.TaskSkipped(time.time(), task.key))

    def _satisfiable(self, tasks: Iterable[Task]) -> bool:
        for task in tasks:
            group = group_of(task)
            if task.exec_on_scheduler or group in self._checked:
                continue
            complaint = self._placement.complaint(task)
            if complaint is not None:
                self._fail(task, complaint)
                return False
            self._checked.add(group)
        return True

    def _loop(self) -> None:
        while self.sched_running and not self.success:
            self._inline_run()
            if not self.sched_running or self.success:
                break
            self._dispatch()
            self._speculate()
            self._observers.notify(self)
            if not self.sched_running:
                break
            busy = bool(self._inline)
            for completion in self._backend_used().poll(0 if busy else self._wait_s()):
                self._completed(completion)
            assert (
                self._inline
                or self.sched_queue
                or self._running
                or self.success
                or (not self.sched_running)
            ), f"nothing to do, but {self.num_pending_tasks} tasks have not run"

    def _wait_s(self) -> float | None:
        if self._speculation.enabled and self._running:
            return min(self._speculation.interval_s, self._observers.interval_s)
        if self.sched_queue and not self._running:
            return min(1.0, self._observers.interval_s)
        return self._observers.interval_s

    def _inline_run(self) -> None:
        deadline = time.monotonic() + INLINE_SLICE_S
        while self._inline and self.sched_running and time.monotonic() < deadline:
            attempt = self._inline.popleft()
            attempt.exec_id = "localhost"
            self._running[attempt.runtime_id] = attempt
            self._tell_started(attempt, "localhost")
            attempt.exec()
            self._completed(Completion(attempt, "localhost"))

    # --- starting ---

    def _output_of(self, key: str) -> Any:
        return self.succeeded_tasks[key].output

    def _enqueue(self, task: Task) -> None:
        attempt = attempt_of(task, self._output_of, self.sched_epoch)
        self.scheduled_tasks[attempt.runtime_id] = attempt
        self._journal.attempts.add(attempt.runtime_id)
        if self._is_small(attempt):
            self._inline.append(attempt)
        else:
            self.sched_queue.push(attempt)

    def _is_small(self, attempt: Task) -> bool:
        if attempt.exec_on_scheduler:
            return True
        alone = len(self.sched_queue) + len(self._running) < INLINE_COUNT_MAX
        try:
            return attempt.skip_when_any_input_empty or (alone and attempt.exec_inline)
        except Exception as error:
            # Inputs that cannot be looked at are the task's failure, not the scheduler's.
            logger.debug("%r cannot be judged by its inputs: %s", attempt, error)
            return False

    def _dispatch(self) -> None:
        if not self.sched_queue:
            return
        self._placement.update(self._backend_used().capacity())
        if not self._placement.machines:
            return
        if not self._running:
            self._hopeless_check()
        if self.sched_running:
            self.sched_queue.take(self._place)

    def _hopeless_check(self) -> None:
        """Nothing runs: what fits no machine now never will, unless one more joins soon."""
        now = time.monotonic()
        self._idle_since_s = self._idle_since_s or now
        grace_s = self.ctx.secs_executor_probe_timeout if self._elastic else 0.0
        if now - self._idle_since_s >= grace_s:
            self._satisfiable(list(self.sched_queue))

    def _place(self, attempt: Task) -> bool:
        if attempt.key in self.succeeded_tasks:
            return True
        fraction, machine = self._place_where(attempt)
        if machine is None:
            return False
        if attempt._memory_limit is None:
            attempt._memory_limit = self._placement.memory_share(attempt, machine)
        self._boost(attempt, machine)
        self._placement.occupy(attempt, machine, fraction)
        attempt.start_time = time.time()
        attempt.exec_id = machine.name
        self._running[attempt.runtime_id] = attempt
        self._idle_since_s = None
        self._tell_started(attempt, machine.name)
        self._backend_used().submit(attempt, machine)
        return True

    def _place_where(self, attempt: Task) -> tuple[float, Machine | None]:
        mean_s = self._speculation.mean_s(attempt.node_id)
        if mean_s is not None and mean_s < TINY_S and attempt.retry_count == 0:
            prefetch = max(one.prefetch for one in self._placement.machines.values())
            fraction = 1.0 / max(1, min(prefetch, int(TINY_S / max(mean_s, 1e-4))))
        else:
            fraction = 1.0
        avoid = None
        if attempt.retry_count > 0:
            avoid = next(
                (one.exec_id for one in self._running.values() if one.key == attempt.key), None
            )
        machine = self._placement.find(attempt, fraction, avoid)
        if machine is None and avoid is not None:
            machine = self._placement.find(attempt, fraction)
        return fraction, machine

    def _boost(self, attempt: Task, machine: Machine) -> None:
        """The last tasks of a plan may have what nobody else needs, up to half a machine."""
        node = self.logical_nodes.get(attempt.node_id)
        left = self.num_pending_nontrivial_tasks - len(self._running)
        if (
            left > 2 * len(self._placement.machines)
            or not getattr(node, "enable_resource_boost", False)
            or attempt._cpu_boost != 1
            or attempt._memory_boost != 1
            or not attempt._cpu_limit
            or not attempt._memory_limit
        ):
            return
        cpus, memory = self._placement.available(machine)
        more_cpus = min(attempt._cpu_limit * 2, cpus, machine.cpus // 2)
        more_memory = min(attempt._memory_limit * 2, memory, machine.memory_bytes // 2)
        attempt._cpu_boost = max(1.0, more_cpus / attempt._cpu_limit)
        attempt._memory_boost = max(1.0, more_memory / attempt._memory_limit)

    def _tell_started(self, attempt: Task, worker: str) -> None:
        if self._subscribers:
            self._tell(started_event(attempt, worker))

    def _speculate(self) -> None:
        now = time.monotonic()
        if not self._speculation.enabled or now < self._speculation_next_s:
            return
        self._speculation_next_s = now + self._speculation.interval_s
        short = len(self.sched_queue) < max(1, len(self._placement.machines))
        running = [one for one in self._running.values() if not one.exec_on_scheduler]
        for key in self._speculation.slow(running, self.tasks, short):
            self._retry(self.tasks[key], "it is much slower than its peers: a second copy starts")

    def _retry(self, task: Task, reason: str) -> None:
        task.retry_count += 1
        logger.warning("retry #%d of %s: %s", task.retry_count, task.key, reason)
        self._tell(events.TaskRetried(time.time(), task.key, reason, task.retry_count))
        self._enqueue(task)

    # --- finishing ---

    def _completed(self, completion: Completion) -> None:
        attempt = completion.task
        if attempt.runtime_id not in self._running:
            logger.info("%r is not running here any more: its end is ignored", attempt)
            return
        if attempt.status == WorkStatus.INCOMPLETE:
            self.tasks[attempt.key].runtime_state = attempt.runtime_state
            return
        del self._running[attempt.runtime_id]
        self._placement.release(attempt.runtime_id)
        attempt.finish_time = attempt.finish_time or time.time()
        attempt.exec_id = completion.worker
        self.finished_tasks[attempt.runtime_id] = attempt
        if self._subscribers:
            self._tell(finished_event(completion))
        if attempt.key in self.succeeded_tasks:
            return
        if attempt.status == WorkStatus.SUCCEED:
            self._attempt_succeeded(attempt)
        else:
            self._attempt_failed(completion)

    def _attempt_succeeded(self, attempt: Task) -> None:
        self._speculation.add(attempt.node_id, attempt.elapsed_time)
        task = self.tasks[attempt.key]
        if task.retry_count > 0:
            self._cancel_copies(attempt.key)
        for name in ("status", "start_time", "finish_time", "retry_count", "sched_epoch"):
            setattr(task, name, getattr(attempt, name))
        self._journal_add(attempt)
        task.dataset = attempt.dataset
        node = self.logical_nodes.get(attempt.node_id)
        if node is not None:
            for name, value in attempt.perf_metrics.items():
                node.add_perf_metrics(name, value)
        attempt.input_datasets = []  # A failed attempt keeps them, for the error report.
        self._succeeded(attempt)
        for key in sorted(task.output_deps):
            missing = self._missing.get(key)
            if missing is None:
                continue
            self._missing[key] = missing - 1
            if missing == 1:
                self._enqueue(self.tasks[key])

    def _journal_add(self, attempt: Task) -> None:
        if attempt.key == self.exec_plan.root_task.key:
            return
        inputs = tuple(
            self._records[key].run_id
            if key in self._records
            else str(self.succeeded_tasks[key].runtime_id)
            for key in attempt.input_deps
        )
        given = attempt.dataset is not None and attempt.dataset is self.tasks[attempt.key].dataset
        record = record_of(attempt, inputs, given)
        if record is not None:
            self._journal.add(record)

    def _cancel_copies(self, key: str) -> None:
        for copy in [one for one in self._running.values() if one.key == key]:
            self._cancel(copy)

    def _cancel(self, attempt: Task) -> None:
        del self._running[attempt.runtime_id]
        self._placement.release(attempt.runtime_id)
        self._backend_used().cancel(attempt)

    def _attempt_failed(self, completion: Completion) -> None:
        attempt = completion.task
        task = self.tasks[attempt.key]
        if attempt.status != WorkStatus.EXEC_FAILED:
            attempt.dump()
            if self.stop_executor_on_failure:
                self._stop_executor(completion.worker)
        verdict = self._recovery.decide(task, completion, self._placement.memory_bytes_max())
        if verdict.give_up:
            self._fail(attempt, attempt.exception, verdict.reason)
        elif not any(one.key == task.key for one in self._running.values()):
            self._retry(task, verdict.reason)

    def _stop_executor(self, worker: str) -> None:
        for executor in self.remote_executors:
            if executor.id == worker:
                logger.warning("stop executor %s, where a task failed", worker)
                executor.stop()

    def _fail(self, task: Task, error: BaseException | None, reason: str = "") -> None:
        self.failure = error or SmallpondError(f"{task.key} failed: {reason}")
        self.failed_task = task
        task.exception = task.exception or self.failure  # Its report has to say why.
        self.sched_running = False
        logger.error("%s ends the job: %s", task.key, reason or error)

    def _end(self) -> None:
        for attempt in list(self._running.values()):
            self._cancel(attempt)
        if self._backend is not None:
            self.executors_seen = self.remote_executors
            if self._backend_own:
                self._backend.stop()
                self.executors_seen = self.remote_executors
                self._backend = None
        status_write(self)
        metrics_write(self)
        self._observers.notify(self, force=True)
        self._outputs_clean()
        self._tell(events.PlanFinished(time.time(), self.success))

    def _outputs_clean(self) -> None:
        succeeded_count = len(self.succeeded_tasks) - len(self._records)
        if self.success and len(self.scheduled_tasks) > succeeded_count:
            for attempt in self.abandoned_tasks:
                attempt.clean_output(force=True)
        if self.success and self._backend_own:
            for folder in (self.ctx.queue_root, self.ctx.temp_root, self.ctx.staging_root):
                tree_discard(folder)
        if self.remove_output_root or (self.success and self.ctx.final_output_path):
            tree_discard(self.ctx.staging_root)
            tree_discard(self.ctx.output_root)
