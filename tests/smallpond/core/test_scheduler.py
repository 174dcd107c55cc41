"""The scheduler's policy, without processes: order, machines, failures, observers."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from smallpond.common import GB, UnsatisfiableRequest, WorkerLost
from smallpond.execution.events import (
    PlanFinished,
    PlanStarted,
    TaskFinished,
    TaskRetried,
    TaskStarted,
)
from smallpond.execution.pool import InProcessBackend
from smallpond.execution.scheduler import Completion, Machine, Scheduler
from smallpond.execution.scheduler.placement import Placement
from smallpond.execution.scheduler.ready import ReadyQueue
from smallpond.execution.scheduler.speculation import Speculation
from smallpond.execution.task import RuntimeContext, Task
from smallpond.execution.workqueue import WorkStatus
from tests.smallpond.core import plans
from tests.smallpond.core.plans import call_task, context, plan_of, watched


class ScriptedBackend:
    """Machines and outcomes as a test says; time does not pass."""

    def __init__(self, machines: list[Machine], outcome: Any) -> None:
        self.machines = machines
        self.outcome = outcome
        self.running: list[tuple[Task, Machine]] = []
        self.loads: list[dict[str, tuple[int, int]]] = []
        self.cancelled: list[str] = []

    def start(self, ctx: RuntimeContext) -> None:
        """Nothing to start."""

    def capacity(self) -> list[Machine]:
        return self.machines

    def submit(self, task: Task, machine: Machine) -> None:
        self.running.append((task, machine))
        load: dict[str, tuple[int, int]] = {}
        for one, where in self.running:
            cpus, memory = load.get(where.name, (0, 0))
            load[where.name] = (cpus + one.cpu_limit, memory + one.memory_limit)
        self.loads.append(load)

    def poll(self, timeout: float | None) -> list[Completion]:
        if not self.running:
            return []
        task, machine = self.running.pop(0)
        self.outcome(task, machine)
        return [Completion(task, machine.name)]

    def cancel(self, task: Task) -> None:
        self.cancelled.append(repr(task))
        self.running = [one for one in self.running if one[0] is not task]

    def stop(self) -> None:
        self.running = []


def succeed(task: Task, _machine: Machine) -> None:
    task.exec()


def test_inputs_run_before_those_who_read_them(tmp_path: Path) -> None:
    """Goal: the order of the graph, and events that tell it. Oracle: starts after all ends of
    inputs; one start and one end for each task, between the plan's own."""
    ctx = context(tmp_path)
    layers: list[list[Task]] = [[call_task(ctx, plans.nothing, node_id=1) for _ in range(4)]]
    for depth in range(2, 5):
        below = layers[-1]
        layers.append(
            [call_task(ctx, plans.nothing, below[i : i + 2], node_id=depth) for i in range(4)]
        )
    plan = plan_of(ctx, layers[-1])
    scheduler, events = watched(plan, backend=InProcessBackend())
    assert scheduler.run()
    assert isinstance(events[0], PlanStarted) and isinstance(events[-1], PlanFinished)
    ended: set[str] = set()
    for event in events[1:-1]:
        if isinstance(event, TaskStarted):
            assert set(plan.tasks[event.key].input_deps) <= ended, event.key
        else:
            assert isinstance(event, TaskFinished) and event.key not in ended
            ended.add(event.key)
    assert ended == set(plan.tasks)


def test_nodes_take_turns(tmp_path: Path) -> None:
    """Goal: no stage waits for all of another. Oracle: the order of two nodes' tasks; retries
    come later within a node, or first when asked."""
    ctx = context(tmp_path)
    first = [call_task(ctx, plans.nothing, node_id=1) for _ in range(3)]
    second = [call_task(ctx, plans.nothing, node_id=2) for _ in range(3)]
    first[0].retry_count = 1
    for retries_first, expected in ((False, [2, 4, 3, 5, 1, 6]), (True, [1, 4, 2, 5, 3, 6])):
        queue = ReadyQueue(retries_first)
        for task in [*second, *first]:
            queue.push(task)
        order: list[int] = []

        def take(task: Task, order: list[int] = order) -> bool:
            order.append(int(task.id))
            return True

        assert queue.take(take) == 6 and len(queue) == 0
        assert order == expected


def test_nodes_take_turns_when_one_task_fits_at_a_time(tmp_path: Path) -> None:
    """Goal: turns are kept over rounds. Method: a machine of one CPU. Oracle: the nodes of the
    tasks alternate."""
    ctx = context(tmp_path)
    tasks = [call_task(ctx, plans.nothing, node_id=1 + i // 5, memory_limit=1) for i in range(15)]
    backend = ScriptedBackend([Machine("one", 1, 0, GB)], succeed)
    scheduler, _ = watched(plan_of(ctx, tasks), backend=backend)
    assert scheduler.run(), scheduler.failure
    nodes = [task.node_id for task in scheduler.finished_tasks.values()]
    assert nodes[:-1] == [1, 2, 3] * 5


def test_a_large_request_does_not_hide_small_ones(tmp_path: Path) -> None:
    """Goal: what fits runs. Method: a task that fits only an empty machine queues before small
    ones of its node. Oracle: the small ones are taken, the large one stays."""
    ctx = context(tmp_path)
    large = call_task(ctx, plans.nothing, cpu_limit=8)
    small = [call_task(ctx, plans.nothing) for _ in range(3)]
    queue = ReadyQueue()
    for task in [large, *small]:
        queue.push(task)
    assert queue.take(lambda task: task.cpu_limit == 1) == 3
    assert list(queue) == [large]


def test_a_large_request_is_not_starved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: small tasks that keep coming do not keep a large one out for ever. Method: one task
    of two CPUs behind many of one, on two CPUs, with no patience. Oracle: with patience it is the
    last, without it is among the first."""
    from smallpond.execution.scheduler import ready

    places = []
    for starved_s in (1000.0, 0.0):
        monkeypatch.setattr(ready, "STARVED_S", starved_s)
        ctx = context(tmp_path, job=int(starved_s) + 1)
        small = [call_task(ctx, plans.nothing, node_id=1, memory_limit=1) for _ in range(40)]
        large = call_task(ctx, plans.nothing, node_id=2, cpu_limit=2, memory_limit=1)
        backend = ScriptedBackend([Machine("one", 2, 0, GB)], succeed)
        scheduler, _ = watched(plan_of(ctx, [*small, large]), backend=backend)
        assert scheduler.run(), scheduler.failure
        places.append([task.key for task in scheduler.finished_tasks.values()].index(large.key))
    assert places[0] == 40 and places[1] < 10


def test_machines_are_never_overbooked(tmp_path: Path) -> None:
    """Goal: sums of requests stay within each machine, and no machine idles. Method: tasks of all
    sizes on two unequal machines. Oracle: the loads at each submit; both machines were used."""
    ctx = context(tmp_path)
    machines = [Machine("a", 4, 0, 8 * GB), Machine("b", 2, 0, 16 * GB)]
    tasks = [
        call_task(
            ctx, plans.nothing, node_id=i % 3, cpu_limit=1 + i % 4, memory_limit=1 + i * GB // 4
        )
        for i in range(32)
    ]
    backend = ScriptedBackend(machines, succeed)
    scheduler, _ = watched(plan_of(ctx, tasks), backend=backend)
    assert scheduler.run(), scheduler.failure
    limits = {machine.name: machine for machine in machines}
    for load in backend.loads:
        for name, (cpus, memory) in load.items():
            assert cpus <= limits[name].cpus and memory <= limits[name].memory_bytes
    assert {name for load in backend.loads for name in load} == {"a", "b"}


def test_what_no_machine_can_hold_is_explained(tmp_path: Path) -> None:
    """Goal: the message names both sides. Oracle: its text, for CPUs, GPUs and memory."""
    ctx = context(tmp_path)
    placement = Placement()
    placement.update([Machine("small", 2, 0, GB), Machine("big", 8, 1, 4 * GB)])
    for asked in ({"cpu_limit": 9}, {"gpu_limit": 2.0}, {"memory_limit": 5 * GB}):
        error = placement.complaint(call_task(ctx, plans.nothing, **asked))
        assert isinstance(error, UnsatisfiableRequest)
        assert "the largest, big, has 8 CPUs, 1 GPUs and 4.00 GB" in str(error)
    assert placement.complaint(call_task(ctx, plans.nothing, cpu_limit=8)) is None


@pytest.mark.parametrize("losses", [3, 20])
def test_lost_machines_do_not_count_against_a_task(tmp_path: Path, losses: int) -> None:
    """Goal: a task survives the loss of machines, but a task that loses each of them ends the
    job. Method: machines are lost at the first attempts. Oracle: success with no failure counted,
    or the error that names the worker."""
    ctx = context(tmp_path)

    def lose(task: Task, _machine: Machine) -> None:
        if task.retry_count < losses:
            task.status = WorkStatus.EXEC_FAILED
        else:
            task.exec()

    task = call_task(ctx, plans.nothing)
    backend = ScriptedBackend([Machine("one", 2, 0, GB)], lose)
    scheduler, events = watched(plan_of(ctx, [task]), backend=backend, max_fail_count=0)
    assert scheduler.run() == (losses == 3)
    assert task.fail_count == 0
    if losses == 3:
        assert sum(isinstance(event, TaskRetried) for event in events) == 3
    else:
        assert isinstance(scheduler.failure, WorkerLost)


def test_memory_grows_faster_each_time(tmp_path: Path) -> None:
    """Goal: running out of memory is answered with more, up to the largest machine, then with
    spilling, then with failure. Oracle: the limits of the attempts."""
    ctx = context(tmp_path)
    limits: list[tuple[int, int, bool]] = []

    def fail(task: Task, _machine: Machine) -> None:
        limits.append((task.memory_limit // plans.MB, task.cpu_limit, task.low_memory))
        task.status, task.exception = WorkStatus.CRASHED, MemoryError("more")

    task = call_task(ctx, plans.nothing, cpu_limit=2, memory_limit=16 * plans.MB)
    backend = ScriptedBackend([Machine("one", 4, 0, 1024 * plans.MB)], fail)
    scheduler, _ = watched(plan_of(ctx, [task]), backend=backend, max_fail_count=1)
    assert not scheduler.run()
    assert limits == [
        (16, 2, False),
        (32, 2, False),
        (128, 2, False),
        (1024, 2, False),
        (1024, 1, True),
        (1024, 1, True),
    ]


def test_the_rules_of_speculation(tmp_path: Path) -> None:
    """Goal: 0.15's thresholds. Method: 40 tasks of one second, one running for some time.
    Oracle: who is slow, by mode, queue and retries."""
    ctx = context(tmp_path)
    task = call_task(ctx, plans.nothing)
    attempt = call_task(ctx, plans.nothing)
    attempt.key, attempt.finish_time = task.key, 1000.0

    def slow(mode: str, elapsed_s: float, short: bool = False, retries: int = 0) -> bool:
        rules = Speculation(mode, floor_s=10, max_retry_count=5)
        for _ in range(40):
            rules.add(1, 1.0)
        attempt.start_time = 1000.0 - elapsed_s
        attempt.retry_count = task.retry_count = retries
        return bool(rules.slow([attempt], {task.key: task}, short))

    assert not slow("enable", 20.9) and slow("enable", 21.1)
    assert not slow("enable", 30.9, retries=1) and slow("enable", 31.1, retries=1)
    assert not slow("enable", 10.9, short=True) and slow("enable", 11.1, short=True)
    assert not slow("aggressive", 10.9) and slow("aggressive", 11.1)
    assert not slow("aggressive", 1000, retries=5)
    steady = call_task(ctx, plans.nothing, kind=plans.SteadyTask)
    rules = Speculation("aggressive", floor_s=0.1, max_retry_count=5)
    for _ in range(40):
        rules.add(1, 1.0)
    steady.start_time = 1.0
    assert not rules.slow([steady], {steady.key: steady}, True)


def test_observers_see_a_scheduler_that_can_be_pickled(tmp_path: Path) -> None:
    """Goal: the published way to watch. Oracle: the last pickle says what the scheduler says."""
    ctx = context(tmp_path, secs_executor_probe_interval=0.001)
    seen: list[bytes] = []
    plan = plan_of(ctx, [call_task(ctx, plans.false_once) for _ in range(3)])
    observer = Scheduler.StateObserver(lambda scheduler: seen.append(pickle.dumps(scheduler)))
    scheduler = Scheduler(plan, sched_state_observers=[observer], backend=InProcessBackend())
    assert scheduler.run()
    first, last = pickle.loads(seen[0]), pickle.loads(seen[-1])
    assert not first.success and last.success
    assert last.progress == (3, 3, 100.0)
    assert len(last.abandoned_tasks) == 3
    assert last.exec_plan.successful and last.remote_executors == []
    lines = Path(ctx.log_root, "task_metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 2 + 1
    assert Path(ctx.job_status_path).read_text().startswith("success@")


def test_a_plan_may_be_tried_again(tmp_path: Path) -> None:
    """Goal: a failed task is not failed for ever. Method: the same tasks in a second plan of the
    same run, after what was wrong has been mended. Oracle: failure, then success with new names of
    attempts, then nothing to do; a lost output is made again."""
    ctx = context(tmp_path)
    mended = tmp_path / "mended"

    def work(task: Task) -> None:
        assert mended.exists(), "broken"
        Path(task.runtime_output_abspath, "part.txt").write_text("x")

    task = call_task(ctx, work)
    results = []
    for step in range(4):
        scheduler, events = watched(
            plan_of(ctx, [task]), backend=InProcessBackend(), max_fail_count=1
        )
        results.append((scheduler.run(), sum(isinstance(one, TaskStarted) for one in events)))
        mended.touch()
        if step == 2:
            Path(task.output.root_dir or "", "part.txt").unlink()
    assert results == [(False, 2), (True, 2), (True, 1), (True, 2)]


class Boundless(plans.CallTask):
    """Cannot be judged before it runs."""

    @property
    def exec_inline(self) -> bool:
        raise OSError("the inputs are gone")


def test_inputs_that_cannot_be_judged_fail_the_task_alone(tmp_path: Path) -> None:
    """Goal: no exception of a task leaves `run()`. Oracle: the task runs at the backend."""
    ctx = context(tmp_path)
    task = call_task(ctx, plans.nothing, kind=Boundless)
    scheduler, events = watched(plan_of(ctx, [task]), backend=InProcessBackend())
    assert scheduler.run()
    workers = [event.worker for event in events if isinstance(event, TaskStarted)]
    assert workers == ["in-process", "localhost"]


def test_a_subscriber_that_fails_fails_alone(tmp_path: Path) -> None:
    """Goal: a display cannot stop a job. Oracle: success, and the others hear everything."""
    ctx = context(tmp_path)
    scheduler = Scheduler(plan_of(ctx, [call_task(ctx, plans.nothing)]), backend=InProcessBackend())

    def fail(_event: Any) -> None:
        raise RuntimeError("no terminal")

    heard: list[Any] = []
    scheduler.subscribe(fail)
    scheduler.subscribe(heard.append)
    assert scheduler.run()
    assert len(heard) == 6
