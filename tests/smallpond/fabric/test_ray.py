"""Tasks on a real Ray cluster: two nodes on this machine, on the loopback."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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
from smallpond.execution.events import TaskFinished, TaskRetried
from smallpond.execution.task import Task
from smallpond.execution.workitem import WorkStatus
from smallpond.logical.dataset import ParquetDataSet
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
    group, a function of this test, with an error after it that a second frame does not have.
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
        doubled = items.map(lambda row: {"v": row["v"] * 2})
        assert sum(row["v"] for row in doubled.take_all()) == 700 * 699
    finally:
        session.shutdown()


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
    """Goal: the address "local" starts a cluster that other machines cannot reach. Method: start
    it in a process of its own. Oracle: every listening socket of its processes."""
    script = (
        "import sys, pathlib, psutil\n"
        "from smallpond.execution.backends.ray import RayBackend\n"
        "from tests.smallpond.core.plans import *\n"
        "ctx = context(pathlib.Path(sys.argv[1]))\n"
        "backend = RayBackend('local')\n"
        "scheduler, _ = watched(plan_of(ctx, [call_task(ctx, nothing)]), backend=backend)\n"
        "assert scheduler.run(), scheduler.failure\n"
        "own = psutil.Process()\n"
        "hosts = {one.laddr.ip for child in [own, *own.children(recursive=True)]\n"
        "         for one in child.net_connections('tcp') if one.status == 'LISTEN'}\n"
        "print(','.join(host.removeprefix('::ffff:') for host in hosts))\n"
        "backend.stop()\n"
    )
    ended = cluster.run_python("-c", script, str(tmp_path), timeout_s=120)
    assert ended.returncode == 0, ended.stderr
    hosts = ended.stdout.strip().splitlines()[-1].split(",")
    assert all(ipaddress.ip_address(host).is_loopback for host in hosts), hosts
