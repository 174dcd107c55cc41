"""Random kills under load: a smoke in CI, as long as you like with FIREPOND_SOAK_MINUTES."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.cluster.load import Load
from tests.fixtures.cluster import TestCluster

SEGMENT_ROUNDS = 5
MINUTES = float(os.environ.get("FIREPOND_SOAK_MINUTES", "0.4"))


@pytest.mark.timeout(MINUTES * 60 * 3 + 300)
def test_random_kills(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: no sequence of kills and restarts loses anything acknowledged.

    Method: kill a random process, sometimes two, at random moments, restart, wait for the chains;
    the seed is printed. Oracle: every acknowledged piece, agreeing replicas, no thread that hangs.
    """
    seed = int(os.environ.get("FIREPOND_SOAK_SEED", str(random.randrange(1 << 30))))
    print(f"\nFIREPOND_SOAK_SEED={seed}")
    generator = random.Random(seed)
    cluster = make_cluster()
    end = time.monotonic() + MINUTES * 60
    rounds, pieces, segment = 0, 0, 0
    while time.monotonic() < end:
        # A segment has files of its own, which go at its end: a long soak must not fill the disk.
        segment += 1
        with Load(cluster.address, path=f"/segment-{segment}") as load:
            for _ in range(SEGMENT_ROUNDS):
                one_round(cluster, load, generator)
                rounds += 1
                if time.monotonic() > end:
                    break
            load.stop()
            pieces += load.verify()
        cluster.verify_replicas()
        load.remove()
    print(f"{rounds} rounds, {pieces} acknowledged pieces")


def one_round(cluster: TestCluster, load: Load, generator: random.Random) -> None:
    """Kills, waits, restarts, and waits until every target serves."""
    load.wait_progress(timeout_s=60)
    victims = generator.sample(cluster.local.names(), generator.choice([1, 1, 1, 2]))
    for name in victims:
        cluster.kill(name)
    load.run_for(generator.uniform(0.05, 1.5))
    for name in victims:
        cluster.restart(name)
    cluster.wait_serving()
