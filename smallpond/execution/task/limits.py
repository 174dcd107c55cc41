"""What surrounds a task in its process: limits, thread counts, measurements, folders.

Thread counts are set for the libraries that are loaded already; the others read the environment
when they are. Counters of the process are taken before and after, since a worker runs many tasks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import resource
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smallpond.common import MB
from smallpond.execution.task.written import written_bytes

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task

logger = logging.getLogger(__name__)

_usage_before: dict[str, resource.struct_rusage] = {}
_written_before: dict[str, int] = {}
# Less than this beside the output is logs and the like.
SPILLED_BYTES_MIN = MB
_random_before: dict[str, Any] = {}


def folder_make(path: str, exist_ok: bool = True) -> None:
    """One system call where the parent is there, which is nearly always."""
    try:
        os.mkdir(path)
    except FileNotFoundError:
        os.makedirs(path, exist_ok=exist_ok)
    except FileExistsError:
        if not exist_ok:
            raise


def folder_remove(path: str) -> None:
    if os.path.lexists(path):
        from smallpond.io.filesystem import remove_path

        remove_path(path)


def data_bytes_limit(bytes_max: int | None) -> None:
    """Bound the data segment of this process; None opens it again."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if bytes_max is None else bytes_max
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (int(soft), hard))


def _data_bytes_now() -> int:
    """The data segment as it is, which a limit for one task must come on top of."""
    with contextlib.suppress(OSError, IndexError, ValueError), open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()
    return 0


def task_limits_set(task: Task) -> None:
    """Profile, memory limit and thread counts for the task that begins."""
    _usage_before[task.key] = resource.getrusage(resource.RUSAGE_SELF)
    if hasattr(task, "exec_query"):
        _written_before[task.key] = written_bytes()
    if task.ctx.enable_profiling:
        import cProfile

        task.perf_profile = cProfile.Profile()
        task.perf_profile.enable()
    if task.ctx.enforce_memory_limit and in_worker():
        base = _data_bytes_now()
        limit = task.memory_limit
        task.set_memory_limit(base + limit * 12 // 10, base + limit * 15 // 10)
    if task.ctx.remove_empty_parquet:
        for dataset in task.input_datasets:
            if hasattr(dataset, "remove_empty_files"):
                dataset.remove_empty_files()
    if in_worker():
        _threads_set(task.cpu_limit)
    else:
        # The process is the user's own: it gets back its random numbers, and keeps its threads.
        _random_before[task.key] = random.getstate()
    random.seed(task.random_seed_bytes)


def _threads_set(count: int) -> None:
    text = str(count)
    if os.environ.get("OMP_NUM_THREADS") != text or os.environ.get("POLARS_MAX_THREADS") != text:
        os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = text
    arrow: Any = sys.modules.get("pyarrow")
    if arrow is not None and hasattr(arrow, "set_cpu_count") and arrow.cpu_count() != count:
        arrow.set_cpu_count(count)
        arrow.set_io_thread_count(count)


def task_limits_clear(task: Task) -> None:
    """Undo what outlives a task in its process, and remove its scratch folder."""
    _usage_before.pop(task.key, None)
    _written_before.pop(task.key, None)
    random_state = _random_before.pop(task.key, None)
    if random_state is not None:
        random.setstate(random_state)
    if task.perf_profile is not None:
        task.perf_profile.disable()
    if task.ctx is not None and task.ctx.enforce_memory_limit and in_worker():
        data_bytes_limit(None)
    if task._temp_made:
        folder_remove(os.path.join(task.ctx.temp_root, task.output_dirname))
        task._temp_made = False


def task_metrics_add(task: Task) -> None:
    """Time, memory and, when asked for, files and their sizes."""
    metrics = task.perf_metrics
    if task.ctx.enable_diagnostic_metrics:
        inputs = [path for dataset in task.input_datasets for path in dataset.resolved_paths]
        for name, paths in (("input", inputs), ("output", task.output.resolved_paths)):
            sizes = [size for path in paths if (size := _file_bytes(path)) is not None]
            if sizes:
                metrics[f"num {name} files"] += len(paths)
                metrics[f"total {name} size (MB)"] += sum(sizes) / MB
    if not task.exec_on_scheduler:
        output_files_of(task)
    metrics["elapsed wall time (secs)"] += task.elapsed_time
    before = _usage_before.get(task.key)
    if before is not None:
        after = resource.getrusage(resource.RUSAGE_SELF)
        metrics["max resident set size (MB)"] += after.ru_maxrss / 1024
        metrics["user mode cpu time (secs)"] += after.ru_utime - before.ru_utime
        metrics["system mode cpu time (secs)"] += after.ru_stime - before.ru_stime
    written = _written_before.get(task.key, -1)
    if written >= 0:
        spilled = written_bytes() - written - sum(size for _, size in output_files_of(task))
        if spilled >= SPILLED_BYTES_MIN:
            metrics["spilled (bytes)"] += spilled
    if task.perf_profile is not None and task.elapsed_time > 3:
        from smallpond.utility import cprofile_to_string

        logger.debug("%s perf profile:\n%s", task.key, cprofile_to_string(task.perf_profile))


def output_files_of(task: Task) -> tuple[tuple[str, int], ...]:
    """The files that a finished task left, with their sizes: what a later run relies on."""
    if task._output_files is None:
        task._output_files = tuple(_output_files_found(task))
    return task._output_files


def _output_files_found(task: Task) -> Iterator[tuple[str, int]]:
    own = task.final_output_abspath
    if str(task.runtime_id) in os.path.basename(own):
        for folder, _, names in os.walk(own):
            for name in names:
                path = os.path.join(folder, name)
                yield path, os.path.getsize(path)
    elif task.dataset is not None:
        # A folder shared with others: only what the data set names is this task's.
        for path in task.dataset.resolved_paths:
            size = _file_bytes(path)
            # What cannot be looked at (a URL) never counts as being there: it is written again.
            yield path, -1 if size is None else size


def _file_bytes(path: str) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None


_worker_names: list[str] = []


def in_worker() -> bool:
    """Whether this process exists to run tasks."""
    return bool(_worker_names)


def worker_enter(name: str) -> None:
    """Say that this process is the worker of that name."""
    _worker_names[:] = [name]
