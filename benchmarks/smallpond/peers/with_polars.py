"""Polars, its streaming engine: one lazy query a work.

    python with_polars.py WORK INPUT OUTPUT MEMORY_BYTES TASKS

MEMORY_BYTES is 0 for no limit, else the budget of its out-of-core mode, which must be set before
import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

work, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
memory_bytes = int(sys.argv[4])
if memory_bytes:
    os.environ["POLARS_OOC_MEMORY_BUDGET_MB"] = str(memory_bytes // 1_000_000)
    os.environ["POLARS_OOC_SPILL_DIR"] = str(target.parent / "spilled")
    (target.parent / "spilled").mkdir(parents=True, exist_ok=True)

import polars as pl  # noqa: E402


def scan(name: str) -> pl.LazyFrame:
    return pl.scan_parquet(str(source / name / "*.parquet"))


def joined() -> pl.LazyFrame:
    rows = scan("facts").join(scan("dimensions"), on="k")
    return rows.group_by("g").agg(pl.len().alias("n"), pl.col("v").sum().alias("s"))


def counted() -> pl.LazyFrame:
    words = scan("lines").select(pl.col("line").str.split(" ").alias("word")).explode("word")
    return words.group_by("word").agg(pl.len().alias("n"))


def shuffled() -> pl.LazyFrame:
    rows = scan("samples").with_columns(pl.col("id").hash(7).alias("order"))
    return rows.sort("order").drop("order")


QUERIES: dict[str, Callable[[], pl.LazyFrame]] = {
    "sort": lambda: scan("records").sort("key"),
    "wordcount": counted,
    "join": joined,
    "join-skew": joined,
    "shuffle": shuffled,
    "partition": lambda: scan("rows").with_columns((pl.col("k").hash() % 64).alias("p")),
    "startup": lambda: pl.LazyFrame({"a": [1]}),
}


def main() -> None:
    target.mkdir(parents=True)
    query = QUERIES[work]()
    path: Path | pl.PartitionBy = target / "0.parquet"
    if work == "partition":
        path = pl.PartitionBy(target, key="p", include_key=False)
    query.sink_parquet(
        path,
        compression="zstd",
        compression_level=3,
        maintain_order=work in ("sort", "shuffle"),
        engine="streaming",
    )


if __name__ == "__main__":
    main()
