"""Operations that must not happen twice, while two servers fail at the same moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cluster.exactly_once import Actors
from tests.fixtures.cluster import TestCluster, wait_until

# A chain cannot change while the manager is away, and a new manager gives every node a full lease
# of 2 s before it judges any: that, the change itself, and a loaded machine.
STALL_S_MAX = 10.0


def head_of(cluster: TestCluster, chain: int) -> str:
    """The process that is the head of a chain of files."""
    chains = cluster.durable_chains()
    targets = chains[chain % len(chains)]["targets"]
    return cluster.local.process_of_node(targets[0]["node"])


def wait_started(cluster: TestCluster, *names: str) -> None:
    """Waits until processes that were restarted have their admin ports."""
    for name in names:
        process = cluster.local.process(name)
        wait_until(lambda process=process: process.admin_address, 120.0, f"{name} has started")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", ["manager", "meta"])
def test_double_fail_over(make_cluster: Callable[..., TestCluster], second: str) -> None:
    """Goal: a head and the manager (or the metadata server) that die together repeat nothing.

    Method: exclusive creates, renames, links, appends and first puts by ten clients; three rounds
    of kill -9 of a chain's head and of the second server in one breath, both started again.
    Oracle: each acknowledged operation happened once, an unknown one at most once, the replicas
    agree, and nobody stalled for longer than the servers took to start and the bound.
    """
    cluster = make_cluster()
    with Actors(cluster.address) as actors:
        actors.wait_progress()
        began, start_s = time.monotonic(), 0.0
        for round_number in range(3):
            both = (second, head_of(cluster, round_number))
            killed = time.monotonic()
            for name in both:
                cluster.local.process(name).kill()
            for name in both:
                cluster.restart(name)
            wait_started(cluster, *both)
            start_s = max(start_s, time.monotonic() - killed)
            actors.wait_progress()
            cluster.wait_serving(120.0)
            actors.wait_progress()
        actors.stop()
        turns = actors.verify()
    cluster.verify_replicas()
    stall_s = max(actor.stall_s(began) for actor in actors.all)
    unknown = sum(len(actor.unknown) for actor in actors.all)
    print(
        f"\nhead and {second} killed together: {turns} turns, {unknown} unknown, longest stall "
        f"{stall_s:.1f} s, of which both servers took {start_s:.1f} s to start"
    )
    assert stall_s < start_s + STALL_S_MAX


@pytest.mark.timeout(600)
def test_stopped_head_and_new_manager(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a head that sleeps while the manager changes answers nothing twice when it wakes.

    Method: SIGSTOP of a head and kill -9 of the manager, restart, SIGCONT after the head was
    replaced; twice. Oracle: as above.
    """
    cluster = make_cluster()
    with Actors(cluster.address) as actors:
        actors.wait_progress()
        began, start_s = time.monotonic(), 0.0
        for round_number in range(2):
            head = cluster.local.process(head_of(cluster, round_number))
            head.pause()
            killed = time.monotonic()
            try:
                cluster.restart("manager")
                wait_started(cluster, "manager")
                start_s = max(start_s, time.monotonic() - killed)
                actors.wait_progress()
            finally:
                head.resume()
            actors.wait_progress()
            cluster.wait_serving(120.0)
        actors.stop()
        turns = actors.verify()
    cluster.verify_replicas()
    stall_s = max(actor.stall_s(began) for actor in actors.all)
    print(
        f"\nhead stopped, manager killed: {turns} turns, longest stall {stall_s:.1f} s, of which "
        f"the manager took {start_s:.1f} s to start"
    )
    assert stall_s < start_s + STALL_S_MAX
