"""From a job's context to running executors: names, NUMA nodes, shares of a machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from smallpond.common import SmallpondError

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext

# Set by whoever starts several executors on one machine: each offers its part of the memory.
SHARE_VARIABLE = "SP_EXECUTORS_PER_MACHINE"


def claim_exec_id(ctx: RuntimeContext, exec_id: str) -> str:
    """A name nobody else has: the host's, or that with a number behind it.

    Several executors may be started on one machine, all with the host's name as default. The folder
    of the queues is the claim: making a folder has one winner.
    """
    if exec_id != socket.gethostname():
        return exec_id
    number = 0
    while True:
        name = f"{exec_id}.{number}" if number else exec_id
        try:
            Path(ctx.queue_root, name).mkdir()
            return name
        except FileExistsError:
            number += 1


def run_executors(runtime_ctx_path: str | None, exec_id: str) -> bool:
    """Be an executor of the job with that context, or one for each NUMA node of this machine."""
    from smallpond.execution.numa import numa_nodes
    from smallpond.io.filesystem import load

    if not runtime_ctx_path or not Path(runtime_ctx_path).is_file():
        raise SmallpondError(
            f"cannot find the runtime context {runtime_ctx_path}: an executor is started with the "
            "--runtime_ctx_path of a running job"
        )
    ctx: RuntimeContext = load(runtime_ctx_path)
    exec_id = claim_exec_id(ctx, exec_id)
    if not ctx.bind_numa_node:
        return _run_executor(ctx, exec_id)
    import multiprocessing

    # Not forked: the workers of each executor are, and a fork wants a process of one thread.
    start = multiprocessing.get_context("spawn")
    processes = [
        start.Process(target=_run_on_numa_node, args=(runtime_ctx_path, exec_id, node))
        for node in numa_nodes()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return all(process.exitcode == 0 for process in processes)


def _run_executor(ctx: RuntimeContext, exec_id: str) -> bool:
    from smallpond.execution.executor import Executor

    share = max(1, int(os.environ.get(SHARE_VARIABLE, "1")))
    # Only memory is divided: too many threads are slow, too many bytes are fatal.
    ctx.max_usable_memory_size = ctx.usable_memory_size // share
    ctx.initialize(exec_id)
    return Executor.create(ctx, exec_id).run()


def _run_on_numa_node(runtime_ctx_path: str, exec_id: str, node: int) -> None:
    from smallpond.execution.numa import numa_bind
    from smallpond.io.filesystem import load

    numa_bind(node)
    ctx: RuntimeContext = load(runtime_ctx_path)
    ctx.numa_node_id = node
    _run_executor(ctx, f"{exec_id}.numa{node}")
