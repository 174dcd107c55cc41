"""The measurements count the whole process tree: what a peer hides in daemons is its cost, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.smallpond import measure
from benchmarks.smallpond.measure import Cost

GENEROUS_BYTES = 1 << 34
BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"
# A grandchild that no parent waits for: its parent ends first.
DAEMON = f"""
import os, sys
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
{"".join("        " + line for line in BURN.format(seconds=0.5).splitlines(keepends=True))}
    os._exit(0)
os.wait()
"""
# What Ray does: the parent ignores its children's end, so the kernel drops what they used.
# The child idles at its end, so that a slow sampler, too, has seen all that it used.
IGNORED = f"""
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = os.fork()
if child == 0:
{"".join("    " + line for line in BURN.format(seconds=0.6).splitlines(keepends=True))}
    time.sleep(1.5)
    os._exit(0)
try:
    while True:
        os.kill(child, 0)
        time.sleep(0.01)
except ProcessLookupError:
    pass
"""


def cost_of(
    code: str, place: Path, *, timeout_s: float = 60, kill_bytes: int = GENEROUS_BYTES
) -> Cost:
    """What a Python program costs, measured by a process of its own."""
    result = place / "cost.json"
    command = [sys.executable, measure.__file__, str(result), str(timeout_s), str(kill_bytes)]
    subprocess.run([*command, sys.executable, "-c", code], check=True, cwd=place)
    return Cost(**json.loads(result.read_text()))


def test_cpu_time_of_a_daemon_counts(tmp_path: Path) -> None:
    """Goal: orphans count. Method: a double fork that burns 0.5 s. Oracle: its CPU time."""
    cost = cost_of(DAEMON, tmp_path)
    assert cost.outcome == "done"
    assert 0.5 <= cost.cpu_s < 3
    assert cost.left_behind == 0


def test_cpu_time_of_ignored_children_counts(tmp_path: Path) -> None:
    """Goal: as above where the kernel drops it. Oracle: the 0.6 s that the child burns."""
    assert cost_of(IGNORED, tmp_path).cpu_s >= 0.6


def test_memory_and_writes_are_those_of_the_tree(tmp_path: Path) -> None:
    """Goal: peak memory and bytes written. Oracle: 200 MB held by a child, 20 MB written by it."""
    child = (
        "import time; held = bytearray(b'1') * 200_000_000\n"
        "open('written', 'wb').write(held[:20_000_000])\n"
        "time.sleep(0.5)"
    )
    cost = cost_of(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])", tmp_path
    )
    assert 200e6 < cost.peak_bytes < 400e6
    assert 20e6 <= cost.written_bytes < 40e6


@pytest.mark.parametrize(
    ("code", "options", "outcome"),
    [
        ("raise SystemExit(3)", {}, "exit status 3"),
        ("import time; time.sleep(60)", {"timeout_s": 0.3}, "not done in 0 s"),
        (
            "import time; held = bytearray(b'1') * 300_000_000; time.sleep(60)",
            {"kill_bytes": 200 << 20},
            "ended above 200 MiB",
        ),
    ],
)
def test_failures_are_outcomes(
    tmp_path: Path, code: str, options: dict[str, int], outcome: str
) -> None:
    """Goal: a peer that fails, hangs or takes all memory ends and says so. Oracle: its outcome."""
    assert cost_of(code, tmp_path, **options).outcome == outcome
