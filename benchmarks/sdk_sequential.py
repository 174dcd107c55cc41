"""One client of the SDK writes and reads a large file from end to end.

Why two reads: writes go past the servers' page cache, so the first read of a file comes from the
disk, which may be slower than the network; the second one comes from the servers' memory. Every
read is by a client of its own, which never saw the file.
"""

from __future__ import annotations

import random
import statistics

import firepond
from benchmarks import usage
from benchmarks.report import Bar, Beside, Context, Row

FAMILY = "SDK, sequential"
PIECE_BYTES = 16 << 20
REPLICA_COUNT = 3


def run(address: str, context: Context) -> list[Row]:
    """Durable write of new files, and reads of them."""
    size = context.size(1 << 30, 128 << 20)
    rounds = context.size(3, 1)
    piece = random.randbytes(PIECE_BYTES)

    def write(number: int) -> usage.Usage:
        with firepond.connect(address) as cluster, cluster.open_raw(f"/big-{number}", "wb") as file:

            def work() -> None:
                for _ in range(size // PIECE_BYTES):
                    file.write(piece)
                file.sync()

            return usage.use(context.servers, work)

    def read(number: int) -> usage.Usage:
        buffer = bytearray(PIECE_BYTES)
        with firepond.connect(address) as cluster, cluster.open_raw(f"/big-{number}") as file:

            def work() -> None:
                for offset in range(0, size, PIECE_BYTES):
                    if file.pread_into(buffer, offset) != PIECE_BYTES:
                        raise SystemExit("a read came back short")

            used = usage.use(context.servers, work)
        if buffer != piece:
            raise SystemExit("a read came back wrong")
        return used

    written = [write(number) for number in range(rounds)]
    cold = [read(number) for number in range(rounds)]
    warm = [read(rounds - 1) for _ in range(rounds)]
    return rows((written, cold, warm), size, context)


def rows(
    measured: tuple[list[usage.Usage], list[usage.Usage], list[usage.Usage]],
    size: int,
    context: Context,
) -> list[Row]:
    """The median rates beside the machine's limits, all in MB/s."""
    disk = context.limits["disk_write_bytes_per_s"] / 1e6
    disk_read = context.limits["disk_read_bytes_per_s"] / 1e6
    tcp = context.limits["tcp_bytes_per_s"] / 1e6
    third = Beside("a third of the disk", disk / REPLICA_COUNT)
    raw_write = Beside("disk, O_DIRECT + fdatasync", disk)
    raw_read = Beside("disk, O_DIRECT", disk_read)
    loopback = Beside("loopback TCP", tcp)
    write_bar = Bar("0.8 of disk / 3", 0.8 * third.value)
    cold_bar = Bar("half of the slower", 0.5 * min(disk_read, tcp))
    warm_bar = Bar("0.8 of loopback TCP", 0.8 * tcp)
    shown: list[tuple[str, tuple[Beside, ...], Bar]] = [
        ("write, durable", (third, raw_write), write_bar),
        ("read, from disk", (raw_read, loopback), cold_bar),
        ("read, from servers' memory", (loopback,), warm_bar),
    ]
    out = []
    for (name, beside, bar), used in zip(shown, measured, strict=True):
        rate = size / 1e6 / statistics.median(one.elapsed_s for one in used)
        cost = usage.per_gib(usage.total(used), size * len(used))
        out.append(Row(FAMILY, name, rate, "MB/s", beside, bar, cost))
    return out
