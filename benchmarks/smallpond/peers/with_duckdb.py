"""DuckDB alone: one statement a work.

    python with_duckdb.py WORK INPUT OUTPUT MEMORY_BYTES TASKS

MEMORY_BYTES is 0 for no limit.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import duckdb

PARQUET = "format parquet, compression zstd, compression_level 3"
JOIN = (
    "select g, count(*) as n, sum(v)::bigint as s "
    "from read_parquet('{source}/facts/*') join read_parquet('{source}/dimensions/*') using (k) "
    "group by g"
)
WORDS = (
    "select word, count(*) as n from "
    "(select unnest(string_split(line, ' ')) as word from read_parquet('{source}/lines/*')) "
    "group by word"
)
QUERIES = {
    "sort": "select * from read_parquet('{source}/records/*') order by key",
    "wordcount": WORDS,
    "join": JOIN,
    "join-skew": JOIN,
    "shuffle": "select * from read_parquet('{source}/samples/*') order by hash(id)",
    "partition": "select *, hash(k) % 64 as p from read_parquet('{source}/rows/*')",
    "startup": "select 1 as a",
}


def main(work: str, source: Path, target: Path, memory_bytes: int) -> None:
    target.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(f"set temp_directory = '{target.parent / 'spilled'}'")
        connection.execute(f"set threads = {os.cpu_count()}")
        if memory_bytes:
            connection.execute(f"set memory_limit = '{memory_bytes >> 20} MiB'")
        if work not in ("sort", "shuffle"):
            connection.execute("set preserve_insertion_order = false")
        query = QUERIES[work].format(source=source)
        if work == "partition":
            connection.execute(f"copy ({query}) to '{target}/p' ({PARQUET}, partition_by (p))")
        else:
            connection.execute(f"copy ({query}) to '{target}/0.parquet' ({PARQUET})")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
