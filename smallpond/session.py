"""The session: configuration, the job's folders, where tasks run, and what is shown of them.

`SessionBase` has everything of a session but data; `smallpond.dataframe.Session` adds the sources.
Starting a session makes folders and nothing else: worker processes start with the first job that
needs them.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from smallpond.common import DEFAULT_MAX_FAIL_COUNT, GB, KB, MB, TB, InvalidArgument
from smallpond.execution.task.context import RuntimeContext
from smallpond.execution.task.ids import JobId
from smallpond.platform import Platform, get_platform

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Backend
    from smallpond.show.view import JobView

logger = logging.getLogger(__name__)

EXECUTORS = ("local", "inprocess", "ray")
UNITS = {"": 1, "K": KB, "M": MB, "G": GB, "T": TB}
# Of the machine's memory, what tasks may use together unless told otherwise.
MEMORY_SHARE = 0.8
# More than any machine has: no limit.
CPUS_MAX = 1024
MEMORY_BYTES_MAX = 16 * TB
V = TypeVar("V")


class SessionBase:
    """Configuration, folders, backend and views of one job."""

    def __init__(self, **kwargs: Any) -> None:
        from smallpond.logical.node.context import Context

        super().__init__()
        self._ctx = Context()
        self.config, self._platform = Config.from_args_and_env(**kwargs)
        self._options = {name: value for name, value in kwargs.items() if value is not None}
        self._runtime_ctx = RuntimeContext(
            job_id=JobId(hex=self.config.job_id),
            job_time=self.config.job_time,
            data_root=self.config.data_root,
            num_executors=self.config.num_executors,
            bind_numa_node=self.config.bind_numa_node,
            shared_log_root=self._platform.shared_log_root(),
            console_log_level="WARNING",
            max_usable_cpu_count=self.config.num_workers or CPUS_MAX,
            max_usable_memory_size=self.config.memory_limit or MEMORY_BYTES_MAX,
        )
        if self.config.spill_directory is not None:
            self._runtime_ctx.temp_root = os.path.join(
                os.path.abspath(self.config.spill_directory),
                self._runtime_ctx.job_root_dirname,
                "temp",
            )
        if os.environ.get("SP_SPAWN") == "1":
            self._spawn_self()
            sys.exit(0)
        self._backend: Backend | None = None
        self._backend_lock = threading.Lock()
        self._view: JobView | None = None
        self._runtime_ctx.initialize(exec_id=socket.gethostname())
        if self.config.executor == "ray":
            # An address where nobody listens is an error now, not a job that never starts.
            self._get_backend().start(self._runtime_ctx)
        logger.info("using platform: %s", self._platform)
        logger.info("command-line arguments: %s", " ".join(sys.argv))
        logger.info("session config: %s", self.config)

    @property
    def runtime_ctx(self) -> RuntimeContext:
        """The context of the job's tasks."""
        return self._runtime_ctx

    @property
    def view(self) -> JobView:
        """What was seen of the jobs of this session."""
        if self._view is None:
            from smallpond.show.view import JobView

            self._view = JobView(
                self._runtime_ctx.log_root,
                job_id=str(self._runtime_ctx.job_id),
                title=self.config.job_name,
                progress=self.config.progress,
                shared_log_root=self._runtime_ctx.shared_log_root,
            )
        return self._view

    def _get_backend(self) -> Backend:
        """Where tasks run; made when it is first needed."""
        with self._backend_lock:
            if self._backend is None:
                self._backend = self._new_backend()
            return self._backend

    def _new_backend(self) -> Backend:
        if self.config.executor == "inprocess":
            from smallpond.execution.pool import InProcessBackend

            return InProcessBackend()
        if self.config.executor == "ray":
            from smallpond.execution.backends.ray import RayBackend

            return RayBackend(
                self.config.ray_address or "auto", self._platform, self.config.num_executors
            )
        if self.config.num_executors > 0:
            return self._executors_backend()
        from smallpond.execution.pool import LocalPool

        pool: Backend = LocalPool()
        return pool

    def _executors_backend(self) -> Backend:
        """Executors that the platform starts; they meet the scheduler at the job's folder."""
        from smallpond.execution.backends.file_queue import FileQueueBackend
        from smallpond.execution.backends.launch import ExecutorLauncher
        from smallpond.io.filesystem import dump

        dump(self._runtime_ctx, self._runtime_ctx.runtime_ctx_path, atomic_write=True)
        launcher = ExecutorLauncher(
            self._runtime_ctx, self._platform, self.config.memory_allocator, 10_000, self._options
        )
        self._launcher = launcher
        backend: Backend = FileQueueBackend(launcher)
        return backend

    def graph(self) -> Any:
        """The plans of the session as a `graphviz.Digraph`."""
        raise NotImplementedError("graph() is part of smallpond.dataframe.Session")

    def dump_graph(self, path: str | None = None) -> None:
        """Write the plans of the session as `{path}.svg`; into the log folder if not said."""
        self.view.write_graph(self._nodes_shown(), path)

    def dump_timeline(self, path: str | None = None) -> None:
        """Write what ran when as Chrome traces: `{path}_exec` by worker, `{path}_plan` by node."""
        self.view.write_timeline(path)

    def _nodes_shown(self) -> list[Any]:
        return []

    def _summarize_task(self) -> tuple[int, int]:
        """The number of tasks and how many of them are finished."""
        return self.view.record.task_count, self.view.record.done_count

    def shutdown(self) -> None:
        """End the workers and write what was seen of the session."""
        if self._view is not None:
            self._view.write_files()
        if self._backend is not None:
            self._backend.stop()
            self._backend = None
        launcher = getattr(self, "_launcher", None)
        if launcher is not None:
            launcher.stop()

    def _spawn_self(self) -> None:
        """Run this script as a job of the platform."""
        import smallpond

        self._platform.start_job(
            num_nodes=1,
            entrypoint=sys.argv[0],
            args=sys.argv[1:],
            extra_opts={"tags": ["smallpond", "scheduler", smallpond.__version__]},
            envs={
                name: value
                for name, value in os.environ.items()
                if name.startswith("SP_") and name != "SP_SPAWN"
            },
        )


@dataclass
class Config:
    """The configuration of a session."""

    job_id: str
    job_time: datetime
    data_root: str
    num_executors: int
    ray_address: str | None
    bind_numa_node: bool
    memory_allocator: str
    remove_output_root: bool
    job_name: str | None = None
    executor: str = "local"
    num_workers: int | None = None
    memory_limit: int | None = None
    progress: bool | None = None
    spill_directory: str | None = None
    lowering: str = "auto"
    npartitions: int | None = None
    max_fail_count: int = 3

    @staticmethod
    def from_args_and_env(
        platform: str | None = None,
        job_id: str | None = None,
        job_time: datetime | float | str | None = None,
        data_root: str | None = None,
        num_executors: int | None = None,
        ray_address: str | None = None,
        bind_numa_node: bool | None = None,
        memory_allocator: str | None = None,
        _remove_output_root: bool = True,
        job_name: str | None = None,
        executor: str | None = None,
        num_workers: int | None = None,
        memory_limit: int | str | None = None,
        progress: bool | None = None,
        spill_directory: str | None = None,
        lowering: str | None = None,
        npartitions: int | None = None,
        max_fail_count: int | None = None,
        **kwargs: Any,
    ) -> tuple[Config, Platform]:
        """The configuration and the platform; environment variables win over arguments."""
        chosen = get_platform(env("PLATFORM") or platform)
        address = env("RAY_ADDRESS") or ray_address
        where = env("EXECUTOR") or executor or ("ray" if address else "local")
        if where not in EXECUTORS:
            raise InvalidArgument(f"executor={where!r}: choose one of {', '.join(EXECUTORS)}")
        workers = env("NUM_WORKERS", int) or num_workers
        if workers is not None and workers < 1:
            raise InvalidArgument(f"num_workers={workers}: at least one is needed")
        root = env("DATA_ROOT") or data_root or chosen.default_data_root()
        if not root:
            raise InvalidArgument(f"{chosen} has no default data_root: pass data_root=")
        config = Config(
            job_id=env("JOBID") or job_id or chosen.default_job_id(),
            job_time=time_of(env("JOB_TIME") or job_time) or chosen.default_job_time(),
            data_root=root,
            num_executors=env("NUM_EXECUTORS", int) or num_executors or 0,
            ray_address=address,
            bind_numa_node=env("BIND_NUMA_NODE") == "1" or bool(bind_numa_node),
            memory_allocator=env("MEMORY_ALLOCATOR")
            or memory_allocator
            or chosen.default_memory_allocator(),
            remove_output_root=_remove_output_root,
            job_name=env("JOB_NAME") or job_name,
            executor=where,
            num_workers=workers,
            memory_limit=bytes_of(env("MEMORY_LIMIT") or memory_limit),
            progress=env("PROGRESS", lambda text: text != "0") if env("PROGRESS") else progress,
            spill_directory=env("SPILL_DIRECTORY") or spill_directory,
            lowering=env("LOWERING") or lowering or "auto",
            npartitions=npartitions,
            max_fail_count=DEFAULT_MAX_FAIL_COUNT if max_fail_count is None else max_fail_count,
        )
        return config, chosen


def env(name: str, kind: Callable[[str], Any] = str) -> Any:
    """An environment variable `SP_{name}`; None when it is not set."""
    value = os.environ.get(f"SP_{name}")
    return kind(value) if value is not None else None


def time_of(value: datetime | float | str | None) -> datetime | None:
    """A point in time from seconds since 1970, ISO text or a `datetime`."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return datetime.fromtimestamp(float(value))
    return datetime.fromtimestamp(value)


def bytes_of(value: int | str | None) -> int | None:
    """A size from a number of bytes or text such as "2 GiB", "512MB"."""
    if value is None or isinstance(value, int):
        return value
    match = re.fullmatch(r"\s*([\d.]+)\s*([KMGT]?)(i?B)?\s*", value, re.IGNORECASE)
    if match is None:
        raise InvalidArgument(f"memory size {value!r}: write bytes, or text such as '2 GiB'")
    return int(float(match[1]) * UNITS[match[2].upper()])
