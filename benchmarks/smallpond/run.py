"""Measures smallpond beside its peers, all in one run, and prints one table.

    python -m benchmarks.smallpond.run --size 1GB --work sort,wordcount,join,join-skew,shuffle
    python -m benchmarks.smallpond.run --size 8GB --memory-limit 2GiB --work sort

Every peer gets the same input files (read once before, so that all find them in the page cache)
and writes Parquet. A run counts when it ends well and its output equals the other peers'. The
peers of a work take turns, round by round; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks.smallpond import inputs, table
from benchmarks.smallpond.check import looked_at
from benchmarks.smallpond.environments import PEERS, PROGRAMS, ROOT, Peer, python_of
from benchmarks.smallpond.measure import Cost
from benchmarks.smallpond.results import Run
from benchmarks.smallpond.sizes import size_bytes

WORKS = (
    "startup",
    "tasks",
    "sort",
    "wordcount",
    "join",
    "join-skew",
    "shuffle",
    "partition",
)
TASK_COUNT = 10_000
KILL_SHARE = 0.75


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.smallpond.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", type=size_bytes, default=10**9)
    parser.add_argument("--memory-limit", type=size_bytes, default=0)
    parser.add_argument("--work", default="sort,wordcount,join,join-skew,shuffle")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1_800.0, help="seconds a run")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "smallpond-benchmark")
    parser.add_argument("--json", type=Path, help="all runs, for machines")
    parser.add_argument("--keep", action="store_true", help="keep inputs and the last outputs")
    options = parser.parse_args(arguments)
    options.work = _names(parser, options.work, WORKS)
    options.peers = _names(parser, options.peers, tuple(PEERS))
    return options


def _names(parser: argparse.ArgumentParser, text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def run_once(peer: Peer, work: str, source: Path, options: argparse.Namespace) -> Run:
    """Runs one peer's program, measured, and looks at what it wrote."""
    if work != "tasks":
        return _run(peer, work, source, options, 0)
    count = peer.task_count or TASK_COUNT
    run = _run(peer, work, source, options, count)
    if count < TASK_COUNT and run.cost.outcome == "done":
        start = _run(peer, work, source, options, 1)
        return replace(run, cost=_extended(start.cost, run.cost, count))
    return run


def _run(peer: Peer, work: str, source: Path, options: argparse.Namespace, count: int) -> Run:
    place = options.directory.resolve() / "runs" / f"{peer.name}-{work}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    result, target = place / "cost.json", place / "output"
    measure = Path(__file__).parent / "measure.py"
    kill_bytes = int(psutil.virtual_memory().total * KILL_SHARE)
    command = [sys.executable, measure, result, options.timeout, kill_bytes]
    command += [python_of(peer), PROGRAMS / peer.program]
    command += [work, source, target, options.memory_limit, count]
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if peer.is_ours:
        environment["PYTHONPATH"] = str(ROOT / "src")
    with (place / "log").open("wb") as log:
        subprocess.run(
            [str(word) for word in command],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    cost = Cost(**json.loads(result.read_text()))
    output = None if work == "tasks" else looked_at(work, target)
    tail = (place / "log").read_text(errors="replace")[-2_000:]
    if not options.keep:
        shutil.rmtree(place)
    log = "" if cost.outcome == "done" else tail
    return Run(peer.name, work, cost, output, options.memory_limit, log)


def _extended(start: Cost, cost: Cost, count: int) -> Cost:
    """What all tasks would cost, from the cost of one and of some."""
    factor = (TASK_COUNT - 1) / (count - 1)
    return replace(
        cost,
        wall_s=start.wall_s + (cost.wall_s - start.wall_s) * factor,
        cpu_s=start.cpu_s + (cost.cpu_s - start.cpu_s) * factor,
    )


def warmed(source: Path) -> None:
    """Reads every input once."""
    for path in sorted(source.rglob("*.parquet")):
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def measured(work: str, options: argparse.Namespace) -> list[Run]:
    """All rounds of all peers for one work."""
    data = options.directory / "inputs"
    source = inputs.made(data, work, options.size / 10**9).resolve()
    runs = []
    peers = [PEERS[name] for name in options.peers]
    if work == "tasks":
        peers = [peer for peer in peers if peer.task_count]
    for peer in peers:
        python_of(peer)
    for number in range(options.rounds):
        for peer in peers:
            warmed(source)
            run = run_once(peer, work, source, options)
            runs.append(run)
            print(
                f"{work} {peer.name} {number + 1}: {run.cost.outcome}, {run.cost.wall_s:.1f} s, "
                f"CPU {run.cost.cpu_s:.1f} s, {run.cost.peak_bytes / 1e6:,.0f} MB",
                flush=True,
            )
    if not options.keep:
        shutil.rmtree(source, ignore_errors=True)
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Measures what was asked for; 1 where a peer's output is wrong."""
    options = parsed(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for work in options.work:
        runs += measured(work, options)
        if options.json is not None:
            options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))
    rows = table.rows(runs)
    table.show(Console(width=150), rows, table.title(options.size, options.memory_limit))
    for run in runs:
        if run.log:
            print(f"\n{run.work} {run.peer}: {run.cost.outcome}\n{run.log}")
    return 1 if any(row.verdict not in table.FAIR for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
