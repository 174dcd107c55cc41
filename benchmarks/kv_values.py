"""The KV tier: put and get of 64 KiB and 1 MiB, in batches of 16, both classes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import firepond
from benchmarks.report import Beside, Context, Row, seconds

FAMILY = "KV tier"
BATCH_COUNT = 16
SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20}


def run(address: str, context: Context) -> list[Row]:
    """Rates in MB/s beside loopback TCP and, for the durable class, the disk."""
    tcp = Beside("loopback TCP", context.limits["tcp_bytes_per_s"] / 1e6)
    disk = Beside("a third of the disk", context.limits["disk_write_bytes_per_s"] / 3e6)
    rows = []
    for cls in ("cache", "durable"):
        with firepond.kv(address, f"bench-{cls}", cls=cls, capacity_bytes=4 << 30) as namespace:
            for label, size in SIZES.items():
                put, get = rates(namespace, label, size, context)
                beside = (disk, tcp) if cls == "durable" else (tcp,)
                rows.append(Row(FAMILY, f"put {label}, {cls}", put, "MB/s", beside))
                rows.append(Row(FAMILY, f"get {label}, {cls}", get, "MB/s", (tcp,)))
    return rows


def rates(namespace: Any, label: str, size: int, context: Context) -> tuple[float, float]:
    """MB/s of put and of get."""
    total = context.size(512 << 20, 32 << 20)
    batches = total // size // BATCH_COUNT
    value = random.randbytes(size)
    values = [value] * BATCH_COUNT
    buffers = [np.empty(size, dtype=np.uint8) for _ in range(BATCH_COUNT)]
    keys = [[f"{label}/{one}/{at}" for at in range(BATCH_COUNT)] for one in range(batches)]

    def put() -> None:
        for batch in keys:
            stored = namespace.put(batch, values)
            failed = [one for one in stored if isinstance(one, Exception)]
            if failed:
                raise failed[0]

    def get() -> None:
        for batch in keys:
            if namespace.get(batch, buffers) != [size] * BATCH_COUNT:
                raise SystemExit(f"a value is missing: {namespace.stats()}")
        if buffers[-1].tobytes() != value:
            raise SystemExit("a value came back wrong")

    return total / 1e6 / seconds(put), total / 1e6 / seconds(get)
