"""Executors for the tests: real processes that share a folder with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from smallpond.execution.backends.file_queue import FileQueueBackend
from smallpond.execution.backends.launch import DRIVER, ExecutorLauncher
from smallpond.execution.backends.remote import RemoteExecutor
from smallpond.execution.task import RuntimeContext, StreamOutput, Task
from smallpond.io.filesystem import dump
from smallpond.platform import Platform
from tests.smallpond.core.plans import MB, context

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


def wants_memory(task: Task) -> None:
    """Runs out of memory with less than 200 MB."""
    if task.memory_limit < 200 * MB:
        raise MemoryError("wants more")


def write_part(task: Task) -> None:
    """One small file."""
    Path(task.runtime_output_abspath, "part.txt").write_text("x")


def need_file(path: Path, task: Task) -> None:
    """Fails without the file."""
    assert path.exists(), "the file is missing"


def broken_stream(
    marks: Path, end: Callable[[], None], runtime_ctx: RuntimeContext, readers: list[Any]
) -> Iterator[StreamOutput]:
    """Notes the first number of each batch; the first attempt ends at the one that begins at 40."""
    for index, batch in enumerate(readers[0]):
        first = batch.column(0)[0].as_py()
        with marks.open("a") as file:
            file.write(f"{first}\n")
        if first == 40 and runtime_ctx.task.retry_count == 0:
            end()
        yield StreamOutput(
            pa.Table.from_batches([batch]), batch_indices=[index], force_checkpoint=True
        )


def end_by_exception() -> None:
    raise RuntimeError("the fifth batch fails")


def end_by_kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def first_attempt_hangs(task: Task) -> None:
    """Only another attempt of it ends."""
    if task.retry_count == 0:
        time.sleep(600)
