"""The driver's command line, and jobs that it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as parquet
import pytest

from smallpond.common import InvalidArgument, SmallpondError
from smallpond.execution.driver import Driver
from smallpond.execution.driver_options import JOB_OPTIONS
from smallpond.execution.manager import JobManager
from tests.smallpond.fabric.cluster import python_environment, run_python
from tests.smallpond.fabric.pipeline import pipeline

SCRIPT = str(Path(__file__).with_name("pipeline.py"))
ROW_COUNT = 10_000

# Every option of smallpond 0.15 with an argument, and what it becomes.
PUBLISHED: list[tuple[list[str], str, Any]] = [
    (["--exec_id", "x"], "exec_id", "x"),
    (["--job_id", "x"], "job_id", "x"),
    (["--job_time", "1.5"], "job_time", 1.5),
    (["--job_name", "x"], "job_name", "x"),
    (["--job_priority", "3"], "job_priority", 3),
    (["--resource_group", "x"], "resource_group", "x"),
    (["--env_variables", "A=1", "B=2"], "env_variables", ["A=1", "B=2"]),
    (["--sidecars", "a", "b"], "sidecars", ["a", "b"]),
    (["--tags", "a", "b"], "tags", ["a", "b"]),
    (["--task_image", "x"], "task_image", "x"),
    (["--python_venv", "x"], "python_venv", "x"),
    (["--data_root", "x"], "data_root", "x"),
    (["--runtime_ctx_path", "x"], "runtime_ctx_path", "x"),
    (["--num_executors", "2"], "num_executors", 2),
    (["--num_executors_per_task", "2"], "num_executors_per_task", 2),
    (["--random_seed", "2"], "random_seed", 2),
    (["--max_retry", "2"], "max_retry_count", 2),
    (["--max_retry_count", "2"], "max_retry_count", 2),
    (["--max_fail", "2"], "max_fail_count", 2),
    (["--max_fail_count", "2"], "max_fail_count", 2),
    (["--prioritize_retry"], "prioritize_retry", True),
    (["--speculative_exec", "aggressive"], "speculative_exec", "aggressive"),
    (["--enable_speculative_exec"], "speculative_exec", "enable"),
    (["--disable_speculative_exec"], "speculative_exec", "disable"),
    (["--stop_executor_on_failure"], "stop_executor_on_failure", True),
    (["--fail_fast"], "fail_fast_on_failure", True),
    (["--fail_fast_on_failure"], "fail_fast_on_failure", True),
    (["--nonzero_exitcode_as_oom"], "nonzero_exitcode_as_oom", True),
    (["--fault_inject", "0.5"], "fault_inject_prob", 0.5),
    (["--fault_inject_prob", "0.5"], "fault_inject_prob", 0.5),
    (["--enable_profiling"], "enable_profiling", True),
    (["--enable_diagnostic_metrics"], "enable_diagnostic_metrics", True),
    (["--enable_sched_state_dump"], "enable_sched_state_dump", True),
    (["--disable_sched_state_dump"], "enable_sched_state_dump", False),
    (["--remove_empty_parquet"], "remove_empty_parquet", True),
    (["--remove_output_root"], "remove_output_root", True),
    (["--skip_task_with_empty_input"], "skip_task_with_empty_input", True),
    (["--self_contained_final_results"], "self_contained_final_results", True),
    (["--malloc", "jemalloc"], "memory_allocator", "jemalloc"),
    (["--memory_allocator", "system"], "memory_allocator", "system"),
    (["--memory_purge_delay", "5"], "memory_purge_delay", 5),
    (["--bind_numa_node"], "bind_numa_node", True),
    (["--enforce_memory_limit"], "enforce_memory_limit", True),
    (["--enable_log_analytics"], "share_log_analytics", True),
    (["--disable_log_analytics"], "share_log_analytics", False),
    (["--console_log_level", "SUCCESS"], "console_log_level", "SUCCESS"),
    (["--file_log_level", "TRACE"], "file_log_level", "TRACE"),
    (["--disable_log_rotation"], "disable_log_rotation", True),
    (["--output_path", "x"], "output_path", "x"),
    (["--platform", "mpi"], "platform", "mpi"),
]
DEFAULTS = {
    "max_retry_count": 5,
    "max_fail_count": 3,
    "num_executors": 0,
    "num_executors_per_task": 5,
    "speculative_exec": "enable",
    "memory_allocator": "mimalloc",
    "memory_purge_delay": 10000,
    "enable_sched_state_dump": False,
    "job_name": "smallpond",
    "console_log_level": "INFO",
    "file_log_level": "DEBUG",
}


@pytest.fixture(scope="module")
def rows_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Parquet file with the numbers from 0."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    parquet.write_table(pa.table({"a": range(ROW_COUNT)}), path)
    return str(path)


def output_sum(data_root: Path) -> tuple[int, int]:
    """Rows and the sum of the new column over all jobs' outputs."""
    files = list(data_root.glob("*/output/doubled/*/*.parquet"))
    assert files, "no output"
    table = pa.concat_tables(parquet.read_table(path) for path in files)
    return table.num_rows, pa.compute.sum(table["doubled"]).as_py()


EXPECTED = (ROW_COUNT, ROW_COUNT * (ROW_COUNT - 1))


@pytest.mark.parametrize(("words", "name", "value"), PUBLISHED, ids=lambda one: str(one)[:30])
def test_published_options(words: list[str], name: str, value: Any) -> None:
    """Goal: scripts' command lines keep their meaning. Method: each option alone, after the mode
    and before it. Oracle: its value; the mode."""
    lines = [["scheduler", *words]]
    if not isinstance(value, list):
        # An option with any number of values would take the mode for one.
        lines.append([*words, "scheduler"])
    for args in lines:
        driver = Driver()
        driver.parse_arguments(args)
        assert driver.mode == "scheduler"
        assert driver.get_driver_arguments()[name] == value


def test_defaults_and_names() -> None:
    """Goal: the defaults are the published ones. Method: no arguments. Oracle: the table; every
    option that goes to the job manager is one of its parameters."""
    driver = Driver()
    driver.parse_arguments([])
    values = driver.get_driver_arguments()
    assert {name: values[name] for name in DEFAULTS} == DEFAULTS
    code = JobManager.run.__code__
    parameters = code.co_varnames[: code.co_argcount]
    assert set(JOB_OPTIONS) <= set(parameters) & set(values)


@pytest.mark.parametrize(
    ("args", "mode", "users"),
    [
        (["-i", "a", "b", "-n", "3"], "scheduler", {"inputs": ["a", "b"], "n": 3}),
        (["scheduler", "-i", "a"], "scheduler", {"inputs": ["a"], "n": 10}),
        (["-n", "1", "ray"], "ray", {"inputs": None, "n": 1}),
        (["--runtime_ctx_path", "c"], "executor", {"inputs": None, "n": 10}),
        (["--runtime_ctx_path", "c", "executor"], "executor", {"inputs": None, "n": 10}),
        (["--job_name", "ray", "-n", "2"], "scheduler", {"inputs": None, "n": 2}),
        ([], "scheduler", {"inputs": None, "n": 10}),
    ],
)
def test_mode_may_be_left_out(args: list[str], mode: str, users: dict[str, Any]) -> None:
    """Goal: the documented command line, without a mode, runs the pipeline. Method: lines with and
    without it, and with its words elsewhere. Oracle: mode and user arguments."""
    driver = Driver()
    driver.add_argument("-i", "--inputs", nargs="+")
    driver.add_argument("-n", type=int, default=10)
    driver.parse_arguments(args)
    assert (driver.mode, driver.get_arguments()) == (mode, users)


def test_users_own_positional_argument() -> None:
    """Goal: a script with its own positional argument keeps it. Method: with and without a mode
    before it. Oracle: the argument."""
    for args, mode in ([["in.csv"], "scheduler"], [["ray", "in.csv"], "ray"]):
        driver = Driver()
        driver.add_argument("path")
        driver.parse_arguments(args)
        assert (driver.mode, driver.get_arguments()) == (mode, {"path": "in.csv"})


def test_mistakes_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: wrong arguments say what is wrong. Method: an unknown option; an executor without a
    job; a scheduler without a plan; an odd variable. Oracle: the errors."""
    with pytest.raises(SystemExit) as ended:
        Driver().parse_arguments(["scheduler", "--nonsense"])
    assert ended.value.code == 2 and "--nonsense" in capsys.readouterr().err
    executor = Driver()
    executor.parse_arguments(["executor"])
    with pytest.raises(SmallpondError, match="runtime_ctx_path"):
        executor.run(None)
    scheduler = Driver()
    scheduler.parse_arguments(["scheduler"])
    with pytest.raises(InvalidArgument, match="needs a plan"):
        scheduler.run(None)
    manager = JobManager(str(tmp_path))
    with pytest.raises(InvalidArgument, match="NAME=VALUE"):
        manager.run(pipeline(["x"], 1), num_executors=0, env_variables=["NOVALUE"])


def test_documented_command_line(tmp_path: Path, rows_path: str) -> None:
    """Goal: `python script.py -i ... -n 10` works, and so does its help. Method: run both. Oracle:
    the rows in the output, the exit status."""
    ended = run_python(SCRIPT, "-i", rows_path, "-n", "10", "--data_root", str(tmp_path))
    assert ended.returncode == os.EX_OK, ended.stdout + ended.stderr
    assert output_sum(tmp_path) == EXPECTED
    logs = {path.name for path in tmp_path.glob("*/log/*")}
    assert "scheduler.log" in logs
    assert {path.name for path in tmp_path.glob("*/config/*")} >= {
        "runtime_ctx.pickle",
        "logical_plan.pickle",
        "exec_plan.pickle",
    }
    shown = run_python(SCRIPT, "--help")
    assert shown.returncode == 0 and "{executor,scheduler,ray}" in shown.stdout


def test_a_machine_without_graphviz(tmp_path: Path, rows_path: str) -> None:
    """Goal: a job needs neither the program `dot` (0.15's scheduler died without it) nor the
    package graphviz. Method: the script in mode scheduler, with an empty PATH and a package that
    cannot be imported. Oracle: the rows; the plan is drawn all the same."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "graphviz.py").write_text("raise ImportError('graphviz is not installed')\n")
    variables = python_environment({"PATH": str(hidden)})
    variables["PYTHONPATH"] = f"{hidden}{os.pathsep}{variables['PYTHONPATH']}"
    data_root = tmp_path / "data"
    ended = run_python(
        *(SCRIPT, "scheduler", "-i", rows_path, "-n", "2", "--data_root", str(data_root)),
        env=variables,
    )
    assert ended.returncode == os.EX_OK, ended.stdout + ended.stderr
    assert output_sum(data_root) == EXPECTED
    (drawing,) = data_root.glob("*/log/graph.svg")
    assert "ArrowComputeNode" in drawing.read_text()


def test_executors_on_the_local_platform(tmp_path: Path, rows_path: str) -> None:
    """Goal: the default platform starts executors (0.15's could not). Method: the script with two
    of them and an allocator that is not installed. Oracle: the rows; both executors' logs; the
    queues are gone after success."""
    ended = run_python(
        *(SCRIPT, "scheduler", "-i", rows_path, "-n", "8", "--data_root", str(tmp_path)),
        *("--num_executors", "2", "--memory_allocator", "mimalloc"),
    )
    assert ended.returncode == os.EX_OK, ended.stdout + ended.stderr
    assert output_sum(tmp_path) == EXPECTED
    assert not list(tmp_path.glob("*/queue"))
    (job,) = tmp_path.iterdir()
    name = os.uname().nodename
    for log in (f"{name}.log", f"{name}.1.log"):
        assert "told to leave" in (job / "log" / log).read_text()


def test_a_failed_job_is_an_exit_status(tmp_path: Path, rows_path: str) -> None:
    """Goal: shells see failure. Method: a column that cannot be doubled, one failure allowed.
    Oracle: the exit status, and that run() without stopping gives None."""
    texts = tmp_path / "texts.parquet"
    parquet.write_table(pa.table({"a": ["x", "y"]}), texts)
    args = ["-i", str(texts), "-n", "1", "--data_root", str(tmp_path / "data"), "--fail_fast"]
    ended = run_python(SCRIPT, *args)
    assert ended.returncode == os.EX_SOFTWARE, ended.stdout + ended.stderr
    driver = Driver()
    driver.parse_arguments(["--data_root", str(tmp_path / "data"), "--fail_fast"])
    assert driver.run(pipeline([str(texts)], 1), stop_process_on_done=False) is None
    assert driver.run(pipeline([rows_path], 1), stop_process_on_done=False)


def test_observers_and_state_dump(tmp_path: Path, rows_path: str) -> None:
    """Goal: published arguments of the job manager. Method: an observer and the state dump.
    Oracle: the observer saw the end, the dump can be read and says success."""
    from smallpond.execution.scheduler import Scheduler
    from smallpond.io.filesystem import load

    seen: list[bool] = []
    observer = Scheduler.StateObserver(lambda state: seen.append(state.success))
    plan = JobManager(str(tmp_path)).run(
        pipeline([rows_path], 2),
        num_executors=0,
        sched_state_observers=[observer],
        enable_sched_state_dump=True,
        console_log_level="CRITICAL",
    )
    assert plan.successful and seen[-1] is True and seen[0] is False
    state = load(plan.ctx.sched_state_path)
    assert state.success and state.progress[2] == 100.0
