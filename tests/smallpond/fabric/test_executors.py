"""Executors behind file queues: found, used, missed, replaced, readmitted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smallpond.common import SmallpondError, UnsatisfiableRequest
from smallpond.execution.backends.file_queue import FileQueueBackend
from smallpond.execution.backends.launch import ExecutorLauncher
from smallpond.execution.backends.remote import ExecutorState, RemoteExecutor
from smallpond.execution.events import TaskFinished, TaskRetried
from smallpond.execution.executor import Executor
from smallpond.execution.executor_start import claim_exec_id
from smallpond.execution.scheduler import Scheduler
from smallpond.execution.task import RuntimeContext
from smallpond.execution.task.machine import GPU
from smallpond.execution.workitem import WorkStatus
from smallpond.platform import Platform
from tests.smallpond.core import plans
from tests.smallpond.core.plans import alive, call_task, context, plan_of, wait_until, watched
from tests.smallpond.fabric import cluster
from tests.smallpond.fabric.cluster import backend_of, fast_context, pid_of, start_executor


@pytest.fixture
def backends() -> Iterator[list[FileQueueBackend]]:
    """Backends to be stopped, whatever happens."""
    made: list[FileQueueBackend] = []
    yield made
    for backend in made:
        backend.stop()


def run_with(
    ctx: RuntimeContext, backend: FileQueueBackend, call: Any, count: int, **options: Any
) -> tuple[Scheduler, list[Any]]:
    """A scheduler for `count` tasks that do the same, and its events."""
    tasks = [call_task(ctx, call) for _ in range(count)]
    return watched(plan_of(ctx, tasks), backend=backend, **options)


def retry_reasons(events: list[Any]) -> list[str]:
    return [event.reason for event in events if isinstance(event, TaskRetried)]


def act_at_work(scheduler: Scheduler, gate: Path, act: Any) -> list[Any]:
    """Call `act(executor)` once, for an executor that holds tasks; says for which.

    The tasks wait for `gate`, which is opened afterwards: none can be over before."""
    done: list[Any] = []

    def look() -> None:
        try:
            done.append(wait_until(lambda: busy_executor(scheduler)))
            act(done[0])
        finally:
            gate.touch()

    threading.Thread(target=look, daemon=True).start()
    return done


def busy_executor(scheduler: Scheduler) -> RemoteExecutor | None:
    executors = list(scheduler.remote_executors)
    return next((one for one in executors if one.good and one.running_works), None)


def test_work_is_shared_by_executors(tmp_path: Path, backends: list[FileQueueBackend]) -> None:
    """Goal: executors that the platform starts do the work and leave. Method: 40 tasks, two
    executors. Oracle: success; both were used; their processes end and say so."""
    ctx = fast_context(tmp_path, 2)
    backends.append(backend := backend_of(ctx))
    backend.start(ctx)
    wait_until(lambda: len(backend.capacity()) == 2)
    scheduler, events = run_with(ctx, backend, cluster.short_sleep, 40)
    assert scheduler.run(), scheduler.failure
    workers = {event.worker for event in events if isinstance(event, TaskFinished)}
    names = {executor.id for executor in backend.executors}
    assert names == {socket.gethostname(), f"{socket.gethostname()}.1"}
    assert workers >= names
    pids = [pid_of(executor) for executor in backend.executors]
    backend.stop()
    assert [executor.state for executor in backend.executors] == [ExecutorState.STOPPED] * 2
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_a_killed_executor_is_replaced(tmp_path: Path, backends: list[FileQueueBackend]) -> None:
    """Goal: death on this machine is noticed without waiting for probes. Method: the default
    probes (30 s); kill -9 one of two executors while it works. Oracle: success in a fraction of
    the 180 s that silence would take, the retries say why, and a third executor was started."""
    ctx = fast_context(tmp_path, 2, secs_executor_probe_interval=30.0, max_num_missed_probes=6)
    backends.append(backend := backend_of(ctx))
    gate = tmp_path / "gate"
    scheduler, events = run_with(ctx, backend, partial(cluster.wait_for_file, gate), 60)
    killed = act_at_work(scheduler, gate, lambda one: os.kill(pid_of(one), signal.SIGKILL))
    begin = time.monotonic()
    assert scheduler.run(), scheduler.failure
    assert time.monotonic() - begin < 30
    assert killed and killed[0].state == ExecutorState.FAIL
    assert any("its process is gone" in reason for reason in retry_reasons(events))
    assert all("was lost" in reason for reason in retry_reasons(events))
    wait_until(lambda: backend.capacity() and len(backend.executors) == 3)


def test_silence_is_failure_and_not_for_ever(
    tmp_path: Path, backends: list[FileQueueBackend]
) -> None:
    """Goal: a silent executor's tasks run elsewhere; when it speaks it works again. Method: stop
    a process (it is there, but answers nothing), continue it after the job. Oracle: success
    without it; FAIL, then GOOD; a second job uses it."""
    ctx = fast_context(tmp_path, 2)
    backends.append(backend := FileQueueBackend())
    processes = [start_executor(ctx, name) for name in ("one", "two")]
    try:
        backend.start(ctx)
        wait_until(lambda: len(backend.capacity()) == 2)
        gate = tmp_path / "gate"
        scheduler, events = run_with(ctx, backend, partial(cluster.wait_for_file, gate), 60)
        stopped = act_at_work(scheduler, gate, lambda one: os.kill(pid_of(one), signal.SIGSTOP))
        assert scheduler.run(), scheduler.failure
        (executor,) = stopped
        assert executor.state == ExecutorState.FAIL
        assert any("does not answer" in reason for reason in retry_reasons(events))
        os.kill(pid_of(executor), signal.SIGCONT)
        wait_until(lambda: len(backend.capacity()) == 2)
        assert executor.state == ExecutorState.GOOD
        # Work that takes a moment: of work that takes none, one executor may do all.
        scheduler, events = run_with(ctx, backend, cluster.short_sleep, 30, resume=False)
        assert scheduler.run(), scheduler.failure
        workers = {event.worker for event in events if isinstance(event, TaskFinished)}
        assert executor.id in workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_an_executor_that_must_leave_loses_nothing(
    tmp_path: Path, backends: list[FileQueueBackend]
) -> None:
    """Goal: an executor on which a task failed leaves, and what it was doing is not lost. Method:
    stop_executor_on_failure with one failing task among many. Oracle: success; one executor
    stopped; the failed task succeeded on another one."""
    ctx = fast_context(tmp_path, 2)
    backends.append(backend := backend_of(ctx))
    bad = call_task(ctx, plans.false_once)
    tasks = [bad, *(call_task(ctx, cluster.short_sleep) for _ in range(30))]
    scheduler, _ = watched(plan_of(ctx, tasks), backend=backend, stop_executor_on_failure=True)
    assert scheduler.run(), scheduler.failure
    attempts = [one for one in scheduler.finished_tasks.values() if one.key == bad.key]
    assert [one.status for one in attempts] == [WorkStatus.FAILED, WorkStatus.SUCCEED]
    failed_at = attempts[0].exec_id
    (left,) = [executor for executor in backend.executors if executor.id == failed_at]
    assert left.state in (ExecutorState.STOPPING, ExecutorState.STOPPED)
    assert attempts[1].exec_id != failed_at


def test_executors_wait_for_an_idle_scheduler(
    tmp_path: Path, backends: list[FileQueueBackend]
) -> None:
    """Goal: a session that thinks for a while keeps its executors. Method: no plan and no probe
    for three times the silence that would make them leave; the last job's status is success.
    Oracle: the same processes do the next job."""
    ctx = fast_context(tmp_path, 2)
    backends.append(backend := backend_of(ctx))
    scheduler, _ = run_with(ctx, backend, plans.nothing, 4)
    assert scheduler.run(), scheduler.failure
    wait_until(lambda: len(backend.capacity()) == 2)
    pids = [pid_of(executor) for executor in backend.executors]
    assert "success" in Path(ctx.job_status_path).read_text()
    time.sleep(3 * 2 * ctx.secs_executor_probe_timeout)
    assert all(alive(pid) for pid in pids)
    scheduler, _ = run_with(ctx, backend, plans.nothing, 4, resume=False)
    assert scheduler.run(), scheduler.failure
    assert [pid_of(executor) for executor in backend.executors] == pids


def test_a_backend_can_start_again(tmp_path: Path, backends: list[FileQueueBackend]) -> None:
    """Goal: a backend that was stopped starts new executors, which may have the old names; stopping
    does not wait for executors that have not begun. Method: stop at once, start, run, twice, with
    the job's queues removed between. Oracle: success; the time of the first stop."""
    ctx = fast_context(tmp_path, 1)
    backends.append(backend := backend_of(ctx))
    backend.start(ctx)
    begin = time.monotonic()
    backend.stop()
    assert time.monotonic() - begin < 5
    for _ in range(2):
        shutil.rmtree(ctx.queue_root)
        scheduler, _ = run_with(ctx, backend, plans.nothing, 3, resume=False)
        assert scheduler.run(), scheduler.failure
        assert [executor.id for executor in backend.executors] == [socket.gethostname()]
        backend.stop()


def test_executors_leave_with_their_scheduler(tmp_path: Path) -> None:
    """Goal: kill -9 of the scheduler leaves nothing running. Method: a scheduler in a process of
    its own with two executors that run long tasks. Oracle: their processes end by themselves."""
    script = (
        "import sys, pathlib\n"
        "from tests.smallpond.fabric import cluster\n"
        "from tests.smallpond.fabric.test_executors import run_with\n"
        "ctx = cluster.fast_context(pathlib.Path(sys.argv[1]), 2)\n"
        "backend = cluster.backend_of(ctx)\n"
        "run_with(ctx, backend, cluster.first_attempt_hangs, 8)[0].run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=cluster.python_environment()
    )
    try:
        presence = "*/queue/*/presence.json"
        wait_until(lambda: len(list(tmp_path.glob(presence))) == 2)
        pids = [int(json.loads(path.read_text())["pid"]) for path in tmp_path.glob(presence)]
        assert all(alive(pid) for pid in pids)
        # Until tasks run, so that workers of the executors exist as well.
        wait_until(lambda: list(tmp_path.glob("*/queue/*/wq/dequeued/*CallTask*")))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_executors_that_cannot_start_are_an_error(
    tmp_path: Path, backends: list[FileQueueBackend]
) -> None:
    """Goal: no silent wait. Method: a Python that cannot start. Oracle: an error that says where
    the logs are and how to see why."""
    ctx = fast_context(tmp_path, 2)
    launcher = ExecutorLauncher(ctx, Platform())
    launcher.variables["PYTHONHOME"] = "/nowhere"
    backends.append(backend := FileQueueBackend(launcher))
    scheduler, _ = run_with(ctx, backend, plans.nothing, 3)
    with pytest.raises(SmallpondError, match=r"all executors have ended.*driver\.py"):
        scheduler.run()


def test_a_task_that_no_executor_can_read(
    tmp_path: Path, backends: list[FileQueueBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a function that executors cannot import fails the job and names the module. Method: a
    module that only this process finds. Oracle: the error; no hang."""
    (tmp_path / "here_only.py").write_text("def work(task):\n    pass\n")
    ctx = fast_context(tmp_path / "data", 1)
    backends.append(backend := backend_of(ctx))
    backend.start(ctx)
    monkeypatch.syspath_prepend(str(tmp_path))
    import here_only  # type: ignore[import-not-found]

    scheduler, _ = run_with(ctx, backend, here_only.work, 2, max_fail_count=1)
    assert not scheduler.run()
    assert "here_only" in str(scheduler.failure)


def test_a_task_that_cannot_be_sent(tmp_path: Path, backends: list[FileQueueBackend]) -> None:
    """Goal: a function that cannot be pickled fails its task and no other. Method: one with a lock
    in its closure among tasks of the same round. Oracle: the error; the others were sent."""
    ctx = fast_context(tmp_path, 1)
    backends.append(backend := backend_of(ctx))
    lock = threading.Lock()
    bad = call_task(ctx, lambda task: lock.locked())
    good = [call_task(ctx, plans.nothing) for _ in range(3)]
    scheduler, events = watched(plan_of(ctx, [bad, *good]), backend=backend, max_fail_count=2)
    assert not scheduler.run()
    assert f"Can't pickle task '{bad.key}'" in str(scheduler.failure)
    failed = {event.key for event in events if isinstance(event, TaskFinished) and event.error}
    assert failed == {bad.key}
    sent = {work.key for work in backend.executors[0].wq.list_works()}  # type: ignore[attr-defined]
    assert sent >= {task.key for task in good}


def test_cancelled_attempts_stop(tmp_path: Path, backends: list[FileQueueBackend]) -> None:
    """Goal: a cancelled attempt gives its place to others. Method: fill an executor with tasks
    that hang, cancel them, submit one more. Oracle: that one ends."""
    ctx = fast_context(tmp_path, 1)
    backends.append(backend := backend_of(ctx))
    backend.start(ctx)
    (machine,) = wait_until(backend.capacity)
    hanging = [call_task(ctx, cluster.first_attempt_hangs) for _ in range(machine.cpus)]
    last = call_task(ctx, plans.nothing)
    for task in [*hanging, last]:
        task.input_datasets = []
    for task in hanging:
        backend.submit(task, machine)
    time.sleep(0.3)
    assert backend.poll(0) == []
    for task in hanging:
        backend.cancel(task)
    backend.submit(last, machine)
    (completion,) = wait_until(lambda: backend.poll(0.1))
    assert completion.task is last and last.status == WorkStatus.SUCCEED


@pytest.mark.timeout(100)
def test_threads_that_tasks_leave_take_no_place_away(
    tmp_path: Path, backends: list[FileQueueBackend]
) -> None:
    """Goal: an executor goes on however many failed tasks left a thread behind (0.15's was full
    when they were more than its cores, answered no probe, and the job hung). Method: twice as
    many such tasks as cores on the one executor, then one that reads all of them. Oracle: success
    on that executor, which is still well; a retry of each task."""
    ctx = fast_context(tmp_path, 1)
    backends.append(backend := backend_of(ctx))
    leaking = [call_task(ctx, plans.stuck_thread) for _ in range(2 * ctx.usable_cpu_count + 2)]
    last = call_task(ctx, plans.nothing, leaking, node_id=2)
    scheduler, events = watched(plan_of(ctx, [last]), backend=backend, speculative_exec="disable")
    assert scheduler.run(), scheduler.failure
    assert sum("the stream broke" in reason for reason in retry_reasons(events)) == len(leaking)
    (executor,) = backend.executors
    assert executor.good


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("limit", "asked"),
    [({"cpu_limit": 4096}, "4096 CPUs"), ({"memory_limit": 1 << 50}, "1048576.00 GB of memory")],
)
def test_a_request_that_no_executor_can_hold_is_an_error(
    tmp_path: Path, backends: list[FileQueueBackend], limit: dict[str, int], asked: str
) -> None:
    """Goal: no silent wait for a machine that will not come (0.15 waited for ever). Method: a task
    that asks for too much among some that do not. Oracle: the others run; then the job fails, and
    the message has what was asked for and what the executor has."""
    ctx = fast_context(tmp_path, 1)
    backends.append(backend := backend_of(ctx))
    greedy = call_task(ctx, plans.nothing, node_id=2, **limit)
    modest = [call_task(ctx, plans.nothing) for _ in range(3)]
    scheduler, _ = watched(plan_of(ctx, [*modest, greedy]), backend=backend)
    assert not scheduler.run()
    assert isinstance(scheduler.failure, UnsatisfiableRequest)
    text = str(scheduler.failure)
    assert asked in text and f"has {ctx.usable_cpu_count} CPUs" in text
    assert {task.key for task in modest} == set(scheduler.succeeded_tasks)


def test_default_names_are_unique(tmp_path: Path) -> None:
    """Goal: executors of one machine do not share queues. Method: claim the host's name twice,
    and a given one twice. Oracle: the names."""
    ctx = context(tmp_path)
    host = socket.gethostname()
    assert [claim_exec_id(ctx, host) for _ in range(3)] == [host, f"{host}.1", f"{host}.2"]
    assert [claim_exec_id(ctx, "mine") for _ in range(2)] == ["mine", "mine"]


def test_gpus_are_granted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: parts of GPUs never sum up to more than there are. Method: two GPUs, requests that
    fit and one that does not. Oracle: grants and what is left."""
    ctx = context(tmp_path)
    gpus = [GPU(0), GPU(1)]
    monkeypatch.setattr(ctx, "get_local_gpus", lambda: gpus)
    executor = Executor.create(ctx, "gpu")
    first = executor.acquire_gpu(0.5)
    second = executor.acquire_gpu(1.25)
    assert first == {gpus[0]: 0.5} and second == {gpus[0]: 0.5, gpus[1]: 0.75}
    assert executor.acquire_gpu(0.5) == {}
    executor.release_gpu(second)
    assert executor.available_gpu_quota == 1.5


def test_states_follow_probes(tmp_path: Path) -> None:
    """Goal: the published states. Method: an executor's end driven by hand. Oracle: each state
    after what leads to it."""
    ctx = context(tmp_path, max_num_missed_probes=2)
    executor = Executor.create(ctx, "e")
    remote = RemoteExecutor.create(ctx, "e", str(Path(ctx.queue_root, "e")))
    remote.update_state(1)
    assert remote.resource_low and remote.working and remote.idle
    executor._answer(remote.last_acked_probe)
    remote.pop()
    assert remote.update_state(1) and remote.good
    assert remote.cpu_count == ctx.usable_cpu_count
    remote.update_state(3)
    assert remote.fail and not remote.alive
    remote.last_acked_probe.epoch = 3  # as if it had answered the third
    assert remote.update_state(3) and remote.good
    remote.stop()
    assert remote.update_state(3) and remote.stopping
