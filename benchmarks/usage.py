"""What a piece of work cost: time, CPU of client and servers, bytes that each storage wrote.

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
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Servers:
    """The process ids of the cluster."""

    all: tuple[int, ...] = ()
    storages: tuple[int, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What was used between two moments."""

    elapsed_s: float
    client_cpu_s: float
    server_cpu_s: float
    written_bytes: tuple[int, ...]
    """To the disk, by each storage process."""


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
    written = zip(after[3], before[3], strict=True)
    return Usage(
        elapsed_s=after[0] - before[0],
        client_cpu_s=after[1] - before[1],
        server_cpu_s=after[2] - before[2],
        written_bytes=tuple(late - early for late, early in written),
    )


def total(usages: list[Usage]) -> Usage:
    """Several pieces of work as one."""
    written = zip(*(usage.written_bytes for usage in usages), strict=True)
    return Usage(
        elapsed_s=sum(usage.elapsed_s for usage in usages),
        client_cpu_s=sum(usage.client_cpu_s for usage in usages),
        server_cpu_s=sum(usage.server_cpu_s for usage in usages),
        written_bytes=tuple(sum(each) for each in written),
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


def _moment(servers: Servers) -> tuple[float, float, float, tuple[int, ...]]:
    own = os.times()
    server_cpu_s = sum(_cpu_s(pid) for pid in servers.all)
    written = tuple(_written_bytes(pid) for pid in servers.storages)
    return time.perf_counter(), own.user + own.system, server_cpu_s, written


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _written_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
