"""What a piece of work cost: time, CPU of client and servers, bytes that each disk wrote.

Owns: reading /proc of the processes that the bench started. CPU time is counted in ticks of 10 ms,
so work that is shorter than some hundred of them is measured badly; the other figures are exact.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
REST_S = 0.5
REST_TIMEOUT_S = 60.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Servers:
    """The process ids of the cluster, and what its disks lie on."""

    all: tuple[int, ...] = ()
    disk_count: int = 0
    directory: Path | None = None


@dataclass(frozen=True)
class Usage:
    """What was used between two moments."""

    elapsed_s: float
    client_cpu_s: float
    server_cpu_s: float


@dataclass(frozen=True)
class Cost:
    """CPU time by unit of work: seconds a GiB, or microseconds an operation."""

    unit: str
    client: float
    servers: float

    def __str__(self) -> str:
        return f"{self.client:.3g} + {self.servers:.3g} {self.unit}"


@dataclass(frozen=True)
class Latency:
    """How long single operations took, in microseconds."""

    p50: float
    p90: float
    p99: float
    p999: float

    def __str__(self) -> str:
        return " / ".join(f"{value:,.0f}" for value in (self.p50, self.p90, self.p99, self.p999))


def use(servers: Servers, work: Callable[[], Any]) -> Usage:
    """Does the work and says what it used."""
    before = _moment(servers)
    work()
    after = _moment(servers)
    return Usage(
        elapsed_s=after[0] - before[0],
        client_cpu_s=after[1] - before[1],
        server_cpu_s=after[2] - before[2],
    )


def written_bytes(servers: Servers, work: Callable[[], Any]) -> float:
    """Does the work and says what it wrote to each disk, also what is written later for it.

    Counted by the block device: what the kernel counts for a process is whole folios of the page
    cache, however few of their bytes reach the disk. Other writers of the device are counted, too.
    """
    os.sync()
    before = _device_activity(servers.directory)[1]
    work()
    os.sync()
    return (_device_activity(servers.directory)[1] - before) / servers.disk_count


def rest(servers: Servers) -> None:
    """Waits until the disk has done what was asked of it before, so that no row pays for another.

    At rest is a device with nothing under way that has written nothing for half a second; a minute
    is enough for what the kernel and the servers put off.
    """
    os.sync()
    deadline = time.monotonic() + REST_TIMEOUT_S
    quiet_since, written = time.monotonic(), -1
    while time.monotonic() < deadline:
        under_way, written_now = _device_activity(servers.directory)
        if under_way or written_now != written:
            quiet_since, written = time.monotonic(), written_now
        elif time.monotonic() - quiet_since >= REST_S:
            return
        time.sleep(0.05)


def total(usages: list[Usage]) -> Usage:
    """Several pieces of work as one."""
    return Usage(
        elapsed_s=sum(usage.elapsed_s for usage in usages),
        client_cpu_s=sum(usage.client_cpu_s for usage in usages),
        server_cpu_s=sum(usage.server_cpu_s for usage in usages),
    )


def per_gib(usage: Usage, size_bytes: int) -> Cost:
    """CPU seconds a GiB."""
    gib = size_bytes / (1 << 30)
    return Cost("s/GiB", usage.client_cpu_s / gib, usage.server_cpu_s / gib)


def per_operation(usage: Usage, count: int) -> Cost:
    """CPU microseconds an operation."""
    return Cost("µs/op", usage.client_cpu_s * 1e6 / count, usage.server_cpu_s * 1e6 / count)


def percentiles(taken_s: list[float]) -> Latency:
    """Of the durations of single operations."""
    ordered = sorted(taken_s)
    last = len(ordered) - 1
    picked = [ordered[min(last, int(len(ordered) * one / 100))] * 1e6 for one in PERCENTILES]
    return Latency(*picked)


def timed(work: Callable[[], Any], taken_s: list[float]) -> None:
    """Does one operation and notes how long it took."""
    started = time.perf_counter()
    work()
    taken_s.append(time.perf_counter() - started)


def _moment(servers: Servers) -> tuple[float, float, float]:
    own = os.times()
    server_cpu_s = sum(_cpu_s(pid) for pid in servers.all)
    return time.perf_counter(), own.user + own.system, server_cpu_s


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _device_activity(directory: Path | None) -> tuple[int, int]:
    """Requests under way, and bytes written since the machine started."""
    if directory is None:
        raise ValueError("a cluster is on some device")
    device = directory.stat().st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    fields = path.read_text().split()
    return int(fields[8]), int(fields[6]) * 512
