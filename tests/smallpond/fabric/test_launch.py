"""What surrounds executors: environments, presences, NUMA nodes, outcomes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smallpond.common import InvalidArgument
from smallpond.execution.backends import launch, presence
from smallpond.execution.backends.local import LocalExecutor
from smallpond.execution.backends.outcome import outcome_copy, outcome_light
from smallpond.execution.numa import cpus_of_list, numa_bind, numa_nodes
from smallpond.execution.workitem import WorkStatus
from smallpond.platform import Platform
from tests.smallpond.core import plans
from tests.smallpond.core.plans import call_task, context, wait_until
from tests.smallpond.fabric.cluster import fast_context, run_python


def test_allocators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: an installed allocator is preloaded, a missing one is no failure (it was in 0.15), a
    mistyped one is. Method: a library folder of our own. Oracle: the variables."""
    library = tmp_path / "libmimalloc.so.2"
    library.touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found = launch.allocator_environment("mimalloc", 5)
    assert found["LD_PRELOAD"] == str(library)
    assert found["MIMALLOC_PURGE_DELAY"] == "5" and "dirty_decay_ms:5," in found["MALLOC_CONF"]
    assert "LD_PRELOAD" not in launch.allocator_environment("system", 5)
    library.unlink()
    monkeypatch.setattr(launch, "library_folders", lambda: [tmp_path])
    monkeypatch.setattr(launch.ctypes.util, "find_library", lambda name: None)
    assert launch.allocator_path("jemalloc") is None
    with pytest.raises(InvalidArgument, match="tcmalloc"):
        launch.allocator_path("tcmalloc")


def test_launcher_environment(tmp_path: Path) -> None:
    """Goal: executors import what the driver can; all variables are text. Method: a module in a
    folder of the driver's path only. Oracle: another Python with those variables imports it, and
    its own `queue` is not hidden."""
    (tmp_path / "users_module.py").write_text("answer = 42\n")
    ctx = fast_context(tmp_path / "data", 3)
    sys.path.insert(0, str(tmp_path))
    try:
        launcher = launch.ExecutorLauncher(ctx, Platform(), "system", 7)
    finally:
        sys.path.remove(str(tmp_path))
    assert all(isinstance(value, str) for value in launcher.variables.values())
    script = "import users_module, smallpond, queue; queue.Queue; print(users_module.answer)"
    ended = run_python("-c", script, env={**os.environ, **launcher.variables})
    assert ended.stdout.strip() == "42", ended.stderr
    assert launcher.variables["SP_EXECUTORS_PER_MACHINE"] == "3"
    assert not launcher.all_ended()


def test_replacements_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a machine that kills every executor is not fed for ever. Method: replace until it is
    refused. Oracle: three for each that was started."""
    started: list[int] = []
    launcher = launch.ExecutorLauncher(fast_context(tmp_path, 2), Platform())
    monkeypatch.setattr(
        launcher.platform, "start_job", lambda num_nodes, **_: started.append(num_nodes) or []
    )
    launcher.start(2)
    while launcher.replace("some"):
        pass
    assert started == [2] + [1] * 6


def test_presence(tmp_path: Path) -> None:
    """Goal: only a process that is surely gone is called dead. Method: this process, one that has
    ended and is not reaped, one of another machine, a pid that somebody else has now, no record.
    Oracle: dead or not."""
    path = str(tmp_path / "presence.json")
    assert not presence.presence_is_dead(presence.presence_read(path))
    presence.presence_write(path)
    mine = presence.presence_read(path)
    assert mine["pid"] == os.getpid() and not presence.presence_is_dead(mine)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = {**mine, "pid": child.pid, "start_ticks": presence._start_ticks(child.pid)}
    assert not presence.presence_is_dead(record)
    child.kill()
    wait_until(lambda: presence.presence_is_dead(record))
    assert not presence.presence_is_dead({**record, "machine": "another"})
    assert presence.presence_is_dead({**mine, "start_ticks": 1})
    child.wait()


def test_heartbeat(tmp_path: Path) -> None:
    """Goal: a heartbeat is seen by the time of its file, and its end by the file's. Method: make
    the file old, wait, stop. Oracle: the time; no file."""
    path = tmp_path / "scheduler.json"
    heartbeat = presence.Heartbeat(str(path), 0.02)
    os.utime(path, (1, 1))
    wait_until(lambda: path.stat().st_mtime > 1)
    heartbeat.stop()
    assert not path.exists()


def test_numa_nodes() -> None:
    """Goal: a process can be bound to a node. Method: a child binds itself to the first. Oracle:
    its CPUs; the kernel's notation of lists."""
    assert cpus_of_list("0-2,5,8-9\n") == {0, 1, 2, 5, 8, 9}
    assert cpus_of_list("\n") == set()
    node, cpus = next(iter(numa_nodes().items()))
    assert set().union(*numa_nodes().values()) == os.sched_getaffinity(0)
    script = (
        "import os, sys\n"
        f"from {numa_bind.__module__} import numa_bind\n"
        f"numa_bind({node})\n"
        "print(sorted(os.sched_getaffinity(0)))\n"
    )
    assert run_python("-c", script).stdout.strip() == str(sorted(cpus))


def test_outcomes_travel_light(tmp_path: Path) -> None:
    """Goal: only what an attempt brought about comes back. Method: an attempt with inputs and an
    attribute of its own. Oracle: the light copy has neither; the sender's task keeps both."""
    task = call_task(context(tmp_path), plans.nothing)
    task.input_datasets = ["inputs"]  # type: ignore[list-item]
    light = outcome_light(task)
    assert light.input_datasets == [] and not hasattr(light, "call")
    light.status = WorkStatus.SUCCEED
    light.perf_metrics["rows"] = 3
    light._memory_limit = 5
    outcome_copy(light, task)
    assert task.status == WorkStatus.SUCCEED and task.perf_metrics["rows"] == 3
    assert task.memory_limit == 5
    assert task.input_datasets == ["inputs"] and task.call is plans.nothing


def test_local_executor(tmp_path: Path) -> None:
    """Goal: the published executor inside the scheduler's process. Method: two tasks, one fails.
    Oracle: both come back with what became of them; it stops; it can be pickled while it runs."""
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    ctx = context(tmp_path)
    executor = LocalExecutor.create(ctx, "localhost")
    tasks = [call_task(ctx, plans.nothing), call_task(ctx, plans.fail_always)]
    with ThreadPoolExecutor(1) as pool:
        executor.start(pool)
        assert executor.local and executor.good and executor.idle
        for task in tasks:
            task.input_datasets = []
            assert executor.push(task)
        copy = pickle.loads(pickle.dumps(LocalExecutor.create(ctx, "other")))
        assert copy.pop() == []
        done = {}
        wait_until(lambda: done.update((one.key, one) for one in executor.pop()) or len(done) == 2)
        executor.stop()
        assert executor.stopped
    assert done[tasks[0].key].status == WorkStatus.SUCCEED
    assert isinstance(done[tasks[1].key].exception, KeyError)
    assert executor.allocated_cpus == 0 and executor.available_cpus == executor.cpu_count
