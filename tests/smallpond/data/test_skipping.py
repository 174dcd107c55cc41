"""Damaged input in a job: it fails, or it is left out and the task says so."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.common import CorruptFile, OutOfMemory
from smallpond.execution.task import ExecutionPlan, RuntimeContext, StreamOutput
from smallpond.logical.dataset import CsvDataSet, DataSet, ParquetDataSet
from smallpond.logical.dataset.damage import may_be_damage
from smallpond.logical.dataset.union import UnionDataSet
from smallpond.logical.node import (
    ArrowBatchNode,
    ArrowComputeNode,
    ArrowStreamNode,
    Context,
    DataSetPartitionNode,
    DataSourceNode,
    HashPartitionNode,
    Node,
    PandasBatchNode,
    PandasComputeNode,
    PythonScriptNode,
    SqlEngineNode,
)
from tests.smallpond.nodes.conftest import RunPlan, make_ctx, run_plan

__all__ = ["make_ctx", "run_plan"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A good and a damaged Parquet file; a CSV file with a bad row."""
    for name in ("good", "bad"):
        parquet.write_table(pa.table({"i": range(10)}), tmp_path / f"{name}.parquet")
    data = (tmp_path / "bad.parquet").read_bytes()
    (tmp_path / "bad.parquet").write_bytes(data[:-9])
    (tmp_path / "a.csv").write_text("1\n2\nx\n")
    return tmp_path


def source(root: Path, kind: str, skip: bool) -> DataSet:
    if kind == "csv":
        return CsvDataSet(str(root / "a.csv"), {"i": "BIGINT"}, ignore_errors=skip)
    return ParquetDataSet(str(root / "*.parquet"), ignore_corrupt_files=skip)


@pytest.mark.parametrize(("kind", "rows", "place"), [("csv", 2, "a.csv:3"), ("parquet", 10, "bad")])
def test_skipping_in_a_job(
    run_plan: RunPlan,
    root: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    rows: int,
    place: str,
) -> None:
    """Goal: not asked for, the job fails with the place; asked for, the good rows come out and the
    place is in the log and counted. Oracle: rows, log, metrics of the task.
    """
    ctx = Context()
    failing = DataSourceNode(ctx, source(root, kind, skip=False))
    with pytest.raises(AssertionError, match=place.split(":")[0]):
        run_plan(SqlEngineNode(ctx, (failing,), "select * from {0}"), succeeds=False)
    skipping = DataSourceNode(ctx, source(root, kind, skip=True))
    node = SqlEngineNode(ctx, (skipping,), "select * from {0}")
    with caplog.at_level("WARNING"):
        plan = run_plan(node)
    assert plan.final_output.num_rows == rows
    assert any("skipped" in r.getMessage() and place in r.getMessage() for r in caplog.records)
    nodes = plan.analyzed_logical_plan.nodes.values()
    counted = [one.perf_metrics.get("num skipped rows or files") for one in nodes]
    assert [1] in counted


def overwrite(path: Path, begin: int, count: int = 400) -> None:
    """Damage in the middle of a file: its footer stays sound."""
    data = bytearray(path.read_bytes())
    assert begin + count < len(data) - 1000
    data[begin : begin + count] = b"\xff" * count
    path.write_bytes(bytes(data))


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Six files of 1000 rows. Of `a3` the first page's head is damaged, of `a5` its data."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for index in range(6):
        text = [f"{index} {row * 7919 % 1000003}" for row in range(1000)]
        table = pa.table({"i": range(1000), "s": text})
        parquet.write_table(table, folder / f"a{index}.parquet", compression="gzip")
    overwrite(folder / "a3.parquet", 4)
    overwrite(folder / "a5.parquet", 600)
    return folder


def whole_tables(runtime_ctx: RuntimeContext, tables: list[Any]) -> Any:
    return tables[0]


def streamed(runtime_ctx: RuntimeContext, readers: list[Any]) -> Any:
    for batch in readers[0]:
        yield StreamOutput(pa.Table.from_batches([batch]), [0], force_checkpoint=True)


def written(runtime_ctx: RuntimeContext, datasets: list[DataSet], output_path: str) -> bool:
    parquet.write_table(datasets[0].to_arrow_table(), f"{output_path}/all.parquet")
    return True


READERS: dict[str, Callable[[Context, Node], Node]] = {
    "sql": lambda ctx, data: SqlEngineNode(ctx, (data,), "select i, s from {0}"),
    "batched sql": lambda ctx, data: SqlEngineNode(
        ctx, (data,), "select i, s from {0}", batched_processing=True, memory_limit=32 << 20
    ),
    "hash": lambda ctx, data: HashPartitionNode(ctx, (data,), 3, hash_columns=["s"]),
    "hash by arrow": lambda ctx, data: HashPartitionNode(
        ctx, (data,), 3, hash_columns=["s"], engine_type="arrow"
    ),
    "arrow": lambda ctx, data: ArrowComputeNode(ctx, (data,), process_func=whole_tables),
    "arrow by duckdb": lambda ctx, data: ArrowComputeNode(
        ctx, (data,), process_func=whole_tables, use_duckdb_reader=True
    ),
    "stream": lambda ctx, data: ArrowStreamNode(
        ctx, (data,), process_func=streamed, streaming_batch_size=700
    ),
    "batch": lambda ctx, data: ArrowBatchNode(
        ctx, (data,), process_func=whole_tables, streaming_batch_size=700
    ),
    "pandas": lambda ctx, data: PandasComputeNode(ctx, (data,), process_func=whole_tables),
    "pandas batch": lambda ctx, data: PandasBatchNode(ctx, (data,), process_func=whole_tables),
    "script": lambda ctx, data: PythonScriptNode(ctx, (data,), process_func=written),
}


def left_out_count(plan: ExecutionPlan) -> int:
    nodes = plan.analyzed_logical_plan.nodes.values()
    return int(sum(sum(one.perf_metrics.get("num skipped rows or files", [])) for one in nodes))


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_damaged_pages(
    run_plan: RunPlan, pages: Path, caplog: pytest.LogCaptureFixture, reader: str, split: bool
) -> None:
    """Goal: files that show their damage while they are read fail the job by name; where that is
    asked for, they are left out, all at once, and told. Method: each kind of task, over all files
    and over one file each. Oracle: the sound rows, once each; the log; the metric; the name.
    """

    def node(ignore: bool) -> Node:
        ctx = Context()
        dataset = ParquetDataSet(str(pages / "*.parquet"), ignore_corrupt_files=ignore)
        data: Node = DataSourceNode(ctx, dataset)
        if split:
            data = DataSetPartitionNode(ctx, (data,), 6)
        return READERS[reader](ctx, data)

    with pytest.raises(AssertionError, match=r"a[35]\.parquet"):
        run_plan(node(False), succeeds=False)
    with caplog.at_level("WARNING"):
        plan = run_plan(node(True))
    files = [path for path in plan.final_output.resolved_paths if path.endswith(".parquet")]
    rows = ParquetDataSet(files).to_arrow_table(conn=duckdb.connect())
    found = sorted(zip(rows["i"].to_pylist(), rows["s"].to_pylist(), strict=True))
    sound = [parquet.read_table(pages / f"a{index}.parquet") for index in (0, 1, 2, 4)]
    expected = pa.concat_tables(sound)
    assert found == sorted(zip(expected["i"].to_pylist(), expected["s"].to_pylist(), strict=True))
    told = {
        name for name in ("a3", "a5") for r in caplog.records if f"{name}.par" in r.getMessage()
    }
    assert told == {"a3", "a5"}
    assert left_out_count(plan) == 2


ERRORS_OF_OTHERS = (
    FileNotFoundError("a file of the user"),
    FileNotFoundError(errno.ENOENT, "a file of the user"),
    ConnectionError("a service of the user"),
    OSError(errno.ENOSPC, "a disk of the user"),
    OSError("a disk of the user"),
    pa.ArrowInvalid("a cast of the user"),
    duckdb.ConversionException("Conversion Error: a query of the user"),
)


def test_sound_files_are_read_once(run_plan: RunPlan, root: Path) -> None:
    """Goal: nobody pays for what is not damaged, nor for errors of other kinds. Method: count the
    looks at files, while queries and functions fail. Oracle: none.
    """
    (root / "bad.parquet").unlink()
    looks: list[int] = []
    ctx = Context()
    data = DataSourceNode(ctx, source(root, "parquet", skip=True))

    def failing(error: Exception) -> Callable[..., Any]:
        def fail(*args: Any) -> Any:
            raise error

        return fail

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParquetDataSet, "verify", lambda *args, **kwargs: looks.append(1) or {})
        run_plan(SqlEngineNode(ctx, (data,), "select * from {0}"))
        query = "select ('x' || i)::int as i from {0}"
        with pytest.raises(AssertionError, match="Conversion"):
            run_plan(SqlEngineNode(ctx, (data,), query), succeeds=False)
        for error in ERRORS_OF_OTHERS:
            for kind in (ArrowComputeNode, ArrowBatchNode, PythonScriptNode):
                node = kind(ctx, (data,), process_func=failing(error))
                with pytest.raises(AssertionError, match="of the user"):
                    run_plan(node, succeeds=False)
    assert not looks


@pytest.mark.parametrize(
    ("error", "may_be"),
    [
        (duckdb.Error("Invalid Error: don't know what type"), True),
        (duckdb.IOException('IO Error: Could not read enough bytes from file "x"'), True),
        (duckdb.InvalidInputException('Invalid Input Error: Failed to read file "x": y'), True),
        (OSError('Invalid Input Error: Failed to read file "x": Page sizes'), True),
        (CorruptFile("x"), True),
        (duckdb.IOException('IO Error: Could not write file "x": No space left on device'), False),
        (duckdb.IOException('IO Error: Cannot open file "x": Too many open files'), False),
        (duckdb.IOException('IO Error: No files found that match the pattern "x"'), False),
        (duckdb.HTTPException('HTTP Error: reading file "x" failed'), False),
        (duckdb.Error("Invalid Error: TimeoutError: slow\n\nAt:\n  x.py(3): read\n"), False),
        (
            duckdb.InvalidInputException(
                "Invalid Input Error: Python exception occurred while executing the UDF: "
                'OSError: cannot open file "x"'
            ),
            False,
        ),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate"), False),
        (OSError("Out of Memory Error: failed to allocate"), False),
        (pa.ArrowMemoryError("malloc failed"), False),
        (OutOfMemory("no room"), False),
        *((error, False) for error in ERRORS_OF_OTHERS),
    ],
    ids=str,
)
def test_which_errors_may_be_damage(error: Exception, may_be: bool) -> None:
    """Goal: files are looked at only when a reader complains of one. Method: errors as they are, as
    causes, and beside too little memory. Oracle: the answer.
    """
    assert may_be_damage(error) is may_be
    outer = RuntimeError("failed to run query")
    outer.__cause__ = error
    assert may_be_damage(outer) is may_be
    starved = MemoryError()
    starved.__context__ = outer
    assert not may_be_damage(starved)


def test_too_little_memory_is_no_damage(
    run_plan: RunPlan, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a task that runs out of memory gets more, and leaves out nothing. Method: Arrow's first
    two readings fail. Oracle: all rows.
    """
    (root / "bad.parquet").unlink()
    left = [1, 1]

    def starve(name: str) -> None:
        read = getattr(parquet.ParquetFile, name)

        def starved(*args: Any, **kwargs: Any) -> Any:
            if left:
                left.pop()
                raise pa.ArrowMemoryError("malloc failed")
            return read(*args, **kwargs)

        monkeypatch.setattr(parquet.ParquetFile, name, starved)

    starve("read_row_groups")
    starve("iter_batches")
    ctx = Context()
    data = DataSourceNode(ctx, source(root, "parquet", skip=True))
    node = ArrowComputeNode(ctx, (data,), process_func=whole_tables, memory_limit=64 << 20)
    assert run_plan(node).final_output.num_rows == 10
    assert not left


def test_a_run_begun_again_leaves_no_checkpoint(run_plan: RunPlan, pages: Path) -> None:
    """Goal: the attempt after one that began again does not go on from files that are gone.
    Method: checkpoints, then damage, then an error of the user. Oracle: sound rows, once each.
    """
    runs: list[int] = []

    def process(runtime_ctx: RuntimeContext, readers: list[Any]) -> Any:
        runs.append(0)
        for index, batch in enumerate(readers[0]):
            runs[-1] += batch.num_rows
            table = pa.Table.from_batches([batch])
            yield StreamOutput(table, [index], force_checkpoint=True)
        if len(runs) == 2:
            raise RuntimeError("once")

    ctx = Context()
    dataset = ParquetDataSet(str(pages / "*.parquet"), ignore_corrupt_files=True)
    node = ArrowStreamNode(
        ctx,
        (DataSourceNode(ctx, dataset),),
        process_func=process,
        streaming_batch_size=700,
        cpu_limit=1,
    )
    rows = run_plan(node, max_fail_count=1).final_output.to_arrow_table()
    assert 0 < runs[0] < 4000 and runs[1] == runs[-1] == 4000
    expected = [f"{index} {row * 7919 % 1000003}" for index in (0, 1, 2, 4) for row in range(1000)]
    assert sorted(rows["s"].to_pylist()) == sorted(expected)


def test_rows_left_out_for_arrow(
    run_plan: RunPlan, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: Python tasks tell of bad CSV rows as SQL tasks do. Oracle: the log and the metric."""
    ctx = Context()
    data = DataSourceNode(ctx, source(root, "csv", skip=True))
    with caplog.at_level("WARNING"):
        plan = run_plan(ArrowComputeNode(ctx, (data,), process_func=whole_tables))
    assert plan.final_output.num_rows == 2
    assert left_out_count(plan) == 1
    assert "a.csv:3" in caplog.text


def test_rows_left_out_of_a_union(
    run_plan: RunPlan, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: so do those that read a union. Oracle: the log and the metric."""
    ctx = Context()
    kinds = ("csv", "parquet")
    data = DataSourceNode(ctx, UnionDataSet([source(root, kind, skip=True) for kind in kinds]))
    with caplog.at_level("WARNING"):
        plan = run_plan(ArrowComputeNode(ctx, (data,), process_func=whole_tables))
    assert plan.final_output.num_rows == 12
    assert left_out_count(plan) == 2
    assert "a.csv:3" in caplog.text


def test_the_same_rows_are_left_out_whatever_is_read(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: a row that does not fit is left out also by queries that do not read the column at
    fault. Method: counts, one column, and the data set's own count. Oracle: 200 of 201 rows."""
    lines = [f"{number},{number}\n" for number in range(200)]
    (tmp_path / "b.csv").write_text("".join([*lines[:100], "7,none\n", *lines[100:]]))
    schema = {"a": "BIGINT", "b": "BIGINT"}
    dataset = CsvDataSet(str(tmp_path / "b.csv"), schema, ignore_errors=True)
    assert dataset.num_rows == 200
    for query in ("select count(*) as n from {0}", "select count(a) as n from {0} where a >= 0"):
        ctx = Context()
        plan = run_plan(SqlEngineNode(ctx, (DataSourceNode(ctx, dataset),), query))
        assert plan.final_output.to_arrow_table().to_pylist() == [{"n": 200}]


def test_inputs_of_several_kinds_are_merged(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: one partition of a CSV file and a Parquet file has the rows of both. Oracle: them."""
    (tmp_path / "a.csv").write_text("1\n2\n")
    parquet.write_table(pa.table({"i": [3]}), tmp_path / "b.parquet")
    ctx = Context()
    sources = (
        DataSourceNode(ctx, CsvDataSet(str(tmp_path / "a.csv"), {"i": "BIGINT"})),
        DataSourceNode(ctx, ParquetDataSet(str(tmp_path / "b.parquet"))),
    )
    whole = DataSetPartitionNode(ctx, sources, npartitions=1)
    plan = run_plan(SqlEngineNode(ctx, (whole,), "select i from {0} order by i"))
    assert plan.final_output.to_arrow_table().to_pylist() == [{"i": 1}, {"i": 2}, {"i": 3}]
