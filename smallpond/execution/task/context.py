"""The configuration and the folders of a running job.

A context is made once by the driver and travels to every worker; it holds no open resource, so
that it can be pickled at any time. Folders are those of smallpond 0.15:

    {data_root}/{job_time}.{job_id}/{config,queue,output,staging,temp,log}
"""

from __future__ import annotations

import copy
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smallpond.common import RAND_SEED_BYTE_LEN, TB, split_into_rows
from smallpond.execution.task import machine
from smallpond.execution.task.discard import tree_discard
from smallpond.execution.task.ids import JobId, TaskId
from smallpond.execution.task.logs import logs_start

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task


class RuntimeContext:
    """The configuration and state of a running job."""

    def __init__(
        self,
        job_id: JobId,
        job_time: datetime,
        data_root: str,
        *,
        num_executors: int = 1,
        random_seed: int | None = None,
        env_overrides: dict[str, str] | None = None,
        bind_numa_node: bool = False,
        enforce_memory_limit: bool = False,
        max_usable_cpu_count: int = 1024,
        max_usable_gpu_count: int = 1024,
        max_usable_memory_size: int = 16 * TB,
        secs_wq_poll_interval: float = 0.5,
        secs_executor_probe_interval: float = 30,
        max_num_missed_probes: int = 6,
        fault_inject_prob: float = 0.0,
        enable_profiling: bool = False,
        enable_diagnostic_metrics: bool = False,
        remove_empty_parquet: bool = False,
        skip_task_with_empty_input: bool = False,
        shared_log_root: str | None = None,
        console_log_level: str = "INFO",
        file_log_level: str = "DEBUG",
        disable_log_rotation: bool = False,
        output_path: str | None = None,
    ) -> None:
        self.job_id = job_id
        self.job_time = job_time
        self.data_root = data_root
        self.next_task_id = 0
        self.num_executors = num_executors
        self.random_seed = random_seed or int.from_bytes(
            os.urandom(RAND_SEED_BYTE_LEN), sys.byteorder
        )
        self.env_overrides = env_overrides or {}
        self.bind_numa_node = bind_numa_node
        self.numa_node_id: int | None = None
        self.enforce_memory_limit = enforce_memory_limit
        self.max_usable_cpu_count = max_usable_cpu_count
        self.max_usable_gpu_count = max_usable_gpu_count
        self.max_usable_memory_size = max_usable_memory_size
        self.secs_wq_poll_interval = secs_wq_poll_interval
        self.secs_executor_probe_interval = secs_executor_probe_interval
        self.max_num_missed_probes = max_num_missed_probes
        self.fault_inject_prob = fault_inject_prob
        self.enable_profiling = enable_profiling
        self.enable_diagnostic_metrics = enable_diagnostic_metrics
        self.remove_empty_parquet = remove_empty_parquet
        self.skip_task_with_empty_input = skip_task_with_empty_input
        self.console_log_level = console_log_level
        self.file_log_level = file_log_level
        self.disable_log_rotation = disable_log_rotation
        self.current_task: Task | None = None
        self._folders_set(shared_log_root, output_path)

    def _folders_set(self, shared_log_root: str | None, output_path: str | None) -> None:
        dirname = self.job_root_dirname
        self.shared_log_root = os.path.join(shared_log_root, dirname) if shared_log_root else None
        self.job_root = os.path.abspath(os.path.join(self.data_root, dirname))
        self.config_root = os.path.join(self.job_root, "config")
        self.queue_root = os.path.join(self.job_root, "queue")
        self.output_root = os.path.join(self.job_root, "output")
        self.staging_root = os.path.join(self.job_root, "staging")
        self.temp_root = os.path.join(self.job_root, "temp")
        self.log_root = os.path.join(self.job_root, "log")
        self.started_task_dir = os.path.join(self.staging_root, "started_tasks")
        self.completed_task_dir = os.path.join(self.staging_root, "completed_tasks")
        self.final_output_path = os.path.abspath(output_path) if output_path else None

    @property
    def job_root_dirname(self) -> str:
        return f"{self.job_time:%Y-%m-%d-%H-%M-%S}.{self.job_id}"

    @property
    def job_status_path(self) -> str:
        return os.path.join(self.log_root, ".STATUS")

    @property
    def runtime_ctx_path(self) -> str:
        return os.path.join(self.config_root, "runtime_ctx.pickle")

    @property
    def logcial_plan_path(self) -> str:
        """The published name, with the letters as they were published."""
        return os.path.join(self.config_root, "logical_plan.pickle")

    @property
    def logcial_plan_graph_path(self) -> str:
        return os.path.join(self.log_root, "graph")

    @property
    def ray_log_path(self) -> str:
        return os.path.join(self.log_root, "ray.log")

    @property
    def exec_plan_path(self) -> str:
        return os.path.join(self.config_root, "exec_plan.pickle")

    @property
    def sched_state_path(self) -> str:
        return os.path.join(self.config_root, "sched_state.pickle")

    @property
    def journal_path(self) -> str:
        return os.path.join(self.config_root, "journal")

    @property
    def numa_node_count(self) -> int:
        return machine.numa_node_count()

    @property
    def _numa_share(self) -> int:
        return self.numa_node_count if self.bind_numa_node else 1

    @property
    def physical_cpu_count(self) -> int:
        return max(1, machine.allowed_cpu_count() // self._numa_share)

    @property
    def available_memory(self) -> int:
        return machine.available_memory_bytes() // self._numa_share

    @property
    def total_memory(self) -> int:
        return machine.allowed_memory_bytes() // self._numa_share

    @property
    def usable_cpu_count(self) -> int:
        return min(self.max_usable_cpu_count, self.physical_cpu_count)

    @property
    def usable_memory_size(self) -> int:
        return min(self.max_usable_memory_size, self.total_memory)

    @property
    def secs_executor_probe_timeout(self) -> float:
        return self.secs_executor_probe_interval * self.max_num_missed_probes

    def get_local_gpus(self) -> list[Any]:
        """The GPUs of this machine, or of this process's NUMA node."""
        gpus = list(machine.local_gpus())
        if self.bind_numa_node and self.numa_node_id is not None:
            return list(split_into_rows(gpus, self.numa_node_count)[self.numa_node_id])
        return gpus

    @property
    def usable_gpu_count(self) -> int:
        return min(self.max_usable_gpu_count, len(self.get_local_gpus()))

    @property
    def task(self) -> Task:
        """The task that is running; only there inside of it."""
        assert self.current_task is not None, "no task is running in this context"
        return self.current_task

    def set_current_task(self, task: Task | None = None) -> RuntimeContext:
        """A copy of this context for user code of the task."""
        self.current_task = None
        ctx = copy.copy(self)
        ctx.current_task = copy.copy(task)
        return ctx

    def new_task_id(self) -> TaskId:
        self.next_task_id += 1
        return TaskId(self.next_task_id)

    def initialize(
        self, exec_id: str, root_exist_ok: bool = True, cleanup_root: bool = False
    ) -> None:
        """Make the folders of the job, start its logs, set its environment variables."""
        self._make_dirs(root_exist_ok, cleanup_root)
        logs_start(self, exec_id)
        self._init_envs()

    def cleanup_root(self) -> None:
        tree_discard(self.job_root)

    def _make_dirs(self, root_exist_ok: bool, cleanup_root: bool) -> None:
        if os.path.exists(self.job_root):
            if cleanup_root:
                tree_discard(self.job_root)
            elif not root_exist_ok:
                raise FileExistsError(f"Folder already exists: {self.job_root}")
        for folder in (
            self.config_root,
            self.queue_root,
            self.output_root,
            self.staging_root,
            self.temp_root,
            self.log_root,
            self.started_task_dir,
            self.completed_task_dir,
        ):
            os.makedirs(folder, exist_ok=root_exist_ok)

    def _init_envs(self) -> None:
        os.environ.update({key: str(value) for key, value in self.env_overrides.items()})

    def cleanup(self, remove_output_root: bool = True) -> None:
        """Remove what only a running job needs, and its outputs when asked to."""
        for folder in (self.queue_root, self.temp_root, self.staging_root):
            tree_discard(folder)
        if remove_output_root:
            tree_discard(self.output_root)
