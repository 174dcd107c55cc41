"""Durable overwrites of 4 KiB by the SDK, 32 in flight, and what each of them writes to a disk.

Each of 32 threads has a file of its own and flushes after every write: an overwrite counts when it
is durable on all replicas.
"""

from __future__ import annotations

import random
import threading
from functools import partial

import firepond
from benchmarks import usage
from benchmarks.drive import in_threads
from benchmarks.report import Bar, Beside, Context, Row

FAMILY = "SDK, 4 KiB overwrites"
SMALL_BYTES = 4096
DEPTH = 32
FILE_BYTES = 8 << 20
RATE_MIN = 5_000.0
WRITTEN_MAX_KIB = 68.0


def run(address: str, context: Context) -> list[Row]:
    """The rate, and the bytes that the busiest disk wrote for one overwrite."""
    share = context.size(1_000, 60)
    count = share * DEPTH
    taken: list[float] = []
    next_file = iter(range(DEPTH))
    lock = threading.Lock()
    with firepond.connect(address) as cluster:
        for number in range(DEPTH):
            with cluster.open_raw(f"/overwrites-{number}", "wb") as file:
                file.write(random.randbytes(FILE_BYTES))
                file.sync()

        def writer(share: int) -> None:
            with lock:
                number = next(next_file)
            block = random.randbytes(SMALL_BYTES)
            own: list[float] = []
            with cluster.open_raw(f"/overwrites-{number}", "r+b") as file:

                def overwrite() -> None:
                    file.pwrite(block, random.randrange(FILE_BYTES // SMALL_BYTES) * SMALL_BYTES)
                    file.flush()

                for _ in range(share):
                    usage.timed(overwrite, own)
            with lock:
                taken.extend(own)

        used: list[usage.Usage] = []
        work = partial(in_threads, writer, share, DEPTH)
        written = usage.written_bytes(
            context.servers, lambda: used.append(usage.use(context.servers, work))
        )
        for number in range(DEPTH):
            cluster.remove(f"/overwrites-{number}")
    return rows(used[0], written / count / 1024, taken, context)


def rows(used: usage.Usage, written: float, taken: list[float], context: Context) -> list[Row]:
    """Rate and amplification."""
    disk = Beside("disk, O_DSYNC, one at a time", context.limits["disk_small_writes_per_s"])
    count = len(taken)
    return [
        Row(
            FAMILY,
            f"durable, depth {DEPTH}",
            count / used.elapsed_s,
            "/s",
            (disk,),
            Bar("goal", RATE_MIN),
            usage.per_operation(used, count),
            usage.percentiles(taken),
        ),
        Row(
            FAMILY,
            "written to each disk",
            written,
            "KiB/op",
            (Beside("the bytes themselves", SMALL_BYTES / 1024),),
            Bar("at most", WRITTEN_MAX_KIB, at_most=True),
        ),
    ]
