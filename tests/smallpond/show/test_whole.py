"""What is shown of real jobs: sessions and the driver, with worker processes."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

import smallpond
from smallpond.dataframe import Session
from smallpond.execution.driver import Driver
from smallpond.logical.dataset import ArrowTableDataSet
from smallpond.logical.node import Context, DataSourceNode, LogicalPlan, SqlEngineNode

SCRIPT = """
import smallpond

def share(row):
    return {"share": 100 // (50 - row["id"])}

with smallpond.init(data_root=".", progress=False) as sp:
    rows = sp.from_items([{"id": id} for id in range(100)])
    rows.repartition(4, by_rows=True).map(share).compute()
"""
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def sp(tmp_path: Path) -> Iterator[Session]:
    """A session with two workers."""
    session = smallpond.init(data_root=str(tmp_path / "data"), num_workers=2, progress=False)
    yield session
    session.shutdown()


def numbers(sp: Session, count: int) -> smallpond.DataFrame:
    """So many rows in four partitions."""
    items = [{"id": id} for id in range(count)]
    return sp.from_items(items).repartition(4, by_rows=True)


def test_a_session_leaves_files_that_agree(sp: Session) -> None:
    """Goal: all files of a real job. Oracle: their formats, and the job's own numbers."""
    numbers(sp, 100).map(lambda row: {"k": row["id"] % 3}).group_by("k").count().compute()
    log_root = Path(sp.runtime_ctx.log_root)
    sp.shutdown()
    for name in ("timeline_exec", "timeline_plan"):
        runs = [one for one in json.loads((log_root / name).read_text()) if one["ph"] == "X"]
        assert {one["args"]["status"] for one in runs} == {"SUCCEED"}
    with (log_root / "task_metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    mapped = [one for one in lines if one["task_props.key"].startswith("ArrowBatchTask")]
    assert sum(int(one["run.rows_out"]) for one in mapped) == 100
    assert len(lines) == len(runs)
    drawing = ElementTree.parse(log_root / "graph.svg").getroot()
    tips = [tip.text or "" for tip in drawing.iter(f"{SVG}title")]
    assert any("ArrowBatchNode" in tip and "4 tasks" in tip for tip in tips)
    assert "ArrowBatchNode" in (log_root / "profile.txt").read_text()
    for name in ("exec_timeline.html", "plan_timeline.html"):
        assert "(100.0%)" in (log_root / name).read_text()


def test_explain_after_a_run_has_the_costs(sp: Session) -> None:
    """Goal: explain says what it cost. Oracle: rows in and out, which are known."""
    counted = numbers(sp, 90).map(lambda row: {"k": row["id"] % 3}).group_by("k").count()
    assert "90 rows" not in counted.explain().split("== Tasks")[1]
    counted.compute()
    costs = counted.explain().split("== Tasks")[1]
    assert re.search(r"4 tasks, .*90 rows \(.*\) in, 90 rows \(.*\) out", costs)
    assert "test_whole.py:" in costs


def test_spilled_bytes_are_those_that_were_spilled(tmp_path: Path) -> None:
    """Goal: the profile tells who spilled. Method: the same sort with little memory and with
    enough. Oracle: about the size of the rows in the first, nothing in the second.
    """
    spilled = {}
    for limit in ("80 MiB", "1 GiB"):
        with smallpond.init(
            data_root=str(tmp_path), memory_limit=limit, num_workers=1, progress=False
        ) as session:
            query = "select md5(range::varchar) as b, range as a from range(1200000)"
            rows = session.sql(f"{query} order by b")
            assert rows.count() == 1_200_000
            spilled[limit] = sum(one.spilled_bytes for one in session.view.profiles().values())
    assert spilled["1 GiB"] == 0
    assert 8 << 20 < spilled["80 MiB"] < 1 << 30


def test_graphs_of_a_session(sp: Session, tmp_path: Path) -> None:
    """Goal: dump_graph and graph as published, without `dot`. Oracle: both have the edges."""
    pytest.importorskip("graphviz")
    numbers(sp, 10).filter("id > 3")
    sp.dump_graph(str(tmp_path / "plan"))
    drawing = ElementTree.parse(tmp_path / "plan.svg").getroot()
    edges = [path for path in drawing.iter(f"{SVG}path") if path.get("class") == "edge"]
    assert len(edges) == sp.graph().source.count("->") == 2


def test_a_failing_script_says_where_and_how_to_replay(tmp_path: Path) -> None:
    """Goal: the whole path from a user's mistake to its mending. Method: a script that fails in
    one partition, in a process of its own; then the command of its report, from elsewhere.
    Oracle: lines of the script, and the statuses.
    """
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": str(root / "src"), "PATH": "/usr/bin:/bin"}
    failed = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    report = failed.stderr
    assert f"{script}:9" in report
    assert 'return {"share": 100 // (50 - row["id"])}' in report
    assert report.rpartition("Traceback")[2].count("ZeroDivisionError") == 1, report
    assert "__data_partition__[2/4]" in report
    [command] = re.findall(r"run it alone  (.*)", report)
    assert "smallpond.execution.task" in command
    again = subprocess.run(
        [*shlex.split(command), "-o", str(tmp_path / "alone")],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1, again.stderr
    assert "ZeroDivisionError" in again.stdout
    assert f'File "{script}", line 5, in share' in again.stdout


def test_the_driver_leaves_files(tmp_path: Path) -> None:
    """Goal: the published driver shows what a session shows. Oracle: the files in its log folder,
    where 0.15 had them.
    """
    import pyarrow as pa

    ctx = Context()
    source = DataSourceNode(ctx, ArrowTableDataSet(pa.table({"a": [1, 2, 3]})))
    plan = LogicalPlan(ctx, SqlEngineNode(ctx, (source,), "select a + 1 as a from {0}"))
    driver = Driver()
    driver.parse_arguments(
        ["scheduler", f"--data_root={tmp_path}", "--num_executors=0", "--memory_allocator=system"]
    )
    result = driver.run(plan, stop_process_on_done=False)
    assert result is not None
    [log_root] = tmp_path.glob("*/log")
    names = {path.name for path in log_root.iterdir()}
    assert {"graph.svg", "exec_timeline.html", "plan_timeline.html", "task_metrics.csv"} <= names
    assert "SqlEngineNode" in (log_root / "profile.txt").read_text()
