"""MPI as a way to start processes on many machines: `mpirun`, and no messages through it.

The ranks find their work through the queues on the shared file system (or join the Ray cluster), so
that any MPI will do and a lost rank does not take the others down.

Variables travel as `-x NAME=VALUE`, which is Open MPI's way; MPICH and Intel MPI (Hydra) call it
`-genv NAME VALUE`. `mpirun --version` tells them apart.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from smallpond.common import SmallpondError
from smallpond.platform.base import Platform

logger = logging.getLogger(__name__)

VERSION_TIMEOUT_S = 20


class MPI(Platform):
    """Starts jobs with `mpirun`; the id of a job is the pid of its mpirun."""

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
        self._processes[str(process.pid)] = process
        return [str(process.pid)]

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
