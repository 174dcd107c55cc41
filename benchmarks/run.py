"""`make bench`: measures a fresh three-replica cluster against this machine's own limits.

Everything is measured in one run, on one directory, which is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import (
    kv_values,
    machine,
    mount_rows,
    scale,
    sdk_metadata,
    sdk_overwrites,
    sdk_sequential,
    sdk_small_reads,
    usage,
)
from benchmarks.report import Context, Row, as_json, print_table
from benchmarks.usage import Servers
from firepond.fs.local_cluster import LocalCluster

ROOT = Path(__file__).resolve().parents[1]
FREE_BYTES_MIN = 24 << 30
READY_TIMEOUT_S = 60.0
WIDTH = 220
"""Of the table in a log; a terminal has its own."""


FAMILIES = ("sequential", "small-reads", "overwrites", "metadata", "mount", "kv")


def families(address: str, directory: Path, context: Context) -> dict[str, Callable[[], list[Row]]]:
    """What is measured, by the names in FAMILIES."""
    local = directory / "local-metadata"
    local.mkdir(exist_ok=True)
    return {
        "sequential": lambda: sdk_sequential.run(address, context),
        "small-reads": lambda: sdk_small_reads.run(address, context),
        "overwrites": lambda: sdk_overwrites.run(address, context),
        "metadata": lambda: sdk_metadata.run(address, local, context),
        "mount": lambda: mount_rows.run(address, directory, context),
        "kv": lambda: kv_values.run(address, context),
    }


def measure(
    console: Console, directory: Path, context: Context, only: list[str], storage_count: int = 3
) -> list[Row]:
    """All rows, on a cluster of this run's own."""
    if not context.quick:
        console.print("the machine: its memory, touched once")
        machine.touch_memory()
    console.print("the machine: loopback TCP and the disk")
    machine.measure(directory, context)
    place = directory / f"cluster-{storage_count}"
    cluster = LocalCluster(place, storage_count=storage_count, replica_count=3)
    cluster.start()
    rows: list[Row] = []
    try:
        cluster.wait_ready(READY_TIMEOUT_S)
        processes = cluster.processes()
        context.servers = Servers(tuple(process.pid for process in processes), storage_count, place)
        for name, family in families(cluster.address, directory, context).items():
            if not only or name in only:
                console.print(f"measuring: {name}")
                usage.rest(context.servers)
                rows += family()
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: proves that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument(
        "--only", action="append", default=[], choices=FAMILIES, help="a family; may be repeated"
    )
    parser.add_argument(
        "--scale", action="store_true", help="with 3 and with 6 storage processes; prints ratios"
    )
    parser.add_argument("--directory", type=Path, help="measure below this, not below build/")
    chosen = parser.parse_args()
    if chosen.json is not None and not chosen.json.absolute().parent.is_dir():
        parser.error(f"--json: {chosen.json.absolute().parent} is not a directory")
    return chosen


def main() -> int:
    chosen = arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    parent = chosen.directory or ROOT / "build"
    parent.mkdir(parents=True, exist_ok=True)
    if not chosen.quick and shutil.disk_usage(parent).free < FREE_BYTES_MIN:
        console.print(f"a full run needs {FREE_BYTES_MIN >> 30} GiB of free disk below {parent}")
        return 1
    context = Context(quick=chosen.quick)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        if chosen.scale:
            only = chosen.only or list(scale.FAMILIES)
            few = measure(console, directory, context, only, scale.COUNTS[0])
            rows = measure(console, directory, context, only, scale.COUNTS[1])
            scale.print_ratios(console, few, rows)
        else:
            rows = measure(console, directory, context, chosen.only)
    except KeyboardInterrupt:
        console.print("interrupted; everything was taken down")
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print_table(console, rows)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(as_json(rows, context), indent=2) + "\n")
    missed = [f"{row.family}: {row.name}" for row in rows if row.reached is False]
    if missed:
        console.print(f"[red]below their bars:[/] {', '.join(missed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
