"""The reference | the SDK | a mount | both on one tree | a local directory, step by step.

Replay: a failing example is printed as a program of steps with a `reproduce_failure` blob;
`FIREPOND_MODEL_SEED=n` repeats the random run that printed its seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fixtures.cluster import TestCluster
from tests.model.machine import FileSystemMachine
from tests.model.world import CLUSTER_SETTINGS, World, made_world

COMMON = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture
def world(make_cluster: Callable[..., TestCluster]) -> Iterator[World]:
    """A cluster, a client, two mounts and a local directory."""
    with made_world(make_cluster(settings=CLUSTER_SETTINGS)) as made:
        yield made


def random_seed() -> int:
    """A seed that is printed, or the one that was asked for."""
    found = int(os.environ.get("FIREPOND_MODEL_SEED", random.randrange(1 << 32)))
    print(f"\nFIREPOND_MODEL_SEED={found}")
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "random"])
def test_all_surfaces_agree(world: World, fixed: bool) -> None:
    """Goal: every surface does what the reference does. Method: random steps, the same on all.

    Oracle: results and errno after each step, whole trees at intervals.
    """
    chosen = settings(max_examples=12, stateful_step_count=60, derandomize=fixed, **COMMON)

    def factory() -> FileSystemMachine:
        return FileSystemMachine(world)

    if not fixed:
        factory = seed(random_seed())(factory)
    run_state_machine_as_test(factory, settings=chosen)
