"""Runs one command and says what its whole process tree cost.

Wall time is that of the command. CPU time and bytes written are the kernel's sums over every
process below this one, daemons included: it declares itself the reaper of orphans, ends what the
command left behind, and waits for all of them. Peak memory is the largest sum of PSS (shared
pages counted once) that a sampler saw; the sampler slows down as reading gets dearer, to stay
below a tenth of a core.

    python measure.py RESULT.json TIMEOUT_S KILL_BYTES COMMAND...
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.05
SAMPLE_SHARE = 0.1
LEFT_BEHIND_S = 3.0


@dataclass
class Cost:
    """What a command cost; `outcome` is "done" or why it is not."""

    outcome: str = "done"
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    written_bytes: int = 0
    left_behind: int = 0


def children() -> dict[int, list[int]]:
    """Every process's children."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rsplit(")", 1)[1].split()[1])
            found.setdefault(parent, []).append(int(entry.name))
    return found


def descendants() -> list[int]:
    """All processes below this one."""
    tree = children()
    found, queue = [], [os.getpid()]
    while queue:
        below = tree.get(queue.pop(), [])
        found += below
        queue += below
    return found


def pss_bytes(pid: int) -> int:
    """A process's proportional share of memory; 0 once it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


class Sampler(threading.Thread):
    """Watches the tree's memory, and ends the tree where it would endanger the machine."""

    def __init__(self, kill_bytes: int) -> None:
        super().__init__(daemon=True)
        self.kill_bytes = kill_bytes
        self.peak_bytes = 0
        self.killed = False
        self.stopped = threading.Event()

    def run(self) -> None:
        while True:
            started = time.perf_counter()
            total = sum(pss_bytes(pid) for pid in descendants())
            self.peak_bytes = max(self.peak_bytes, total)
            if total > self.kill_bytes:
                self.killed = True
                end_all()
            taken_s = time.perf_counter() - started
            if self.stopped.wait(max(SAMPLE_S, taken_s / SAMPLE_SHARE)):
                return


def end_all() -> None:
    """Ends every process below this one."""
    for pid in descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def living() -> int:
    """How many processes below this one have not ended."""
    count = 0
    for pid in descendants():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        count += stat.rsplit(")", 1)[1].split()[0] != "Z"
    return count


def reap_all() -> int:
    """Waits for what is left, ends it after a while; says how many had to be ended."""
    deadline = time.monotonic() + LEFT_BEHIND_S
    while living() and time.monotonic() < deadline:
        time.sleep(0.02)
    left = living()
    while living():
        end_all()
        time.sleep(0.02)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return left


def own_written_bytes() -> int:
    """What this process and those that it waited for have written to files."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def measured(command: list[str], timeout_s: float, kill_bytes: int) -> Cost:
    """Runs the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no reaper of orphans")
    sampler = Sampler(kill_bytes)
    cost = Cost()
    sampler.start()
    started = time.perf_counter()
    with subprocess.Popen(command) as process:
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            end_all()
            process.wait()
            code = None
        cost.wall_s = time.perf_counter() - started
    if sampler.killed:
        cost.outcome = f"ended above {kill_bytes >> 20} MiB"
    elif code is None:
        cost.outcome = f"not done in {timeout_s:.0f} s"
    elif code:
        cost.outcome = f"exit status {code}"
    cost.left_behind = reap_all()
    sampler.stopped.set()
    sampler.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost.cpu_s = usage.ru_utime + usage.ru_stime
    cost.peak_bytes = sampler.peak_bytes
    cost.written_bytes = own_written_bytes()
    return cost


if __name__ == "__main__":
    result, timeout, kill, *rest = sys.argv[1:]
    Path(result).write_text(json.dumps(asdict(measured(rest, float(timeout), int(kill)))))
