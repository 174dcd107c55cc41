"""Everything at once: workers are killed, tasks fail in all ways, and the result is right."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from smallpond.execution.events import TaskFinished
from smallpond.execution.pool import LocalPool
from smallpond.execution.task import Task
from smallpond.execution.workqueue import WorkStatus
from tests.smallpond.core.plans import call_task, context, plan_of, watched

WIDTH = 24
DEPTH = 3
KILLS = 6


def work(task: Task) -> bool:
    """Adds up its inputs; fails on early attempts by the dice of task and attempt."""
    dice = random.Random(f"{int(task.id)} {task.retry_count} {task.ctx.random_seed}")
    time.sleep(dice.random() * 0.02)
    fate = dice.random() if task.fail_count < 2 and task.retry_count < 3 else 1.0
    target = Path(task.runtime_output_abspath, "part.txt")
    if fate < 0.05:
        target.write_text("half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    if fate < 0.10:
        raise ValueError("bad luck")
    if fate < 0.15:
        return False
    if fate < 0.20:
        raise MemoryError("not enough")
    inputs = [Path(one.root_dir or "", "part.txt").read_text() for one in task.input_datasets]
    target.write_text(str(1 + sum(map(int, inputs))))
    return True


def kill_randomly(pool: LocalPool, seed: int, over: threading.Event) -> None:
    chance = random.Random(seed)
    for _ in range(KILLS):
        if over.wait(0.1 + chance.random() * 0.2):
            return
        pids = pool.worker_pids
        if pids:
            try:
                os.kill(chance.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.mark.parametrize("seed", range(3))
def test_random_failures(tmp_path: Path, seed: int) -> None:
    """Goal: whatever fails, the output is right and each task succeeds once. Method: three layers
    of tasks that crash, raise, refuse and run out of memory by dice, while workers are killed.
    Oracle: the sums that the graph says, and one success for each task."""
    ctx = context(tmp_path, random_seed=seed + 1)
    layers: list[list[Task]] = [[call_task(ctx, work) for _ in range(WIDTH)]]
    for depth in range(2, DEPTH + 1):
        below = layers[-1]
        layers.append(
            [
                call_task(ctx, work, [below[i], below[(i + 1) % WIDTH]], node_id=depth)
                for i in range(WIDTH)
            ]
        )
    pool, over = LocalPool(), threading.Event()
    killer = threading.Thread(target=kill_randomly, args=(pool, seed, over))
    scheduler, events = watched(plan_of(ctx, layers[-1]), backend=pool, max_fail_count=20)
    killer.start()
    try:
        assert scheduler.run(), scheduler.failure
    finally:
        over.set()
        killer.join()
        pool.stop()
    expected = 2**DEPTH - 1
    for task in layers[-1]:
        assert Path(task.output.root_dir or "", "part.txt").read_text() == str(expected)
    ends = [event for event in events if isinstance(event, TaskFinished)]
    good = [event.key for event in ends if event.status == WorkStatus.SUCCEED]
    assert sorted(good) == sorted(scheduler.tasks)
    assert len(ends) > len(good), "nothing failed: the dice are wrong"
