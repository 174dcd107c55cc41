"""Random reads of 4 KiB by the SDK: one at a time, and in batches."""

from __future__ import annotations

import random

import firepond
from benchmarks.report import Bar, Beside, Context, Row, median_rate

FAMILY = "SDK, 4 KiB random reads"
SMALL_BYTES = 4096
BATCH_COUNT = 1024
BATCHED_MIN = 50_000.0


def run(address: str, context: Context) -> list[Row]:
    """Reads of a file of some hundred chunks."""
    size = context.size(512 << 20, 64 << 20)
    single_count = context.size(20_000, 1_000)
    batch_count = context.size(200, 10)
    block_count = size // SMALL_BYTES
    piece = random.randbytes(16 << 20)
    with firepond.connect(address) as cluster:
        with cluster.open_raw("/small-reads", "wb") as file:
            for _ in range(size // len(piece)):
                file.write(piece)
        with cluster.open_raw("/small-reads") as file:
            buffers = [bytearray(SMALL_BYTES) for _ in range(BATCH_COUNT)]

            def single(_: int) -> None:
                for _ in range(single_count):
                    file.pread_into(buffers[0], random.randrange(block_count) * SMALL_BYTES)

            def batched(_: int) -> None:
                for _ in range(batch_count):
                    offsets = [random.randrange(block_count) * SMALL_BYTES for _ in buffers]
                    reads = [(file, at, row) for at, row in zip(offsets, buffers, strict=True)]
                    cluster.read_batch(reads)
                at = offsets[-1] % len(piece)
                if buffers[-1] != piece[at : at + SMALL_BYTES]:
                    raise SystemExit("a read came back wrong")

            single_rate = median_rate(single_count, 3, single)
            batched_rate = median_rate(batch_count * BATCH_COUNT, 3, batched)
        cluster.remove("/small-reads")
    disk = Beside("disk, O_DIRECT, one at a time", context.limits["disk_small_reads_per_s"])
    return [
        Row(FAMILY, "one at a time", single_rate, "/s", (disk,)),
        Row(
            FAMILY,
            f"in batches of {BATCH_COUNT}",
            batched_rate,
            "/s",
            (disk,),
            Bar("goal", BATCHED_MIN),
        ),
    ]
