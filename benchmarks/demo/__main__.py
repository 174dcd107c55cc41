"""`make demo`: starts a cluster, does the main job on it, kills a process, cleans everything up."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.demo import checkpoint_step, crash_step, kv_step
from benchmarks.demo.model import make_checkpoint, size_bytes
from benchmarks.demo.report import draw_timeline, print_table
from benchmarks.mounted import mounted
from firepond.fs.local_cluster import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "build" / "demo" / "throughput.png"
FREE_BYTES_MIN = 16 << 30


def run(console: Console, directory: Path) -> None:
    """The whole tour in one directory, which holds everything that it makes."""
    console.print("[bold]1.[/] starting a manager, a metadata server and three storage processes")
    cluster = LocalCluster(directory / "cluster", storage_count=3, replica_count=3)
    cluster.start()
    try:
        cluster.wait_ready(60)
        tensors = make_checkpoint()
        console.print(
            f"[bold]2.[/] saving and loading a checkpoint: {len(tensors)} tensors, "
            f"{size_bytes(tensors) / 1e9:.2f} GB, each compared"
        )
        with mounted(cluster.address, directory / "mount") as mount_point:
            rows = checkpoint_step.run(cluster.address, mount_point, directory, tensors)
        console.print("[bold]3.[/] killing the head of a chain in the middle of a save")
        crash = crash_step.run(cluster)
        console.print(
            f"   {crash.killed} killed: writers stalled [bold]{crash.stall_ms:.0f} ms[/], "
            f"the slowest read took {crash.read_slowest_ms:.0f} ms;\n"
            f"   restarted, it resynced and serves again after {crash.resync_s:.1f} s; "
            f"all {crash.verified_bytes / 1e6:,.0f} MB\n   that were acknowledged are there"
        )
        console.print("[bold]4.[/] KV blocks of prompt prefixes")
        kv_rows, note = kv_step.run(cluster.address)
        console.print(f"   {note}")
        print_table(console, rows + kv_rows)
        draw_timeline(crash.timeline, PICTURE)
        console.print(f"throughput around the kill: [bold]{PICTURE}[/]")
    finally:
        cluster.stop()


def main() -> int:
    console = Console()
    started = time.monotonic()
    if shutil.disk_usage(ROOT).free < FREE_BYTES_MIN:
        console.print(f"the demo needs {FREE_BYTES_MIN >> 30} GiB of free disk below {ROOT}")
        return 1
    (ROOT / "build").mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / "build"))
    try:
        run(console, directory)
    except KeyboardInterrupt:
        console.print("interrupted; everything is taken down again")
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    console.print(
        f"everything is taken down again; the tour took {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
