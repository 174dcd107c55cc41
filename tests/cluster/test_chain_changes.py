"""Chains and managers that change under load.

Oracle of every test: each acknowledged piece reads back as it was written, all replicas agree, no
thread hangs, and every target serves in the end.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import firepond
from firepond.fs.manager_client import ManagerClient
from tests.cluster.load import Load
from tests.fixtures.cluster import TestCluster, wait_until

STALL_MS_MAX = 3000.0


def settle_and_check(cluster: TestCluster, load: Load) -> None:
    """The end of every test."""
    load.wait_progress(timeout_s=40)
    load.stop()
    cluster.wait_serving()
    assert load.verify() > 0
    cluster.verify_replicas()


def chain_of(cluster: TestCluster) -> dict[str, Any]:
    """The first chain of files."""
    return cluster.durable_chains()[0]


def targets_of(chain: dict[str, Any]) -> list[int]:
    return [int(one["target"]) for one in chain["targets"]]


def spare_node(cluster: TestCluster, chain: dict[str, Any]) -> int:
    """A storage node without a target of the chain."""
    used = {one["node"] for one in chain["targets"]}
    nodes = cluster.status()["nodes"]
    storage = (int(one["id"]) for one in nodes if "storage" in one["roles"])
    return next(node for node in storage if node not in used)


def wait_settled(cluster: TestCluster, chain: int) -> dict[str, Any]:
    """Until nothing that was asked of a chain is left to do."""

    def settled() -> dict[str, Any] | None:
        found: dict[str, Any] = cluster.command("admin", "chain", "show", str(chain), "--json")
        serving = all(one["state"] == "serving" for one in found["targets"])
        return found if serving and not found["leaving"] and not found["reordering"] else None

    found: dict[str, Any] = wait_until(settled, 60, "the chain is settled")
    return found


def test_manager_and_head_killed_together(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a manager that restarts while a head is dead goes on where the last one was.

    Method: kill -9 of both under load, start the manager, later the storage process. Oracle: the
    module's; the manager evicts the head although it never saw it alive.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        head = cluster.process_at(0)
        cluster.kill(head)
        cluster.kill("manager")
        load.run_for(0.5)
        cluster.restart("manager")
        load.wait_progress(timeout_s=30)
        cluster.restart(head)
        settle_and_check(cluster, load)


def test_targets_come_and_go_under_load(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: adding, moving and removing targets disturbs nobody.

    Method: add a fourth target to a chain, make it the head, remove the old head; its node must
    drop the data. Oracle: the module's; writers never stall for long.
    """
    cluster = make_cluster(storage_count=4)
    chain = chain_of(cluster)
    number, first = str(chain["id"]), targets_of(chain)[0]
    node = spare_node(cluster, chain)
    with Load(cluster.address) as load:
        load.wait_progress()
        began_at = time.monotonic()
        added = cluster.command(
            "admin", "chain", "add-target", number, "--node", str(node), "--json"
        )
        fresh = targets_of(added)[-1]
        assert fresh not in targets_of(chain)
        assert len(wait_settled(cluster, chain["id"])["targets"]) == 4
        order = [fresh, *targets_of(chain)]
        words = [str(one) for one in order]
        cluster.command("admin", "chain", "reorder", number, *words, "--json")
        assert targets_of(wait_settled(cluster, chain["id"])) == order
        load.wait_progress()
        cluster.command("admin", "chain", "remove-target", number, str(first), "--json")
        after = wait_settled(cluster, chain["id"])
        assert targets_of(after) == [one for one in order if one != first]
        old_node = next(one["node"] for one in chain["targets"] if one["target"] == first)
        wait_until(lambda: first not in targets_on(cluster, old_node), 30, "the data is dropped")
        settle_and_check(cluster, load)
        stall_ms = load.stall_ms(began_at)
    print(f"\nchain changes: writers stalled {stall_ms:.0f} ms")
    assert stall_ms < STALL_MS_MAX


def targets_on(cluster: TestCluster, node: int) -> list[int]:
    """What a storage process itself says that it has."""
    address = cluster.local.process(cluster.local.process_of_node(node)).admin_address
    assert address
    client = ManagerClient([address])
    try:
        rows = client.get("/v1/process")["storage"]["targets"]
    finally:
        client.close()
    return [int(row["target"]) for row in rows]


def test_replacing_outlives_a_manager(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: an intent is kept. Method: replace a target, kill -9 the manager at once, start it.

    Oracle: the module's; in the end the new target is there and the old one is not.
    """
    cluster = make_cluster(storage_count=4)
    chain = chain_of(cluster)
    old, node = targets_of(chain)[1], spare_node(cluster, chain)
    with Load(cluster.address) as load:
        load.wait_progress()
        line = ["admin", "chain", "replace-target", str(chain["id"]), str(old)]
        cluster.command(*line, "--node", str(node), "--json")
        cluster.kill("manager")
        load.run_for(0.3)
        cluster.restart("manager")
        load.wait_progress(timeout_s=30)
        after = wait_settled(cluster, chain["id"])
        assert old not in targets_of(after) and len(after["targets"]) == 3
        assert node in [one["node"] for one in after["targets"]]
        settle_and_check(cluster, load)


def test_a_swapped_disk_is_filled_without_a_hand(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a new disk in the place of another needs nobody. Method: stop, empty the disk, start.

    Oracle: the module's.
    """
    cluster = make_cluster()
    with Load(cluster.address) as load:
        load.wait_progress()
        victim = cluster.process_at(1)
        cluster.local.process(victim).stop()
        disk = next(Path(cluster.local.data_path(victim)).glob("disk-*"))
        shutil.rmtree(disk)
        load.wait_progress()
        cluster.restart(victim)
        settle_and_check(cluster, load)


def test_a_head_that_came_back_heads_again(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: load returns to where it was meant to be. Method: a short patience, a killed head.

    Oracle: the module's; the old order, without a hand.
    """
    cluster = make_cluster(settings=["manager.order_after_s=2"])
    before = {chain["id"]: targets_of(chain) for chain in cluster.durable_chains()}
    with Load(cluster.address) as load:
        load.wait_progress()
        head = cluster.process_at(0)
        cluster.kill(head)
        load.wait_progress(timeout_s=30)
        cluster.restart(head)

        def in_order() -> bool:
            now = {chain["id"]: targets_of(chain) for chain in cluster.durable_chains()}
            return now == before and cluster.all_serving()

        wait_until(in_order, 120, "every chain is in its order")
        settle_and_check(cluster, load)


def test_an_operator_accepts_a_loss(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a cluster of which only an outdated replica is left serves again, if a person says so.

    Method: kill one storage process, write, kill the others, start the first one alone. Oracle: no
    chain serves by itself; after `accept-loss` each does, and what was written before is there.
    """
    cluster = make_cluster()
    kept, more = random.randbytes(3 << 20), random.randbytes(3 << 20)
    first, *others = [f"storage-{number}" for number in (1, 2, 3)]
    with firepond.connect(cluster.address) as client:
        client.write_bytes("/kept", kept)
        cluster.kill(first)
        client.write_bytes("/more", more)
        for name in others:
            cluster.kill(name)
        cluster.restart(first)
        wait_until(lambda: "serving" not in states(cluster), 30, "the manager knows")
        for chain in cluster.durable_chains():
            own = wait_until(lambda number=chain["id"]: back(cluster, number), 30, "it is back")
            words = ("accept-loss", str(chain["id"]), str(own), "--yes", "--wait", "--json")
            (only,) = cluster.command("admin", "chain", *words)["targets"]
            assert (only["target"], only["state"]) == (own, "serving")
        assert client.read_bytes("/kept") == kept


def states(cluster: TestCluster) -> set[str]:
    """Of all targets of files."""
    return {one["state"] for chain in cluster.durable_chains() for one in chain["targets"]}


def back(cluster: TestCluster, chain: int) -> int | None:
    """The target of a chain that is there and waits."""
    found = cluster.command("admin", "chain", "show", str(chain), "--json")
    waiting = [int(one["target"]) for one in found["targets"] if one["state"] == "waiting"]
    return waiting[0] if waiting else None
