"""A cluster as a directory, for the benchmarks and the tour."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(address: str, mount_point: Path) -> Iterator[Path]:
    """The cluster as a directory, for as long as the block lasts; its log is beside it."""
    command = [sys.executable, "-m", "firepond.fs.cli"]
    mount_point.mkdir()
    log = str(mount_point.with_suffix(".log"))
    arguments = ["mount", address, str(mount_point), "--log-file", log]
    subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
    try:
        yield mount_point
    finally:
        arguments = ["umount", str(mount_point)]
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
        mount_point.rmdir()
