"""The MPI platform, with a stand-in for mpirun that starts its ranks on this machine."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from smallpond.common import SmallpondError
from smallpond.execution.driver import Driver
from smallpond.platform import MPI, Platform, get_platform
from tests.smallpond.core.plans import alive, wait_until
from tests.smallpond.fabric.pipeline import pipeline
from tests.smallpond.fabric.test_driver import EXPECTED, output_sum, rows_path

__all__ = ["rows_path"]

MPIRUN = """#!{python}
import json, os, pathlib, signal, subprocess, sys
if sys.argv[1:] == ["--version"]:
    print("{version}")
    sys.exit()
pathlib.Path("{record}").write_text(json.dumps(sys.argv[1:]))
words = sys.argv[1:]
assert words[0] == "-n"
count, words, environment = int(words[1]), words[2:], dict(os.environ)
while words[0] in ("-x", "-genv"):
    if words[0] == "-x":
        name, value = words[1].split("=", 1)
        words = words[2:]
    else:
        name, value = words[1:3]
        words = words[3:]
    environment[name] = value
ranks = [
    subprocess.Popen(words, env={{**environment, "OMPI_COMM_WORLD_RANK": str(rank)}})
    for rank in range(count)
]
signal.signal(signal.SIGTERM, lambda *_: [rank.kill() for rank in ranks])
sys.exit(max(rank.wait() for rank in ranks))
"""


@pytest.fixture(params=["mpirun (Open MPI) 5.0.3", "HYDRA build details: 4.2"])
def mpirun_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """An `mpirun` first on PATH; the file where it leaves its arguments."""
    record = tmp_path / "mpirun.json"
    command = tmp_path / "bin" / "mpirun"
    command.parent.mkdir()
    text = MPIRUN.format(python=sys.executable, version=request.param, record=record)
    command.write_text(text)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return record


def test_a_job_on_mpi(tmp_path: Path, mpirun_record: Path, rows_path: str) -> None:
    """Goal: ranks of mpirun are executors. Method: the driver with two of them, both kinds of
    mpirun. Oracle: the rows; one mpirun with two ranks and the variables in its way."""
    assert type(get_platform()) is MPI
    driver = Driver()
    data_root = tmp_path / "data"
    driver.parse_arguments(
        ["--platform", "mpi", "--num_executors", "2", "--data_root", str(data_root)]
    )
    plan = driver.run(pipeline([rows_path], 6), stop_process_on_done=False)
    assert plan and output_sum(data_root) == EXPECTED
    words = json.loads(mpirun_record.read_text())
    assert words[:2] == ["-n", "2"] and words[-1] == "executor"
    hydra = "-genv" in words
    assert hydra != ("-x" in words)
    variables = words[words.index("-genv" if hydra else "-x") : words.index(sys.executable)]
    assert any("PYTHONPATH" in word for word in variables)
    executors = [
        path
        for path in data_root.glob("*/log/*.log")
        if "executor" in path.read_text() and path.name.startswith(os.uname().nodename)
    ]
    assert len(executors) == 2


def test_stopping_takes_the_ranks_along(tmp_path: Path, mpirun_record: Path) -> None:
    """Goal: nothing is left of a stopped job. Method: ranks that sleep; stop the job. Oracle: the
    id is a process, and it and its ranks end."""
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], f'{os.getpid()}.pid').touch()\n"
        "time.sleep(600)\n"
    )
    platform = MPI()
    (name,) = platform.start_job(3, str(sleeper), [str(tmp_path)], envs={"UNSET": None, "N": 1})
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 3)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert platform.is_running(name) and all(alive(pid) for pid in pids)
    assert not any("UNSET" in word for word in json.loads(mpirun_record.read_text()))
    platform.stop_job(name)
    wait_until(lambda: not any(alive(pid) for pid in [int(name), *pids]))
    assert not platform.is_running(name)
    assert platform.start_job(0, str(sleeper), []) == []


def test_without_mpirun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Goal: a missing mpirun is named. Method: an empty PATH. Oracle: the platform by default, and
    the error when MPI is asked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert type(get_platform()) is Platform
    with pytest.raises(SmallpondError, match="needs mpirun on PATH"):
        get_platform("mpi").start_job(1, "script.py", [])
