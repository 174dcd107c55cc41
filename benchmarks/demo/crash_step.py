"""Kills the head of a chain in the middle of a save, and watches what a writer and a reader see.

The writers save files in pieces of 1 MiB, each made durable before the next, so a sample is an
acknowledged byte; the stall is the longest time between two of them. The reader reads random pieces
of a file all the while.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import firepond
from benchmarks.demo.report import Timeline
from firepond.fs.local_cluster import LocalCluster

PIECE_BYTES = 1 << 20
WRITER_COUNT = 4
BEFORE_KILL_S = 2.0
DEAD_S = 3.0
AFTER_SERVING_S = 1.5
RESYNC_DEADLINE_S = 120.0


@dataclass
class CrashResult:
    """What the kill did."""

    timeline: Timeline = field(default_factory=Timeline)
    killed: str = ""
    stall_ms: float = 0.0
    read_slowest_ms: float = 0.0
    resync_s: float = 0.0
    verified_bytes: int = 0


class Writers:
    """Threads that write pieces and record when each was acknowledged."""

    def __init__(self, address: str, timeline: Timeline) -> None:
        self.address = address
        self.timeline = timeline
        self.started = time.monotonic()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.acknowledged = 0
        self.failures: list[BaseException] = []
        self.counts = [0] * WRITER_COUNT
        self.read_slowest_s = 0.0
        self.threads = [
            threading.Thread(target=self._guard, args=(self._write, number))
            for number in range(WRITER_COUNT)
        ]
        self.threads.append(threading.Thread(target=self._guard, args=(self._read, 0)))

    def now(self) -> float:
        return time.monotonic() - self.started

    def mark(self, label: str) -> None:
        self.timeline.events.append((self.now(), label))

    def _guard(self, work: Any, number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            self.failures.append(error)
            self.stopping.set()

    def _write(self, number: int) -> None:
        with (
            firepond.connect(self.address) as cluster,
            cluster.open(f"/crash-{number}.bin", "wb", buffering=0) as file,
        ):
            while not self.stopping.is_set():
                file.write(piece(number, self.counts[number]))
                file.fsync()
                with self.lock:
                    self.counts[number] += 1
                    self.acknowledged += PIECE_BYTES
                    self.timeline.samples.append((self.now(), self.acknowledged))

    def _read(self, _number: int) -> None:
        generator = random.Random(7)
        with (
            firepond.connect(self.address) as cluster,
            cluster.open("/sdk.safetensors", "rb") as file,
        ):
            size = cluster.stat("/sdk.safetensors").st_size
            while not self.stopping.is_set():
                started = time.monotonic()
                file.seek(generator.randrange(size - 4096))
                assert len(file.read(4096)) == 4096
                self.read_slowest_s = max(self.read_slowest_s, time.monotonic() - started)
                self.stopping.wait(0.005)


def piece(number: int, position: int) -> bytes:
    """The bytes of a writer's piece: a function of both, so that every byte can be checked."""
    stamp = number.to_bytes(4, "big") + position.to_bytes(4, "big")
    return stamp * (PIECE_BYTES // len(stamp))


def head_of_a_chain(cluster: LocalCluster) -> str:
    """The process whose storage node is the head of the first chain of files."""
    status = cluster.status()
    chain = min(
        (one for one in status["chains"] if one["durability"] == "durable"), key=lambda c: c["id"]
    )
    node = chain["targets"][0]["node"]
    return cluster.process_of_node(node)


def wait_serving(cluster: LocalCluster) -> float:
    """Seconds until every target of every chain serves again."""
    started = time.monotonic()
    while time.monotonic() - started < RESYNC_DEADLINE_S:
        states = [t["state"] for chain in cluster.status()["chains"] for t in chain["targets"]]
        if all(state == "serving" for state in states):
            return time.monotonic() - started
        time.sleep(0.05)
    raise SystemExit(f"not every target serves after {RESYNC_DEADLINE_S:.0f} s: {states}")


def verify(address: str, counts: list[int]) -> int:
    """Reads back every acknowledged piece and compares it; returns bytes."""
    total = 0
    with firepond.connect(address) as cluster:
        for number, count in enumerate(counts):
            with cluster.open(f"/crash-{number}.bin", "rb") as file:
                for position in range(count):
                    if file.read(PIECE_BYTES) != piece(number, position):
                        raise SystemExit(
                            f"acknowledged piece {position} of writer {number} is lost"
                        )
                    total += PIECE_BYTES
    return total


def run(cluster: LocalCluster) -> CrashResult:
    """Kill, stall, restart, resync, verify."""
    result = CrashResult()
    result.killed = head_of_a_chain(cluster)
    writers = Writers(cluster.address, result.timeline)
    for thread in writers.threads:
        thread.start()
    writers.stopping.wait(BEFORE_KILL_S)
    killed_at = writers.now()
    cluster.process(result.killed).kill()
    writers.mark(f"kill -9 {result.killed}")
    writers.stopping.wait(DEAD_S)
    cluster.restart(result.killed)
    writers.mark("restarted")
    result.resync_s = wait_serving(cluster)
    writers.mark("serves again")
    writers.stopping.wait(AFTER_SERVING_S)
    writers.stopping.set()
    for thread in writers.threads:
        thread.join()
    if writers.failures:
        raise SystemExit(f"a client failed during the kill: {writers.failures[0]}")
    result.stall_ms = result.timeline.stall_s(killed_at) * 1000
    result.read_slowest_ms = writers.read_slowest_s * 1000
    result.verified_bytes = verify(cluster.address, writers.counts)
    return result
