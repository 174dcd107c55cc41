"""What this machine may give to tasks: CPUs, memory, GPUs, as the process is allowed to use them.

Containers see the host's numbers in the usual places; what counts is the CPU affinity, the CPU
quota and the memory limit of the control group. GPUs are listed by nvidia-smi, once.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class GPU:
    """A GPU of this machine; `id` is its rank."""

    id: int
    uuid: str = ""
    name: str = ""
    memory_total_mib: int = 0


def _words_of(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _cgroup_cpu_count() -> int | None:
    words = _words_of(_CGROUP / "cpu.max")
    if len(words) == 2 and words[0].isdigit():
        return max(1, int(words[0]) // int(words[1]))
    quota = _words_of(_CGROUP / "cpu/cpu.cfs_quota_us")
    period = _words_of(_CGROUP / "cpu/cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        return max(1, int(quota[0]) // int(period[0]))
    return None


def _cgroup_memory_bytes() -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        words = _words_of(_CGROUP / name)
        if words and words[0].isdigit():
            return int(words[0])
    return None


@functools.cache
def allowed_cpu_count() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, _cgroup_cpu_count() or count))


@functools.cache
def allowed_memory_bytes() -> int:
    """Memory this process may use."""
    if sys.platform == "linux":
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        import psutil

        total = psutil.virtual_memory().total
    return min(total, _cgroup_memory_bytes() or total)


def available_memory_bytes() -> int:
    """Memory that could be had now without swapping."""
    import psutil

    return min(psutil.virtual_memory().available, allowed_memory_bytes())


@functools.cache
def numa_node_count() -> int:
    """NUMA nodes of this machine; 1 where the system does not say."""
    nodes = Path("/sys/devices/system/node")
    return max(1, len(list(nodes.glob("node[0-9]*")))) if nodes.is_dir() else 1


@functools.cache
def local_gpus() -> tuple[GPU, ...]:
    """The GPUs that nvidia-smi lists."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    import subprocess

    query = "--query-gpu=index,uuid,name,memory.total"
    try:
        answer = subprocess.run(
            [command, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[field.strip() for field in line.split(",")] for line in answer.splitlines()]
    return tuple(GPU(int(row[0]), row[1], row[2], int(row[3])) for row in rows if len(row) == 4)
