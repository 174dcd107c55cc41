"""Chains that an operator changes all the time, under the faults of a seed."""

from __future__ import annotations

import pytest

from tests.sim.changing_managers import ChangingManagers

_sim = pytest.importorskip("tests.sim._sim", reason="`make simulator` builds it")

SEED_COUNT = 30


def test_chain_changes_break_no_rule() -> None:
    """Goal: adding, removing, replacing and moving targets costs nothing that was promised.

    Method: seeds as ever, with an operator who changes chains for four seconds; he must have got
    somewhere. Oracle: all checkers.
    """
    moved = dropped = 0
    for seed in range(1, SEED_COUNT + 1):
        outcome = _sim.run(seed, (), None, ChangingManagers)
        assert not outcome.problems, (seed, outcome.problems)
        moved += sum("target steps down" in line for line in outcome.trace)
        dropped += sum("target dropped" in line for line in outcome.trace)
    assert moved > SEED_COUNT and dropped > SEED_COUNT, (moved, dropped)
