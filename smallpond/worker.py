"""The entry point of a Ray worker: `python worker.py --ray_address=HOST:PORT --log_dir=DIR`.

Joins this machine to a Ray cluster and stays until it is told to leave, so that whoever started the
job (the local platform, mpirun, a batch system) stops the machine's part of Ray by stopping this
process. Ray itself runs below as `ray start --block`, bound to this process's life.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Started by path, Python puts this folder first, where `platform` and `io` would hide Python's.
    HERE = Path(__file__).parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").absolute() != HERE.absolute()]
    sys.path.append(str(HERE.parent))

import argparse
import contextlib
import logging
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence

from smallpond.common import MissingDependency
from smallpond.execution.numa import child_dies_with_parent, numa_nodes
from smallpond.execution.task import machine

logger = logging.getLogger("smallpond.worker")

STOP_TIMEOUT_S = 15


def create_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description="smallpond worker")
    parser.add_argument(
        "--ray_address", required=True, help="The address of the Ray cluster to connect to"
    )
    parser.add_argument("--log_dir", required=True, help="The directory where logs will be stored")
    parser.add_argument(
        "--bind_numa_node", action="store_true", help="Bind executor processes to numa nodes"
    )
    return parser


def ray_command() -> str:
    """The `ray` of this Python's environment, or the first on PATH."""
    beside = Path(sys.executable).with_name("ray")
    found = str(beside) if beside.exists() else shutil.which("ray")
    if found is None:
        raise MissingDependency("a Ray worker needs ray: pip install 'ray>=2.50,<3'")
    return found


def start_commands(ray_address: str, bind_numa_node: bool) -> list[list[str]]:
    """One `ray start` for the machine, or one for each of its NUMA nodes."""
    start = [
        ray_command(),
        "start",
        f"--address={ray_address}",
        "--block",
        "--disable-usage-stats",
    ]
    cpu_count = machine.allowed_cpu_count()
    memory_bytes = machine.allowed_memory_bytes()
    if not bind_numa_node:
        return [[*start, f"--num-cpus={cpu_count}"]]
    numactl = shutil.which("numactl")
    if numactl is None:
        raise MissingDependency("--bind_numa_node needs the command numactl: install it")
    nodes = numa_nodes()
    return [
        [
            *(numactl, "-N", str(node), "-m", str(node), *start),
            f"--num-cpus={len(cpus)}",
            f"--memory={memory_bytes // len(nodes)}",
        ]
        for node, cpus in nodes.items()
    ]


def main(args: Sequence[str] | None = None) -> int:
    """Run Ray until it ends or this process is told to leave; Ray's exit status."""
    options = create_parser().parse_args(args)
    log_path = Path(options.log_dir, f"{socket.gethostname()}-ray.log")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    children: list[subprocess.Popen[bytes]] = []
    with log_path.open("ab") as log:
        try:
            for command in start_commands(options.ray_address, options.bind_numa_node):
                children.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        preexec_fn=child_dies_with_parent,
                    )
                )
            return max(abs(child.wait()) for child in children)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=STOP_TIMEOUT_S)
                child.kill()


if __name__ == "__main__":
    sys.exit(main())
