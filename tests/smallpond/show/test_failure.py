"""Error reports, and the command that runs a failed task alone."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.task import PartitionInfo, Task
from smallpond.execution.task.__main__ import main
from smallpond.execution.workitem import WorkStatus
from smallpond.io.filesystem import dump
from smallpond.logical.dataset import ParquetDataSet
from smallpond.show.failure import failure_report, replay_command, root_cause, user_frame
from tests.smallpond.show.stream import runtime_context


def parse(text: str) -> int:
    """What a user's function does to a row."""
    return int(text)  # the line that raises


class ParseTask(Task):
    """Parses a text; fails as user code does, wrapped in an error of ours."""

    __slots__ = ("text",)

    def __init__(self, *args: object, text: str = "x7", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.text = text

    def run(self) -> bool:
        try:
            value = parse(self.text)
        except ValueError as error:
            raise RuntimeError(f"failed to run {self.key}") from error
        Path(self.runtime_output_abspath, "value").write_text(str(value))
        return True


def task_of(folder: Path, **kwargs: Any) -> ParseTask:
    """A task that has not run yet, in a job of its own folder."""
    ctx = runtime_context(folder)
    for root in (ctx.staging_root, ctx.temp_root, ctx.log_root, ctx.config_root):
        os.makedirs(root, exist_ok=True)
    infos = [PartitionInfo(), PartitionInfo(3, 10, "user")]
    task = ParseTask(ctx, [], infos, **kwargs)
    task.node_id = 4
    task.location = f"{__file__}:{inspect.getsourcelines(task_of)[1]}"
    task.input_datasets = []
    return task


def failed_task(folder: Path) -> ParseTask:
    """The same, after it failed."""
    task = task_of(folder, cpu_limit=2, memory_limit=3 << 30)
    assert task.exec() == WorkStatus.CRASHED
    return task


def test_report_says_all_that_is_needed(tmp_path: Path) -> None:
    """Goal: a user can act on the report. Oracle: each fact of a task made to fail."""
    task = failed_task(tmp_path / "job")
    (tmp_path / "part.parquet").write_bytes(b"x" * 2048)
    task.input_datasets = [ParquetDataSet([str(tmp_path / "part.parquet")])]
    task.dump()
    report = failure_report(task)
    lines = report.splitlines()
    assert lines[0] == (
        f"{task.key} of node 4 failed after 1 try: RuntimeError: failed to run {task.key}"
    )
    assert f"made at       {task.location}" in report
    assert "def task_of(folder: Path" in report
    assert "user[3/10]" in report
    assert "1 file, 2.0 KiB" in report
    assert str(tmp_path / "part.parquet") in report
    assert "2 CPUs, 3.0 GiB" in report
    assert "root cause    ValueError: invalid literal for int()" in report
    assert "return int(text)  # the line that raises" in report
    assert "-m smallpond.execution.task" in report
    assert task.ctx.log_root in report


def test_a_report_says_nothing_twice(tmp_path: Path) -> None:
    """Goal: one place for each fact. Method: an error whose text begins as its cause's, one that is
    its own cause, and one that travelled. Oracle: how often each line of theirs is there.
    """
    task = failed_task(tmp_path)
    first, second, third = "no such column", "LINE 1: select x", "failed to run query"
    try:
        try:
            raise ValueError(f"{first}\n{second}")
        except ValueError as cause:
            raise RuntimeError(f"{cause}\n{third}") from cause
    except RuntimeError as error:
        wrapped = error
    text = "".join(traceback.format_exception(wrapped))
    wrapped.task_traceback = text  # type: ignore[attr-defined]
    travelled = pickle.loads(pickle.dumps(wrapped))
    for one in (wrapped, wrapped.__cause__, travelled):
        task.exception = one
        report = failure_report(task)
        assert report.count(first) == report.count(second) == 1, report
        assert report.count(third) == (one is not wrapped.__cause__), report


def test_report_after_the_exception_travelled(tmp_path: Path) -> None:
    """Goal: the user's line survives another process. Method: pickle the exception, which drops
    its traceback. Oracle: the same line as before.
    """
    task = failed_task(tmp_path)
    error = task.exception
    assert error is not None
    before = user_frame(error)
    assert before is not None
    assert before[0] == __file__
    travelled = pickle.loads(pickle.dumps(error))
    assert travelled.__traceback__ is None
    assert user_frame(travelled) == before
    task.exception = travelled
    assert "root cause  ValueError: invalid literal for int()" in failure_report(task)


def test_root_cause_ends_on_a_cycle_and_honours_from_none() -> None:
    """Goal: no endless loop, no cause that was suppressed. Oracle: chains made by hand."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert root_cause(first) is second
    try:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None
    except ValueError as error:
        assert root_cause(error) is error


def test_report_when_inputs_cannot_be_listed(tmp_path: Path) -> None:
    """Goal: the report comes out whatever failed. Method: a data set of missing files."""
    task = failed_task(tmp_path)
    task.input_datasets = [ParquetDataSet([str(tmp_path / "gone" / "*.parquet")])]
    assert "inputs" in failure_report(task)
    task.exception, task.location = None, None
    report = failure_report(task)
    assert "without an exception" in report
    assert "an unknown line" in report
    assert "run it alone" not in report, "it was not dumped"


def replayed(folder: Path, task: Task, *options: str) -> int:
    """The status of the command on a dumped task."""
    path = folder / "task.pickle"
    dump(task, str(path))
    return main([str(path), *options])


def test_replay_of_a_task_that_fails_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goal: the same failure, alone. Oracle: the status, the cause in the log, unused folders."""
    task = failed_task(tmp_path)
    folders = sorted(Path(task.ctx.staging_root).rglob("*"))
    assert replayed(tmp_path, task) == 1
    output = capsys.readouterr().out
    assert f"loaded an object of {type(task).__name__}" in output
    assert "ValueError: invalid literal for int()" in output
    assert set(folders) < set(Path(task.ctx.staging_root).rglob("*"))


def test_replay_writes_where_it_is_told(tmp_path: Path) -> None:
    """Goal: `-o` keeps the job's folders untouched. Oracle: the files, twice in two folders."""
    task = task_of(tmp_path / "job", text="42")
    before = sorted((tmp_path / "job").rglob("*"))
    for _ in range(2):
        assert replayed(tmp_path, task, "-o", str(tmp_path / "out"), "-l", "ERROR") == 0
    found = sorted((tmp_path / "out").rglob("value"))
    assert [path.read_text() for path in found] == ["42", "42"]
    assert found[0].parent != found[1].parent
    assert sorted((tmp_path / "job").rglob("*")) == before


def test_replay_chooses_among_several(tmp_path: Path) -> None:
    """Goal: `-t` and `-r` as 0.15. Oracle: which of two ran, and statuses of wrong choices."""
    good, bad = task_of(tmp_path, text="1"), task_of(tmp_path)
    bad.id = type(good.id)(2)
    path = tmp_path / "tasks.pickle"
    dump({"1": good, "2": bad}, str(path))
    assert main([str(path), "-t", "1"]) == 0
    assert main([str(path), "-t", "2"]) == 1
    assert main([str(path), "-t", "2", "-r", "3"]) == 2
    assert main([str(path)]) == 2
    assert main([str(tmp_path / "none.pickle")]) == 2


def test_replay_finds_the_context_of_the_job(tmp_path: Path) -> None:
    """Goal: a task that travelled without its context runs. Oracle: success below the job root."""
    task = task_of(tmp_path, text="5")
    ctx = task.ctx
    dump(ctx, ctx.runtime_ctx_path)
    task.ctx = None  # type: ignore[assignment]
    assert replayed(Path(ctx.temp_root), task) == 0


def test_the_command_of_a_report_runs(tmp_path: Path) -> None:
    """Goal: what the report prints works in any shell. Method: run it elsewhere, with nothing in
    the environment. Oracle: the exit status, and the user's line in the log of that very line.
    """
    task = failed_task(tmp_path)
    path = tmp_path / "it's here.pickle"
    dump(task, str(path))
    command = replay_command(str(path))
    assert sys.executable in command
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "the line that raises" in result.stdout
