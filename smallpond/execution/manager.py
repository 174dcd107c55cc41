"""The job manager: one logical plan from options to result.

Makes the job's folders and context, keeps the context and both plans there (executors read the
first, people the others), starts executors on the platform, and runs the scheduler.
"""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import smallpond
from smallpond.common import (
    DEFAULT_MAX_FAIL_COUNT,
    DEFAULT_MAX_RETRY_COUNT,
    MB,
    InvalidArgument,
)
from smallpond.execution.backends.file_queue import FileQueueBackend
from smallpond.execution.backends.launch import ExecutorLauncher
from smallpond.execution.scheduler import Scheduler
from smallpond.execution.scheduler.observers import StateObserver
from smallpond.execution.task import ExecutionPlan, JobId, RuntimeContext
from smallpond.io.filesystem import dump
from smallpond.logical.planner import Planner
from smallpond.platform import get_platform
from smallpond.show.failure import failure_report
from smallpond.show.view import JobView

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Backend
    from smallpond.logical.node import LogicalPlan

logger = logging.getLogger(__name__)

# A state with more tasks takes the scheduler too long to write again and again.
TASK_COUNT_MAX = 20_000
# For libraries that start a thread for each core in every one of many processes.
THREADS_FEW = {
    "ARROW_IO_THREADS": "2",
    "OMP_NUM_THREADS": "2",
    "POLARS_MAX_THREADS": "2",
    "NUMEXPR_MAX_THREADS": "2",
}
# Options that the context takes under the same names.
CONTEXT_OPTIONS = (
    "num_executors",
    "random_seed",
    "bind_numa_node",
    "enforce_memory_limit",
    "fault_inject_prob",
    "enable_profiling",
    "enable_diagnostic_metrics",
    "remove_empty_parquet",
    "skip_task_with_empty_input",
    "console_log_level",
    "file_log_level",
    "disable_log_rotation",
    "output_path",
)

LogLevel = Literal["CRITICAL", "ERROR", "WARNING", "SUCCESS", "INFO", "DEBUG", "TRACE"]


class SchedStateExporter(StateObserver):
    """Writes the scheduler's state into a file, for whoever looks into a running job."""

    def __init__(self, sched_state_path: str) -> None:
        super().__init__()
        self.sched_state_path = sched_state_path

    def update(self, sched_state: Scheduler) -> None:
        if len(sched_state.nontrivial_tasks) <= TASK_COUNT_MAX:
            dump(sched_state, self.sched_state_path, buffering=32 * MB, atomic_write=True)


class JobManager:
    """Runs logical plans as jobs on a platform."""

    def __init__(
        self,
        data_root: str | None = None,
        python_venv: str | None = None,
        task_image: str = "default",
        platform: str | None = None,
    ) -> None:
        self.platform = get_platform(platform)
        root = data_root or self.platform.default_data_root()
        if not root:
            raise InvalidArgument(f"{self.platform} has no default data_root: pass --data_root")
        self.data_root = str(Path(root).absolute())
        self.python_venv = python_venv
        self.task_image = task_image

    def run(
        self,
        plan: LogicalPlan,
        job_id: str | None = None,
        job_time: float | None = None,
        job_name: str = "smallpond",
        job_priority: int | None = None,
        num_executors: int = 1,
        num_executors_per_task: int = 5,
        resource_group: str | None = "localhost",
        env_variables: list[str] | None = None,
        sidecars: list[str] | None = None,
        user_tags: list[str] | None = None,
        random_seed: int | None = None,
        max_retry_count: int = DEFAULT_MAX_RETRY_COUNT,
        max_fail_count: int = DEFAULT_MAX_FAIL_COUNT,
        prioritize_retry: bool = False,
        speculative_exec: Literal["disable", "enable", "aggressive"] = "enable",
        stop_executor_on_failure: bool = False,
        fail_fast_on_failure: bool = False,
        nonzero_exitcode_as_oom: bool = False,
        fault_inject_prob: float = 0.0,
        enable_profiling: bool = False,
        enable_diagnostic_metrics: bool = False,
        enable_sched_state_dump: bool = False,
        remove_empty_parquet: bool = False,
        remove_output_root: bool = False,
        skip_task_with_empty_input: bool = False,
        manifest_only_final_results: bool = True,
        memory_allocator: Literal["system", "jemalloc", "mimalloc"] = "mimalloc",
        memory_purge_delay: int = 10000,
        bind_numa_node: bool = False,
        enforce_memory_limit: bool = False,
        share_log_analytics: bool | None = None,
        console_log_level: LogLevel = "INFO",
        file_log_level: LogLevel = "DEBUG",
        disable_log_rotation: bool = False,
        sched_state_observers: list[StateObserver] | None = None,
        output_path: str | None = None,
        backend: Backend | None = None,
        **kwargs: Any,
    ) -> ExecutionPlan:
        """Execute the plan; the result says whether that was successful.

        `backend` overrides where tasks run; other keyword arguments go to `RuntimeContext`.
        """
        options = SimpleNamespace(**locals())
        if fail_fast_on_failure:
            options.max_fail_count = 0
        ctx = self._context(options, kwargs)
        view = JobView(ctx.log_root, job_id=str(ctx.job_id), shared_log_root=ctx.shared_log_root)
        view.write_graph([plan.root_node])
        exec_plan = _plans_saved(ctx, plan, manifest_only_final_results)
        launcher = ExecutorLauncher(
            ctx, self.platform, memory_allocator, memory_purge_delay, self._extra_opts(ctx, options)
        )
        queue_backend = FileQueueBackend(launcher) if num_executors > 0 else None
        used = options.backend = backend or queue_backend
        scheduler = _scheduler(exec_plan, options)
        try:
            _run_watched(scheduler, view)
        finally:
            if used is not None:
                used.stop()
            view.write_files()
        if used is not None and scheduler.success:
            _leftovers_remove(scheduler)
        return scheduler.exec_plan

    def _context(self, options: SimpleNamespace, kwargs: dict[str, Any]) -> RuntimeContext:
        """The job's context, with its folders made and its logs open."""
        shared = options.share_log_analytics
        if shared is None:
            shared = self.platform.default_share_log_analytics()
        ctx = RuntimeContext(
            JobId(hex=options.job_id or self.platform.default_job_id()),
            self.platform.default_job_time()
            if options.job_time is None
            else datetime.fromtimestamp(options.job_time),
            self.data_root,
            env_overrides=_environment(options.memory_allocator, options.env_variables or []),
            shared_log_root=self.platform.shared_log_root() if shared else None,
            **{name: getattr(options, name) for name in CONTEXT_OPTIONS},
            **kwargs,
        )
        ctx.initialize("scheduler", root_exist_ok=True)
        logger.info("using platform: %s", self.platform)
        logger.info("command line: %s", " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))
        dump(ctx, ctx.runtime_ctx_path, atomic_write=True)
        return ctx

    def _extra_opts(self, ctx: RuntimeContext, options: SimpleNamespace) -> dict[str, Any]:
        """What a platform that is more than processes may want to know."""
        switches = {
            "fail_fast": options.max_fail_count == 0,
            "prioritize_retry": options.prioritize_retry,
            "stop_executor": options.stop_executor_on_failure,
            "bind_numa_node": options.bind_numa_node,
            "enforce_memory_limit": options.enforce_memory_limit,
        }
        tags = ["smallpond", "executor", smallpond.__version__, options.job_name]
        # The file system and the cluster, where data roots are /{file system}/{cluster}/...
        tags += Path(self.data_root).parts[1:3]
        tags += [f"malloc:{options.memory_allocator}", *(options.user_tags or [])]
        tags += [self.python_venv] if self.python_venv else []
        tags += [f"max_fail:{options.max_fail_count}", f"max_retry:{options.max_retry_count}"]
        tags += [f"speculative_exec:{options.speculative_exec}"]
        tags += [tag for tag, on in switches.items() if on]
        return {
            "job_id": ctx.job_id,
            "job_name": options.job_name,
            "job_priority": options.job_priority,
            "num_executors_per_task": options.num_executors_per_task,
            "resource_group": options.resource_group,
            "image": self.task_image,
            "python_venv": self.python_venv,
            "tags": tags,
            "sidecars": options.sidecars or [],
        }


def _environment(memory_allocator: str, env_variables: list[str]) -> dict[str, str]:
    """Variables for every process of the job: the defaults, then what the user wrote."""
    variables = {"ARROW_DEFAULT_MEMORY_POOL": memory_allocator, **THREADS_FEW}
    for entry in filter(None, map(str.strip, env_variables)):
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"environment variable {entry!r}: write NAME=VALUE")
        variables[name] = value
    return variables


def _plans_saved(ctx: RuntimeContext, plan: LogicalPlan, manifest_only: bool) -> ExecutionPlan:
    """The plan's tasks; both plans are left in the job's folder."""
    dump(plan, ctx.logcial_plan_path, atomic_write=True)
    exec_plan = Planner(ctx).create_exec_plan(plan, manifest_only)
    dump(exec_plan, ctx.exec_plan_path, atomic_write=True)
    logger.info("saved the logical plan and %d tasks in %s", len(exec_plan.tasks), ctx.config_root)
    return exec_plan


def _leftovers_remove(scheduler: Scheduler) -> None:
    """What only a running job needs; the scheduler does it where the backend is its own."""
    for attempt in scheduler.abandoned_tasks:
        attempt.clean_output(force=True)
    scheduler.ctx.cleanup(remove_output_root=False)


def _run_watched(scheduler: Scheduler, view: JobView) -> None:
    """Run, with progress; a failed task is reported in the log."""
    with view.watch(scheduler):
        scheduler.run()
    if scheduler.failed_task is not None:
        logger.error("%s", failure_report(scheduler.failed_task, error=scheduler.failure))


def _scheduler(exec_plan: ExecutionPlan, options: SimpleNamespace) -> Scheduler:
    observers = list(options.sched_state_observers or [])
    if options.enable_sched_state_dump:
        observers.insert(0, SchedStateExporter(exec_plan.ctx.sched_state_path))
    return Scheduler(
        exec_plan,
        options.max_retry_count,
        options.max_fail_count,
        options.prioritize_retry,
        options.speculative_exec,
        options.stop_executor_on_failure,
        # A limit that is enforced shows as a process that died.
        options.nonzero_exitcode_as_oom or options.enforce_memory_limit,
        options.remove_output_root,
        observers,
        backend=options.backend,
    )
