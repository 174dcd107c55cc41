"""Saves the checkpoint to the local disk, through mount and SDK; loads it and compares.

Every save ends with an fsync, every load starts from what the servers hold: the client's caches are
dropped by a new connection (SDK) and by opening the file anew (mount).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.numpy

import firepond
from benchmarks.demo.model import Tensors, first_difference, size_bytes
from benchmarks.demo.report import Row
from firepond.client.checkpoint import load_safetensors, save_safetensors


def timed(
    what: str, size: int, work: Callable[[], Any], local: str | None = None
) -> tuple[Row, Any]:
    """Runs the work and says how long it took."""
    started = time.monotonic()
    result = work()
    return Row(what, size, time.monotonic() - started, local), result


def save_file(tensors: Tensors, path: Path) -> None:
    """The safetensors package's own writer, then fsync."""
    safetensors.numpy.save_file(tensors, path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_equal(expected: Tensors, found: Tensors, where: str) -> None:
    """Ends the tour if a single bit of a tensor differs."""
    name = first_difference(expected, found)
    if name is not None:
        raise SystemExit(f"the checkpoint loaded from {where} differs in tensor {name}")


def run(address: str, mount_point: Path, local: Path, tensors: Tensors) -> list[Row]:
    """The rows of all saves and loads, after each tensor was compared."""
    size = size_bytes(tensors)
    rows = []

    row, _ = timed(
        "save, local disk", size, lambda: save_file(tensors, local / "model.safetensors")
    )
    rows.append(row)
    row, found = timed(
        "load, local disk", size, lambda: safetensors.numpy.load_file(local / "model.safetensors")
    )
    rows.append(row)
    require_equal(tensors, found, "the local disk")

    on_mount = mount_point / "mount.safetensors"
    row, _ = timed("save, mount", size, lambda: save_file(tensors, on_mount), "save, local disk")
    rows.append(row)
    row, found = timed(
        "load, mount", size, lambda: safetensors.numpy.load_file(on_mount), "load, local disk"
    )
    rows.append(row)
    require_equal(tensors, found, "the mount")

    with firepond.connect(address) as cluster:
        row, _ = timed(
            "save, SDK",
            size,
            lambda: save_safetensors(cluster, "/sdk.safetensors", tensors),
            "save, local disk",
        )
        rows.append(row)
    with firepond.connect(address) as cluster:
        row, found = timed(
            "load, SDK",
            size,
            lambda: load_safetensors(cluster, "/sdk.safetensors"),
            "load, local disk",
        )
        rows.append(row)
        require_equal(tensors, found, "the SDK")
        # Again into the same memory, from what the servers hold: without the disk, and without the
        # first touch of new memory.
        for array in found.values():
            array.fill(0)
        row, found = timed(
            "load again, same arrays",
            size,
            lambda: load_safetensors(cluster, "/sdk.safetensors", into=found),
            "load, local disk",
        )
        rows.append(row)
        require_equal(tensors, found, "the SDK, again")
        # What one way wrote, the other reads.
        require_equal(tensors, load_safetensors(cluster, "/mount.safetensors"), "mount by SDK")
    return rows
