"""One run of one seed: the native world with the managers that ship."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.sim import _sim
from tests.sim.manager import SimulatedManagers


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave."""

    seed: int
    dropped: tuple[int, ...]
    problems: tuple[str, ...]
    trace: tuple[str, ...]
    trace_hash: int
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether a checker complained or the code that ships panicked."""
        return bool(self.problems)

    @property
    def checkers(self) -> frozenset[str]:
        """The names of the checkers that complained."""
        return frozenset(problem.split(":", 1)[0] for problem in self.problems)


def run(seed: int, dropped: Iterable[int] = (), mistake: str | None = None) -> Run:
    """Runs a seed, perhaps without some entries of its plan and with a mistake planted."""
    left_out = tuple(sorted(dropped))
    start = time.perf_counter()
    try:
        outcome = _sim.run(seed, left_out, mistake, SimulatedManagers)
        problems, trace = tuple(outcome.problems), tuple(outcome.trace)
        trace_hash = outcome.trace_hash
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        problems, trace, trace_hash = (f"panic: {error}",), (), 0
    return Run(seed, left_out, problems, trace, trace_hash, time.perf_counter() - start)
