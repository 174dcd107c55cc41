"""The reference | the SDK | a mount | both on one tree | a local directory, step by step.

Replay: a failing example is printed as a program of steps with a `reproduce_failure` blob;
`FIREPOND_MODEL_SEED=n` repeats the random run that printed its seed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fixtures.cluster import TestCluster
from tests.model.faulty_machine import FaultyMachine
from tests.model.machine import FileSystemMachine
from tests.model.reference import UMASK, Reference
from tests.model.world import CLUSTER_SETTINGS, LocalWorld, World, made_world

NEVER_REFUSED = {"close", "fsync", "fstat", "seek", "ftruncate"}
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


OPERATIONS = {name for name, method in vars(Reference).items() if not name.startswith("_")}


def test_reference_agrees_with_linux(tmp_path: Path) -> None:
    """Goal: the reference is right, and its steps meet each other. Method: the same machine with a
    local directory alone, at length. Oracle: Linux; every operation has succeeded and was refused.
    """
    world = LocalWorld(tmp_path)
    old_umask = os.umask(UMASK)
    try:
        # What is drawn changes with the code that is loaded: other lengths if one missed something.
        for steps in (60, 80, 100):
            chosen = settings(
                max_examples=150, stateful_step_count=steps, derandomize=True, **COMMON
            )
            run_state_machine_as_test(lambda: FileSystemMachine(world), settings=chosen)
            seldom_done = {name for name in OPERATIONS if world.outcomes[name, "returned"] < 1}
            seldom_refused = {name for name in OPERATIONS if world.outcomes[name, "refused"] < 1}
            if not seldom_done and seldom_refused <= NEVER_REFUSED:
                return
    finally:
        os.umask(old_umask)
    pytest.fail(f"{seldom_done}, {seldom_refused}: {sorted(world.outcomes.items())}")


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


@pytest.mark.timeout(900)
def test_faults_change_nothing(world: World) -> None:
    """Goal: servers that die, stop and come back are seen in time only. Method: random steps with
    faults between them. Oracle: as without faults, and the replicas agree.
    """
    run_faulty(world, random_seed(), max_examples=4, stateful_step_count=50)
    print(f"faults: {dict(world.fault_counts)}; slowest operation: {world.slowest_s:.1f} s")
    assert world.fault_counts, "no fault was injected"


def run_faulty(world: World, number: int, **more: Any) -> None:
    """Runs the machine with faults. A failing example stays as it is: to shrink it takes hours."""
    chosen = settings(phases=[Phase.generate], **COMMON, **more)
    run_state_machine_as_test(seed(number)(lambda: FaultyMachine(world)), settings=chosen)


@pytest.mark.skipif("FIREPOND_SOAK_MINUTES" not in os.environ, reason="make model-soak")
def test_soak(world: World) -> None:
    """Goal: as above, for long. Method: new seeds until the time is over, without and with faults.

    Oracle: as above.
    """
    minutes = float(os.environ["FIREPOND_SOAK_MINUTES"])
    deadline = time.monotonic() + minutes * 60
    example_count = 0
    while time.monotonic() < deadline:
        number = random_seed()
        chosen = settings(max_examples=20, stateful_step_count=100, **COMMON)
        run_state_machine_as_test(seed(number)(lambda: FileSystemMachine(world)), settings=chosen)
        run_faulty(world, number, max_examples=5, stateful_step_count=100)
        example_count += 25
    counts = dict(world.fault_counts)
    print(f"{example_count} examples, faults: {counts}, slowest operation: {world.slowest_s:.1f} s")
