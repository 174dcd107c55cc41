"""The task: one operation on one partition, with its inputs, its output and its limits.

Life: made by the planner in the driver; copied for each attempt, with its input data sets, by the
scheduler; run by a worker, where `exec()` is initialize, run, finalize, cleanup; its outcome is
written back into the planner's object. `input_deps` holds objects only while planning; a task that
travels has their keys alone, and finds the context at the worker (`task_bytes` in pool/codec.py).

Invariants: output appears in `final_output_abspath` by one rename after run() succeeded; the output
folder of each attempt is its own, because `runtime_id` is part of its name.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smallpond.common import (
    GB,
    KB,
    MAX_NUM_ROW_GROUPS,
    MAX_ROW_GROUP_BYTES,
    MAX_ROW_GROUP_SIZE,
    MB,
    PARQUET_METADATA_KEY_PREFIX,
    RAND_SEED_BYTE_LEN,
    InjectedFault,
    clamp_row_group_bytes,
    clamp_row_group_size,
    round_up,
)
from smallpond.execution.task import limits
from smallpond.execution.task.context import RuntimeContext
from smallpond.execution.task.ids import PartitionInfo, TaskRuntimeId
from smallpond.execution.workitem import WorkItem, WorkStatus

if TYPE_CHECKING:
    import numpy as np

    from smallpond.logical.dataset import DataSet

logger = logging.getLogger(__name__)


class Task(WorkItem):
    """The base class of all tasks. Tasks are idempotent: any of them may run more than once."""

    __slots__ = (
        "_dataset_ref",
        "_identity",
        "_np_randgen",
        "_output_files",
        "_partition_infos",
        "_py_randgen",
        "_temp_made",
        "_temp_output",
        "_timer_start",
        "ctx",
        "dataset",
        "id",
        "input_datasets",
        "input_deps",
        "low_memory",
        "node_id",
        "output_deps",
        "output_name",
        "output_root",
        "perf_metrics",
        "perf_profile",
        "runtime_state",
        "sched_epoch",
    )

    # Set by subclasses that write Parquet files.
    parquet_row_group_size: int
    parquet_row_group_bytes: int

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Iterable[Task],
        partition_infos: Iterable[PartitionInfo],
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = 1,
        gpu_limit: float | None = 0,
        memory_limit: int | None = None,
    ) -> None:
        assert isinstance(input_deps, Iterable), f"{input_deps} is not iterable"
        deps = list(input_deps)
        assert all(isinstance(dep, Task) for dep in deps), f"not every element of {deps} is a task"
        infos = list(partition_infos)
        assert all(isinstance(info, PartitionInfo) for info in infos), (
            f"not every element of {infos} is a partition info"
        )
        dims = [info.dimension for info in infos]
        assert PartitionInfo.toplevel_dimension in dims, (
            f"cannot find toplevel partition dimension: {infos}"
        )
        assert len(dims) == len(set(dims)), f"found duplicate partition dimensions: {dims}"
        cpu_limit = 1 if cpu_limit is None else cpu_limit
        assert cpu_limit > 0, "cpu_limit should be greater than zero"
        self.ctx = ctx
        self.id = ctx.new_task_id()
        self.node_id = 0
        self.sched_epoch = 0
        self._identity: str | None = None
        self._output_files: tuple[tuple[str, int], ...] | None = None
        self._np_randgen: np.random.Generator | None = None
        self._py_randgen: random.Random | None = None
        self._timer_start: float | None = None
        self._temp_made = False
        self.perf_metrics: dict[str, Any] = defaultdict(int)
        self.perf_profile: Any = None
        self._partition_infos = sorted(infos)
        super().__init__(
            f"{self.__class__.__name__}-{self.id}", cpu_limit, gpu_limit or 0, memory_limit
        )
        self.output_name = output_name
        self.output_root = output_path
        self._temp_output = output_name is None and output_path is None
        # Objects while planning, None at the worker: there only the keys are known.
        self.input_deps: dict[str, Any] = {dep.key: dep for dep in deps}
        self.output_deps: set[str] = set()
        for dep in deps:
            dep.output_deps.add(self.key)
        # What run() reads; one data set for each input.
        self.input_datasets: list[DataSet] = None  # type: ignore[assignment]
        # What run() sets as its output; when it does not, all Parquet files of the output folder.
        self.dataset: DataSet | None = None
        # A checkpoint that run() may leave, to continue from at the next attempt.
        self.runtime_state: Any = None
        # Set when earlier attempts ran out of all memory there is: spill early, use few threads.
        self.low_memory = False
        self._dataset_ref: Any = None

    def __repr__(self) -> str:
        return f"{self.key}.{self.sched_epoch}.{self.retry_count},{self.node_id}"

    def __str__(self) -> str:
        return (
            f"{self!r}: status={self.status}, elapsed_time={self.elapsed_time:.3f}s, "
            f"epoch={self.sched_epoch}, #retries={self.retry_count}, "
            f"input_deps[{len(self.input_deps)}]={list(self.input_deps)[:3]}..., "
            f"output_dir={self.output_dirname}, resource_limit={self.cpu_limit}CPUs/"
            f"{self.gpu_limit}GPUs/{self.memory_limit // GB}GB, "
            f"partition_infos={self.partition_infos}"
        )

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return self.exec()

    @property
    def _pristine_attrs(self) -> set[str]:
        """Every attribute that a class declares in __slots__."""
        slots = (getattr(cls, "__slots__", ()) for cls in type(self).__mro__)
        return set(itertools.chain.from_iterable(slots))

    # --- partitions ---

    @property
    def partition_infos(self) -> tuple[PartitionInfo, ...]:
        return tuple(self._partition_infos)

    @property
    def partition_infos_as_dict(self) -> dict[str, int]:
        return {info.dimension: info.index for info in self._partition_infos}

    @property
    def partition_dims(self) -> tuple[str, ...]:
        return tuple(info.dimension for info in self._partition_infos)

    def get_partition_info(self, dimension: str) -> PartitionInfo:
        for info in self._partition_infos:
            if info.dimension == dimension:
                return info
        raise KeyError(f"cannot find dimension {dimension} in {self._partition_infos}")

    def parquet_kv_metadata_str(
        self, extra_partitions: list[PartitionInfo] | None = None
    ) -> dict[str, str]:
        """What each Parquet file of this task says about its origin."""
        pairs = [
            ("__task_key__", self.key),
            ("__task_id__", str(self.id)),
            ("__node_id__", str(self.node_id)),
            ("__job_id__", str(self.ctx.job_id)),
            ("__job_root__", self.ctx.job_root),
        ]
        infos = self._partition_infos + (extra_partitions or [])
        pairs += [(info.dimension, str(info.index)) for info in infos]
        return {PARQUET_METADATA_KEY_PREFIX + key: value for key, value in pairs}

    def parquet_kv_metadata_bytes(
        self, extra_partitions: list[PartitionInfo] | None = None
    ) -> dict[bytes, bytes]:
        pairs = self.parquet_kv_metadata_str(extra_partitions).items()
        return {key.encode(): value.encode() for key, value in pairs}

    # --- inputs and outputs ---

    @property
    def any_input_empty(self) -> bool:
        return any(dataset.empty for dataset in self.input_datasets)

    @property
    def skip_when_any_input_empty(self) -> bool:
        return self.ctx.skip_task_with_empty_input and self.any_input_empty

    @property
    def runtime_id(self) -> TaskRuntimeId:
        return TaskRuntimeId(self.id, self.sched_epoch, self.retry_count)

    @property
    def identity(self) -> str:
        """A digest of code, parameters and inputs (identity.py); computed while planning."""
        if self._identity is None:
            from smallpond.execution.task.identity import task_identity

            self._identity = task_identity(self)
        return self._identity

    @property
    def default_output_name(self) -> str:
        name = self.__class__.__name__
        return f"{name}.{self.node_id}" if self.node_id else name

    @property
    def output_filename(self) -> str:
        name = self.output_name or self.default_output_name
        return f"{name}-{self.ctx.job_id}.{self.runtime_id}"

    @property
    def output_dirname(self) -> str:
        name = self.output_name or self.default_output_name
        return os.path.join(name, f"{self.ctx.job_id}.{self.runtime_id}")

    @property
    def staging_root(self) -> str | None:
        """Where a task with a folder of its own prepares its output: on the same file system."""
        return None if self.output_root is None else os.path.join(self.output_root, ".staging")

    @property
    def _final_output_root(self) -> str:
        if self.temp_output:
            return self.ctx.staging_root
        return self.output_root or self.ctx.output_root

    @property
    def _runtime_output_root(self) -> str:
        return self.staging_root or self.ctx.staging_root

    @property
    def final_output_abspath(self) -> str:
        return os.path.join(self._final_output_root, self.output_dirname)

    @property
    def runtime_output_abspath(self) -> str:
        """Where run() writes; renamed to `final_output_abspath` when it has succeeded."""
        return os.path.join(self._runtime_output_root, self.output_dirname)

    @property
    def temp_abspath(self) -> str:
        """A folder for scratch files; made when a running task first asks for it."""
        path = os.path.join(self.ctx.temp_root, self.output_dirname)
        if not self._temp_made and self.start_time is not None and self.finish_time is None:
            os.makedirs(path, exist_ok=True)
            self._temp_made = True
        return path

    @property
    def output(self) -> DataSet:
        if self.dataset is not None:
            return self.dataset
        from smallpond.logical.dataset import ParquetDataSet

        return ParquetDataSet(["*"], root_dir=self.final_output_abspath)

    @property
    def self_contained_output(self) -> bool:
        """Whether the output stands alone, and does not point at files of the inputs."""
        return True

    @property
    def temp_output(self) -> bool:
        """Whether the output only serves later tasks of this job."""
        return self._temp_output

    @temp_output.setter
    def temp_output(self, temp_output: bool) -> None:
        assert not temp_output, f"cannot change temp_output to True in {self}"
        self._temp_output = False
        if not self.self_contained_output:
            for task in self.input_deps.values():
                if task.temp_output:
                    task.temp_output = False

    @property
    def allow_speculative_exec(self) -> bool:
        """Whether a second copy may run beside a slow one."""
        return True

    @property
    def exec_inline(self) -> bool:
        """Whether this attempt is so small that the driver runs it itself while it has no workers.

        Asked when the inputs are known (`input_datasets` is set).
        """
        return False

    @property
    def ray_marker_path(self) -> str:
        return os.path.join(
            self.ctx.started_task_dir, f"{self.node_id}.{self.key}.{self.retry_count}"
        )

    @property
    def ray_dataset_path(self) -> str:
        return os.path.join(self.ctx.completed_task_dir, str(self.node_id), f"{self.key}.pickle")

    # --- randomness and injected faults ---

    @property
    def random_seed_bytes(self) -> bytes:
        seed = self.ctx.random_seed.to_bytes(RAND_SEED_BYTE_LEN, sys.byteorder)
        return self.id.to_bytes(4, sys.byteorder) + seed

    @property
    def numpy_random_gen(self) -> np.random.Generator:
        if self._np_randgen is None:
            import numpy as np

            seed = int.from_bytes(self.random_seed_bytes, sys.byteorder)
            self._np_randgen = np.random.default_rng(seed)
        return self._np_randgen

    @property
    def python_random_gen(self) -> random.Random:
        if self._py_randgen is None:
            seed = int.from_bytes(self.random_seed_bytes, sys.byteorder)
            self._py_randgen = random.Random(seed)
        return self._py_randgen

    def random_uint32(self) -> int:
        return self.python_random_gen.randint(0, 0x7FFFFFFF)

    def random_float(self) -> float:
        return self.python_random_gen.random()

    @property
    def uniform_failure_prob(self) -> float:
        return 1.0 / (self.ctx.next_task_id - self.id + 1)

    def inject_fault(self) -> None:
        """Fail for a test, by chance, on the first attempts only."""
        bound = self.ctx.fault_inject_prob
        if bound > 0 and self.fail_count <= 1:
            value = self.random_float()
            if value < self.uniform_failure_prob and value < bound:
                raise InjectedFault(
                    f"inject fault to {self!r}, fault_inject_prob={bound:.6f}, "
                    f"uniform_failure_prob={self.uniform_failure_prob:.6f}"
                )

    # --- row groups ---

    def compute_avg_row_size(self, nbytes: int, num_rows: int) -> int:
        return max(1, nbytes // num_rows) if num_rows > 0 else 1

    def adjust_row_group_size(
        self,
        nbytes: int,
        num_rows: int,
        max_row_group_size: int = MAX_ROW_GROUP_SIZE,
        max_row_group_bytes: int = MAX_ROW_GROUP_BYTES,
        max_num_row_groups: int = MAX_NUM_ROW_GROUPS,
    ) -> None:
        """Larger row groups for many rows, smaller ones for wide rows."""
        rows = self.parquet_row_group_size
        if num_rows // rows > max_num_row_groups:
            wanted = num_rows // max_num_row_groups
            rows = round_up(clamp_row_group_size(wanted, maxval=max_row_group_size), KB)
        row_bytes = self.compute_avg_row_size(nbytes, num_rows)
        rows = round_up(min(rows, max_row_group_bytes // row_bytes), KB)
        if rows != self.parquet_row_group_size:
            logger.debug("%s: row groups of %d rows", self.key, rows)
            group_bytes = clamp_row_group_bytes(rows * row_bytes, maxval=max_row_group_bytes)
            writer: Any = self
            writer.parquet_row_group_size = rows
            writer.parquet_row_group_bytes = round_up(group_bytes, MB)

    # --- life ---

    def run(self) -> bool:
        return True

    def set_memory_limit(self, soft_limit: int, hard_limit: int) -> None:
        """Bound the data segment of this process; the hard limit stays open for the next task."""
        limits.data_bytes_limit(min(soft_limit, hard_limit))

    def initialize(self) -> None:
        self.inject_fault()
        if self._memory_limit is None:
            share = self.ctx.usable_memory_size * (self._cpu_limit or 1)
            self._memory_limit = share // self.ctx.usable_cpu_count
        assert self._partition_infos, f"empty partition infos: {self}"
        limits.folder_make(self.runtime_output_abspath, exist_ok=self.output_root is not None)
        if not self.exec_on_scheduler:
            limits.task_limits_set(self)

    def finalize(self) -> None:
        self.inject_fault()
        assert self.status == WorkStatus.SUCCEED
        source, target = self.runtime_output_abspath, self.final_output_abspath
        if source != target and os.path.exists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
        limits.task_metrics_add(self)

    def cleanup(self) -> None:
        limits.task_limits_clear(self)
        self.clean_complex_attrs()

    def clean_complex_attrs(self) -> None:
        """Drop what must not travel back: only simple values and declared slots stay."""
        self._np_randgen = None
        self._py_randgen = None
        self.perf_profile = None
        if hasattr(self, "__dict__"):
            declared = self._pristine_attrs
            for name, value in list(vars(self).items()):
                if name not in declared and not _is_simple(value):
                    delattr(self, name)

    def clean_output(self, force: bool = False) -> None:
        """Remove this attempt's output if it is temporary, or in any case when forced."""
        if force or self.temp_output:
            limits.folder_remove(self.runtime_output_abspath)
            limits.folder_remove(self.final_output_abspath)

    def dump(self) -> None:
        """Save the task whole, so that `python -m smallpond.execution.task` can run it alone."""
        from smallpond.io.filesystem import dump

        folder = os.path.join(self.ctx.temp_root, self.output_dirname)
        path = os.path.join(folder, f"{self.key}.pickle")
        try:
            os.makedirs(folder, exist_ok=True)
            dump(self, path)
            logger.info("%s saved to %s", self.key, path)
        except Exception as error:
            logger.warning("failed to dump %r", self, exc_info=error)

    def add_elapsed_time(self, metric_name: str | None = None) -> float:
        """Start the timer without a name; with one, add the time since to that metric."""
        self.inject_fault()
        assert self._timer_start is not None or metric_name is None, (
            f"timer not started, cannot save '{metric_name}'"
        )
        now = time.time()
        before, self._timer_start = self._timer_start, now
        if before is None or metric_name is None:
            return 0.0
        self.perf_metrics[metric_name] += now - before
        return now - before

    def merge_metrics(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.perf_metrics[name] += value

    def run_on_ray(self) -> Any:
        """Run on Ray, inputs first; the reference to the output data set."""
        from smallpond.execution.backends.ray import run_on_ray

        return run_on_ray(self)


def _is_simple(value: Any) -> bool:
    if isinstance(value, (bool, str, int, float)):
        return True
    if isinstance(value, dict):
        return all(_is_simple(key) and _is_simple(item) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_simple(item) for item in value)
    return False
