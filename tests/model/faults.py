"""Faults of a cluster as steps: at most one storage process is away at a time.

Why one: chains of three replicas survive the next loss only after the first has been taken in
again. Servers that are killed are started again at once; the operations that follow run into the
fail-over. A process under SIGSTOP is woken by a timer, as the mount's callers cannot be.
"""

from __future__ import annotations

import signal
import threading
import time

from tests.fixtures.cluster import TestCluster

PAUSE_S = 2.5


class Faults:
    """Injects faults and takes them back."""

    def __init__(self, cluster: TestCluster) -> None:
        self.cluster = cluster
        self.waker: threading.Timer | None = None
        self.counts: dict[str, int] = {}

    def storage(self, number: int) -> str:
        """A storage process's name; waits until no other is away."""
        self.settle()
        names = [name for name in self.cluster.local.names() if name.startswith("storage")]
        return names[number % len(names)]

    def kill_storage(self, number: int) -> None:
        """kill -9 and an immediate restart, whose fail-over and resync are met by what follows."""
        self._count("kill storage")
        self.cluster.restart(self.storage(number))

    def pause_storage(self, number: int) -> None:
        """SIGSTOP; SIGCONT after the lease has ended for certain."""
        self._count("pause storage")
        process = self.cluster.local.process(self.storage(number))
        process.pause()
        self.waker = threading.Timer(PAUSE_S, process.resume)
        self.waker.start()

    def kill_server(self, name: str) -> None:
        """kill -9 and restart of the manager or the metadata server."""
        self._count(f"kill {name}")
        self.cluster.local.process(name).kill(signal.SIGKILL)
        self.cluster.restart(name)

    def settle(self) -> None:
        """Waits until every target serves again."""
        if self.waker is not None:
            self.waker.join()
            self.waker = None
        started = time.monotonic()
        self.cluster.wait_serving(120.0)
        self.counts["seconds of settling"] = self.counts.get("seconds of settling", 0) + int(
            time.monotonic() - started
        )

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
