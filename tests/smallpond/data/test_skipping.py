"""Damaged input in a job: it fails, or it is left out and the task says so."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.logical.dataset import CsvDataSet, DataSet, ParquetDataSet
from smallpond.logical.node import Context, DataSourceNode, SqlEngineNode
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
