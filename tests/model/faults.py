"""Faults of a cluster as steps: at most one storage process is away at a time.

Why one: chains of three replicas survive the next loss only after the first has been taken in
again. Servers that are killed are started again at once; the operations that follow run into the
fail-over. A process under SIGSTOP is woken by a timer, as the mount's callers cannot be.
"""

from __future__ import annotations

import threading

from tests.fixtures.cluster import TestCluster

# Longer than a lease of 2 s.
PAUSE_S = 2.5
# Each kill is `kill -9` with an immediate start, a pause is SIGSTOP and later SIGCONT.
FAULTS = ["kill storage", "pause storage", "kill manager", "kill meta"]


class Faults:
    """Injects faults and takes them back."""

    def __init__(self, cluster: TestCluster) -> None:
        self.cluster = cluster
        self.waker: threading.Timer | None = None
        self.counts: dict[str, int] = {}

    def inject(self, fault: str, number: int) -> None:
        """One of `FAULTS`; the number says which storage process."""
        self.counts[fault] = self.counts.get(fault, 0) + 1
        if fault in ("kill manager", "kill meta"):
            self.cluster.restart(fault.removeprefix("kill "))
            return
        self.settle()
        names = [name for name in self.cluster.local.names() if name.startswith("storage")]
        name = names[number % len(names)]
        if fault == "kill storage":
            self.cluster.restart(name)
            return
        process = self.cluster.local.process(name)
        process.pause()
        self.waker = threading.Timer(PAUSE_S, process.resume)
        self.waker.start()

    def settle(self) -> None:
        """Waits until every target serves again."""
        if self.waker is not None:
            self.waker.join()
            self.waker = None
        self.cluster.wait_serving(120.0)
