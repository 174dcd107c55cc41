"""The mount, beside the local file system and beside the published rows of GlusterFS."""

from __future__ import annotations

from pathlib import Path

from benchmarks import drive
from benchmarks.mounted import mounted
from benchmarks.report import Bar, Beside, Context, Row

FAMILY = "mount"
GLUSTER = {
    "write with fsync": 129.0,
    "read": 438.0,
    "4 KiB reads, depth 1": 3800.0,
    "4 KiB reads, depth 32": 7400.0,
    "create": 233.0,
    "stat": 1193.0,
    "rename": 232.0,
    "unlink": 359.0,
    "4 KiB files written": 152.0,
    "4 KiB files read": 916.0,
}
"""GlusterFS 10, replica 3, all bricks on one machine like this: MB/s, and operations per second."""


def run(address: str, directory: Path, context: Context) -> list[Row]:
    """The same work on the mount and on the local disk below it."""
    local = directory / "local"
    local.mkdir()
    beside = drive.measure(local, context)
    with mounted(address, directory / "mount") as mount_point:
        folder = mount_point / "drive"
        folder.mkdir()
        rates = drive.measure(folder, context)
    rows = []
    for name, value in rates.items():
        unit = "MB/s" if name in ("write with fsync", "read") else "/s"
        peer = GLUSTER[name]
        others = (Beside("local", beside[name]), Beside("GlusterFS, published", peer))
        rows.append(Row(FAMILY, name, value, unit, others, Bar("ahead of GlusterFS", peer)))
    return rows
