"""Sessions: configuration, what they leave behind, and what they are quick at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import smallpond
from smallpond.common import GB, InvalidArgument
from smallpond.session import Config, bytes_of, time_of
from tests.smallpond.frame.conftest import SessionMaker


def test_importing_is_free() -> None:
    """Goal: `import smallpond` brings nothing heavy. Oracle: the modules that are there then."""
    code = (
        "import smallpond, sys; "
        "print([m for m in ('duckdb', 'pyarrow', 'pandas', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_small_job_brings_no_pandas(tmp_path: Path) -> None:
    """Goal: a job of one row starts no worker and imports no pandas. Oracle: modules, children."""
    code = f"""
import sys, smallpond, psutil
sp = smallpond.init(data_root={str(tmp_path)!r})
assert sp.from_items([1]).map("item + 1 as i").take_all() == [{{"i": 2}}]
assert "pandas" not in sys.modules
assert psutil.Process().children() == []
sp.shutdown()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Goal: SP_ variables override arguments. Oracle: the configuration."""
    monkeypatch.setenv("SP_DATA_ROOT", str(tmp_path))
    monkeypatch.setenv("SP_JOB_TIME", "2024-05-06T07:08:09")
    monkeypatch.setenv("SP_MEMORY_LIMIT", "2 GiB")
    config, _ = Config.from_args_and_env(data_root="/elsewhere", memory_limit=1)
    assert config.data_root == str(tmp_path)
    assert f"{config.job_time:%Y%m%d%H%M%S}" == "20240506070809"
    assert config.memory_limit == 2 * GB
    assert config.executor == "local"


def test_sizes_and_times() -> None:
    """Goal: sizes and times as people write them. Oracle: the values."""
    assert [bytes_of(one) for one in ("512", "1.5 GiB", "2gb", "1M", 7, None)] == [
        512,
        3 * GB // 2,
        2 * GB,
        1 << 20,
        7,
        None,
    ]
    with pytest.raises(InvalidArgument, match="write bytes"):
        bytes_of("much")
    moment = time_of("2024-05-06")
    assert moment is not None and time_of(moment.timestamp()) == moment


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    """Goal: a wrong executor or number of workers is an error with the choices. Oracle: text."""
    with pytest.raises(InvalidArgument, match="choose one of local, inprocess, ray"):
        smallpond.init(data_root=str(tmp_path), executor="threads")
    with pytest.raises(InvalidArgument, match="at least one"):
        smallpond.init(data_root=str(tmp_path), num_workers=-1)


def test_success_cleans_up(make_session: SessionMaker) -> None:
    """Goal: after success only logs and configuration stay. Oracle: the job's folder."""
    sp = make_session()
    sp.from_items([1, 2]).map("item").compute()
    context = sp.runtime_ctx
    sp.shutdown()
    sp.shutdown()
    left = {path.name for path in Path(context.job_root).iterdir()}
    assert left == {"config", "log"}
    assert Path(context.job_status_path).read_text().startswith("success@")


def test_failure_leaves_everything(make_session: SessionMaker) -> None:
    """Goal: after a failure the files stay for whoever looks. Oracle: the job's folder."""
    sp = make_session(max_fail_count=0)
    with pytest.raises(RuntimeError, match="division by zero"):
        sp.from_items([1]).map(lambda row: {"x": row["item"] / 0}).compute()
    context = sp.runtime_ctx
    sp.shutdown()
    assert Path(context.staging_root).is_dir()
    assert Path(context.job_status_path).read_text().startswith("failure@")


def test_resuming_does_not_repeat(make_session: SessionMaker, tmp_path: Path) -> None:
    """Goal: a second session of the same job reuses results, but not those of other code.
    Method: functions that leave a mark each time they run. Oracle: the marks and the rows."""
    marks = tmp_path / "marks"
    marks.touch()

    def run(factor: int) -> list[int]:
        def marked(row: dict[str, int]) -> dict[str, int]:
            with marks.open("a") as file:
                file.write("x")
            return {"y": row["item"] * factor}

        sp = make_session(job_id="00112233445566778899aabbccddeeff", job_time="2025-01-01T00:00:00")
        rows = sp.from_items([1, 2]).map(marked).take_all()
        return [row["y"] for row in rows]

    assert run(2) == [2, 4] and marks.read_text() == "xx"
    assert run(2) == [2, 4] and marks.read_text() == "xx"
    assert run(3) == [3, 6] and marks.read_text() == "xxxx"


def test_resuming_an_edited_query(make_session: SessionMaker, tmp_path: Path) -> None:
    """Goal: no result of another query (0.15 knew a task by its class and number, and gave the
    values of `item * 2` for `item * 3`). Method: a job that fails after its query; the same job,
    mended, with another query, then with one more step in front of it. Oracle: the rows."""
    mended = tmp_path / "mended"

    def checked(row: dict[str, int]) -> dict[str, int]:
        assert mended.exists(), "not yet"
        return row

    def run(query: str, condition: str = "") -> list[int]:
        sp = make_session(
            job_id="00112233445566778899aabbccddeeff",
            job_time="2025-01-01T00:00:00",
            max_fail_count=0,
        )
        df = sp.from_items([1, 2])
        df = df.filter(condition).map(lambda row: row) if condition else df
        return [row["y"] for row in df.map(query).map(checked).take_all()]

    with pytest.raises(RuntimeError, match="not yet"):
        run("item * 2 as y")
    mended.touch()
    assert run("item * 3 as y") == [3, 6]
    assert run("item * 3 as y", "item > 1") == [6]
    assert run("item * 2 as y") == [2, 4]


def test_recompute(make_session: SessionMaker, tmp_path: Path) -> None:
    """Goal: `recompute` runs again what the job has already. Oracle: the marks."""
    marks = tmp_path / "marks"

    def marked(row: dict[str, int]) -> dict[str, int]:
        with marks.open("a") as file:
            file.write("x")
        return row

    for _ in range(2):
        sp = make_session(job_id="00112233445566778899aabbccddeeff", job_time="2025-01-01T00:00:00")
        sp.from_items([1]).map(marked).recompute().compute()
    assert marks.read_text() == "xx"


def test_drawings(make_session: SessionMaker) -> None:
    """Goal: the plan as SVG, the timelines as files. Oracle: the files."""
    sp = make_session()
    sp.from_items([1, 2]).filter("item > 1").sort("item").compute()
    sp.dump_graph()
    sp.dump_timeline()
    log = Path(sp.runtime_ctx.log_root)
    assert "<svg" in (log / "graph.svg").read_text()
    assert (log / "timeline_exec").exists() and (log / "timeline_plan").exists()
