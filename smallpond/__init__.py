"""smallpond: data processing with DuckDB over files, from one process to many machines.

    import smallpond

    sp = smallpond.init()
    df = sp.read_parquet("prices/*.parquet")
    df.group_by("ticker").agg("min(price)", "max(price)").write_parquet("output")

Importing this package imports nothing heavy: names are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.dataframe import DataFrame as DataFrame
    from smallpond.dataframe import Session as Session

__all__ = ["DataFrame", "Session", "__version__", "init"]


def init(
    job_id: str | None = None,
    job_time: Any = None,
    job_name: str | None = None,
    data_root: str | None = None,
    num_executors: int | None = None,
    ray_address: str | None = None,
    bind_numa_node: bool | None = None,
    platform: str | None = None,
    _remove_output_root: bool = True,
    *,
    executor: str | None = None,
    num_workers: int | None = None,
    memory_limit: int | str | None = None,
    progress: bool | None = None,
    spill_directory: str | None = None,
    **kwargs: Any,
) -> Session:
    """Start a session. Environment variables (`SP_...`) win over arguments.

    Args:
        job_id (SP_JOBID): 32 hexadecimal digits; a random one by default. A session with the same
            job_id, job_time and data_root continues where an earlier one stopped.
        job_time (SP_JOB_TIME): when the job began: seconds since 1970, or a `datetime`.
        job_name (SP_JOB_NAME): shown in logs and in the progress display.
        data_root (SP_DATA_ROOT): the folder for all files made at run time.
        num_executors (SP_NUM_EXECUTORS): how many executors the platform starts; 0 (the default)
            runs everything on this machine.
        ray_address (SP_RAY_ADDRESS): the address of a running Ray cluster, which then runs the
            tasks. It is an error if there is none.
        bind_numa_node (SP_BIND_NUMA_NODE): bind executors to NUMA nodes.
        platform (SP_PLATFORM): how executors are started: "mpi", or a module with a `Platform`.
        executor (SP_EXECUTOR): "local" (worker processes on this machine, the default),
            "inprocess" (in this very process, for tests and debugging), or "ray".
        num_workers (SP_NUM_WORKERS): how many CPUs of this machine to use; all by default.
        memory_limit (SP_MEMORY_LIMIT): memory for all tasks together, in bytes or as "2 GiB";
            they spill to disk beyond it.
        progress (SP_PROGRESS): whether to show the progress of jobs that take a while.
        spill_directory (SP_SPILL_DIRECTORY): where tasks spill; the job's folder by default.
        _remove_output_root: remove the job's own output folder after success.
        **kwargs: for the platform, and `memory_allocator` (SP_MEMORY_ALLOCATOR), which is
            "system", "jemalloc" or "mimalloc".
    """
    import atexit

    from smallpond.dataframe import Session

    session = Session(
        job_id=job_id,
        job_time=job_time,
        job_name=job_name,
        data_root=data_root,
        num_executors=num_executors,
        ray_address=ray_address,
        bind_numa_node=bind_numa_node,
        platform=platform,
        _remove_output_root=_remove_output_root,
        executor=executor,
        num_workers=num_workers,
        memory_limit=memory_limit,
        progress=progress,
        spill_directory=spill_directory,
        **kwargs,
    )
    atexit.register(session.shutdown)
    return session


def __getattr__(name: str) -> Any:
    if name in ("DataFrame", "Session"):
        import smallpond.dataframe

        return getattr(smallpond.dataframe, name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        for distribution in ("firepond-smallpond", "smallpond", "firepond"):
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return "unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
