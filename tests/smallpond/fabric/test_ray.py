"""Tasks on a real Ray cluster: two nodes on this machine, on the loopback."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import smallpond
from smallpond.common import NonzeroExitCode, SmallpondError, WorkerLost
from smallpond.execution.backends.ray import (
    ClusterUnreachable,
    RayBackend,
    check_reachable,
    connect,
)
from smallpond.execution.driver import Driver
from smallpond.execution.events import TaskFinished, TaskRetried, TaskSkipped
from smallpond.execution.journal import journal_close
from smallpond.execution.task import Task
from smallpond.execution.workitem import WorkStatus
from smallpond.logical.dataset import ParquetDataSet, SqlQueryDataSet
from smallpond.logical.node import ArrowStreamNode, Context, DataSourceNode, LogicalPlan
from smallpond.logical.planner import Planner
from tests.smallpond.core import plans
from tests.smallpond.core.plans import call_task, context, plan_of, wait_until, watched
from tests.smallpond.fabric import cluster
from tests.smallpond.fabric.pipeline import pipeline
from tests.smallpond.fabric.test_driver import EXPECTED, output_sum, rows_path

__all__ = ["rows_path"]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)

NODE = {"num_cpus": 2, "object_store_memory": 80 * plans.MB, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A cluster of two nodes with two CPUs each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    # A dead node is noticed after a second, and not after half a minute.
    health = {"health_check_period_ms": 250, "health_check_failure_threshold": 4}
    head = {**NODE, "include_dashboard": False, "_system_config": health}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(**NODE)
    yield made
    made.shutdown()


@pytest.fixture
def backend(ray_cluster: Any) -> Iterator[RayBackend]:
    """A connection of this process to the cluster."""
    made = RayBackend(ray_cluster.address)
    yield made
    made.stop()


def hold_a_cpu(task: Task) -> None:
    """Long enough that one node alone does not get to all of them."""
    print(f"hello from {task.key}")
    time.sleep(0.2)


def finished(events: list[Any]) -> list[TaskFinished]:
    return [event for event in events if isinstance(event, TaskFinished)]


def test_both_nodes_work(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: every node of the cluster is used. Method: 24 tasks on 2 x 2 CPUs, one after the other
    depending on them. Oracle: success; two machines; prints are in the job's logs."""
    ctx = context(tmp_path)
    first = [call_task(ctx, hold_a_cpu) for _ in range(24)]
    last = call_task(ctx, plans.nothing, first)
    scheduler, events = watched(plan_of(ctx, [last]), backend=backend)
    assert scheduler.run(), scheduler.failure
    machines = {machine.name for machine in backend.capacity()}
    assert len(machines) == 2
    assert {event.worker for event in finished(events)} >= machines
    prints = "".join(path.read_text() for path in Path(ctx.log_root).glob("*-user.log"))
    assert all(f"hello from {task.key}" in prints for task in first)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (plans.fail_twice, "ValueError: attempt 0 fails"),
        (plans.false_once, "run() returned False"),
        (plans.exit_once, "NonzeroExitCode"),
    ],
)
def test_failures_are_retried(tmp_path: Path, backend: RayBackend, call: Any, reason: str) -> None:
    """Goal: the one retry policy holds on Ray (0.15 gave up at once). Method: tasks that fail in
    different ways at first. Oracle: success and the reason."""
    ctx = context(tmp_path)
    scheduler, events = watched(plan_of(ctx, [call_task(ctx, call)]), backend=backend)
    assert scheduler.run(), scheduler.failure
    reasons = [event.reason for event in events if isinstance(event, TaskRetried)]
    assert reasons and reason in reasons[0]


def test_memory_is_raised(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: running out of memory is answered with more (0.15 on Ray: with the end of the job).
    Method: a task that needs 200 MB and is given 64. Oracle: success without a failure counted,
    the reasons of the retries, what it had in the end."""
    ctx = context(tmp_path)
    task = call_task(ctx, cluster.wants_memory, memory_limit=64 * plans.MB)
    scheduler, events = watched(plan_of(ctx, [task]), backend=backend, max_fail_count=0)
    assert scheduler.run(), scheduler.failure
    reasons = [event.reason for event in events if isinstance(event, TaskRetried)]
    assert reasons and reasons[0].startswith("out of memory with 0.062 GB, again with ")
    assert all(reason.startswith("out of memory") for reason in reasons)
    assert task.memory_limit >= 200 * plans.MB


def test_stragglers_get_a_second_copy(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: one slow node does not hold up the job (0.15 had no second copies on Ray). Method: one
    of 40 tasks sleeps for a minute, its second copy does not. Oracle: the time; which attempt was
    given up."""
    ctx = context(tmp_path, secs_executor_probe_interval=0.3)
    tasks = [call_task(ctx, plans.slow_first_time) for _ in range(40)]
    scheduler, events = watched(plan_of(ctx, tasks), backend=backend)
    begin = time.monotonic()
    assert scheduler.run(), scheduler.failure
    assert time.monotonic() - begin < 40
    reasons = [event.reason for event in events if isinstance(event, TaskRetried)]
    assert any("second copy" in reason for reason in reasons)
    assert "CallTask-000005" in {task.key for task in scheduler.abandoned_tasks}


@pytest.mark.parametrize("end", [cluster.end_by_exception, cluster.end_by_kill])
def test_streams_go_on_from_their_checkpoint(
    tmp_path: Path, backend: RayBackend, end: Callable[[], None]
) -> None:
    """Goal: batches that are done are not done again, whether the attempt raised or its process
    died (0.15 had no checkpoints on Ray). Method: an attempt ends at the fifth batch of ten, after
    a checkpoint at each. Oracle: the batches that were processed; the rows."""
    marks, ctx = tmp_path / "marks", Context()
    numbers = DataSourceNode(ctx, SqlQueryDataSet("select range as item from range(100)"))
    node = ArrowStreamNode(
        ctx,
        (numbers,),
        process_func=partial(cluster.broken_stream, marks, end),
        streaming_batch_size=10,
        output_name="stream",
    )
    runtime_ctx = context(tmp_path / "job")
    plan = Planner(runtime_ctx).create_exec_plan(LogicalPlan(ctx, node))
    scheduler, _ = watched(plan, backend=backend)
    assert scheduler.run(), scheduler.failure
    rows = plan.final_output.to_arrow_table().column("item").to_pylist()
    assert sorted(rows) == list(range(100))
    processed = [int(line) for line in marks.read_text().splitlines()]
    assert processed == [0, 10, 20, 30, 40, *range(40, 100, 10)]


def test_a_second_run_goes_on(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: a job that failed on Ray is taken up where it stopped. Method: a job whose last task
    fails; the same job, made anew, when that is mended. Oracle: success, and how many tasks ran
    and were skipped."""
    mended = tmp_path / "mended"

    def run() -> tuple[bool, int, int]:
        ctx = context(tmp_path / "job")
        first = [call_task(ctx, cluster.write_part) for _ in range(4)]
        last = call_task(ctx, partial(cluster.need_file, mended), first, node_id=2)
        scheduler, events = watched(plan_of(ctx, [last]), backend=backend, max_fail_count=0)
        success = scheduler.run()
        journal_close(ctx)
        ran = [one for one in finished(events) if one.key.startswith("CallTask")]
        return success, len(ran), sum(isinstance(one, TaskSkipped) for one in events)

    assert run() == (False, 5, 0)
    mended.touch()
    assert run() == (True, 1, 4)


@pytest.mark.timeout(100)
def test_a_request_that_no_node_can_hold(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: no silent wait for a node that will not come. Method: too much memory. Oracle: the
    error has what was asked for."""
    ctx = cluster.fast_context(tmp_path, 0)
    task = call_task(ctx, plans.nothing, memory_limit=1 << 50)
    scheduler, _ = watched(plan_of(ctx, [task]), backend=backend)
    assert not scheduler.run()
    assert "1048576.00 GB of memory, and no machine has that much" in str(scheduler.failure)


def test_odd_errors_come_back(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: an exception that cannot be rebuilt is reported all the same. Method: one that holds a
    lock. Oracle: its text."""
    ctx = context(tmp_path)
    task = call_task(ctx, plans.raise_stubborn)
    scheduler, _ = watched(plan_of(ctx, [task]), backend=backend, max_fail_count=0)
    assert not scheduler.run()
    assert "stubborn" in str(scheduler.failure)


def test_cancelled_attempts_stop(tmp_path: Path, backend: RayBackend) -> None:
    """Goal: a cancelled attempt gives its CPU back. Method: fill a node, cancel, submit one more.
    Oracle: that one ends."""
    ctx = context(tmp_path)
    backend.start(ctx)
    machine = backend.capacity()[0]
    hanging = [call_task(ctx, cluster.first_attempt_hangs) for _ in range(machine.cpus)]
    last = call_task(ctx, plans.nothing)
    for task in [*hanging, last]:
        task.input_datasets = []
    for task in hanging:
        backend.submit(task, machine)
    assert backend.poll(0.5) == []
    for task in hanging:
        backend.cancel(task)
    backend.submit(last, machine)
    (completion,) = wait_until(lambda: backend.poll(1.0))
    assert completion.task is last and last.status == WorkStatus.SUCCEED


def test_a_lost_node_is_survived(tmp_path: Path, ray_cluster: Any, backend: RayBackend) -> None:
    """Goal: tasks of a node that dies run on another. Method: a third node; kill it while it
    works. Oracle: success; some task was retried; the node is no machine any more."""
    node = ray_cluster.add_node(**NODE)
    ctx = context(tmp_path)
    backend.start(ctx)
    before = wait_until(lambda: len(backend.capacity()) == 3 and list(backend.capacity()))
    (name,) = [one.name for one in before if node.node_id.startswith(one.name.rsplit("-", 1)[1])]
    tasks = [call_task(ctx, hold_a_cpu) for _ in range(40)]
    scheduler, events = watched(plan_of(ctx, tasks), backend=backend)
    killed: list[str] = []

    def kill(event: Any) -> None:
        if isinstance(event, TaskFinished) and event.worker == name and not killed:
            killed.append(name)
            ray_cluster.remove_node(node, allow_graceful=False)

    scheduler.subscribe(kill)
    assert scheduler.run(), scheduler.failure
    assert killed
    errors = [event.error for event in finished(events) if event.error is not None]
    assert errors and all(isinstance(one, WorkerLost | NonzeroExitCode) for one in errors)
    assert all(event.worker == name for event in finished(events) if event.error is not None)
    wait_until(lambda: len(backend.capacity()) == 2)


def test_mode_ray(tmp_path: Path, ray_cluster: Any, rows_path: str) -> None:
    """Goal: the driver's mode `ray` honours its options. Method: a job with a job id on the
    cluster. Oracle: the rows, in the folder of that job."""
    driver = Driver()
    job_id = "00112233445566778899aabbccddeeff"
    driver.parse_arguments(
        [
            *("ray", "--ray_address", ray_cluster.address, "--job_id", job_id),
            *("--data_root", str(tmp_path), "--console_log_level", "CRITICAL"),
        ]
    )
    plan = driver.run(pipeline([rows_path], 6), stop_process_on_done=False)
    assert plan and output_sum(tmp_path) == EXPECTED
    (job,) = tmp_path.iterdir()
    assert job.name.endswith("00112233-4455-6677-8899-aabbccddeeff")


def test_a_session_on_ray(tmp_path: Path, ray_cluster: Any) -> None:
    """Goal: `init(ray_address=...)` runs data frames on the cluster. Method: a shuffle, a count by
    group, a function of this test, after one that fails and one that cannot be sent.
    Oracle: the rows; the error's name; the session still works."""
    session = smallpond.init(
        data_root=str(tmp_path), ray_address=ray_cluster.address, progress=False
    )
    try:
        items = session.from_items([{"k": index % 7, "v": index} for index in range(700)])
        parts = items.repartition(3, hash_by="k")
        counts = session.partial_sql("select k, count(*) as n from {0} group by k", parts)
        assert {row["k"]: row["n"] for row in counts.take_all()} == dict.fromkeys(range(7), 100)
        with pytest.raises(SmallpondError, match="ZeroDivisionError"):
            items.map(lambda row: {"v": row["v"] / 0}).compute()
        lock = threading.Lock()
        with pytest.raises(SmallpondError, match="Can't pickle task"):
            items.map(lambda row: {"v": lock.locked()}).compute()
        doubled = items.map(lambda row: {"v": row["v"] * 2})
        assert sum(row["v"] for row in doubled.take_all()) == 700 * 699
    finally:
        session.shutdown()


SMALL_NODE_SCRIPT = """
import sys
import threading
import ray
import smallpond

head = ray.init(address="local", num_cpus=2, _memory=600 << 20, _node_ip_address="127.0.0.1",
                include_dashboard=False)
session = smallpond.init(
    data_root=sys.argv[1], ray_address=head.address_info["gcs_address"], progress=False
)
rows = session.from_items(list(range(1000))).repartition(10, by_rows=True).limit(2)
print("rows:", rows.count())
session.shutdown()
"""


def test_one_node_with_less_memory_than_its_machine(tmp_path: Path) -> None:
    """Goal: a plan of one task asks for what the node has, not for what the machine has, and so
    does not wait for ever. Method: a cluster of one node that offers 600 MiB. Oracle: the rows."""
    ran = cluster.run_python("-c", SMALL_NODE_SCRIPT, str(tmp_path))
    assert "rows: 2" in ran.stdout, ran.stderr[-3_000:]


def test_an_error_is_not_remembered(tmp_path: Path, ray_cluster: Any) -> None:
    """Goal: computing a frame again after an error tries again (0.15 raised the old error for
    ever). Method: a function that fails until a file is there. Oracle: the error, then the rows."""
    mended = tmp_path / "mended"

    def checked(row: dict[str, int]) -> dict[str, int]:
        assert mended.exists(), "not yet"
        return row

    with smallpond.init(
        data_root=str(tmp_path / "data"),
        ray_address=ray_cluster.address,
        progress=False,
        max_fail_count=0,
    ) as session:
        frame = session.from_items([1, 2]).map(checked)
        with pytest.raises(SmallpondError, match="not yet"):
            frame.compute()
        mended.touch()
        assert frame.take_all() == [{"item": 1}, {"item": 2}]


def test_run_on_ray(tmp_path: Path, ray_cluster: Any, rows_path: str) -> None:
    """Goal: the published `Task.run_on_ray`. Method: a source task, and one that fails. Oracle: the
    data set; the error."""
    import ray

    from smallpond.execution.task import DataSourceTask, PartitionInfo

    ctx = context(tmp_path)
    assert connect(ray, ray_cluster.address, ctx)
    try:
        assert not connect(ray, ray_cluster.address, ctx)
        with pytest.raises(ClusterUnreachable, match="cannot use the one at"):
            connect(ray, "127.0.0.1:1", ctx)
        source = DataSourceTask(ctx, ParquetDataSet([rows_path]), [PartitionInfo()])
        assert ray.get(source.run_on_ray()).num_rows == EXPECTED[0]
        assert source.run_on_ray() is source.run_on_ray()
        with pytest.raises(Exception, match="always"):
            ray.get(call_task(ctx, plans.fail_always).run_on_ray())
    finally:
        ray.shutdown()


def test_a_worker_lives_and_ends_with_its_ray(tmp_path: Path) -> None:
    """Goal: stopping worker.py stops its part of Ray, even with kill -9. Method: a stand-in for the
    command `ray` that writes down its arguments and waits. Oracle: the arguments; its end."""
    command = tmp_path / "ray"
    command.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys, time\n"
        f"pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').write_text(' '.join(sys.argv))\n"
        "time.sleep(600)\n"
    )
    command.chmod(0o755)
    script = (
        "import sys, smallpond.worker as worker\n"
        f"worker.ray_command = lambda: {str(command)!r}\n"
        "sys.exit(worker.main())\n"
    )
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", script, "--ray_address", "10.0.0.1:6379"),
                *("--log_dir", str(tmp_path / "log")),
            ],
            env=cluster.python_environment(),
        )
        try:
            wait_until(lambda: list(tmp_path.glob("*.pid")))
        finally:
            process.send_signal(number)
            process.wait(30)
        (record,) = tmp_path.glob("*.pid")
        pid = int(record.stem)
        wait_until(lambda pid=pid: not plans.alive(pid))
        assert "start --address=10.0.0.1:6379 --block" in record.read_text()
        record.unlink()


def test_an_unreachable_cluster_is_an_error(tmp_path: Path) -> None:
    """Goal: no cluster at the address means an error, and never a fresh local cluster. Method: a
    port where nobody listens, one where something else does, words that are no address. Oracle:
    the error names the address; Ray is not started."""
    import ray

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    begin = time.monotonic()
    with pytest.raises(ClusterUnreachable, match=address):
        RayBackend(address).start(context(tmp_path))
    assert time.monotonic() - begin < 10
    with pytest.raises(ConnectionError, match="HOST:PORT"):
        check_reachable("somewhere")
    assert not ray.is_initialized()


def test_a_local_cluster_listens_on_the_loopback(tmp_path: Path) -> None:
    """Goal: the address "local" starts a cluster that other machines cannot reach, and takes no
    port that somebody else may want (0.15: a dashboard on all interfaces, port 8008, and metrics
    on 8080). Method: start it in a process of its own. Oracle: every listening socket of its
    processes."""
    script = (
        "import sys, pathlib, psutil\n"
        "from smallpond.execution.backends.ray import RayBackend\n"
        "from tests.smallpond.core.plans import *\n"
        "ctx = context(pathlib.Path(sys.argv[1]))\n"
        "backend = RayBackend('local')\n"
        "scheduler, _ = watched(plan_of(ctx, [call_task(ctx, nothing)]), backend=backend)\n"
        "assert scheduler.run(), scheduler.failure\n"
        "own = psutil.Process()\n"
        "places = {one.laddr for child in [own, *own.children(recursive=True)]\n"
        "          for one in child.net_connections('tcp') if one.status == 'LISTEN'}\n"
        "print(*(f\"{one.port}@{one.ip.removeprefix('::ffff:')}\" for one in places))\n"
        "backend.stop()\n"
    )
    ended = cluster.run_python("-c", script, str(tmp_path), timeout_s=120)
    assert ended.returncode == 0, ended.stderr
    places = [place.split("@") for place in ended.stdout.strip().splitlines()[-1].split()]
    assert all(ipaddress.ip_address(host).is_loopback for _, host in places), places
    assert not {"8008", "8080", "8122"} & {port for port, _ in places}


def test_a_local_cluster_asks_for_no_fixed_port(tmp_path: Path) -> None:
    """Goal: Ray's dashboard runs what it is sent, so it is for this machine alone, and no port is
    fixed that may be taken (0.15: all interfaces, 8008, and 8080 for metrics). Method: a stand-in
    for Ray, because not every installation has a dashboard. Oracle: what it is asked for."""
    asked: dict[str, Any] = {}
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **options: asked.update(options),
        _private=SimpleNamespace(ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True)),
    )
    assert connect(ray, "local", context(tmp_path))
    assert ipaddress.ip_address(asked["dashboard_host"]).is_loopback
    assert not [name for name in asked if "port" in name]
