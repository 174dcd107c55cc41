"""Metadata operations of the SDK, one at a time, beside the same on the local file system."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import firepond
from benchmarks import usage
from benchmarks.report import Beside, Context, Row, seconds

FAMILY = "SDK, metadata"


def run(address: str, local: Path, context: Context) -> list[Row]:
    """Creates, looks up, renames and removes files and directories of one directory."""
    count = context.size(1000, 100)
    with firepond.connect(address) as cluster:
        cluster.mkdir("/metadata")

        def create(number: int) -> None:
            cluster.open_raw(f"/metadata/f{number}", "xb").close()

        steps: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
            "mkdir": (
                lambda number: cluster.mkdir(f"/metadata/d{number}"),
                lambda number: (local / f"d{number}").mkdir(),
            ),
            "create": (create, lambda number: (local / f"f{number}").touch(exist_ok=False)),
            "stat": (
                lambda number: cluster.stat(f"/metadata/f{number}"),
                lambda number: (local / f"f{number}").stat(),
            ),
            "rename": (
                lambda number: cluster.rename(f"/metadata/f{number}", f"/metadata/r{number}"),
                lambda number: (local / f"f{number}").rename(local / f"r{number}"),
            ),
            "unlink": (
                lambda number: cluster.remove(f"/metadata/r{number}"),
                lambda number: (local / f"r{number}").unlink(),
            ),
        }
        rows = []
        for name, (ours, theirs) in steps.items():
            taken: list[float] = []
            used = usage.use(context.servers, partial(repeat, ours, count, taken))
            local_rate = count / seconds(partial(repeat, theirs, count, []))
            beside = Beside("local, not durable", local_rate)
            cost, latency = usage.per_operation(used, count), usage.percentiles(taken)
            rate = count / used.elapsed_s
            rows.append(Row(FAMILY, name, rate, "/s", (beside,), None, cost, latency))
        for number in range(count):
            cluster.rmdir(f"/metadata/d{number}")
            (local / f"d{number}").rmdir()
    return rows


def repeat(step: Callable[[int], object], count: int, taken_s: list[float]) -> None:
    for number in range(count):
        usage.timed(partial(step, number), taken_s)
