"""Where jobs run and what is the default there. The base is this machine, with plain processes.

A platform of one's own is a module with a subclass: `smallpond.init(platform="my.module")`. Every
method has a default that works, so a subclass overrides what differs.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger("smallpond.platform")

STOP_TIMEOUT_S = 5


class Platform:
    """This machine: jobs are child processes, their ids are pids."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def is_available() -> bool:
        """Whether this program runs on the platform; asked when none is named."""
        return False

    def __str__(self) -> str:
        return type(self).__name__

    def start_job(
        self,
        num_nodes: int,
        entrypoint: str,
        args: Sequence[str],
        envs: Mapping[str, Any] | None = None,
        extra_opts: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Run the script once on each of `num_nodes` nodes; returns an id for each.

        Variables whose value is None are not set, others are set as text.
        """
        variables = {name: str(value) for name, value in (envs or {}).items() if value is not None}
        started = []
        for _ in range(num_nodes):
            process = subprocess.Popen(
                [sys.executable, entrypoint, *map(str, args)],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            )
            self._processes[str(process.pid)] = process
            started.append(str(process.pid))
        return started

    def stop_job(self, pid: str) -> None:
        """End a job: politely, then by force. One that has ended already is fine."""
        process = self._processes.pop(pid, None)
        if process is None:
            # Started by another object of this class; its pid is all there is.
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                logger.debug("job %s has ended already", pid)
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def is_running(self, pid: str) -> bool:
        """Whether a job that this object started has not ended."""
        process = self._processes.get(pid)
        return process is not None and process.poll() is None

    @staticmethod
    def default_job_id() -> str:
        """A new id."""
        return str(uuid.uuid4())

    @staticmethod
    def default_job_time() -> datetime:
        """Now."""
        return datetime.now()

    @staticmethod
    def default_data_root() -> str | None:
        """Where the files of jobs go unless told otherwise."""
        return str(Path("~/.smallpond/data").expanduser())

    @staticmethod
    def default_share_log_analytics() -> bool:
        """Whether logs may be shared for analysis."""
        return False

    @staticmethod
    def shared_log_root() -> str | None:
        """Where shared logs go; None for nowhere."""
        return None

    @staticmethod
    def grafana_homepath() -> str | None:
        """Where Grafana is installed; None if it is not."""
        homebrew = "/opt/homebrew/opt/grafana/share/grafana"
        return homebrew if Path(homebrew).exists() else None

    @staticmethod
    def default_memory_allocator() -> str:
        """`system`, `jemalloc` or `mimalloc`."""
        return "system"
