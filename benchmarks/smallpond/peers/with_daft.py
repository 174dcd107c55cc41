"""Daft, its native runner: one data frame a work.

    python with_daft.py WORK INPUT OUTPUT MEMORY_BYTES TASKS

MEMORY_BYTES is 0 for no limit. It cannot sort binary values, so it sorts their hexadecimal form.
Its writer has ZSTD without a level.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

work, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
memory_bytes = int(sys.argv[4])
os.environ["DAFT_PROGRESS_BAR"] = "0"
os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ["DO_NOT_TRACK"] = "true"
if memory_bytes:
    os.environ["DAFT_MEMORY_LIMIT"] = str(memory_bytes)

import daft  # type: ignore[import-not-found] # noqa: E402
from daft import col  # noqa: E402


def read(name: str) -> daft.DataFrame:
    return daft.read_parquet(str(source / name / "*.parquet"))


def joined() -> daft.DataFrame:
    rows = read("facts").join(read("dimensions"), on="k")
    return rows.groupby("g").agg(col("v").count().alias("n"), col("v").sum().alias("s"))


def counted() -> daft.DataFrame:
    words = read("lines").select(col("line").split(" ").alias("word")).explode("word")
    return words.groupby("word").agg(col("word").count().alias("n"))


def sorted_records() -> daft.DataFrame:
    rows = read("records").with_column("order", col("key").encode("hex").decode("utf-8"))
    return rows.sort("order").exclude("order")


def shuffled() -> daft.DataFrame:
    return read("samples").with_column("order", col("id").hash()).sort("order").exclude("order")


FRAMES: dict[str, Callable[[], daft.DataFrame]] = {
    "sort": sorted_records,
    "wordcount": counted,
    "join": joined,
    "join-skew": joined,
    "shuffle": shuffled,
    "partition": lambda: read("rows").with_column("p", col("k").hash() % 64),
    "startup": lambda: daft.from_pydict({"a": [1]}),
}


def main() -> None:
    daft.set_runner_native()
    frame = FRAMES[work]()
    columns = {"partition_cols": ["p"]} if work == "partition" else {}
    frame.write_parquet(str(target), compression="zstd", **columns)


if __name__ == "__main__":
    main()
    # Its threads may abort the interpreter while that ends: the output is whole by now.
    os._exit(0)
