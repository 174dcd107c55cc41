"""The state machine with faults of the cluster among its steps.

Oracle: that of the machine without faults. Operations may take longer, never fail, and none longer
than `SLOWEST_S`.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.faults import Faults
from tests.model.machine import FileSystemMachine
from tests.model.world import World

SLOWEST_S = 60.0


class FaultyMachine(FileSystemMachine):
    """Files and directories while servers die, stop and come back."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world: World = world
        self.faults = Faults(world.cluster)

    def apply(self, by_mount: bool, name: str, *arguments: Any) -> bool:
        started = time.monotonic()
        found = super().apply(by_mount, name, *arguments)
        took_s = time.monotonic() - started
        self.world.slowest_s = max(self.world.slowest_s, took_s)
        assert took_s < SLOWEST_S, f"{name} took {took_s:.1f} s"
        return found

    @rule(number=st.integers(0, 2))
    def kill_storage(self, number: int) -> None:
        note("    kill -9 of a storage process, and restart")
        self.faults.kill_storage(number)

    @rule(number=st.integers(0, 2))
    def pause_storage(self, number: int) -> None:
        note("    SIGSTOP of a storage process, for a while")
        self.faults.pause_storage(number)

    @rule(name=st.sampled_from(["manager", "meta"]))
    def kill_server(self, name: str) -> None:
        note(f"    kill -9 of the {name}, and restart")
        self.faults.kill_server(name)

    def teardown(self) -> None:
        self.world.fault_counts.update(self.faults.counts)
        super().teardown()
        self.faults.settle()
        self.world.cluster.verify_replicas()
