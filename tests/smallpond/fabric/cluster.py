"""Executors for the tests: real processes that share a folder with the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smallpond.execution.backends.file_queue import FileQueueBackend
from smallpond.execution.backends.launch import DRIVER, ExecutorLauncher
from smallpond.execution.backends.remote import RemoteExecutor
from smallpond.execution.task import RuntimeContext, Task
from smallpond.io.filesystem import dump
from smallpond.platform import Platform
from tests.smallpond.core.plans import context

ROOT = Path(__file__).parents[3]


def fast_context(folder: Path, num_executors: int, **options: Any) -> RuntimeContext:
    """A job whose scheduler notices silence after half a second."""
    options = {
        "secs_wq_poll_interval": 0.05,
        "secs_executor_probe_interval": 0.1,
        "max_num_missed_probes": 5,
        **options,
    }
    ctx = context(folder, num_executors=num_executors, **options)
    dump(ctx, ctx.runtime_ctx_path)
    return ctx


def backend_of(ctx: RuntimeContext) -> FileQueueBackend:
    """A backend that starts its executors on this machine."""
    return FileQueueBackend(ExecutorLauncher(ctx, Platform()))


def pid_of(executor: RemoteExecutor) -> int:
    """The process behind an executor, as it says itself."""
    return int(executor._presence["pid"] or 0)


def python_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """For subprocesses that import smallpond and these tests."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, **(more or {})}


def run_python(*args: str, timeout_s: float = 60, **options: Any) -> Any:
    """A Python process that has ended, with its output."""
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        **{"env": python_environment(), **options},
    )


def start_executor(ctx: RuntimeContext, exec_id: str) -> subprocess.Popen[bytes]:
    """An executor of a given name, as a person would start it."""
    return subprocess.Popen(
        [
            *(sys.executable, str(DRIVER), "executor", "--exec_id", exec_id),
            *("--runtime_ctx_path", ctx.runtime_ctx_path),
        ],
        env=python_environment({"PYTHONSAFEPATH": "1"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )


# --- what tasks do ---


def short_sleep(task: Task) -> None:
    time.sleep(0.05)


def wait_for_file(path: Path, task: Task) -> None:
    """Over when the file is there."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)
    time.sleep(0.05)


def first_attempt_hangs(task: Task) -> None:
    """Only another attempt of it ends."""
    if task.retry_count == 0:
        time.sleep(600)
