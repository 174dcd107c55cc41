"""The proof that the simulator can fail: each planted mistake makes some seed fail.

A seed counts only if it passes without the mistake.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.sim.crew import run_all
from tests.sim.replay import Run, run

SEEDS_MAX = 20_000
"""How many seeds a mistake may survive."""

KNOWN: dict[str, int] = {
    "batch-fails-as-one": 3,
    "commit-before-routing": 423,
    "pages-freed-early": 1536,
    "partial-to-syncing": 22,
    "pending-abandoned": 668,
    "pending-lost": 53,
    "restart-unnoticed": 170,
    "retry-forgotten": 15,
    "standing-not-renewed": 3216,
    "tail-in-place": 27,
}
"""A seed that fails with each mistake, to be tried first: the test is quick then."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the search for one mistake."""

    mistake: str
    found: Run | None
    tried: int
    seconds: float

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.mistake:24} NOT FOUND in {self.tried} seeds, {self.seconds:.0f} s"
        where = f"seed {self.found.seed} ({self.tried} tried, {self.seconds:.1f} s)"
        return f"{self.mistake:24} {where}: {self.found.problems[0][:150]}"


def search(mistake: str, seeds: Iterable[int], workers: int = 0) -> Verdict:
    """The first seeds that fail with a mistake and pass without it."""
    start, tried = time.perf_counter(), 0
    crew = run_all(seeds, mistake, workers)
    for found in crew:
        tried += 1
        if found.failed and not run(found.seed).failed:
            crew.close()
            return Verdict(mistake, found, tried, time.perf_counter() - start)
    return Verdict(mistake, None, tried, time.perf_counter() - start)


def try_known(mistake: str) -> Run | None:
    """The run of the known seed, if it still fails with the mistake and passes without it."""
    seed = KNOWN.get(mistake)
    if seed is None:
        return None
    found = run(seed, (), mistake)
    return found if found.failed and not run(seed).failed else None
