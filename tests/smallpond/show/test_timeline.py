"""Timelines, metrics and the profile: the files that stay after a job."""

from __future__ import annotations

import csv
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from smallpond.execution.events import PlanStarted
from smallpond.execution.task.ids import TaskId, TaskRuntimeId
from smallpond.show.lanes import lanes_of
from smallpond.show.metrics_csv import write_metrics_csv
from smallpond.show.profile import node_profiles, profile_line, profile_text
from smallpond.show.record import Span
from smallpond.show.timeline_html import LABEL_WIDTH, WIDTH, tick_step_s, write_timeline_html
from smallpond.show.timeline_json import write_timeline_json
from smallpond.show.units import bytes_text, count_text, plural, seconds_text
from smallpond.show.view import JobView
from tests.smallpond.show.stream import (
    START_S,
    finished,
    flat_plan,
    recorded,
    started,
    two_stage_record,
)

SVG = "{http://www.w3.org/2000/svg}"


def drawing_of(page: Path) -> ElementTree.Element:
    """The SVG of a page, parsed."""
    match = re.search(r"<svg.*</svg>", page.read_text(), re.DOTALL)
    assert match is not None
    return ElementTree.fromstring(match.group())


def test_chrome_traces_by_worker_and_by_node(tmp_path: Path) -> None:
    """Goal: both traces load in a viewer. Oracle: the format's rules, and the stream's times."""
    record = two_stage_record(tmp_path)
    by_worker, by_node = write_timeline_json(record, tmp_path / "timeline", START_S + 9)
    assert (by_worker.name, by_node.name) == ("timeline_exec", "timeline_plan")
    for path, groups in (
        (by_worker, {"scheduler", "w0", "w1"}),
        (by_node, {"DataSourceNode-000001", "SqlEngineNode-000002", "Task-000099"}),
    ):
        events = json.loads(path.read_text())
        names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
        assert names == groups
        runs = [event for event in events if event["ph"] == "X"]
        assert len(runs) == 7
        assert all(event["ts"] >= 0 and event["dur"] >= 1 for event in runs)
        assert sum(event["dur"] for event in runs) == pytest.approx(8.001e6)
        lanes: dict[tuple[int, int], int] = {}
        for event in runs:
            lane = event["pid"], event["tid"]
            assert event["ts"] >= lanes.get(lane, 0), "runs of one lane must not overlap"
            lanes[lane] = event["ts"] + event["dur"]


def test_lanes_are_as_few_as_run_at_once() -> None:
    """Goal: overlapping runs get lanes. Oracle: the largest number of runs at one moment."""
    times = [(0.0, 3.0), (1.0, 2.0), (1.5, 4.0), (2.0, 5.0), (3.0, 4.0), (6.0, 7.0)]
    run = TaskRuntimeId(TaskId(1), 0, 0)
    spans = [Span(str(a), 0, run, "w", a, b) for a, b in times]
    lanes = lanes_of(spans, 9.0)
    assert len(lanes) == 3
    assert sorted(span.start_s for lane in lanes for span in lane) == [a for a, _ in times]
    for lane in lanes:
        for before, after in itertools.pairwise(lane):
            assert before.finish_s is not None
            assert before.finish_s <= after.start_s


def test_pages_need_nothing_but_themselves(tmp_path: Path) -> None:
    """Goal: a page opens anywhere. Oracle: no reference to anything outside, and 0.15's title."""
    for page in write_timeline_html(two_stage_record(tmp_path), tmp_path, START_S + 9, "job7"):
        text = page.read_text()
        assert not re.search(r"<script|src=|href=|@import|url\(", text)
        title = f"{page.stem} - progress: 7/7 (100.0%), elapsed: 4.0 secs, job: job7"
        assert f"<title>{title}</title>" in text


def test_bars_are_where_runs_were(tmp_path: Path) -> None:
    """Goal: the drawing is to scale. Oracle: positions computed from the stream's times."""
    page, _ = write_timeline_html(two_stage_record(tmp_path), tmp_path, START_S + 9)
    bars = drawing_of(page).findall(f"{SVG}rect")
    assert len(bars) == 7
    scale = (WIDTH - LABEL_WIDTH) / 4.001
    starts = sorted((float(bar.attrib["x"]) - LABEL_WIDTH) / scale for bar in bars)
    assert starts == pytest.approx([0, 0, 1, 1, 2, 2, 4], abs=0.01)
    tip = bars[0].findtext(f"{SVG}title") or ""
    assert "peak memory 64.0 MiB" in tip or "scheduler" in tip


def test_page_of_many_tiny_runs_stays_small(tmp_path: Path) -> None:
    """Goal: 10,000 runs make a small page. Oracle: its size, and that no run is forgotten."""
    plan = flat_plan(tmp_path, [10_000])
    record = recorded(PlanStarted(START_S, plan))
    tasks = [task for task in plan.tasks.values() if task is not plan.root_task]
    for index, task in enumerate(tasks):
        begin_s = START_S + index // 2 * 0.001
        record.append(started(task, begin_s, f"w{index % 2}"))
        record.append(finished(task, begin_s + 0.001, 0.001))
    page, _ = write_timeline_html(record, tmp_path, START_S + 9)
    assert page.stat().st_size < 1_500_000
    tips = [bar.findtext(f"{SVG}title") or "" for bar in drawing_of(page).findall(f"{SVG}rect")]
    counts = [re.match(r"([\d,]+) short runs", tip) for tip in tips]
    assert sum(int(match[1].replace(",", "")) if match else 1 for match in counts) == 10_000


def test_metrics_have_the_published_columns(tmp_path: Path) -> None:
    """Goal: task_metrics.csv can be read as 0.15's. Oracle: its column names, and the values."""
    path = tmp_path / "task_metrics.csv"
    assert write_metrics_csv(two_stage_record(tmp_path), path) == 7
    with path.open() as file:
        rows = list(csv.DictReader(file))
    row = rows[0]
    for name in ("key", "status", "location", "exec_id", "retry_count", "id", "_cpu_limit"):
        assert f"task_props.{name}" in row
    assert row["partition_infos.@toplevel@"] == "0"
    assert [one["partition_infos.part"] for one in rows[:4]] == ["0", "1", "2", "3"]
    assert row["perf_metrics.num output rows"] == "5"
    assert float(row["run.elapsed_s"]) == 1.0
    assert rows[-1]["perf_metrics.num output rows"] == ""


def test_profile_sums_and_skew(tmp_path: Path) -> None:
    """Goal: a node's costs, and whether they were uneven. Oracle: a stream of known skew."""
    plan = flat_plan(tmp_path, [5])
    tasks = [task for task in plan.tasks.values() if task is not plan.root_task]
    record = recorded(PlanStarted(START_S, plan))
    for task, elapsed_s in zip(tasks, [1.0, 1.0, 1.0, 1.0, 8.0], strict=True):
        record.append(started(task, START_S))
        record.append(finished(task, START_S + elapsed_s, elapsed_s, rows_in=int(elapsed_s * 100)))
    profile = node_profiles(record)[1]
    assert (profile.wall_s, profile.busy_s, profile.rows_in) == (8.0, 12.0, 1200)
    assert (profile.time_skew, profile.row_skew) == (8.0, 8.0)
    line = profile_line(profile)
    assert line == "5 tasks, 8.0 s, CPU 12.0 s, 1,200 rows in, time skew 8.0x, row skew 8.0x"


def test_profile_table(tmp_path: Path) -> None:
    """Goal: one line a node, in columns. Oracle: the cells of a known job."""
    lines = profile_text(two_stage_record(tmp_path), START_S + 9).splitlines()
    assert lines[0] == "7 tasks in 4.0 s, CPU 8.0 s (2.0 cores)"
    cells = re.split(r"\s{2,}", lines[3])
    assert cells[:9] == [
        "DataSourceNode-000001", "4", "2.0 s", "4.0 s", "64.0 MiB",
        "40", "3.9 KiB", "20", "2.0 KiB",
    ]  # fmt: skip


def test_view_writes_all_files_and_copies_them(tmp_path: Path) -> None:
    """Goal: one call at the end. Oracle: the files in the log folder and in the shared one."""
    view = JobView(tmp_path / "log", job_id="7", shared_log_root=tmp_path / "shared")
    view.record = two_stage_record(tmp_path)
    names = {path.name for path in view.write_files()}
    assert names == {
        "timeline_exec", "timeline_plan", "exec_timeline.html", "plan_timeline.html",
        "task_metrics.csv", "profile.txt", "graph.svg",
    }  # fmt: skip
    for folder in ("log", "shared"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == names


def test_files_of_a_job_that_did_nothing(tmp_path: Path) -> None:
    """Goal: an empty job has files, too. Oracle: they parse."""
    view = JobView(tmp_path)
    view.write_files()
    assert json.loads((tmp_path / "timeline_exec").read_text()) == []
    assert drawing_of(tmp_path / "exec_timeline.html") is not None
    assert (tmp_path / "profile.txt").read_text().startswith("0 tasks in 0 ms")


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Goal: a job does not fail because of its charts. Method: the folder is a file."""
    (tmp_path / "log").write_text("")
    JobView(tmp_path / "log").write_files()
    assert "cannot write the job's timeline" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(1536), "1.5 KiB"),
        (bytes_text(5 << 40), "5.0 TiB"),
        (count_text(99_999), "99,999"),
        (count_text(12_345_678), "12.3 M"),
        (seconds_text(0.0123), "12 ms"),
        (seconds_text(0.9999), "1.0 s"),
        (seconds_text(59.99), "1:00"),
        (seconds_text(4000), "1:06:40"),
        (plural(1, "retry"), "1 retry"),
        (plural(2, "retry"), "2 retries"),
    ],
)
def test_units(text: str, expected: str) -> None:
    """Goal: numbers are short and never wrong at an edge. Oracle: written by hand."""
    assert text == expected


@pytest.mark.parametrize("length_s", [0.001, 0.09, 1.0, 7.3, 100.0, 86_400.0])
def test_axis_has_a_readable_number_of_ticks(length_s: float) -> None:
    """Goal: a legible axis at any scale. Oracle: between 6 and 16 ticks."""
    assert 6 <= length_s / tick_step_s(length_s) <= 16
