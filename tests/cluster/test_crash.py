"""Processes that die, stop or come back under load.

Oracle of every test: each acknowledged piece reads back as it was written, all replicas agree, no
thread hangs, and writers stalled no longer than the fault model says (docs/faults.md).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.cluster.load import Load
from tests.fixtures.cluster import TestCluster, wait_until

KILL_STALL_MS_MAX = 1000.0
VANISH_STALL_MS_MAX = 3000.0


def settle_and_check(cluster: TestCluster, load: Load) -> None:
    """The end of every crash test."""
    load.stop()
    cluster.wait_serving()
    assert load.verify() > 0
    cluster.verify_replicas()


@pytest.mark.parametrize(("role", "position"), [("head", 0), ("middle", 1), ("tail", 2)])
def test_killed_replica(make_cluster: Callable[..., TestCluster], role: str, position: int) -> None:
    """Goal: a kill -9 of any replica stalls writers for less than 1 s and loses nothing.

    Method: kill under load, restart while the load goes on. Oracle: the module's.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        victim = cluster.process_at(position)
        killed_at = time.monotonic()
        cluster.kill(victim)
        load.wait_progress(10)
        load.run_for(1.0)
        stall_ms = load.stall_ms(killed_at)
        cluster.restart(victim)
        cluster.wait_serving()
        load.wait_progress()
        settle_and_check(cluster, load)
    print(f"\nkill of the {role}: writers stalled {stall_ms:.0f} ms")
    assert stall_ms < KILL_STALL_MS_MAX


def test_stopped_replica_is_fenced(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a replica under SIGSTOP is evicted in time, and serves nothing old when it wakes.

    Method: stop it, write on, wake it. Oracle: the module's, with the stall of a silent machine.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        victim = cluster.local.process(cluster.process_at(1))
        stopped_at = time.monotonic()
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            load.wait_progress(10)
            load.run_for(0.5)
            stall_ms = load.stall_ms(stopped_at)
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        cluster.wait_serving()
        load.wait_progress()
        settle_and_check(cluster, load)
    print(f"\nstopped replica: writers stalled {stall_ms:.0f} ms")
    assert stall_ms < VANISH_STALL_MS_MAX


@pytest.mark.parametrize("name", ["manager", "meta"])
def test_killed_server(make_cluster: Callable[..., TestCluster], name: str) -> None:
    """Goal: manager and metadata server survive their own kill -9.

    Method: kill under load, restart a second later. Oracle: the module's.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        cluster.kill(name)
        load.run_for(1.0)
        cluster.restart(name)
        load.wait_progress(timeout_s=30)
        settle_and_check(cluster, load)


def test_all_killed_at_once(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a power cut loses nothing acknowledged.

    Method: kill -9 of every process at once under load, then start all again. Oracle: the module's.
    """
    cluster = make_cluster()
    load = Load(cluster.address, reader_count=0)
    with load:
        load.wait_progress(5)
        for name in cluster.local.names():
            cluster.kill(name)
        load.run_for(0.5)
        for name in cluster.local.names():
            cluster.restart(name)
        cluster.wait_serving()
        load.wait_progress(timeout_s=40)
        settle_and_check(cluster, load)


@pytest.mark.parametrize("replica_count", [1, 2])
def test_shorter_chains(make_cluster: Callable[..., TestCluster], replica_count: int) -> None:
    """Goal: chains of one and two replicas keep their promises too.

    Method: kill and restart one storage process under load. Oracle: the module's; with one
    replica the writers wait for its return.
    """
    cluster = make_cluster(storage_count=2, replica_count=replica_count)
    with Load(cluster.address) as load:
        load.wait_progress()
        victim = cluster.process_at(0)
        cluster.kill(victim)
        load.run_for(0.5)
        cluster.restart(victim)
        load.wait_progress(timeout_s=40)
        settle_and_check(cluster, load)


def test_restart_of_one_after_the_other(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a rolling restart under load loses nothing and leaves every target serving.

    Method: clean stop and start of each storage process in turn. Oracle: the module's.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        for number in (1, 2, 3):
            cluster.local.process(f"storage-{number}").stop()
            load.wait_progress()
            cluster.restart(f"storage-{number}")
            cluster.wait_serving()
        settle_and_check(cluster, load)


def test_stalled_client_does_not_hold_others(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a client process that stops in the middle of a write blocks nobody.

    Method: SIGSTOP a writing process of its own. Oracle: other writers make progress.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        child = os.fork()
        if child == 0:
            try:
                Load(cluster.address, path="/child", reader_count=0).__enter__().run_for(60)
            finally:
                os._exit(0)
        try:
            time.sleep(0.5)
            os.kill(child, signal.SIGSTOP)
            load.wait_progress(20)
        finally:
            os.kill(child, signal.SIGKILL)
            wait_until(lambda: os.waitpid(child, 0), 10)
        settle_and_check(cluster, load)
