"""A replica that was away for a while gets what changed, and the operator sees how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import firepond
from tests.cluster.load import Load
from tests.fixtures.cluster import TestCluster, wait_until

MIB = 1 << 20
CHUNK_BYTES = MIB // 16
BASE_BYTES = 96 * MIB
CHANGED_BYTES = 8 * MIB
RATE_BYTES_PER_SECOND = MIB
# Longer than heads take to mark that all before is complete.
QUIET_S = 5.0


def resyncs(cluster: TestCluster) -> dict[tuple[int, int], dict[str, Any]]:
    """What `firepond status` shows of running resyncs, by chain and predecessor."""
    return {
        (chain["id"], target["target"]): target["resync"]
        for chain in cluster.durable_chains()
        for target in chain["targets"]
        if target["resync"]
    }


def wait_complete(cluster: TestCluster) -> None:
    """Waits until the replicas have agreed for a while on what is complete."""
    state: dict[str, Any] = {"marks": None, "since": time.monotonic()}

    def quiet() -> bool:
        chains = cluster.durable_chains()
        marks = [[target["complete_through"] for target in one["targets"]] for one in chains]
        if marks != state["marks"]:
            state.update(marks=marks, since=time.monotonic())
        agreed = all(min(one) == max(one) > 0 for one in marks)
        return agreed and time.monotonic() - state["since"] > QUIET_S

    wait_until(quiet, 60.0, "the replicas' marks are equal and stay")


def watch_until_serving(cluster: TestCluster) -> dict[tuple[int, int], dict[str, Any]]:
    """The last that the status showed of each resync, when all targets serve again."""
    seen: dict[tuple[int, int], dict[str, Any]] = {}

    def done() -> bool:
        seen.update(resyncs(cluster))
        return cluster.all_serving()

    wait_until(done, 120.0, "every target serves")
    return seen


def test_only_changes_are_moved(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a minute away costs that minute's changes, at a bounded rate, seen in the status.

    Method: much data, then a while of quiet; one storage process dies, a twelfth of the data is
    written anew, it comes back; a slow rate makes the resync visible. Oracle: bytes moved by the
    status, chunks that it wanted to move, and replicas that agree.
    """
    cluster = make_cluster(
        settings=[
            f"storage.resync_bytes_per_second={RATE_BYTES_PER_SECOND}",
            f"meta.chunk_size_bytes={CHUNK_BYTES}",
        ],
    )
    with firepond.connect(cluster.address) as client:
        client.write_bytes("/base", b"b" * BASE_BYTES)
        wait_complete(cluster)
        victim = cluster.process_at(1)
        cluster.kill(victim)
        with client.open_raw("/base", "rb+") as file:
            file.pwrite(b"c" * CHANGED_BYTES, 16 * MIB)
        began = time.monotonic()
        cluster.restart(victim)
        seen = watch_until_serving(cluster)
        took_s = time.monotonic() - began
    moved = sum(one["bytes_moved"] for one in seen.values())
    chunks = sum(one["chunks_total"] for one in seen.values())
    print(
        f"\n{chunks} chunks, at least {moved / MIB:.1f} MiB of {BASE_BYTES / MIB:.0f} were moved "
        f"in {took_s:.1f} s for {CHANGED_BYTES // CHUNK_BYTES} chunks that changed"
    )
    assert 0 < moved <= CHANGED_BYTES, seen
    assert chunks <= 1.2 * CHANGED_BYTES / CHUNK_BYTES, seen
    cluster.verify_replicas()


def test_resync_under_load(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: writers go on while a replica comes back, and it ends up equal.

    Method: writers and a reader; a storage process is away for a while, twice. Oracle: every
    acknowledged piece, and replicas that agree.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        for position in (0, -1):
            victim = cluster.process_at(position)
            cluster.kill(victim)
            load.wait_progress(10)
            load.run_for(2.0)
            cluster.restart(victim)
            load.wait_progress(timeout_s=40)
            cluster.wait_serving(120.0)
        load.stop()
        assert load.verify() > 0
    cluster.verify_replicas()
