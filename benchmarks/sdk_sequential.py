"""One client of the SDK writes and reads a large file from end to end.

Why two reads: writes go past the servers' page cache, so the first read of a file comes from the
disk, which may be slower than the network; the second one comes from the servers' memory. Every
read is by a client of its own, which never saw the file.
"""

from __future__ import annotations

import random
import statistics

import firepond
from benchmarks.report import Bar, Beside, Context, Row, seconds

FAMILY = "SDK, sequential"
PIECE_BYTES = 16 << 20
REPLICA_COUNT = 3


def run(address: str, context: Context) -> list[Row]:
    """Durable write of new files, and reads of them."""
    size = context.size(1 << 30, 128 << 20)
    rounds = context.size(3, 1)
    piece = random.randbytes(PIECE_BYTES)

    def write(number: int) -> float:
        with firepond.connect(address) as cluster, cluster.open_raw(f"/big-{number}", "wb") as file:

            def work() -> None:
                for _ in range(size // PIECE_BYTES):
                    file.write(piece)
                file.sync()

            return seconds(work)

    def read(number: int) -> float:
        buffer = bytearray(PIECE_BYTES)
        with firepond.connect(address) as cluster, cluster.open_raw(f"/big-{number}") as file:

            def work() -> None:
                for offset in range(0, size, PIECE_BYTES):
                    if file.pread_into(buffer, offset) != PIECE_BYTES:
                        raise SystemExit("a read came back short")

            taken = seconds(work)
        if buffer != piece:
            raise SystemExit("a read came back wrong")
        return taken

    def rate(taken: list[float]) -> float:
        return size / 1e6 / statistics.median(taken)

    write_rate = rate([write(number) for number in range(rounds)])
    cold_rate = rate([read(number) for number in range(rounds)])
    warm_rate = rate([read(rounds - 1) for _ in range(rounds)])
    return rows(write_rate, cold_rate, warm_rate, context)


def rows(write_rate: float, cold_rate: float, warm_rate: float, context: Context) -> list[Row]:
    """The rates beside the machine's limits, all in MB/s."""
    disk = context.limits["disk_write_bytes_per_s"] / 1e6
    disk_read = context.limits["disk_read_bytes_per_s"] / 1e6
    tcp = context.limits["tcp_bytes_per_s"] / 1e6
    third = Beside("a third of the disk", disk / REPLICA_COUNT)
    raw_write = Beside("disk, O_DIRECT + fdatasync", disk)
    raw_read = Beside("disk, O_DIRECT", disk_read)
    loopback = Beside("loopback TCP", tcp)
    write_bar = Bar("half of disk / 3", 0.5 * third.value)
    cold_bar = Bar("half of the slower", 0.5 * min(disk_read, tcp))
    warm_bar = Bar("half of loopback TCP", 0.5 * tcp)
    return [
        Row(FAMILY, "write, durable", write_rate, "MB/s", (third, raw_write), write_bar),
        Row(FAMILY, "read, from disk", cold_rate, "MB/s", (raw_read, loopback), cold_bar),
        Row(FAMILY, "read, from servers' memory", warm_rate, "MB/s", (loopback,), warm_bar),
    ]
