"""The simulator in `make test`: it is deterministic, finds nothing in the code that ships, and
finds each planted mistake."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firepond.fs.manager.transitions import TABLE
from tests.sim import _sim
from tests.sim.crew import run_all
from tests.sim.minimise import reduce
from tests.sim.mistakes import search, try_known
from tests.sim.replay import run

ROOT = Path(__file__).parents[2]

SEEDS_COUNT = 2000
SECONDS_MAX = 120.0
SEARCH_MAX = 1000
"""Seeds that are searched when the known one no longer fails."""


def test_same_seed_same_trace() -> None:
    """Goal: a seed says everything. Method: a few seeds, here and in another process with another
    hash seed. Oracle: equal digests of the traces."""
    seeds = range(1, 9)
    code = (
        "from tests.sim.replay import run\n"
        f"print(*[run(seed).trace_hash for seed in range({seeds.start}, {seeds.stop})])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", code]
    printed = subprocess.check_output(command, env=environment, cwd=ROOT, text=True)
    assert [run(seed).trace_hash for seed in seeds] == [int(word) for word in printed.split()]


def test_rules_hold_in_2000_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: no fault breaks a rule. Method: seeds on all cores. Oracle: the checkers, and the time:
    a simulator that is slow is not run."""
    start = time.perf_counter()
    failed = [found for found in run_all(range(1, SEEDS_COUNT + 1)) if found.failed]
    seconds = time.perf_counter() - start
    with capsys.disabled():
        sys.stdout.write(f" [{SEEDS_COUNT} seeds in {seconds:.0f} s] ")
    assert not failed, [(found.seed, found.problems[0]) for found in failed]
    assert seconds < SECONDS_MAX


@pytest.mark.parametrize("mistake", _sim.mistakes())
def test_mistakes_are_found(mistake: str) -> None:
    """Goal: the simulator can fail. Method: a mistake is planted in the code that ships; the seed
    that is known to show it, else the first thousand. Oracle: a checker complains, and does not
    without the mistake."""
    if try_known(mistake) is None:
        verdict = search(mistake, range(1, SEARCH_MAX + 1))
        assert verdict.found is not None, str(verdict)


def test_checker_knows_the_transition_table() -> None:
    """Goal: the simulator's list of changes is the manager's table. Oracle: the table."""
    rows = {(str(row.public), str(row.result)) for row in TABLE if row.public is not row.result}
    assert set(_sim.transitions()) == rows


def test_reduce_finds_the_cause() -> None:
    """Goal: delta debugging keeps just what is needed. Oracle: the set that was needed."""
    needed = frozenset({3, 17, 40})
    assert reduce(frozenset(range(50)), lambda kept: needed <= kept) == needed
    assert reduce(frozenset(range(5)), lambda kept: True) == frozenset()
