"""What the optimiser may assume of the machines, and how the user wants the plan lowered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from smallpond.common import MB
from smallpond.execution.task.machine import allowed_memory_bytes

LoweringMode = Literal["auto", "single", "exchange"]


def half_of_memory() -> int:
    """What a plan may use of this machine when nobody says more."""
    return allowed_memory_bytes() // 2


@dataclass(frozen=True)
class OptimizerSettings:
    """Resources of the job. `machines` counts those besides which nothing is shared but files."""

    cpus: int = 1
    memory_bytes: int = field(default_factory=half_of_memory)
    machines: int = 1
    mode: LoweringMode = "auto"
    npartitions: int | None = None
    broadcast_bytes_max: int = 256 * MB
    python_rows_min: int = 20_000
    """From this many rows on, a row function runs on several partitions."""
    spill_factor: float = 64.0
    """One DuckDB task spills gracefully up to this multiple of its memory."""
    skew_share: float = 0.5
    """A key is heavy when its rows alone are this share of an average partition or more."""

    @property
    def exchange_rows_bytes(self) -> int:
        """The share of memory that one partition's data may take in a task."""
        return max(MB, self.memory_bytes // max(1, self.cpus) // 4)
