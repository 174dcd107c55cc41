"""The command-line options of the driver: names, defaults and help, and nothing else.

Names and defaults are those of smallpond 0.15. `--ray_address` is new: there, the cluster could
only be given in the environment.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from typing import Any

from smallpond.common import DEFAULT_MAX_FAIL_COUNT, DEFAULT_MAX_RETRY_COUNT

MODES = ("executor", "scheduler", "ray")
LOG_LEVELS = ("CRITICAL", "ERROR", "WARNING", "SUCCESS", "INFO", "DEBUG", "TRACE")
ALLOCATORS = ("system", "jemalloc", "mimalloc")

# Options that JobManager.run takes under the same names.
JOB_OPTIONS = (
    "job_id",
    "job_time",
    "job_name",
    "job_priority",
    "num_executors",
    "num_executors_per_task",
    "resource_group",
    "env_variables",
    "sidecars",
    "random_seed",
    "max_retry_count",
    "max_fail_count",
    "prioritize_retry",
    "speculative_exec",
    "stop_executor_on_failure",
    "fail_fast_on_failure",
    "nonzero_exitcode_as_oom",
    "fault_inject_prob",
    "enable_profiling",
    "enable_diagnostic_metrics",
    "enable_sched_state_dump",
    "remove_empty_parquet",
    "remove_output_root",
    "skip_task_with_empty_input",
    "memory_allocator",
    "memory_purge_delay",
    "bind_numa_node",
    "enforce_memory_limit",
    "share_log_analytics",
    "console_log_level",
    "file_log_level",
    "disable_log_rotation",
    "output_path",
)

_Add = Callable[..., Any]


def add_driver_options(parser: argparse.ArgumentParser) -> None:
    """Add every option of the driver; the mode is the driver's own business."""
    _add_job_options(parser.add_argument)
    _add_executor_options(parser.add_argument)
    _add_retry_options(parser.add_argument)
    parser.set_defaults(speculative_exec="enable")
    _add_debug_options(parser.add_argument)
    parser.set_defaults(enable_sched_state_dump=False)
    _add_output_options(parser.add_argument)
    _add_machine_options(parser.add_argument)
    _add_log_options(parser.add_argument)
    parser.set_defaults(share_log_analytics=None)


def _add_job_options(add: _Add) -> None:
    add("--exec_id", default=socket.gethostname(), help="Unique executor id")
    add("--job_id", type=str, help="Unique job id")
    add("--job_time", type=float, help="Job create time (seconds since epoch)")
    add("--job_name", default="smallpond", help="Display name of the job")
    add("--job_priority", type=int, help="Job priority")
    add("--resource_group", type=str, help="Resource group")
    add("--env_variables", nargs="*", default=[], help="NAME=VALUE for executors")
    add("--sidecars", nargs="*", default=[], help="Sidecars for the job")
    add("--tags", nargs="*", default=[], help="Tags for submitted platform task")
    add("--task_image", default="default", help="Container image of platform task")
    add("--python_venv", type=str, help="Python virtual env for the job")
    add("--data_root", type=str, help="The root folder for all files generated at runtime")
    add("--platform", type=str, help="'mpi', or a module that holds a Platform class")


def _add_executor_options(add: _Add) -> None:
    add("--runtime_ctx_path", default=None, help="The job's context, for its executors")
    add(
        "--num_executors",
        default=0,
        type=int,
        help="The number of executors (0: worker processes of this machine)",
    )
    add(
        "--num_executors_per_task",
        default=5,
        type=int,
        help="The number of executors in each platform task",
    )
    add("--ray_address", help="Mode ray: the cluster (default: SP_RAY_ADDRESS, else a local one)")


def _add_retry_options(add: _Add) -> None:
    add("--random_seed", type=int, default=None, help="Random seed for the job (default: random)")
    add(
        "--max_retry",
        "--max_retry_count",
        dest="max_retry_count",
        default=DEFAULT_MAX_RETRY_COUNT,
        type=int,
        help="The max number of times a task is retried by speculative execution",
    )
    add(
        "--max_fail",
        "--max_fail_count",
        dest="max_fail_count",
        default=DEFAULT_MAX_FAIL_COUNT,
        type=int,
        help="The number of times a task is allowed to fail or crash before giving up",
    )
    add("--prioritize_retry", action="store_true", help="Prioritize retry tasks in scheduling")
    add(
        "--speculative_exec",
        dest="speculative_exec",
        choices=["disable", "enable", "aggressive"],
        help="Level of speculative execution",
    )
    for level in ("enable", "disable"):
        add(
            f"--{level}_speculative_exec",
            dest="speculative_exec",
            action="store_const",
            const=level,
            help=f"Same as --speculative_exec {level}",
        )
    add(
        "--stop_executor_on_failure",
        action="store_true",
        help="Stop an executor if any task fails on it",
    )
    add(
        "--fail_fast",
        "--fail_fast_on_failure",
        dest="fail_fast_on_failure",
        action="store_true",
        help="Stop all executors if any task fails",
    )
    add("--nonzero_exitcode_as_oom", action="store_true", help="Treat task crash as oom error")


def _add_debug_options(add: _Add) -> None:
    add(
        "--fault_inject",
        "--fault_inject_prob",
        dest="fault_inject_prob",
        type=float,
        default=0.0,
        help="Inject random errors at runtime (for test)",
    )
    add("--enable_profiling", action="store_true", help="Profile the Python code of each task")
    add(
        "--enable_diagnostic_metrics",
        action="store_true",
        help="Collect metrics that may cost performance",
    )
    for verb in ("enable", "disable"):
        add(
            f"--{verb}_sched_state_dump",
            dest="enable_sched_state_dump",
            action=f"store_{'true' if verb == 'enable' else 'false'}",
            help="Write the scheduler's state for inspection (resuming needs the journal alone)",
        )


def _add_output_options(add: _Add) -> None:
    add(
        "--remove_empty_parquet",
        action="store_true",
        help="Remove empty parquet files from hash partition output",
    )
    add(
        "--remove_output_root",
        action="store_true",
        help="Remove all output files after job completed (for test)",
    )
    add(
        "--skip_task_with_empty_input",
        action="store_true",
        help="Skip running a task if any of its input datasets is empty",
    )
    add(
        "--self_contained_final_results",
        action="store_true",
        help="Link the files of final results into their output folder",
    )
    add(
        "--output_path",
        help="Output folder of final results and of nodes with output_name but no output_path",
    )


def _add_machine_options(add: _Add) -> None:
    add(
        "--malloc",
        "--memory_allocator",
        dest="memory_allocator",
        default="mimalloc",
        choices=ALLOCATORS,
        help="Memory allocator of executors, where it is installed",
    )
    add(
        "--memory_purge_delay",
        default=10000,
        type=int,
        help="Milliseconds after which jemalloc/mimalloc give unused pages back",
    )
    add("--bind_numa_node", action="store_true", help="Bind executor processes to numa nodes")
    add(
        "--enforce_memory_limit",
        action="store_true",
        help="Set soft/hard memory limit for each task process",
    )


def _add_log_options(add: _Add) -> None:
    for verb in ("enable", "disable"):
        add(
            f"--{verb}_log_analytics",
            dest="share_log_analytics",
            action=f"store_{'true' if verb == 'enable' else 'false'}",
            help=f"{verb.capitalize()} copying logs to the platform's shared log folder",
        )
    add("--console_log_level", default="INFO", choices=LOG_LEVELS)
    add("--file_log_level", default="DEBUG", choices=LOG_LEVELS)
    add("--disable_log_rotation", action="store_true", help="Disable log rotation")
