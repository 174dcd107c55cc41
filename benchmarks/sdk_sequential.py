"""One client of the SDK writes and reads a large file from end to end."""

from __future__ import annotations

import random

import firepond
from benchmarks.report import Bar, Beside, Context, Row, median_rate

FAMILY = "SDK, sequential"
PIECE_BYTES = 16 << 20
REPLICA_COUNT = 3


def run(address: str, context: Context) -> list[Row]:
    """Durable write of a new file, and read by a client that never saw it."""
    size = context.size(1 << 30, 128 << 20)
    rounds = context.size(3, 1)
    piece = random.randbytes(PIECE_BYTES)

    def write(number: int) -> None:
        with firepond.connect(address) as cluster, cluster.open_raw(f"/big-{number}", "wb") as file:
            for _ in range(size // PIECE_BYTES):
                file.write(piece)
            file.sync()

    def read(number: int) -> None:
        buffer = bytearray(PIECE_BYTES)
        with firepond.connect(address) as cluster, cluster.open_raw(f"/big-{number}") as file:
            for offset in range(0, size, PIECE_BYTES):
                if file.pread_into(buffer, offset) != PIECE_BYTES:
                    raise SystemExit("a read came back short")
        if buffer != piece:
            raise SystemExit("a read came back wrong")

    write_rate = median_rate(size / 1e6, rounds, write)
    read_rate = median_rate(size / 1e6, rounds, read)
    disk = context.limits["disk_write_bytes_per_s"] / 1e6
    tcp = context.limits["tcp_bytes_per_s"] / 1e6
    third = disk / REPLICA_COUNT
    return [
        Row(
            FAMILY,
            "write, durable",
            write_rate,
            "MB/s",
            (Beside("a third of the disk", third), Beside("disk, O_DIRECT + fdatasync", disk)),
            Bar("half of disk / 3", 0.5 * third),
        ),
        Row(
            FAMILY,
            "read",
            read_rate,
            "MB/s",
            (Beside("loopback TCP", tcp),),
            Bar("half of loopback TCP", 0.5 * tcp),
        ),
    ]
