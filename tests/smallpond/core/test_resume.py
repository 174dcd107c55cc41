"""Resuming: kill -9 at any moment, and what the next run does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.events import TaskFinished, TaskSkipped
from smallpond.execution.journal import journal_close, journal_of
from smallpond.execution.pool import InProcessBackend
from smallpond.execution.task import Task
from tests.smallpond.core.plans import (
    CallTask,
    alive,
    call_task,
    context,
    plan_of,
    wait_until,
    watched,
)

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 30

# Two layers of tasks. Each writes one file and a line into a log of everything that ever ran.
JOB = """
import os, sys, time
from pathlib import Path
from smallpond.execution.pool import LocalPool
from tests.smallpond.core.plans import call_task, context, plan_of, watched
folder, factor = Path(sys.argv[1]), int(sys.argv[2])

def work(task):
    with open(folder / "ran.log", "a") as log:
        log.write(f"{task.key} {os.getpid()}\\n")
    time.sleep(0.01)
    total = int(task.id) * FACTOR + len(task.input_datasets)
    Path(task.runtime_output_abspath, "part.txt").write_text(str(total))

FACTOR = factor
ctx = context(folder)
first = [call_task(ctx, work, node_id=1) for _ in range(WIDTH)]
second = [call_task(ctx, work, deps=first[i : i + 2], node_id=2) for i in range(WIDTH - 1)]
plan = plan_of(ctx, second)
scheduler, _ = watched(plan, backend=LocalPool())
print("ready", flush=True)
assert scheduler.run(), scheduler.failure
texts = [Path(task.output.root_dir, "part.txt").read_text() for task in second]
(folder / "result.txt").write_text(" ".join(texts))
print("done", flush=True)
""".replace("WIDTH", str(WIDTH))


def start(folder: Path, factor: int) -> subprocess.Popen[str]:
    script = folder.parent / "job.py"
    script.write_text(JOB)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(factor)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


def ran(folder: Path) -> list[str]:
    log = folder / "ran.log"
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def worker_pids(folder: Path) -> set[int]:
    log = folder / "ran.log"
    return (
        {int(line.split()[1]) for line in log.read_text().splitlines()} if log.exists() else set()
    )


def expected(factor: int) -> str:
    return " ".join(str(number * factor + 2) for number in range(WIDTH + 1, 2 * WIDTH))


def test_kill_nine_of_the_driver(tmp_path: Path) -> None:
    """Goal: after kill -9 of the driver no worker lives, and the next run redoes only what was
    missing. Method: kill at random moments, run to the end. Oracle: the right result, and hardly
    any task twice: at most those in flight and those whose record was not durable yet."""
    folder = tmp_path / "job"
    folder.mkdir()
    chance = random.Random(11)
    kills = 0
    for _ in range(3):
        target = len(ran(folder)) + chance.randint(3, 12)
        with start(folder, 2) as driver:
            wait_until(lambda goal=target: len(ran(folder)) >= goal)  # type: ignore[misc]
            driver.kill()
            driver.wait()
        kills += 1
        pids = worker_pids(folder)
        wait_until(lambda gone=pids: not any(map(alive, gone)), 3)  # type: ignore[misc]
    with start(folder, 2) as driver:
        assert driver.wait(60) == 0
    assert (folder / "result.txt").read_text() == expected(2)
    tasks = 2 * WIDTH - 1
    lines = ran(folder)
    assert len(set(lines)) == tasks
    assert tasks <= len(lines) <= tasks + kills * 12, len(lines)


def test_edited_code_is_run_again(tmp_path: Path) -> None:
    """Goal: never results of other code. Method: kill a run, then run with another constant.
    Oracle: the result is that of the second run's code alone."""
    folder = tmp_path / "job"
    folder.mkdir()
    with start(folder, 2) as driver:
        wait_until(lambda: len(ran(folder)) >= WIDTH)
        driver.kill()
        driver.wait()
    with start(folder, 3) as driver:
        assert driver.wait(60) == 0
    assert (folder / "result.txt").read_text() == expected(3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_a_stopped_driver(tmp_path: Path, number: signal.Signals) -> None:
    """Goal: other signals leave nothing behind either. Oracle: the workers are gone."""
    folder = tmp_path / "job"
    folder.mkdir()
    with start(folder, 2) as driver:
        wait_until(lambda: ran(folder))
        driver.send_signal(number)
        driver.wait()
    pids = worker_pids(folder)
    assert pids
    wait_until(lambda: not any(map(alive, pids)), 3)


# --- in one process ---


def _write(task: Task) -> None:
    """One file, and the number of times that anything was written."""
    counter = Path(task.ctx.data_root) / "count"
    counter.write_text(str(int(counter.read_text()) + 1 if counter.exists() else 1))
    Path(task.runtime_output_abspath, "part.txt").write_text(counter.read_text())


def _two_layers(folder: Path) -> tuple[Any, Task, Task, Task]:
    ctx = context(folder)
    source = call_task(ctx, _write, node_id=1)
    left = call_task(ctx, _write, deps=[source], node_id=2)
    right = call_task(ctx, _write, deps=[source], node_id=3, output_name="right")
    return ctx, source, left, right


def _run(folder: Path, **options: Any) -> tuple[set[str], set[str], Any]:
    ctx, *tasks = _two_layers(folder)
    scheduler, events = watched(plan_of(ctx, tasks), backend=InProcessBackend(), **options)
    assert scheduler.run(), scheduler.failure
    journal_close(ctx)
    done = {event.key for event in events if isinstance(event, TaskFinished)}
    skipped = {event.key for event in events if isinstance(event, TaskSkipped)}
    return done - {"EndTask-000004"}, skipped, tasks


def test_a_finished_job_is_not_run_again(tmp_path: Path) -> None:
    """Goal: a second run of the same job takes everything over. Oracle: what ran, what was
    skipped, where the outputs are; `resume=False` runs it all."""
    keys = {"CallTask-000001", "CallTask-000002", "CallTask-000003"}
    assert _run(tmp_path)[:2] == (keys, set())
    done, skipped, tasks = _run(tmp_path)
    assert (done, skipped) == (set(), keys)
    assert [Path(task.output.root_dir or "", "part.txt").exists() for task in tasks] == [True] * 3
    assert _run(tmp_path, resume=False)[:2] == (keys, set())


def _part(folder: Path, key: str) -> Path:
    number = key.split("-")[1]
    (found,) = folder.rglob(f"*.{number}.*/part.txt")
    return found


def test_a_lost_output_is_made_again_with_what_depends_on_it(tmp_path: Path) -> None:
    """Goal: results of two runs of a task are never mixed. Method: lose the output of the source:
    both readers were computed from it. Oracle: a lost leaf redoes itself alone; a lost source
    that somebody needs redoes all; one that nobody needs redoes nothing."""
    _run(tmp_path)
    _part(tmp_path, "CallTask-000002").unlink()
    done, skipped, _ = _run(tmp_path)
    assert (done, skipped) == (
        {"CallTask-000002"},
        {"CallTask-000001", "CallTask-000003"},
    )
    _part(tmp_path, "CallTask-000003").unlink()
    _part(tmp_path, "CallTask-000001").unlink()
    done, skipped, _ = _run(tmp_path)
    assert done == {"CallTask-000001", "CallTask-000002", "CallTask-000003"}


class Pointer(CallTask):
    """Only moves metadata: its output is that of its input."""

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    @property
    def self_contained_output(self) -> bool:
        return False

    def run(self) -> bool:
        self.dataset = self.input_datasets[0]
        return True


def _read(task: Task) -> None:
    (folder,) = [one.root_dir or "" for one in task.input_datasets]
    text = Path(folder, "part.txt").read_text()
    Path(task.runtime_output_abspath, "part.txt").write_text(text)


class Written(CallTask):
    """A source that the driver writes itself."""

    @property
    def exec_on_scheduler(self) -> bool:
        return True


@pytest.mark.parametrize("source_kind", [CallTask, Written])
def test_metadata_is_used_only_with_the_files_it_points_at(
    tmp_path: Path, source_kind: type[CallTask]
) -> None:
    """Goal: no task is given files that are gone. Method: remove all outputs, or those of one
    task, of a plan with a metadata task in the middle; run again. Oracle: it succeeds, and runs
    no more than it must."""

    def run() -> list[str]:
        ctx = context(tmp_path)
        source = call_task(ctx, _write, kind=source_kind)
        pointer = call_task(ctx, _write, [source], kind=Pointer)
        last = call_task(ctx, _read, [pointer], node_id=2)
        scheduler, events = watched(plan_of(ctx, [last]), backend=InProcessBackend())
        assert scheduler.run(), scheduler.failure
        journal_close(ctx)
        ended = [event.key.split("-") for event in events if isinstance(event, TaskFinished)]
        return [number[-1] for _, number in ended if int(number) < 4]

    def lose(*numbers: str) -> None:
        for number in numbers:
            for path in tmp_path.rglob(f"*.00000{number}.*/part.txt"):
                path.unlink()

    assert run() == ["1", "2", "3"]
    assert run() == []
    lose("1", "3")
    assert run() == ["1", "2", "3"]
    lose("3")
    assert run() == ["3"]
    lose("1")
    assert run() == []


@pytest.mark.parametrize("seed", range(3))
def test_random_losses_end_in_one_generation(tmp_path: Path, seed: int) -> None:
    """Goal: whatever is lost, both readers have seen the same source. Method: remove random
    outputs, run again, many times. Oracle: the reader's record names the source's run."""
    chance = random.Random(seed)
    begin = time.monotonic()
    for _ in range(8):
        _run(tmp_path)
        for path in list(tmp_path.rglob("part.txt")):
            if chance.random() < 0.4:
                path.unlink()
    assert time.monotonic() - begin < 20
    _, _, (source, left, right) = _run(tmp_path)
    ctx = source.ctx
    journal = journal_of(ctx)
    records = [journal.find(task.identity) for task in (source, left, right)]
    journal_close(ctx)
    assert all(records)
    assert records[1].input_run_ids == records[2].input_run_ids == (records[0].run_id,)
