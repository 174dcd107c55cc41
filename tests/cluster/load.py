"""Load for crash tests: writers whose every acknowledged piece is remembered and checked."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import firepond

PIECE_BYTES = 256 << 10


def piece(writer: int, position: int) -> bytes:
    """What a writer puts at a position: a function of both, so that every byte can be checked."""
    stamp = writer.to_bytes(8, "big") + position.to_bytes(8, "big")
    return stamp * (PIECE_BYTES // len(stamp))


@dataclass
class Load:
    """Threads that write pieces durably and readers that read them back meanwhile."""

    address: str
    writer_count: int = 3
    reader_count: int = 1
    path: str = "/load"
    counts: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    read_slowest_s: float = 0.0
    failures: list[BaseException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        self.counts = [0] * self.writer_count
        for number in range(self.writer_count):
            self._start(self._write, number)
        for number in range(self.reader_count):
            self._start(self._read, number)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _start(self, work: Any, number: int) -> None:
        def guard() -> None:
            try:
                work(number)
            except BaseException as error:
                self.failures.append(error)
                self.stopping.set()

        thread = threading.Thread(target=guard, daemon=True)
        thread.start()
        self.threads.append(thread)

    def _write(self, number: int) -> None:
        name = f"{self.path}-{number}"
        with (
            firepond.connect(self.address) as cluster,
            cluster.open(name, "wb", buffering=0) as file,
        ):
            while not self.stopping.is_set():
                file.write(piece(number, self.counts[number]))
                file.fsync()
                with self.lock:
                    self.counts[number] += 1
                    self.times.append(time.monotonic())

    def _read(self, number: int) -> None:
        writer = number % self.writer_count
        while self.counts[writer] == 0 and not self.stopping.wait(0.01):
            pass
        with (
            firepond.connect(self.address) as cluster,
            cluster.open(f"{self.path}-{writer}", "rb", buffering=0) as file,
        ):
            position = 0
            while not self.stopping.wait(0.002):
                position = (position + 7) % self.counts[writer]
                started = time.monotonic()
                found = file.pread(PIECE_BYTES, position * PIECE_BYTES)
                self.read_slowest_s = max(self.read_slowest_s, time.monotonic() - started)
                assert found == piece(writer, position), f"piece {position} read back different"

    def run_for(self, duration_s: float) -> None:
        """Lets the load go on; ends early when a thread failed."""
        self.stopping.wait(duration_s)

    def wait_progress(self, pieces: int = 3, timeout_s: float = 20.0) -> None:
        """Waits until every writer got this many more pieces acknowledged."""
        goals = [count + pieces for count in self.counts]
        deadline = time.monotonic() + timeout_s
        while any(count < goal for count, goal in zip(self.counts, goals, strict=True)):
            assert not self.failures, self.failures
            assert time.monotonic() < deadline, f"writers hang: {self.counts}, wanted {goals}"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends all threads; every one of them must end."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client thread hangs"

    def stall_ms(self, since: float) -> float:
        """The longest time without an acknowledgement that ended after `since`, in milliseconds."""
        times = sorted(self.times)
        gaps = [b - a for a, b in pairwise(times) if b >= since]
        return max(gaps, default=0.0) * 1000

    def verify(self) -> int:
        """Reads every acknowledged piece with a new client; returns how many there are."""
        assert not self.failures, self.failures
        with firepond.connect(self.address) as cluster:
            for number, count in enumerate(self.counts):
                with cluster.open(f"{self.path}-{number}", "rb", buffering=0) as file:
                    for position in range(count):
                        found = file.pread(PIECE_BYTES, position * PIECE_BYTES)
                        assert found == piece(number, position), f"{number}/{position} is lost"
        return sum(self.counts)

    def remove(self) -> None:
        """Removes the files of all writers."""
        with firepond.connect(self.address) as cluster:
            for number in range(self.writer_count):
                cluster.remove(f"{self.path}-{number}")
