"""This repository's smallpond, its DataFrame API as a user writes it: no hints, no counts.

    python with_smallpond.py WORK INPUT OUTPUT MEMORY_BYTES TASKS

MEMORY_BYTES is 0 for no limit, else the session's limit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smallpond

if TYPE_CHECKING:
    from smallpond.dataframe import DataFrame, Session


class Works:
    """One method a work; each gives the frame that is written."""

    def __init__(self, session: Session, source: Path) -> None:
        self.session = session
        self.source = source

    def read(self, name: str) -> DataFrame:
        return self.session.read_parquet(str(self.source / name / "*.parquet"))

    def sort(self) -> DataFrame:
        return self.read("records").sort("key")

    def wordcount(self) -> DataFrame:
        words = self.read("lines").flat_map("unnest(string_split(line, ' ')) as word")
        return words.group_by("word").agg(n="count(*)")

    def join(self) -> DataFrame:
        rows = self.read("facts").join(self.read("dimensions"), on="k")
        return rows.group_by("g").agg(n="count(*)", s="sum(v)")

    def shuffle(self) -> DataFrame:
        return self.read("samples").random_shuffle()

    def partition(self) -> DataFrame:
        return self.read("rows").repartition(64, hash_by="k")

    def startup(self) -> DataFrame:
        return self.session.from_items([{"a": 1}])


def no_operation(runtime_ctx: Any, datasets: list[Any], output_path: str) -> bool:
    """What 10,000 tasks do."""
    return True


def run_tasks(place: Path, count: int) -> None:
    """Runs a plan of `count` tasks, each with its record of completion."""
    import pyarrow as pa

    from smallpond.execution.driver import Driver
    from smallpond.logical.dataset import ArrowTableDataSet
    from smallpond.logical.node import (
        Context,
        DataSetPartitionNode,
        DataSourceNode,
        LogicalPlan,
        PythonScriptNode,
    )

    ctx = Context()
    numbers = DataSourceNode(ctx, ArrowTableDataSet(pa.table({"number": range(count)})))
    parts = DataSetPartitionNode(ctx, (numbers,), npartitions=count, partition_by_rows=True)
    plan = LogicalPlan(ctx, PythonScriptNode(ctx, (parts,), process_func=no_operation))
    driver = Driver()
    driver.parse_arguments(["--data_root", str(place), "--console_log_level", "WARNING"])
    assert driver.run(plan, stop_process_on_done=False)


def main(work: str, source: Path, target: Path, memory_bytes: int, task_count: int) -> None:
    root = target.parent / "root"
    if work == "tasks":
        run_tasks(root, task_count)
        return
    session = smallpond.init(data_root=str(root), memory_limit=memory_bytes or None)
    works = Works(session, source)
    getattr(works, work.replace("join-skew", "join"))().write_parquet(str(target))
    session.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
