"""What a controller needs of the world: a clock, a place for blocking work, probes, watches.

Why values: the simulator runs the very same controller with a clock, peers and a store of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from firepond.fs.manager.model import Node
from firepond.fs.manager.probe import ProbeResult, probe, watch


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The real world, unless told otherwise."""

    clock_ns: Callable[[], int] = time.monotonic_ns
    """A monotonic clock."""
    unix_time_ns: Callable[[], int] = time.time_ns
    """The wall clock, which only what people read depends on."""
    run_blocking: Callable[[Callable[[], None]], Awaitable[None]] = asyncio.to_thread
    """Runs what waits for the store, without stopping the loop."""
    probe: Callable[[Node, float], Awaitable[ProbeResult]] = probe
    """Asks a node whether it lives, for so many seconds at most."""
    watch: Callable[[Node, Callable[[Node], None]], Awaitable[None]] = watch
    """Returns after the alarm, when the idle connection to a node broke."""
