"""The progress display: what it says, when, and when it stays silent."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from smallpond.execution.events import PlanStarted
from smallpond.execution.workitem import WorkStatus
from smallpond.show.estimate import time_left_s
from smallpond.show.progress import ProgressDisplay
from smallpond.show.progress_line import progress_sentence
from smallpond.show.progress_live import job_table, shown_stages
from smallpond.show.record import JobRecord
from smallpond.show.view import JobView
from tests.smallpond.show.stream import (
    START_S,
    finished,
    flat_plan,
    recorded,
    started,
    two_stage_record,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def wait_until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Polls until the condition holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def half_done_record(folder: Path) -> JobRecord:
    """Eight tasks of one second on two workers: four are done, two run, two wait."""
    plan = flat_plan(folder, [8])
    tasks = [task for task in plan.tasks.values() if task is not plan.root_task]
    record = recorded(PlanStarted(START_S, plan))
    for index, task in enumerate(tasks[:6]):
        begin_s = START_S + index // 2
        record.append(started(task, begin_s, f"w{index % 2}"))
        if index < 4:
            record.append(finished(task, begin_s + 1, 1.0, rows_out=1_000_000, bytes_out=1 << 30))
    record.advance()
    return record


def test_sentence_says_what_is_done_and_what_is_left(tmp_path: Path) -> None:
    """Goal: the line holds tasks, rows, bytes, time left. Oracle: a job whose state is known.

    Left: two waiting and two half-done tasks of 1 s, plus the root's, at the mean of all, on two.
    """
    record = half_done_record(tmp_path)
    sentence = progress_sentence(record, START_S + 2.5)
    assert sentence == (
        "4/9 tasks (44.4%), 2 running, 4.0 M rows, 4.0 GiB written, 2.5 s, about 2.0 s left"
    )


def test_no_guess_before_there_is_a_basis(tmp_path: Path) -> None:
    """Goal: no invented time left. Oracle: None before the first finish, 0 at the end."""
    plan = flat_plan(tmp_path, [8])
    record = recorded(PlanStarted(START_S, plan))
    assert time_left_s(record, START_S + 100) is None
    assert time_left_s(two_stage_record(tmp_path), START_S + 100) == 0.0


def test_estimate_follows_the_truth(tmp_path: Path) -> None:
    """Goal: the estimate is near the truth through a whole job. Oracle: the stream's own clock.

    1,000 tasks of 1 s on ten workers take 100 s (and the root, which counts as one more task).
    """
    plan = flat_plan(tmp_path, [1000])
    tasks = [task for task in plan.tasks.values() if task is not plan.root_task]
    record = recorded(PlanStarted(START_S, plan))
    for wave in range(100):
        for worker, task in enumerate(tasks[wave * 10 : wave * 10 + 10]):
            record.append(started(task, START_S + wave, f"w{worker}"))
            record.append(finished(task, START_S + wave + 1, 1.0))
        record.advance()
        left_s = time_left_s(record, START_S + wave + 1)
        if wave >= 2:
            assert left_s is not None
            assert left_s == pytest.approx(99 - wave, abs=0.5)


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    """Goal: a log gets a line now and then, with the last state at the end. Oracle: its lines."""
    stream = io.StringIO()
    record = half_done_record(tmp_path)
    display = ProgressDisplay(
        record, stream=stream, first_draw_s=0.0, interval_s=0.01, clock=lambda: START_S + 2.5
    )
    display.start()
    wait_until(lambda: stream.getvalue().count("\n") >= 2)
    display.stop()
    lines = stream.getvalue().splitlines()
    assert set(lines) == {f"smallpond: {progress_sentence(record, START_S + 2.5)}"}
    assert "\x1b" not in stream.getvalue()


def test_short_jobs_and_silent_ones_show_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: nothing is drawn for a job of less than the first draw, nor with progress=False, nor
    with SP_PROGRESS=0 unless the caller insists. Oracle: the stream stays empty, and no display
    thread is made when progress is off.
    """

    class Source:
        def subscribe(self, callback: object) -> None:
            self.callback = callback

    cases = ((None, "", True), (False, "", False), (None, "0", False), (True, "0", True))
    for progress, variable, expected in cases:
        monkeypatch.setenv("SP_PROGRESS", variable)
        stream = io.StringIO()
        view = JobView(tmp_path, progress=progress, stream=stream)
        with view.watch(Source()):
            running = "smallpond-progress" in {thread.name for thread in threading.enumerate()}
        assert running == expected
        assert stream.getvalue() == ""


def test_live_table_on_a_terminal(tmp_path: Path) -> None:
    """Goal: a terminal gets the table, redrawn in place. Oracle: its cells and control codes."""
    stream = Terminal()
    record = half_done_record(tmp_path)
    display = ProgressDisplay(record, stream=stream, first_draw_s=0.0, interval_s=0.01)
    display.start()
    wait_until(lambda: stream.getvalue().count("DataSourceNode-000001") >= 2)
    display.stop()
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "4/8" in text
    assert "4.0 GiB" in text


def test_progress_is_that_of_what_runs_now(tmp_path: Path) -> None:
    """Goal: the second job of a session starts at zero. Oracle: its line, and the view's sums."""

    class Source:
        def __init__(self, tasks: int) -> None:
            self.plan = flat_plan(tmp_path, [tasks])

        def subscribe(self, callback: Callable[[object], None]) -> None:
            callback(PlanStarted(START_S, self.plan))

    view = JobView(tmp_path)
    for tasks in (3, 5):
        with view.watch(Source(tasks)):
            assert view._display is not None
            record = view._display.record
            assert progress_sentence(record, START_S).startswith(f"0/{tasks + 1} tasks")
    assert view.record.elapsed_s(START_S) == 0.0


def test_stages_that_work_are_shown_first(tmp_path: Path) -> None:
    """Goal: a plan of many nodes fits on the screen. Oracle: which stages three rows show."""
    plan = flat_plan(tmp_path, [1] * 10)
    tasks = [task for task in plan.tasks.values() if task is not plan.root_task]
    record = recorded(PlanStarted(START_S, plan))
    for task in tasks[:5]:
        record.append(started(task, START_S))
        record.append(finished(task, START_S + int(task.node_id), 1.0))
    record.append(started(tasks[6], START_S))
    record.advance()
    stages, left_out = shown_stages(record, 3)
    assert [stage.node_id for stage in stages] == [6, 7, 8]
    assert left_out == 8


def test_the_last_failure_is_on_the_screen(tmp_path: Path) -> None:
    """Goal: a failing job says so at once. Oracle: the last line of the table."""
    plan = flat_plan(tmp_path, [1])
    task = next(task for task in plan.tasks.values() if task is not plan.root_task)
    error = ValueError("bad row 7")
    record = recorded(
        PlanStarted(START_S, plan),
        started(task, START_S),
        finished(task, START_S + 1, 1.0, status=WorkStatus.CRASHED, error=error),
    )
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(job_table("smallpond", record, START_S + 1, 10))
    assert f"{task.key} failed: bad row 7" in capture.get()


def test_a_broken_stream_ends_the_display_and_not_the_job(tmp_path: Path) -> None:
    """Goal: drawing never hurts. Method: a stream that raises. Oracle: stop() returns."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    display = ProgressDisplay(half_done_record(tmp_path), stream=Broken(), first_draw_s=0.0)
    display.start()
    thread = display._thread
    assert thread is not None
    wait_until(lambda: not thread.is_alive())
    display.stop()


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Goal: a session that shows nothing pays nothing. Oracle: modules of a fresh interpreter."""
    script = (
        "import sys, smallpond.show.view\n"
        "heavy = {'rich', 'duckdb', 'pyarrow', 'pandas', 'graphviz'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3] / "src"
    )
