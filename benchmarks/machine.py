"""The limits of the machine: bare loopback TCP between two processes, and the bare disk."""

from __future__ import annotations

import mmap
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.report import Context, median_rate, seconds

BLOCK_BYTES = 1 << 20
SMALL_BYTES = 4096
TOUCHED_SHARE = 0.8


def measure(directory: Path, context: Context) -> None:
    """Fills `context.limits`: bytes per second, and small reads per second."""
    size = context.size(1 << 30, 256 << 20)
    limits = context.limits
    limits["tcp_bytes_per_s"] = median_rate(4 * size, 3, lambda _: tcp(4 * size))
    path = directory / "raw"
    limits["disk_write_bytes_per_s"] = median_rate(size, 3, lambda _: disk_write(path, size))
    limits["disk_read_bytes_per_s"] = median_rate(size, 3, lambda _: disk_read(path))
    count = context.size(20_000, 2_000)
    limits["disk_small_reads_per_s"] = count / seconds(lambda: small_reads(path, count))
    count = context.size(2_000, 200)
    limits["disk_small_writes_per_s"] = count / seconds(lambda: small_writes(path, count))
    path.unlink()


def touch_memory() -> None:
    """Writes to every page of the memory that is free, once, in a process of its own.

    A virtual machine gets a page from its host when it first touches it, which takes longer (2 s a
    GiB on ours) than all that firepond does with the bytes; whichever row came first would pay.
    """
    size = int(psutil.virtual_memory().available * TOUCHED_SHARE)
    code = f"import numpy; numpy.empty({size}, dtype=numpy.uint8)[::4096] = 1"
    subprocess.run([sys.executable, "-c", code], check=True)


def tcp(size: int) -> None:
    """Receives bytes from another process."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    code = f"from benchmarks.machine import send; send({port}, {size})"
    with subprocess.Popen([sys.executable, "-c", code]) as sender:
        connection, _ = listener.accept()
        block = memoryview(bytearray(BLOCK_BYTES))
        received = 0
        while received < size:
            received += connection.recv_into(block)
        connection.close()
        listener.close()
        sender.wait()


def send(port: int, size: int) -> None:
    """The other process."""
    block = bytes(BLOCK_BYTES)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(size // BLOCK_BYTES):
            connection.sendall(block)


def aligned(size: int) -> mmap.mmap:
    """Memory that direct I/O takes."""
    return mmap.mmap(-1, size)


def disk_write(path: Path, size: int) -> None:
    """Writes a file past the page cache, durable at the end."""
    block = aligned(BLOCK_BYTES)
    block.write(random.randbytes(BLOCK_BYTES))
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_DIRECT, 0o600)
    try:
        for _ in range(size // BLOCK_BYTES):
            os.write(descriptor, block)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def disk_read(path: Path) -> None:
    """Reads a file past the page cache."""
    block = aligned(BLOCK_BYTES)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        while os.readv(descriptor, [block]) > 0:
            pass
    finally:
        os.close(descriptor)


def small_reads(path: Path, count: int) -> None:
    """Reads random blocks of 4 KiB past the page cache, one at a time."""
    block = aligned(SMALL_BYTES)
    block_count = path.stat().st_size // SMALL_BYTES
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        for _ in range(count):
            os.preadv(descriptor, [block], random.randrange(block_count) * SMALL_BYTES)
    finally:
        os.close(descriptor)


def small_writes(path: Path, count: int) -> None:
    """Overwrites random blocks of 4 KiB past the page cache, each durable, one at a time."""
    block = aligned(SMALL_BYTES)
    block_count = path.stat().st_size // SMALL_BYTES
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
    try:
        for _ in range(count):
            os.pwrite(descriptor, block, random.randrange(block_count) * SMALL_BYTES)
    finally:
        os.close(descriptor)
