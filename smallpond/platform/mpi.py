"""MPI as a way to start processes on many machines: `mpirun`, and no messages through it.

The ranks find their work through the queues on the shared file system (or join the Ray cluster), so
that any MPI will do and a lost rank does not take the others down.

Variables travel as `-x NAME=VALUE`, which is Open MPI's way; MPICH and Intel MPI (Hydra) call it
`-genv NAME VALUE`. `mpirun --version` tells them apart.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from smallpond.common import SmallpondError
from smallpond.platform.base import Platform

logger = logging.getLogger(__name__)

VERSION_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10


class MPI(Platform):
    """Starts jobs with `mpirun`; the id of a job is the pid of its mpirun."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def is_available() -> bool:
        return shutil.which("mpirun") is not None

    def start_job(
        self,
        num_nodes: int,
        entrypoint: str,
        args: Sequence[str],
        envs: Mapping[str, Any] | None = None,
        extra_opts: Mapping[str, Any] | None = None,
    ) -> list[str]:
        if num_nodes <= 0:
            return []
        command = self._command(num_nodes, entrypoint, args, envs or {})
        logger.debug("start job with command: %s", " ".join(command))
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        self._running[str(process.pid)] = process
        return [str(process.pid)]

    def stop_job(self, pid: str) -> None:
        """Ask mpirun to leave, which takes its ranks along; kill it if it does not."""
        process = self._running.pop(pid, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            logger.warning("mpirun %s does not leave after %d s: killed", pid, STOP_TIMEOUT_S)
            process.kill()
            process.wait()

    def is_running(self, pid: str) -> bool:
        """Whether that mpirun has not ended."""
        process = self._running.get(pid)
        return process is not None and process.poll() is None

    def _command(
        self, num_nodes: int, entrypoint: str, args: Sequence[str], envs: Mapping[str, Any]
    ) -> list[str]:
        mpirun = shutil.which("mpirun")
        if mpirun is None:
            raise SmallpondError(
                "the platform 'mpi' needs mpirun on PATH; install Open MPI or MPICH, "
                "or leave out --platform to use this machine alone"
            )
        command = ["mpirun", "-n", str(num_nodes)]
        hydra = bool(envs) and _is_hydra(mpirun)
        for name, value in envs.items():
            if value is not None:
                command += ["-genv", name, str(value)] if hydra else ["-x", f"{name}={value}"]
        return [*command, sys.executable, entrypoint, *args]


def _is_hydra(mpirun: str) -> bool:
    """Whether this mpirun belongs to MPICH or Intel MPI."""
    try:
        answer = subprocess.run(
            [mpirun, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return "HYDRA" in answer.upper() or "INTEL" in answer.upper()
