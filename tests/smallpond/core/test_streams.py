"""Stream tasks that fail: a reader thread that is left behind must stop nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smallpond.execution.scheduler import Scheduler
from smallpond.execution.task import RuntimeContext, StreamOutput
from smallpond.logical.dataset import ParquetDataSet
from smallpond.logical.node import ArrowStreamNode, Context, DataSetPartitionNode, DataSourceNode
from smallpond.logical.node import LogicalPlan as Plan
from smallpond.logical.planner import Planner
from smallpond.utility import ConcurrentIter
from tests.smallpond.core.plans import context

ROWS = 20_000
PARTS = 6


def stream(ctx: RuntimeContext, readers: list[Any]) -> Iterator[StreamOutput]:
    """Reads ahead in a thread, and fails at the second batch of the first attempt."""
    with ConcurrentIter(readers[0], max_buffer_size=1) as batches:
        for index, batch in enumerate(batches):
            if index == 1 and ctx.task.retry_count == 0:
                raise ValueError("the stream broke")
            table = pa.Table.from_batches([batch])
            yield StreamOutput(table, batch_indices=[index], force_checkpoint=True)


def test_streams_that_break_do_not_stop_the_job(tmp_path: Path) -> None:
    """Goal: a stream that raises while its reader is blocked is retried; nothing hangs (0.15 lost
    a slot each time, and in the end the job). Method: more streams than workers, each breaks once.
    Oracle: the job ends soon, with every row once; attempts go on from their checkpoint."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": range(ROWS)}), path, row_group_size=500)
    user = Context()
    source = DataSourceNode(user, ParquetDataSet([str(path)]))
    parts = DataSetPartitionNode(user, (source,), npartitions=PARTS, partition_by_rows=True)
    streams = ArrowStreamNode(user, (parts,), process_func=stream, streaming_batch_size=500)
    ctx = context(tmp_path / "job")
    plan = Planner(ctx).create_exec_plan(Plan(user, streams))
    scheduler = Scheduler(plan)
    begin = time.monotonic()
    assert scheduler.run(), scheduler.failure
    assert time.monotonic() - begin < 30
    broken = [task for task in scheduler.finished_tasks.values() if task.exception is not None]
    assert len(broken) == PARTS
    found = plan.final_output.to_arrow_table().column("a").to_pylist()
    assert sorted(found) == list(range(ROWS))
