"""NUMA nodes of this machine, and processes that are bound to one of them.

Linux describes its nodes in /sys. A process bound to the CPUs of a node gets its memory there too,
as memory belongs to the node that first touches it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from smallpond.execution.task import machine

PR_SET_PDEATHSIG = 1
NODES = Path("/sys/devices/system/node")


def cpus_of_list(text: str) -> set[int]:
    """The members of a list as the kernel writes it: `0-3,8,10-11`."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def numa_nodes() -> dict[int, set[int]]:
    """The CPUs of each node that this process may use; one node where nothing is known."""
    allowed = os.sched_getaffinity(0)
    nodes = {}
    for folder in sorted(NODES.glob("node[0-9]*")):
        cpus = cpus_of_list((folder / "cpulist").read_text()) & allowed
        if cpus:
            nodes[int(folder.name.removeprefix("node"))] = cpus
    return nodes or {0: set(allowed)}


def numa_bind(node: int) -> None:
    """Bind this process, and those it starts, to the CPUs of a node."""
    # Asked before binding, because the answer is about the machine and is kept.
    machine.allowed_cpu_count()
    os.sched_setaffinity(0, numa_nodes()[node])


def child_dies_with_parent() -> None:
    """For `preexec_fn`: the kernel ends this child with SIGTERM when its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
