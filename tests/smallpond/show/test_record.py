"""The record: what it counts, and what it costs a scheduler."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from smallpond.execution.events import PlanFinished, PlanStarted, TaskRetried, TaskSkipped
from smallpond.execution.workitem import WorkStatus
from smallpond.show import record as record_module
from smallpond.show.record import LOST, JobRecord
from tests.smallpond.show.stream import (
    START_S,
    finished,
    flat_plan,
    recorded,
    started,
    two_stage_record,
)


def test_counts_of_a_finished_job(tmp_path: Path) -> None:
    """Goal: counters are sums of what tasks said. Oracle: the numbers given to the stream."""
    record = two_stage_record(tmp_path)
    first, second = record.nodes[1], record.nodes[2]
    assert (first.task_count, first.done_count, second.done_count) == (4, 4, 2)
    assert (first.rows_in, first.rows_out, first.bytes_out) == (40, 20, 2000)
    assert first.spilled_bytes == 400
    assert first.busy_s == pytest.approx(4.0)
    assert record.task_count == record.done_count == 7
    assert record.running_count == 0
    assert record.success is True
    assert record.elapsed_s(START_S + 999) == pytest.approx(4.01)


def test_time_between_jobs_is_not_time_of_jobs(tmp_path: Path) -> None:
    """Goal: a session that idles does not run. Oracle: two plans of a second, one hour apart,
    the second of them beside a third.
    """
    record = JobRecord()
    for begin_s, end_s in ((0.0, 1.0), (3600.0, 3602.0)):
        record.append(PlanStarted(begin_s, flat_plan(tmp_path, [1])))
        if begin_s:
            record.append(PlanStarted(begin_s + 1, flat_plan(tmp_path, [1])))
            record.append(PlanFinished(end_s - 0.5, True))
            record.advance()
            assert record.elapsed_s(begin_s + 1.75) == pytest.approx(2.75)
        record.append(PlanFinished(end_s, True))
    record.advance()
    assert record.elapsed_s(9999.0) == pytest.approx(3.0)


def test_a_task_is_done_once_though_a_speculative_copy_also_finishes(tmp_path: Path) -> None:
    """Goal: tasks count once. Method: two attempts succeed. Oracle: one done, rows once."""
    plan = flat_plan(tmp_path, [1])
    task = next(task for task in plan.tasks.values() if task is not plan.root_task)
    record = recorded(
        PlanStarted(START_S, plan),
        started(task, START_S),
        started(task, START_S + 1, "w1", retry=1),
        finished(task, START_S + 2, 1.0, retry=1, rows_out=3),
        finished(task, START_S + 3, 3.0, rows_out=3),
    )
    assert record.nodes[1].done_count == 1
    assert record.nodes[1].rows_out == 3
    assert len(record.spans) == 2
    assert record.nodes[1].running == 0


def test_failures_retries_skips_and_lost_runs(tmp_path: Path) -> None:
    """Goal: each way not to succeed is told apart. Oracle: the counters and spans of each."""
    plan = flat_plan(tmp_path, [3])
    first, second, third = (task for task in plan.tasks.values() if task is not plan.root_task)
    error = ValueError("no")
    record = recorded(
        PlanStarted(START_S, plan),
        TaskSkipped(START_S, third.key),
        started(first, START_S),
        finished(first, START_S + 1, 1.0, status=WorkStatus.CRASHED, error=error),
        TaskRetried(START_S + 1, first.key, "it raised ValueError", 1),
        started(first, START_S + 2, retry=1),
        started(second, START_S + 2, "w1"),
        finished(first, START_S + 3, 1.0, retry=1),
        PlanFinished(START_S + 4, False),
    )
    node = record.nodes[1]
    assert (node.done_count, node.skipped_count) == (2, 1)
    assert (node.failure_count, node.retry_count, node.running) == (1, 1, 0)
    assert [event.error for event in record.failures] == [error]
    assert [span.status for span in record.spans] == ["CRASHED", "SUCCEED", LOST]
    assert record.success is False


def test_counts_that_nobody_made_are_not_summed(tmp_path: Path) -> None:
    """Goal: -1, which means unknown, never lowers a sum. Oracle: zeros."""
    plan = flat_plan(tmp_path, [1])
    task = next(task for task in plan.tasks.values() if task is not plan.root_task)
    record = recorded(PlanStarted(START_S, plan), finished(task, START_S, 0.0, cpu_s=-1.0))
    node = record.nodes[1]
    assert (node.rows_in, node.rows_out, node.bytes_in, node.bytes_out) == (0, 0, 0, 0)
    assert (node.cpu_s, node.rss_max_bytes) == (0.0, 0)


def test_spans_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a record is bounded. Method: a bound of 3. Oracle: kept and dropped counts."""
    monkeypatch.setattr(record_module, "SPAN_COUNT_MAX", 3)
    record = two_stage_record(tmp_path)
    assert len(record.spans) == 3
    assert record.span_count_dropped == 4
    assert record.done_count == 7


def test_watching_ten_thousand_tasks_costs_nothing_measurable(tmp_path: Path) -> None:
    """Goal: progress is free. Method: time of subscribing 20,000 events, and of folding them.
    Oracle: the scheduler pays under 1 % of the 10 s that 10,000 tasks may take, folding 5 %.
    """
    plan = flat_plan(tmp_path, [10_000])
    tasks = list(plan.tasks.values())
    events = [event for task in tasks for event in (started(task, 1.0), finished(task, 2.0, 1.0))]
    record = JobRecord()
    record.append(PlanStarted(0.0, plan))
    begin = time.process_time()
    for event in events:
        record.append(event)
    append_s = time.process_time() - begin
    begin = time.process_time()
    assert record.advance() == len(events)
    fold_s = time.process_time() - begin
    assert record.done_count == len(tasks)
    assert append_s < 0.1, f"appending took {append_s:.3f} s"
    assert fold_s < 0.5, f"folding took {fold_s:.3f} s"
