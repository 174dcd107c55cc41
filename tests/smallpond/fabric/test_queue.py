"""Work queues: each item reaches one consumer, whole."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.queue import UnreadableWork
from smallpond.execution.task import Probe
from smallpond.execution.workqueue import (
    WorkBatch,
    WorkItem,
    WorkQueue,
    WorkQueueInMemory,
    WorkQueueOnFilesystem,
    count_objects,
)
from tests.smallpond.core.plans import context
from tests.smallpond.fabric.cluster import run_python


def item(name: str) -> WorkItem:
    return WorkItem(name, cpu_limit=1, gpu_limit=0, memory_limit=0)


def consume(root: str, total: int) -> list[str]:
    """Pop until the queue has been empty for a while."""
    queue = WorkQueueOnFilesystem(root, sort=False, random=True)
    keys: list[str] = []
    quiet_count = 0
    while quiet_count < 100 and len(keys) < total:
        works = queue.pop(count=3)
        keys += [work.key for work in works]
        quiet_count = 0 if works else quiet_count + 1
        if not works:
            time.sleep(0.005)
    return keys


def test_each_item_is_claimed_once(tmp_path: Path) -> None:
    """Goal: exactly one consumer gets an item. Method: four processes race for 600 items while
    they are pushed, some in batches. Oracle: the multiset of keys."""
    count = 600
    queue = WorkQueueOnFilesystem(str(tmp_path))
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.starmap_async(consume, [(str(tmp_path), count)] * 4)
        for index in range(count):
            queue.push(item(f"item-{index}"), buffering=index % 3 == 1)
        queue.flush()
        keys = [key for part in results.get(timeout=60) for key in part]
    assert sorted(keys) == sorted(f"item-{index}" for index in range(count))


def test_layout(tmp_path: Path) -> None:
    """Goal: files are where smallpond 0.15 has them. Method: push two, pop one. Oracle: names."""
    queue = WorkQueueOnFilesystem(str(tmp_path))
    queue.push(item("a"))
    queue.push(item("b"))
    assert [work.key for work in queue.pop()] == ["a"]
    (enqueued,) = (tmp_path / "enqueued").iterdir()
    (dequeued,) = (tmp_path / "dequeued").iterdir()
    assert re.fullmatch(r"b-[0-9a-f]+-ENQ[0-9a-f]{32}", enqueued.name)
    assert re.fullmatch(r"a-[0-9a-f]+-ENQ[0-9a-f]{32}-DEQ[0-9a-f]{32}", dequeued.name)
    assert not list((tmp_path / "temp").iterdir())
    assert queue.size() == 1
    assert sorted(work.key for work in queue.list_works()) == ["a", "b"]
    assert [work.key for work in queue.list_enqueued()] == ["b"]


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_buffering(tmp_path: Path, kind: str) -> None:
    """Goal: buffered items leave together. Method: buffer two, push one. Oracle: one entry pops
    as three items, and nothing is there before the flush."""
    queue: WorkQueue = WorkQueueOnFilesystem(str(tmp_path))
    if kind == "memory":
        queue = WorkQueueInMemory()
    queue.push(item("a"), buffering=True)
    queue.push(item("b"), buffering=True)
    assert queue.pop() == []
    assert queue.push(item("c"))
    assert [work.key for work in queue.pop(count=1)] == ["a", "b", "c"]
    assert queue.flush() and queue.pop() == []


def test_what_cannot_be_read_is_not_lost(tmp_path: Path) -> None:
    """Goal: whoever waits for an item learns that it is unreadable. Method: an item whose class
    cannot be imported, and one cut short. Oracle: stand-ins with the keys and the errors."""
    queue = WorkQueueOnFilesystem(str(tmp_path))
    for name in ("torn", "foreign", "well"):
        queue.push(item(name))
    paths = {path.name.split("-")[0]: path for path in (tmp_path / "enqueued").iterdir()}
    paths["torn"].write_bytes(paths["torn"].read_bytes()[:-20])
    paths["foreign"].write_bytes(b"cnowhere_at_all\nThing\n.")
    works = {work.key: work for work in queue.pop(count=9)}
    assert isinstance(works["torn"], UnreadableWork)
    assert isinstance(works["foreign"], UnreadableWork)
    assert isinstance(works["foreign"].exception, ModuleNotFoundError)
    assert not isinstance(works["well"], UnreadableWork)


def test_command_shows_items(tmp_path: Path) -> None:
    """Goal: the command lists what is and was in a queue. Method: a batch, a single item and a
    probe. Oracle: its output, with and without members, filtered; the queue is unchanged."""
    root = tmp_path / "queue"
    queue = WorkQueueOnFilesystem(str(root))
    queue.push(item("alpha"), buffering=True)
    queue.push(item("beta"))
    queue.push(item("gamma"))
    queue.push(Probe(context(tmp_path / "data"), "probe", epoch=1))
    queue.pop()
    command = ("-m", "smallpond.execution.workqueue", str(root))
    plain = run_python(*command)
    assert plain.returncode == 0, plain.stderr
    assert "WorkBatch-alpha, works[2]" in plain.stdout and "gamma" in plain.stdout
    assert "probe" not in plain.stdout
    members = run_python(*command, "-x", "-f", "eta", "-c", "-n", "1")
    assert re.search(r"INFO beta\n.*INFO   \w+: \(\d+, \d+\)\n$", members.stdout), members.stdout
    assert "alpha" not in members.stdout
    assert queue.size() == 2


def test_command_refuses_what_is_no_queue(tmp_path: Path) -> None:
    """Goal: a mistyped path is no empty queue. Method: a missing one. Oracle: status 2, nothing
    is made."""
    ended = run_python("-m", "smallpond.execution.workqueue", str(tmp_path / "nowhere"))
    assert ended.returncode == 2 and "is no work queue" in ended.stderr
    assert not (tmp_path / "nowhere").exists()


def test_objects_are_counted_once() -> None:
    """Goal: what makes an item heavy is found. Method: a batch whose items share one object and
    have a cycle. Oracle: exact counts."""

    class Heavy:
        def __init__(self) -> None:
            self.payload: Any = bytes(1000)
            self.me = self

    heavy = Heavy()
    batch = WorkBatch("b", [item("one"), item("two")])
    batch.works[0].exception = batch.works[1].exception = heavy  # type: ignore[assignment]
    counts = count_objects(batch)
    assert counts["Heavy"][0] == 1
    assert counts["WorkItem"][0] == 2
    assert counts["bytes"][0] == 1 and counts["bytes"][1] >= 1000


def test_a_queue_travels(tmp_path: Path) -> None:
    """Goal: processes may be handed a queue. Method: pickle one. Oracle: the copy pops what the
    original pushed."""
    queue = WorkQueueOnFilesystem(str(tmp_path))
    copy = pickle.loads(pickle.dumps(queue))
    queue.push(item("a"))
    assert [work.key for work in copy.pop()] == ["a"]
