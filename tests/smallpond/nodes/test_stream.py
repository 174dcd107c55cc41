"""Streams and batches of user code: batch sizes, padding, checkpoints, errors that end threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from smallpond.execution.task import ExecutionPlan, RuntimeContext, StreamOutput
from smallpond.execution.task.stream_writer import StreamWriter
from smallpond.logical.dataset import SqlQueryDataSet
from smallpond.logical.node import (
    ArrowBatchNode,
    ArrowStreamNode,
    Context,
    DataSourceNode,
    Node,
    PandasBatchNode,
    PandasComputeNode,
)
from smallpond.utility import ConcurrentIter

RunPlan = Callable[..., ExecutionPlan]


def numbers(ctx: Context, count: int) -> DataSourceNode:
    return DataSourceNode(ctx, SqlQueryDataSet(f"select range as item from range({count})"))


def items(plan: ExecutionPlan) -> list[int]:
    found: list[int] = plan.final_output.to_arrow_table().column("item").to_pylist()
    return found


@pytest.mark.parametrize("cpus", [1, 2])
def test_batches_have_the_wanted_size(run_plan: RunPlan, tmp_path: Path, cpus: int) -> None:
    """Goal: full batches, then the rest; with and without a thread beside. Oracle: their sizes."""
    sizes: list[int] = []

    def record(runtime_ctx: RuntimeContext, tables: list[pa.Table]) -> pa.Table:
        sizes.append(tables[0].num_rows)
        return tables[0]

    ctx = Context()
    node = ArrowBatchNode(
        ctx,
        (numbers(ctx, 1000),),
        process_func=record,
        streaming_batch_size=350,
        cpu_limit=cpus,
    )
    plan = run_plan(node)
    assert sizes == [350, 350, 300]
    assert items(plan) == list(range(1000))


def test_shorter_inputs_give_empty_tables(run_plan: RunPlan) -> None:
    """Goal: zipped batches. Oracle: the rows of each call."""
    seen: list[tuple[int, int]] = []

    def record(runtime_ctx: RuntimeContext, tables: list[pa.Table]) -> pa.Table:
        assert tables[1].column_names == ["item"]
        seen.append((tables[0].num_rows, tables[1].num_rows))
        return pa.concat_tables(tables)

    ctx = Context()
    node = ArrowBatchNode(
        ctx,
        (numbers(ctx, 25), numbers(ctx, 10)),
        process_func=record,
        streaming_batch_size=10,
    )
    assert len(items(run_plan(node))) == 35
    assert seen == [(10, 10), (10, 0), (5, 0)]


def test_pandas_batches_and_frames(run_plan: RunPlan) -> None:
    """Goal: frames in, frames out. Oracle: doubled values."""

    def double(runtime_ctx: RuntimeContext, frames: list[pd.DataFrame]) -> pd.DataFrame:
        return frames[0] * 2

    ctx = Context()
    source = numbers(ctx, 10)
    batches = PandasBatchNode(ctx, (source,), process_func=double, streaming_batch_size=4)
    node: Node = PandasComputeNode(ctx, (batches,), process_func=double)
    assert items(run_plan(node)) == [4 * i for i in range(10)]


@pytest.mark.parametrize("cpus", [1, 2])
def test_an_attempt_goes_on_from_the_last_checkpoint(run_plan: RunPlan, cpus: int) -> None:
    """Goal: finished batches are not done again, no row is lost. Method: fails at batch 4, once.

    Oracle: which batches were processed; the rows.
    """
    processed: list[int] = []

    def stream(runtime_ctx: RuntimeContext, readers: list[Any]) -> Iterator[StreamOutput]:
        for index, batch in enumerate(readers[0]):
            first = batch.column(0)[0].as_py()
            if first == 40 and first not in processed:
                processed.append(first)
                raise RuntimeError("the fifth batch fails")
            processed.append(first)
            yield StreamOutput(
                pa.Table.from_batches([batch]), batch_indices=[index], force_checkpoint=True
            )

    ctx = Context()
    node = ArrowStreamNode(
        ctx,
        (numbers(ctx, 100),),
        process_func=stream,
        streaming_batch_size=10,
        cpu_limit=cpus,
        output_name="stream",
    )
    plan = run_plan(node, max_fail_count=2)
    assert sorted(items(plan)) == list(range(100))
    # With a thread beside, batch 30's checkpoint may not have been sent when batch 40 fails.
    again = [first for first in processed if processed.count(first) > 1]
    assert set(again) <= ({40} if cpus == 1 else {30, 40})


def raise_when_ahead() -> None:
    """Fail when the thread that reads ahead has filled its buffer and waits for room."""
    time.sleep(0.2)
    raise ValueError("broken")


def batch_raises(runtime_ctx: RuntimeContext, tables: list[pa.Table]) -> pa.Table:
    raise_when_ahead()


def stream_raises(runtime_ctx: RuntimeContext, readers: list[Any]) -> Iterator[pa.Table]:
    with ConcurrentIter(readers[0]) as batches:
        yield pa.Table.from_batches([next(batches)])
        raise_when_ahead()


def stream(runtime_ctx: RuntimeContext, readers: list[Any]) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([batch]) for batch in readers[0])


@pytest.mark.parametrize(
    ("kind", "process"),
    [
        (ArrowBatchNode, batch_raises),
        (ArrowStreamNode, stream_raises),
        (ArrowStreamNode, stream),
    ],
)
def test_a_failing_stream_leaves_no_thread(
    run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch, kind: Any, process: Any
) -> None:
    """Goal: an exception ends the read-ahead threads (0.15 leaked them until the job hung).
    Method: user code that fails while a thread waits for room; output that cannot be written.
    Oracle: the threads that live some time after the failure.
    """
    if process is stream:
        monkeypatch.setattr(StreamWriter, "write", lambda self, table: raise_when_ahead())
    before = set(threading.enumerate())
    ctx = Context()
    node = kind(
        ctx, (numbers(ctx, 1000),), process_func=process, streaming_batch_size=10, cpu_limit=2
    )
    with pytest.raises(AssertionError, match="broken"):
        run_plan(node, succeeds=False)
    deadline = time.monotonic() + 10
    while leaked := [t for t in threading.enumerate() if t not in before and "read" in t.name]:
        assert time.monotonic() < deadline, leaked
        time.sleep(0.01)


def test_columns_of_nulls_take_the_type_of_the_first_batch(run_plan: RunPlan) -> None:
    """Goal: a batch whose values are all NULL fits into the file. Oracle: the rows."""

    def nulls_later(runtime_ctx: RuntimeContext, frames: list[pd.DataFrame]) -> pd.DataFrame:
        first = frames[0]["item"].iloc[0] == 0
        return pd.DataFrame({"item": frames[0]["item"], "t": ["x" if first else None] * 5})

    ctx = Context()
    node = PandasBatchNode(
        ctx, (numbers(ctx, 10),), process_func=nulls_later, streaming_batch_size=5
    )
    table = run_plan(node).final_output.to_arrow_table()
    assert table.column("t").to_pylist() == ["x"] * 5 + [None] * 5
