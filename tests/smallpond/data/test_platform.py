"""Platforms: which is chosen, and jobs as processes of this machine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from smallpond.common import InvalidArgument
from smallpond.platform import MPI, Platform, get_platform

DEADLINE_S = 20


def test_which_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Goal: by name, by module, by availability. Oracle: the class; errors that say what to do."""
    monkeypatch.setattr(MPI, "is_available", staticmethod(lambda: False))
    assert type(get_platform()) is Platform
    monkeypatch.setattr(MPI, "is_available", staticmethod(lambda: True))
    assert type(get_platform()) is MPI
    assert type(get_platform("mpi")) is MPI
    (tmp_path / "my_platform.py").write_text(
        "from smallpond.platform import MPI, Platform\nclass Own(Platform):\n    pass\n"
    )
    (tmp_path / "no_platform.py").write_text("from smallpond.platform.base import Platform\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(get_platform("my_platform")) == "Own"
    with pytest.raises(InvalidArgument, match="no subclass"):
        get_platform("no_platform")
    with pytest.raises(InvalidArgument, match="there is no platform 'nope'"):
        get_platform("nope")


def test_jobs_are_processes(tmp_path: Path) -> None:
    """Goal: arguments and variables arrive, None is left out, jobs can be stopped.
    Method: a script that writes what it got and then waits. Oracle: its files; no process.
    """
    script = tmp_path / "job.py"
    script.write_text(
        "import os, sys, time\n"
        f"name = os.path.join({str(tmp_path)!r}, str(os.getpid()))\n"
        "got = [sys.argv[1:], os.environ['A'], 'B' in os.environ]\n"
        "open(name + '.tmp', 'w').write(repr(got))\n"
        "os.rename(name + '.tmp', name + '.out')\n"
        "time.sleep(600)\n"
    )
    platform = Platform()
    jobs = platform.start_job(2, str(script), ["--n", "3"], {"A": 5, "B": None})
    try:
        assert len(set(jobs)) == 2
        deadline = time.monotonic() + DEADLINE_S
        outputs = [tmp_path / f"{job}.out" for job in jobs]
        while not all(path.exists() for path in outputs) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [path.read_text() for path in outputs] == ["[['--n', '3'], '5', False]"] * 2
        assert all(platform.is_running(job) for job in jobs)
    finally:
        for job in jobs:
            platform.stop_job(job)
    assert not any(platform.is_running(job) for job in jobs)
    for job in jobs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(job), 0)
    platform.stop_job(jobs[0])


def test_defaults() -> None:
    """Goal: what 0.15 promised of a platform. Oracle: kinds of values."""
    platform = Platform()
    assert len(platform.default_job_id()) == 36
    assert platform.default_job_time().year > 2000
    assert (platform.default_data_root() or "").endswith(".smallpond/data")
    assert platform.default_memory_allocator() == "system"
    assert platform.shared_log_root() is None
    assert platform.default_share_log_analytics() is False
    assert sys.executable
