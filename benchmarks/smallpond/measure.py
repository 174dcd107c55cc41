"""Runs one command and says what its whole process tree cost.

Wall time is that of the command. CPU time and bytes written are the kernel's sums over every
process below this one, daemons included: it declares itself the reaper of orphans, ends what the
command left behind, and waits for all of them. The kernel forgets what a process used whose
parent ignores its children's end (Ray's raylet does): for those the sampler's last look counts.
Peak memory is the largest sum of PSS (shared pages counted once) that the sampler saw; it slows
down as reading gets dearer, to stay below a tenth of a core.

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
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """What a command cost; `outcome` is "done" or why it is not."""

    outcome: str = "done"
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    written_bytes: int = 0
    left_behind: int = 0


@dataclass(frozen=True)
class Process:
    """A process as the kernel shows it; its CPU time includes the children that it waited for."""

    parent: int
    ended: bool
    cpu_s: float


def processes() -> dict[int, Process]:
    """All processes of the machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            cpu_s = sum(map(int, fields[11:15])) * TICK_S
            found[int(entry.name)] = Process(int(fields[1]), fields[0] in "ZX", cpu_s)
    return found


def descendants() -> dict[int, Process]:
    """All processes below this one."""
    everything = processes()
    children: dict[int, list[int]] = {}
    for pid, process in everything.items():
        children.setdefault(process.parent, []).append(pid)
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return {pid: everything[pid] for pid in found}


def value_of(path: str, name: str) -> str:
    """A value of one of the kernel's lists; empty once the process is gone."""
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line[len(name) :].split()[0]
    except OSError:
        pass
    return ""


def pss_bytes(pid: int) -> int:
    """A process's proportional share of memory."""
    return int(value_of(f"/proc/{pid}/smaps_rollup", "Pss:") or 0) << 10


def written_bytes(pid: int | str) -> int:
    """What a process, and those that it waited for, have written to files."""
    return int(value_of(f"/proc/{pid}/io", "write_bytes:") or 0)


def ignores_children(pid: int) -> bool:
    """Whether the kernel drops what the children of a process used."""
    ignored = int(value_of(f"/proc/{pid}/status", "SigIgn:") or "0", 16)
    return bool(ignored >> (signal.SIGCHLD - 1) & 1)


class Sampler(threading.Thread):
    """Watches the tree's memory, and ends the tree where it would endanger the machine."""

    def __init__(self, kill_bytes: int) -> None:
        super().__init__(daemon=True)
        self.kill_bytes = kill_bytes
        self.peak_bytes = 0
        self.killed = False
        self.stopped = threading.Event()
        # CPU time and bytes written of processes whose parents ignore their end.
        self.dropped: dict[int, tuple[float, int]] = {}
        self.ignoring: dict[int, bool] = {}

    def run(self) -> None:
        while True:
            # Its own CPU time: on a busy machine a look takes long without being dear.
            started = time.thread_time()
            found = descendants()
            total = sum(pss_bytes(pid) for pid, process in found.items() if not process.ended)
            self.peak_bytes = max(self.peak_bytes, total)
            for pid, process in found.items():
                self._note(pid, process)
            if total > self.kill_bytes:
                self.killed = True
                end_all()
            taken_s = time.thread_time() - started
            if self.stopped.wait(max(SAMPLE_S, taken_s / SAMPLE_SHARE)):
                return

    def _note(self, pid: int, process: Process) -> None:
        parent = process.parent
        # A process may begin to ignore its children a little after it starts.
        if parent == os.getpid():
            self.dropped.pop(pid, None)
            return
        if not self.ignoring.get(parent):
            self.ignoring[parent] = ignores_children(parent)
        if self.ignoring[parent]:
            self.dropped[pid] = (process.cpu_s, written_bytes(pid))


def end_all() -> None:
    """Ends every process below this one."""
    for pid in descendants():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def living() -> int:
    """How many processes below this one have not ended."""
    return sum(not process.ended for process in descendants().values())


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
    cost.cpu_s = usage.ru_utime + usage.ru_stime + sum(cpu for cpu, _ in sampler.dropped.values())
    cost.peak_bytes = sampler.peak_bytes
    cost.written_bytes = written_bytes("self") + sum(n for _, n in sampler.dropped.values())
    return cost


if __name__ == "__main__":
    result, timeout, kill, *rest = sys.argv[1:]
    Path(result).write_text(json.dumps(asdict(measured(rest, float(timeout), int(kill)))))
