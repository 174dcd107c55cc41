"""The local pool under load and under fire."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from smallpond.common import NonzeroExitCode, OutOfMemory, SmallpondError
from smallpond.execution.events import TaskFinished, TaskRetried
from smallpond.execution.journal import TaskRecord, journal_close, records_read
from smallpond.execution.pool import LocalPool
from smallpond.execution.task import Task
from smallpond.execution.workqueue import WorkStatus
from smallpond.show import failure_report
from tests.smallpond.core import plans
from tests.smallpond.core.plans import call_task, context, plan_of, wait_until, watched


def retries(events: list[Any]) -> list[str]:
    return [event.reason for event in events if isinstance(event, TaskRetried)]


def test_thousands_of_tasks_with_durable_records(tmp_path: Path) -> None:
    """Goal: tiny tasks are cheap and each leaves a record. Method: 3000 tasks through worker
    processes. Oracle: the records in the file; the driver's CPU time, of which 10,000 tasks in 10
    seconds allow 1 ms a task (wall time would measure who else uses this machine)."""
    ctx = context(tmp_path)
    plan = plan_of(ctx, [call_task(ctx, plans.nothing) for _ in range(3000)])
    scheduler, events = watched(plan)
    begin = time.process_time()
    assert scheduler.run(), scheduler.failure
    elapsed = time.process_time() - begin
    records, _ = records_read(Path(ctx.journal_path).read_bytes())
    keys = {record.key for record in records if isinstance(record, TaskRecord)}
    assert len(keys) == 3000
    workers = {event.worker for event in events if isinstance(event, TaskFinished)}
    assert len(workers - {"localhost"}) == ctx.usable_cpu_count
    assert elapsed < 3, f"3000 tasks took {elapsed:.1f} s of the driver's CPU"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (plans.fail_twice, "ValueError: attempt 0 fails"),
        (plans.false_once, "run() returned False"),
        (plans.leave_once, "called sys.exit(3)"),
        (plans.exit_once, "exited with code 7"),
        (plans.die_once, "killed by signal 9"),
        (plans.stuck_thread, "the stream broke"),
        (plans.nursery_die_once, "was lost"),
    ],
)
def test_failures_are_retried(tmp_path: Path, call: Any, reason: str) -> None:
    """Goal: whatever a first attempt does, the job succeeds. Method: one way to fail each, among
    tasks that work. Oracle: success, and the reason that the retry gives."""
    ctx = context(tmp_path)
    tasks = [call_task(ctx, plans.nothing, node_id=2) for _ in range(20)]
    plan = plan_of(ctx, [*tasks, call_task(ctx, call)])
    scheduler, events = watched(plan)
    assert scheduler.run(), scheduler.failure
    assert any(reason in text for text in retries(events))
    assert plan.successful


@pytest.mark.timeout(100)
def test_threads_that_tasks_leave_take_no_worker_away(tmp_path: Path) -> None:
    """Goal: what a failed stream leaves in its process costs no place (0.15 came to a halt when as
    many had failed as there are workers). Method: twice as many tasks as workers, each of which
    raises once and leaves a thread that never ends at every attempt; then one that reads all of
    them. Oracle: success, and a retry of each."""
    ctx = context(tmp_path)
    leaking = [call_task(ctx, plans.stuck_thread) for _ in range(2 * ctx.usable_cpu_count + 2)]
    last = call_task(ctx, plans.nothing, leaking, node_id=2)
    scheduler, events = watched(plan_of(ctx, [last]), speculative_exec="disable")
    assert scheduler.run(), scheduler.failure
    assert sum("the stream broke" in text for text in retries(events)) == len(leaking)


def test_a_task_that_always_fails_ends_the_job(tmp_path: Path) -> None:
    """Goal: four failures are enough. Oracle: the count of attempts, the error with the text of
    its traceback, and the dumped task."""
    ctx = context(tmp_path)
    scheduler, events = watched(plan_of(ctx, [call_task(ctx, plans.fail_always)]))
    assert not scheduler.run()
    attempts = [event for event in events if isinstance(event, TaskFinished)]
    assert len(attempts) == 4
    assert isinstance(scheduler.failure, KeyError)
    assert "in fail_always" in getattr(scheduler.failure, "task_traceback", "")
    assert list(Path(ctx.temp_root).rglob("*.pickle"))
    assert Path(ctx.job_status_path).read_text().startswith("failure@")


def test_errors_that_cannot_travel_arrive_as_text(tmp_path: Path) -> None:
    """Goal: an exception that cannot be pickled is no mystery. Oracle: its name and message."""
    ctx = context(tmp_path)
    plan = plan_of(ctx, [call_task(ctx, plans.raise_stubborn)])
    scheduler, _ = watched(plan, max_fail_count=0)
    assert not scheduler.run()
    assert isinstance(scheduler.failure, SmallpondError)
    assert "StubbornError: stubborn" in str(scheduler.failure)


def test_tasks_that_cannot_travel_fail_with_advice(tmp_path: Path) -> None:
    """Goal: a captured lock is an error and not a hang. Oracle: the message names the cause."""
    ctx = context(tmp_path)
    locked = functools.partial(_ignore, threading.Lock())
    plan = plan_of(ctx, [call_task(ctx, locked)])
    scheduler, _ = watched(plan, max_fail_count=0)
    assert not scheduler.run()
    assert "captured unpicklable objects" in str(scheduler.failure)


def _ignore(_value: Any, task: Task) -> None:
    """Accepts anything."""


def test_memory_limits_are_enforced_and_relaxed(tmp_path: Path) -> None:
    """Goal: a task over its limit is killed, and gets more. Method: 300 MB in 100 MB.
    Oracle: an OutOfMemory attempt, a later one with more memory, success."""
    ctx = context(tmp_path)
    task = call_task(ctx, plans.memory_use, memory_limit=100 * plans.MB)
    scheduler, events = watched(plan_of(ctx, [task]), max_fail_count=0)
    assert scheduler.run(), scheduler.failure
    ends = [event for event in events if isinstance(event, TaskFinished) and event.key == task.key]
    assert isinstance(ends[0].error, OutOfMemory)
    assert "and may use 0.10 GB" in str(ends[0].error)
    assert ends[-1].status == WorkStatus.SUCCEED
    assert ends[-1].rss_max_bytes > 300 * plans.MB
    assert task.memory_limit > 100 * plans.MB


def _die_large(task: Task) -> None:
    if task._memory_boost == 1:
        data = b"x" * (200 * plans.MB)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
        del data


def test_a_large_process_that_is_killed_ran_out_of_memory(tmp_path: Path) -> None:
    """Goal: the kernel's killer is understood. Method: a task near its limit dies by signal 9.
    Oracle: it gets more memory, and no failure is counted."""
    ctx = context(tmp_path)
    task = call_task(ctx, _die_large, memory_limit=300 * plans.MB)
    scheduler, events = watched(plan_of(ctx, [task]), max_fail_count=0)
    assert scheduler.run(), scheduler.failure
    assert "out of memory with 0.293 GB" in retries(events)[0]


def test_out_of_all_memory_means_spilling_with_one_thread(tmp_path: Path) -> None:
    """Goal: where no more memory is to be had, a task is told to spill. Oracle: it saw
    `low_memory` and one CPU, and no failure was counted."""
    ctx = context(tmp_path, max_usable_memory_size=512 * plans.MB)
    task = call_task(ctx, plans.spill_or_fail, cpu_limit=2, memory_limit=512 * plans.MB)
    scheduler, events = watched(plan_of(ctx, [task]), max_fail_count=0)
    assert scheduler.run(), scheduler.failure
    assert "one thread and early spilling" in retries(events)[0]


def test_a_lost_worker_costs_only_its_task(tmp_path: Path) -> None:
    """Goal: kill -9 of a worker from outside. Method: kill one while it sleeps. Oracle: the job
    succeeds, one retry, the error says how the process ended."""
    ctx = context(tmp_path)
    pool = LocalPool()
    tasks = [call_task(ctx, functools.partial(_sleep, 0.4)) for _ in range(2)]
    scheduler, events = watched(plan_of(ctx, tasks), backend=pool)

    def kill() -> None:
        os.kill(wait_until(lambda: pool.worker_pids)[0], signal.SIGKILL)

    killer = threading.Timer(0.25, kill)
    killer.start()
    try:
        assert scheduler.run(), scheduler.failure
    finally:
        killer.join()
        pool.stop()
    errors = [event.error for event in events if isinstance(event, TaskFinished) and event.error]
    assert [type(error) for error in errors] == [NonzeroExitCode]


def _sleep(seconds: float, task: Task) -> None:
    time.sleep(seconds)


def _sleep_if_told(task: Task) -> None:
    if int(task.id) == 200:
        time.sleep(1.0)


def test_tiny_tasks_do_not_wait_behind_a_long_one(tmp_path: Path) -> None:
    """Goal: work that was sent ahead to a worker is taken back. Method: among 400 tiny tasks one
    sleeps. Oracle: every other one ended before it did."""
    ctx = context(tmp_path)
    plan = plan_of(ctx, [call_task(ctx, _sleep_if_told) for _ in range(400)])
    scheduler, events = watched(plan, speculative_exec="disable")
    assert scheduler.run(), scheduler.failure
    ends = [event.key for event in events if isinstance(event, TaskFinished)]
    assert ends[-2].endswith("000200"), ends[-4:]
    assert len(ends) == 401


def test_stragglers_get_a_second_copy(tmp_path: Path) -> None:
    """Goal: the second copy of a straggler wins, and the first is stopped. Method: one of 40
    sleeps for a minute. Oracle: the job is quick; without speculation the rules find nothing."""
    ctx = context(tmp_path, secs_executor_probe_interval=0.3)
    plan = plan_of(ctx, [call_task(ctx, plans.slow_first_time) for _ in range(40)])
    scheduler, events = watched(plan)
    begin = time.monotonic()
    assert scheduler.run(), scheduler.failure
    assert time.monotonic() - begin < 20
    assert any("second copy" in text for text in retries(events))
    assert [task.key for task in scheduler.abandoned_tasks] == ["CallTask-000005"]


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ({"cpu_limit": 4096}, "4096 CPUs"),
        ({"memory_limit": 1 << 50}, "1048576.00 GB of memory"),
        ({"gpu_limit": 64.0}, "64 GPUs"),
    ],
)
def test_a_request_that_nothing_can_hold_fails_at_once(
    tmp_path: Path, limit: dict[str, Any], asked: str
) -> None:
    """Goal: no endless wait. Oracle: it fails without running anything, and the message has what
    was asked for and what there is."""
    ctx = context(tmp_path)
    greedy = call_task(ctx, plans.nothing, **limit)
    first = call_task(ctx, plans.nothing)
    scheduler, events = watched(plan_of(ctx, [first, greedy]))
    assert not scheduler.run()
    text = str(scheduler.failure)
    assert asked in text and f"has {ctx.usable_cpu_count} CPUs" in text
    assert scheduler.failed_task is not None
    assert text in failure_report(scheduler.failed_task)
    assert not [event for event in events if isinstance(event, TaskFinished)]


class FakeGpu:
    """A GPU by its rank."""

    def __init__(self, rank: int) -> None:
        self.id = rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeGpu) and self.id == other.id

    def __hash__(self) -> int:
        return self.id


def _two_gpus() -> list[FakeGpu]:
    return [FakeGpu(0), FakeGpu(1)]


def _note_gpus(task: Task) -> None:
    ranks = " ".join(map(str, task.local_gpu_ranks))
    begin = time.monotonic()
    time.sleep(0.15)
    with open(Path(task.ctx.data_root) / f"gpu-{int(task.id)}", "w") as file:
        file.write(f"{begin} {time.monotonic()} {ranks}")


def test_gpus_are_granted_in_shares(tmp_path: Path) -> None:
    """Goal: a GPU is never given away twice. Method: whole and half GPUs for tasks that overlap.
    Oracle: at no moment do the shares of a GPU sum up to more than one."""
    ctx = context(tmp_path)
    ctx.get_local_gpus = _two_gpus  # type: ignore[method-assign]
    quotas = [0.5, 1.0, 0.5, 0.5, 2.0, 0.5]
    tasks = [call_task(ctx, _note_gpus, gpu_limit=quota) for quota in quotas]
    scheduler, _ = watched(plan_of(ctx, tasks))
    assert scheduler.run(), scheduler.failure
    spans = []
    for task, quota in zip(tasks, quotas, strict=True):
        begin, end, *ranks = (tmp_path / f"gpu-{int(task.id)}").read_text().split()
        assert len(ranks) == max(1, quota)
        spans += [(float(begin), float(end), rank, min(quota, 1.0)) for rank in ranks]
    for moment, _, rank, _ in spans:
        taken = sum(
            share for begin, end, other, share in spans if other == rank and begin <= moment < end
        )
        assert taken <= 1.0


def _reserve(task: Task) -> None:
    if task._memory_boost == 1:
        bytearray(400 * plans.MB)


def test_limits_of_the_data_segment(tmp_path: Path) -> None:
    """Goal: `enforce_memory_limit` refuses memory before it is touched. Method: reserve 400 MB
    with a limit of 64. Oracle: a MemoryError, then more memory."""
    ctx = context(tmp_path, enforce_memory_limit=True)
    task = call_task(ctx, _reserve, memory_limit=64 * plans.MB)
    scheduler, events = watched(plan_of(ctx, [task]), max_fail_count=0)
    assert scheduler.run(), scheduler.failure
    errors = [event.error for event in events if isinstance(event, TaskFinished) and event.error]
    assert [type(error) for error in errors] == [MemoryError]


def _say(task: Task) -> None:
    print("a task was here")


def test_prints_of_tasks_are_in_the_log(tmp_path: Path) -> None:
    """Goal: what a task prints is kept. Oracle: a `-user.log` of a worker has it."""
    ctx = context(tmp_path)
    scheduler, _ = watched(plan_of(ctx, [call_task(ctx, _say)]))
    assert scheduler.run()
    texts = [path.read_text() for path in Path(ctx.log_root).glob("worker-*-user.log")]
    assert any("a task was here" in text for text in texts)


def test_a_pool_serves_many_plans(tmp_path: Path) -> None:
    """Goal: workers are kept between plans and jobs. Oracle: the same processes, and both jobs'
    folders are used."""
    pool = LocalPool()
    try:
        pids = []
        for job in (1, 2):
            ctx = context(tmp_path, job=job)
            scheduler, _ = watched(plan_of(ctx, [call_task(ctx, _say)]), backend=pool)
            assert scheduler.run(), scheduler.failure
            pids.append(pool.worker_pids)
            assert list(Path(ctx.log_root).glob("worker-*-user.log"))
            journal_close(ctx)
        assert pids[0] == pids[1] != []
    finally:
        pool.stop()


def test_small_tasks_need_no_worker(tmp_path: Path) -> None:
    """Goal: a job of one small task starts no process. Oracle: it ran in this one."""
    ctx = context(tmp_path)
    seen: list[int] = []
    task = call_task(ctx, lambda _task: seen.append(os.getpid()), kind=plans.InlineTask)
    scheduler, _ = watched(plan_of(ctx, [task]))
    assert scheduler.run(), scheduler.failure
    assert seen == [os.getpid()]
