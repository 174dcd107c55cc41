"""The contributed nodes, run by the engine."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.contrib.copy_table import CopyArrowTable, StreamCopy
from smallpond.contrib.log_dataset import LogDataSet
from smallpond.contrib.warc import ExtractHtmlBody, ImportWarcFiles
from smallpond.logical.dataset import FileSet, ParquetDataSet
from smallpond.logical.node import Context, DataSetPartitionNode, DataSourceNode, SqlEngineNode
from smallpond.utility import overall_stats
from tests.smallpond.data.test_warc import record, response
from tests.smallpond.nodes.conftest import RunPlan, make_ctx, run_plan

__all__ = ["make_ctx", "run_plan"]


@pytest.fixture
def source(tmp_path: Path) -> ParquetDataSet:
    """Three files of 10 rows."""
    for index in range(3):
        table = pa.table({"i": range(index * 10, index * 10 + 10)})
        parquet.write_table(table, tmp_path / f"in-{index}.parquet")
    return ParquetDataSet([str(tmp_path / "in-*.parquet")])


@pytest.mark.parametrize("kind", [CopyArrowTable, StreamCopy])
def test_copies(run_plan: RunPlan, source: ParquetDataSet, kind: type) -> None:
    """Goal: a copy has the same rows in files of its own. Oracle: rows and paths."""
    ctx = Context()
    node = kind(ctx, (DataSourceNode(ctx, source),), output_name="copied")
    output = run_plan(node).final_output
    assert sorted(output.to_arrow_table().column("i").to_pylist()) == list(range(30))
    assert not set(output.resolved_paths) & set(source.resolved_paths)


def test_log(run_plan: RunPlan, source: ParquetDataSet, caplog: pytest.LogCaptureFixture) -> None:
    """Goal: the first rows of each partition are in the log. Oracle: its text."""
    ctx = Context()
    parts = DataSetPartitionNode(ctx, (DataSourceNode(ctx, source),), npartitions=3)
    with caplog.at_level(logging.INFO, logger="smallpond.logical.dataset"):
        run_plan(LogDataSet(ctx, (parts,), num_rows=2))
    logged = [line for r in caplog.records for line in r.getMessage().splitlines()]
    shown = [int(line.split()[-1]) for line in logged if line[:1].isdigit()]
    assert sorted(shown) == [0, 1, 10, 11, 20, 21]


def test_overall_stats(run_plan: RunPlan, source: ParquetDataSet) -> None:
    """Goal: a query a partition, then one on all results. Oracle: the sum."""
    ctx = Context()
    parts = DataSetPartitionNode(ctx, (DataSourceNode(ctx, source),), npartitions=3)
    per_part, merged = "select sum(i) as s from {0}", "select sum(s)::BIGINT as s from {0}"
    node = overall_stats(ctx, (parts,), per_part, merged, "stats", memory_limit=1 << 30)
    assert isinstance(node, SqlEngineNode)
    assert run_plan(node).final_output.to_arrow_table().to_pylist() == [{"s": sum(range(30))}]


def test_web_pages_become_words(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: archives become Parquet, pages become words, without marks or punctuation.
    Oracle: by hand.
    """
    pytest.importorskip("bs4")
    pytest.importorskip("lxml")
    page = "<html><b>Héllo</b>, World! 3€ don't «stop»</html>".encode()
    for index in range(2):
        data = record("response", f"http://h{index}.example/", response(page))
        (tmp_path / f"{index}.warc.gz").write_bytes(gzip.compress(data))
    ctx = Context()
    files = DataSourceNode(ctx, FileSet([str(tmp_path / "*.warc.gz")]))
    pages = ImportWarcFiles(ctx, (files,))
    found = run_plan(ExtractHtmlBody(ctx, (pages,))).final_output.to_arrow_table().to_pylist()
    assert sorted(row["domain"] for row in found) == ["h0.example", "h1.example"]
    assert all(r["tokens"] == ["héllo", "world", "3€", "don", "t", "stop"] for r in found)


def test_archives_become_parquet(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: archives into Parquet alone. Oracle: the rows; a damaged file fails the plan."""
    data = record("response", "http://h.example/", response(b"body"))
    (tmp_path / "a.warc").write_bytes(data)
    ctx = Context()
    node = ImportWarcFiles(ctx, (DataSourceNode(ctx, FileSet([str(tmp_path / "a.warc")])),))
    output = run_plan(node).final_output
    (row,) = ParquetDataSet(output.resolved_paths).to_arrow_table().to_pylist()
    assert (row["url"], row["content"]) == ("http://h.example/", b"body")
    (tmp_path / "a.warc").write_bytes(data[:-10])
    with pytest.raises(AssertionError, match=r"a\.warc"):
        run_plan(node, succeeds=False)
