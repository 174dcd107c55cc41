"""Which files somebody looks at, and what those may be that nobody does.

Between our own tasks a shuffle's producer writes one file with all partitions, and readers take row
ranges of it. Whoever looks at paths must find a file a partition: sinks, user code over data sets,
and tasks that read the partition from a file's metadata. And files that only our own tasks read are
compressed to be read again soon, not to be kept: LZ4 costs a third less CPU than ZSTD.
"""

from __future__ import annotations

from smallpond.execution.task.arrow_compute import ArrowComputeTask
from smallpond.execution.task.arrow_stream import ArrowStreamTask
from smallpond.execution.task.base import Task
from smallpond.execution.task.grouped_partition import GroupedPartitionTask
from smallpond.execution.task.plan import ExecutionPlan
from smallpond.execution.task.root import RootTask
from smallpond.execution.task.sql_engine import SqlEngineTask

# They read data sets through their rows, never through their paths.
_ROW_READERS = (SqlEngineTask, ArrowComputeTask, ArrowStreamTask, GroupedPartitionTask, RootTask)
_WRITERS = (SqlEngineTask, ArrowComputeTask, ArrowStreamTask)
_DEFAULT_COMPRESSION = ("ZSTD", 3)
_COMPRESSION_BETWEEN_TASKS = "LZ4"


def mark_visible_partitions(root_task: Task) -> None:
    """Tell every shuffle below `root_task` whose files are looked at, and other tasks if not."""
    seen: set[str] = set()
    tasks = list(ExecutionPlan.iter_tasks(root_task))
    for task in tasks:
        if isinstance(task, _ROW_READERS):
            continue
        if not task.self_contained_output and not task.output_name and not _looks_at_paths(task):
            # It passes lists of files on; what counts is who reads them then.
            continue
        _mark_inputs(task, seen)
    for task in tasks:
        if isinstance(task, _WRITERS) and task.temp_output and task.key not in seen:
            chosen = (task.parquet_compression, task.parquet_compression_level)
            if chosen == _DEFAULT_COMPRESSION:
                task.parquet_compression = _COMPRESSION_BETWEEN_TASKS


def _looks_at_paths(task: Task) -> bool:
    from smallpond.execution.task.load_partitioned import LoadPartitionedDataSetProducerTask
    from smallpond.execution.task.sink import DataSinkTask

    return isinstance(task, DataSinkTask | LoadPartitionedDataSetProducerTask)


def _mark_inputs(task: Task, seen: set[str]) -> None:
    stack = list(task.input_deps.values())
    while stack:
        dep = stack.pop()
        if dep.key in seen:
            continue
        seen.add(dep.key)
        if isinstance(dep, GroupedPartitionTask):
            dep.file_per_partition = True
        elif not dep.self_contained_output:
            stack += dep.input_deps.values()
