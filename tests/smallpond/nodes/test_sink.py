"""Sinks: folders appear whole, once, in the wanted mode, on any file system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.task import DataSinkTask, ExecutionPlan, JobId, RuntimeContext
from smallpond.execution.task.sink import unique_names
from smallpond.execution.task.sink_commit import place_file
from smallpond.logical.dataset import ParquetDataSet, SqlQueryDataSet
from smallpond.logical.node import (
    Context,
    DataSetPartitionNode,
    DataSinkNode,
    DataSourceNode,
    Node,
    SqlEngineNode,
)

RunPlan = Callable[..., ExecutionPlan]


def sink_plan(target: Path, rows: int = 30, **options: Any) -> Node:
    ctx = Context()
    source = DataSourceNode(ctx, SqlQueryDataSet(f"select range as item from range({rows})"))
    parts = DataSetPartitionNode(ctx, (source,), 3, partition_by_rows=True)
    query = SqlEngineNode(ctx, (parts,), "select item from {0}")
    return DataSinkNode(ctx, (query,), str(target), **options)


def visible(target: Path) -> list[Path]:
    return sorted(path for path in target.iterdir() if not path.name.startswith("."))


def rows_in(target: Path) -> list[int]:
    table = ParquetDataSet([str(path) for path in visible(target)]).to_arrow_table()
    return sorted(table.column("item").to_pylist())


@pytest.mark.parametrize("type", ["link", "copy", "link_or_copy"])
def test_files_and_manifest_and_nothing_else(run_plan: RunPlan, tmp_path: Path, type: Any) -> None:
    """Goal: the folder holds the files and their list. Oracle: names, rows, links or copies."""
    target = tmp_path / "out"
    run_plan(sink_plan(target, type=type))
    files = visible(target)
    assert len(files) == 3 and rows_in(target) == list(range(30))
    manifest = (target / DataSinkTask.manifest_filename).read_text().splitlines()
    assert sorted(manifest) == [str(path) for path in files]
    assert sorted(path.name for path in target.iterdir())[1:] == [path.name for path in files]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".staging")] == []
    # The staged copy was linked into place, so a copied file has no other name left.
    assert all((path.stat().st_nlink == 1) == (type == "copy") for path in files)


def test_modes(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: append, overwrite, error, ignore. Oracle: the rows after each."""
    target = tmp_path / "out"
    run_plan(sink_plan(target, 3, type="copy"))
    run_plan(sink_plan(target, 3, type="copy", mode="append"))
    assert rows_in(target) == [0, 0, 1, 1, 2, 2]
    manifest = (target / DataSinkTask.manifest_filename).read_text().splitlines()
    assert sorted(manifest) == [str(path) for path in visible(target)]
    run_plan(sink_plan(target, 2, type="copy", mode="ignore"))
    assert len(rows_in(target)) == 6
    with pytest.raises(AssertionError, match="already holds files"):
        run_plan(sink_plan(target, 2, type="copy", mode="error"), succeeds=False)
    run_plan(sink_plan(target, 2, type="copy", mode="overwrite"))
    assert rows_in(target) == [0, 1]


def test_nothing_is_seen_before_all_is_there(
    run_plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a crash while files are prepared leaves no folder. Method: the second file fails.

    Oracle: the target does not exist.
    """
    calls = []

    def failing(source: str, target: str, how: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "broken disk")
        place_file(source, target, how)

    monkeypatch.setattr("smallpond.execution.task.sink_commit.place_file", failing)
    target = tmp_path / "out"
    with pytest.raises(AssertionError, match="broken disk"):
        run_plan(sink_plan(target), succeeds=False)
    assert not target.exists()


NAMING_CALLS = ("link", "mkdir", "open", "rename", "replace", "rmdir", "symlink", "unlink")


@pytest.mark.parametrize("mode", ["append", "overwrite"])
@pytest.mark.parametrize("is_new", [True, False])
def test_readers_see_all_files_or_none(
    run_plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any, is_new: bool
) -> None:
    """Goal: no reader meets a part of the output (0.15 linked file after file into the folder).
    Method: look at the folder before and after each call that changes names. Oracle: what was
    seen: nothing, the old files, the new ones. Of a folder that is added to, the manifest says
    what is in it."""
    target = tmp_path / "out"
    seen: set[frozenset[str]] = set()
    if not is_new:
        run_plan(sink_plan(target, 6, type="copy"))

    def look() -> None:
        manifest = target / DataSinkTask.manifest_filename
        try:
            if mode == "append" and not is_new:
                seen.add(frozenset(manifest.read_text().split()))
            else:
                seen.add(frozenset(map(str, visible(target))))
        except FileNotFoundError:
            seen.add(frozenset())

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **options: Any) -> Any:
            look()
            try:
                return call(*args, **options)
            finally:
                look()

        return watching

    before = set(map(str, visible(target))) if target.exists() else set()
    with monkeypatch.context() as patch:
        for name in NAMING_CALLS:
            patch.setattr(os, name, watched(getattr(os, name)))
        run_plan(sink_plan(target, 30, type="copy", mode=mode))
    after = frozenset(map(str, visible(target)))
    assert len(after) == (6 if mode == "append" and not is_new else 3)
    assert {frozenset(before), after} <= seen <= {frozenset(), frozenset(before), after}


@pytest.mark.parametrize("crash_at", [1, 2, 3, 4])
def test_resume_neither_loses_nor_duplicates(
    run_plan: RunPlan,
    make_ctx: Callable[..., RuntimeContext],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    crash_at: int,
) -> None:
    """Goal: appending is taken up again after a crash. Method: the n-th rename into it fails.

    Oracle: the old rows and the new ones, each once.
    """
    target = tmp_path / "out"
    target.mkdir()
    run_plan(sink_plan(target, 3, type="copy"))
    before = rows_in(target)
    job = JobId.new()
    real, calls = os.rename, []

    def crashing(source: Any, destination: Any) -> None:
        if os.path.dirname(str(destination)) == str(target):
            calls.append(destination)
            if len(calls) == crash_at:
                raise KeyboardInterrupt
        real(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crashing)
        with pytest.raises(KeyboardInterrupt):
            run_plan(sink_plan(target, 30, type="copy"), runtime_ctx=make_ctx(job_id=job))
    run_plan(sink_plan(target, 30, type="copy"), runtime_ctx=make_ctx(job_id=job))
    assert rows_in(target) == sorted([*before, *range(30)])


@pytest.mark.parametrize(("how", "symbolic"), [("link_or_copy", False), ("link_or_symlink", True)])
def test_other_file_systems_get_copies_or_symbolic_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any, symbolic: bool
) -> None:
    """Goal: a link that the system refuses is no failure (0.15: EXDEV). Oracle: the content."""

    def refused(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a").write_text("content")
    place_file(str(tmp_path / "a"), str(tmp_path / "b"), how)
    assert (tmp_path / "b").read_text() == "content"
    assert (tmp_path / "b").is_symlink() is symbolic


def test_ranges_of_a_file_are_written_once(run_plan: RunPlan, tmp_path: Path) -> None:
    """Goal: partitions that are row ranges come out as their rows. Oracle: rows, files.

    Method: all ranges of a file, and only one of them.
    """
    ctx = Context()
    source = DataSourceNode(ctx, SqlQueryDataSet("select range as item from range(30)"))
    parts = DataSetPartitionNode(ctx, (source,), 3, partition_by_rows=True)
    run_plan(DataSinkNode(ctx, (parts,), str(tmp_path / "all"), type="manifest"))
    listed = (tmp_path / "all" / DataSinkTask.manifest_filename).read_text().splitlines()
    assert ParquetDataSet(listed).num_rows == 30 and len(listed) == 1
    ctx = Context()
    source = DataSourceNode(ctx, SqlQueryDataSet("select range as item from range(30)"))
    parts = DataSetPartitionNode(ctx, (source,), 3, partition_by_rows=True)
    run_plan(DataSinkNode(ctx, (parts,), str(tmp_path / "copied"), type="copy"))
    assert rows_in(tmp_path / "copied") == list(range(30))


def test_names_change_only_when_they_collide() -> None:
    """Goal: own names where possible. Oracle: the names."""
    assert unique_names(["/a/x.p", "/b/y.p"]) == ["x.p", "y.p"]
    assert unique_names(["/a/x.p", "/b/x.p"]) == ["x.0.p", "x.1.p"]
    assert unique_names(["/a/x.p"], ["x.p", "x.0.p"]) == ["x.1.p"]
