"""Random reads of 4 KiB by the SDK: one at a time, and in batches."""

from __future__ import annotations

import random

import firepond
from benchmarks import usage
from benchmarks.report import Bar, Beside, Context, Row

FAMILY = "SDK, 4 KiB random reads"
SMALL_BYTES = 4096
BATCH_COUNT = 1024
SINGLE_MIN = 20_000.0
BATCHED_MIN = 150_000.0


def run(address: str, context: Context) -> list[Row]:
    """Reads of a file of some hundred chunks, which are in the servers' memory."""
    size = context.size(512 << 20, 64 << 20)
    single_count = context.size(60_000, 1_000)
    batch_count = context.size(600, 10)
    block_count = size // SMALL_BYTES
    piece = random.randbytes(16 << 20)
    single_s: list[float] = []
    batched_s: list[float] = []
    with firepond.connect(address) as cluster:
        with cluster.open_raw("/small-reads", "wb") as file:
            for _ in range(size // len(piece)):
                file.write(piece)
        with cluster.open_raw("/small-reads") as file:
            whole = bytearray(len(piece))
            for offset in range(0, size, len(piece)):
                file.pread_into(whole, offset)
            buffers = [bytearray(SMALL_BYTES) for _ in range(BATCH_COUNT)]

            def one() -> None:
                file.pread_into(buffers[0], random.randrange(block_count) * SMALL_BYTES)

            def batch() -> None:
                offsets = [random.randrange(block_count) * SMALL_BYTES for _ in buffers]
                cluster.read_batch(
                    [(file, at, row) for at, row in zip(offsets, buffers, strict=True)]
                )
                at = offsets[-1] % len(piece)
                if buffers[-1] != piece[at : at + SMALL_BYTES]:
                    raise SystemExit("a read came back wrong")

            def single() -> None:
                for _ in range(single_count):
                    usage.timed(one, single_s)

            def batched() -> None:
                for _ in range(batch_count):
                    usage.timed(batch, batched_s)

            single_used = usage.use(context.servers, single)
            batched_used = usage.use(context.servers, batched)
        cluster.remove("/small-reads")
    disk = Beside("disk, O_DIRECT, one at a time", context.limits["disk_small_reads_per_s"])
    read_count = batch_count * BATCH_COUNT
    return [
        Row(
            FAMILY,
            "one at a time",
            single_count / single_used.elapsed_s,
            "/s",
            (disk,),
            Bar("goal", SINGLE_MIN),
            usage.per_operation(single_used, single_count),
            usage.percentiles(single_s),
        ),
        Row(
            FAMILY,
            f"in batches of {BATCH_COUNT}",
            read_count / batched_used.elapsed_s,
            "/s",
            (disk,),
            Bar("goal", BATCHED_MIN),
            usage.per_operation(batched_used, read_count),
            usage.percentiles(batched_s),
        ),
    ]
