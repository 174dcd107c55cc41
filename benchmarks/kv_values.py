"""The KV tier: put and get of 64 KiB and 1 MiB, in batches of 16, both classes.

The latencies are those of whole batches.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import firepond
from benchmarks import usage
from benchmarks.report import Bar, Beside, Context, Row

FAMILY = "KV tier"
BATCH_COUNT = 16
SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20}
BARS = {
    ("put", "1 MiB", "cache"): Bar("goal", 1_000.0),
    ("get", "1 MiB", "cache"): Bar("goal", 2_000.0),
}


def run(address: str, context: Context) -> list[Row]:
    """Rates in MB/s beside loopback TCP and, for the durable class, the disk."""
    tcp = Beside("loopback TCP", context.limits["tcp_bytes_per_s"] / 1e6)
    disk = Beside("a third of the disk", context.limits["disk_write_bytes_per_s"] / 3e6)
    rows = []
    for cls in ("cache", "durable"):
        with firepond.kv(address, f"bench-{cls}", cls=cls, capacity_bytes=4 << 30) as namespace:
            for label, size in SIZES.items():
                beside = (disk, tcp) if cls == "durable" else (tcp,)
                for name, done in measured(namespace, label, size, context).items():
                    rate = done.size / 1e6 / done.used.elapsed_s
                    row = Row(
                        FAMILY,
                        f"{name} {label}, {cls}",
                        rate,
                        "MB/s",
                        beside if name == "put" else (tcp,),
                        BARS.get((name, label, cls)),
                        usage.per_gib(done.used, done.size),
                        usage.percentiles(done.batches_s),
                    )
                    rows.append(row)
    return rows


@dataclass(frozen=True)
class Done:
    """Batches that were put, or got."""

    size: int
    used: usage.Usage
    batches_s: list[float]


def measured(namespace: Any, label: str, size: int, context: Context) -> dict[str, Done]:
    """put, and get of the same values."""
    total = context.size(512 << 20, 32 << 20)
    batches = total // size // BATCH_COUNT
    value = random.randbytes(size)
    values = [value] * BATCH_COUNT
    buffers = [np.empty(size, dtype=np.uint8) for _ in range(BATCH_COUNT)]
    keys = [[f"{label}/{one}/{at}" for at in range(BATCH_COUNT)] for one in range(batches)]

    def put(batch: list[str]) -> None:
        stored = namespace.put(batch, values)
        failed = [one for one in stored if isinstance(one, Exception)]
        if failed:
            raise failed[0]

    def get(batch: list[str]) -> None:
        if namespace.get(batch, buffers) != [size] * BATCH_COUNT:
            raise SystemExit(f"a value is missing: {namespace.stats()}")

    def each(step: Callable[[list[str]], None]) -> Done:
        taken: list[float] = []

        def work() -> None:
            for batch in keys:
                usage.timed(partial(step, batch), taken)

        return Done(total, usage.use(context.servers, work), taken)

    usage.rest(context.servers)
    done = {"put": each(put), "get": each(get)}
    if buffers[-1].tobytes() != value:
        raise SystemExit("a value came back wrong")
    return done
