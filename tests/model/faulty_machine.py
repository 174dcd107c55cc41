"""The state machine with faults of the cluster between its steps.

Why not rules of their own: Hypothesis leaves rules out of many examples, and faults must be in all.
Their order is drawn, their places are fixed, so a replay meets them at the same steps. Oracle: that
of the machine without faults. Operations may take longer, never fail, and none longer than
`SLOWEST_S`.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from tests.model.faults import FAULTS, Faults
from tests.model.machine import FileSystemMachine
from tests.model.world import World

SLOWEST_S = 60.0
OPERATIONS_PER_FAULT = 6


class FaultyMachine(FileSystemMachine):
    """Files and directories while servers die, stop and come back."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world: World = world
        self.faults = Faults(world.cluster)
        self.plan: list[tuple[str, int]] = []
        self.operation_count = 0

    @initialize(order=st.permutations(FAULTS), number=st.integers(0, 2))
    def plan_faults(self, order: list[str], number: int) -> None:
        self.plan = [(name, number + at) for at, name in enumerate(order)]

    def apply(self, by_mount: bool, name: str, *arguments: Any) -> bool:
        self.operation_count += 1
        turn, rest = divmod(self.operation_count, OPERATIONS_PER_FAULT)
        if rest == 0 and self.plan:
            fault, number = self.plan[turn % len(self.plan)]
            note(f"    {fault} {number}")
            self.faults.inject(fault, number)
        started = time.monotonic()
        found = super().apply(by_mount, name, *arguments)
        took_s = time.monotonic() - started
        self.world.slowest_s = max(self.world.slowest_s, took_s)
        assert took_s < SLOWEST_S, f"{name} took {took_s:.1f} s"
        return found

    def teardown(self) -> None:
        self.world.fault_counts.update(self.faults.counts)
        super().teardown()
        self.faults.settle()
        self.world.cluster.verify_replicas()
