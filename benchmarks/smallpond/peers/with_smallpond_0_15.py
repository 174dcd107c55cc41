"""DeepSeek's smallpond 0.15, the way its documentation does it: partitions, then SQL in each.

    python with_smallpond_0_15.py WORK INPUT OUTPUT MEMORY_BYTES TASKS

MEMORY_BYTES is 0 for no limit, else what a task may take, with its temporary directory on. It has
no global sort: the records go into eight buckets by the first bits of the key, each is sorted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import smallpond

BUCKET = "(strpos('0123456789ABCDEF', substr(hex(key), 1, 1)) - 1) // 2"


class Works:
    """One method a work; each gives the frame that is written."""

    def __init__(self, session: Any, source: Path, limits: dict[str, Any]) -> None:
        self.session = session
        self.source = source
        self.limits = limits
        # Its shuffles take a limit but no folder to spill to.
        self.shuffle_limits = {k: v for k, v in limits.items() if k == "memory_limit"}
        self.partition_count = max(2, os.cpu_count() or 2) * 4

    def read(self, name: str) -> Any:
        return self.session.read_parquet(str(self.source / name / "*.parquet"))

    def sort(self) -> Any:
        rows = self.read("records").repartition(8, by_rows=True).map(f"*, {BUCKET} as bucket")
        buckets = rows.repartition(8, by="bucket", **self.shuffle_limits)
        return buckets.partial_sort(by="key", **self.limits)

    def wordcount(self) -> Any:
        lines = self.read("lines").repartition(self.partition_count, by_rows=True)
        words = "select unnest(string_split(line, ' ')) as word from {0}"
        counted = f"select word, count(*) as n from ({words}) group by word"
        parts = self.session.partial_sql(counted, lines).repartition(2, hash_by="word")
        total = "select word, sum(n)::bigint as n from {0} group by word"
        return self.session.partial_sql(total, parts)

    def join(self) -> Any:
        count = self.partition_count
        facts = self.read("facts").repartition(count, by_rows=True).repartition(count, hash_by="k")
        dimensions = self.read("dimensions").repartition(count, hash_by="k")
        query = (
            "select g, count(*) as n, sum(v)::bigint as s from {0} join {1} using (k) group by g"
        )
        parts = self.session.partial_sql(query, facts, dimensions, **self.limits).repartition(1)
        total = "select g, sum(n)::bigint as n, sum(s)::bigint as s from {0} group by g"
        return self.session.partial_sql(total, parts)

    def shuffle(self) -> Any:
        rows = self.read("samples").repartition(self.partition_count, by_rows=True)
        return rows.random_shuffle(**self.shuffle_limits)

    def partition(self) -> Any:
        rows = self.read("rows").repartition(self.partition_count, by_rows=True)
        return rows.repartition(64, hash_by="k")

    def startup(self) -> Any:
        return self.session.from_items([{"a": 1}])

    def tasks(self, count: int) -> None:
        numbers = self.session.from_items(list(range(count))).repartition(count, by_rows=True)
        assert numbers.filter("item >= 0").count() == count


def main(work: str, source: Path, target: Path, memory_bytes: int, task_count: int) -> None:
    session = smallpond.init(data_root=str(target.parent / "root"))
    limits: dict[str, Any] = {}
    if memory_bytes:
        limits = {"memory_limit": memory_bytes // 2, "enable_temp_directory": True}
    works = Works(session, source, limits)
    if work == "tasks":
        works.tasks(task_count)
    else:
        getattr(works, work.replace("join-skew", "join"))().write_parquet(str(target))
    session.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
