"""The manager's decisions: leases, incarnations, probes, births, namespaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from firepond.fs.errors import (
    ClusterNotReady,
    InvalidArgument,
    NamespaceConflict,
    NamespaceUnknown,
    NodeUnknown,
)
from firepond.fs.ids import Incarnation, NodeId, Term
from firepond.fs.manager.decide import decide, load
from firepond.fs.manager.events import (
    AllocateNodeId,
    CreateNamespace,
    ExtendTables,
    Followed,
    Observed,
    Probe,
    RemoveNamespace,
    RemoveTarget,
    Reorder,
    Tick,
)
from firepond.fs.manager.model import CACHE_TABLE, FILE_TABLE, Durability, LocalState
from firepond.fs.manager.report import cluster_status
from tests.unit.fs.manager_kit import MILLISECOND, RULES, Manager, ready


def beat_all(manager: Manager, nodes: list[NodeId], milliseconds: int) -> None:
    """Time passes while these nodes live."""
    for _ in range(milliseconds // 500):
        manager.pass_ms(500)
        for node in nodes:
            manager.beat(node)


def test_chains_are_born_when_enough_nodes_came() -> None:
    """Goal: placement happens once, evenly. Oracle: tables, distinct nodes, one head a node."""
    manager = Manager()
    manager.join(2)
    assert not manager.state.tables
    manager, _ = ready()
    files = manager.state.table_newest(FILE_TABLE)
    caches = manager.state.table_newest(CACHE_TABLE)
    assert files and caches and len(files.chains) == len(caches.chains) == 3
    heads = set()
    for chain_id in files.chains:
        nodes = [member.node for member in manager.state.chains[chain_id].members]
        assert len(set(nodes)) == 3
        heads.add(nodes[0])
    assert len(heads) == 3
    assert manager.states() == ["serving"] * 3


def test_silent_node_is_evicted_after_lease_and_margin() -> None:
    """Goal: not before its lease must have ended, and under 3 s. Oracle: the time of eviction."""
    manager, nodes = ready()
    last_beat_ns = manager.now_ns
    while manager.state.nodes[nodes[0]].alive:
        manager.pass_ms(100)
        for node in nodes[1:]:
            manager.beat(node)
    elapsed_ms = (manager.now_ns - last_beat_ns) // MILLISECOND
    assert 2200 <= elapsed_ms <= 2500
    assert manager.states() == ["serving", "serving", "offline"]


def test_late_node_is_probed() -> None:
    """Goal: a heartbeat that is late by more than a beat raises a probe. Oracle: the action."""
    manager, nodes = ready()
    manager.pass_ms(1000)
    manager.now_ns += 100 * MILLISECOND
    _, actions = decide(manager.state, Tick(), manager.now_ns)
    assert [one.nodes for one in actions if isinstance(one, Probe)] == [tuple(nodes)]


def test_gone_process_is_evicted_at_once() -> None:
    """Goal: known death needs no lease. Oracle: states; news of an old life is ignored."""
    manager, nodes = ready()
    manager.do(Observed(gone=((nodes[0], Incarnation(1)),)))
    assert manager.states() == ["serving"] * 3
    manager.do(Observed(gone=((nodes[0], manager.lives[nodes[0]]),)))
    assert not manager.state.nodes[nodes[0]].alive
    assert sorted(manager.states()) == ["offline", "serving", "serving"]


def test_all_dead_in_one_decision_are_all_complete() -> None:
    """Goal: after a power cut any replica brings the chain back. Oracle: the one that came back."""
    manager, nodes = ready()
    manager.do(Observed(gone=tuple(manager.lives.items())))
    assert manager.states() == ["last-serving"] * 3
    manager.register(nodes[2], 77)
    manager.beat(nodes[2], LocalState.ONLINE)
    assert manager.states() == ["serving", "offline", "offline"]
    for node in nodes[:2]:
        manager.register(node, 78)
    manager.settle(nodes)
    assert manager.states() == ["serving"] * 3


def test_a_chain_takes_one_step_in_a_decision() -> None:
    """Goal: a chain that is looked at again in one decision, as a sync ended and made room, still
    gets one new version. Method: one sync a node; the last source dies while all others sync or
    wait for room. Oracle: `Manager.do`, and that some chain did both at once."""
    manager, (first, second, source) = ready(rules=replace(RULES, resyncs_per_node=1))
    for node in (first, second):
        manager.register(node, node * 1000 + 1)
    for node in (first, second, source):
        manager.beat(node)
    before = manager.state.chains
    assert any(str(one.state) == "waiting" for chain in before.values() for one in chain.members)
    manager.do(Observed(gone=((source, manager.lives[source]),)))
    both = [
        [str(one.state) for one in chain.members] == ["serving", "syncing", "offline"]
        for chain in manager.state.chains.values()
    ]
    assert any(both), manager.state.chains
    for chain in manager.state.chains.values():
        assert chain.served_version <= chain.version


def test_death_waits_for_those_in_doubt() -> None:
    """Goal: who dies together is complete together. Method: one is gone, two do not answer.

    Oracle: nothing is decided until the leases end; then all are last-serving.
    """
    manager, nodes = ready()
    lives = list(manager.lives.items())
    manager.do(Observed(gone=(lives[0],), unanswered=(lives[1], lives[2])))
    assert manager.states() == ["serving"] * 3
    assert manager.file_chain().id in manager.state.held_chains
    with pytest.raises(ClusterNotReady):  # Shown as serving, the new life would believe it.
        manager.register(nodes[0], 99)
    for _ in range(5):
        manager.pass_ms(500)
    assert manager.states() == ["last-serving"] * 3
    assert not manager.state.held_chains
    manager.register(nodes[0], 99)
    manager.beat(nodes[0], LocalState.ONLINE)
    assert manager.states() == ["serving", "offline", "offline"]


def test_hold_ends_when_a_node_answers() -> None:
    """Goal: one known survivor settles it. Oracle: the chain goes on without the dead one."""
    manager, _ = ready()
    lives = list(manager.lives.items())
    manager.do(Observed(gone=(lives[0],), unanswered=(lives[1], lives[2])))
    manager.do(Observed(answered=(lives[1],)))
    assert sorted(manager.states()) == ["offline", "serving", "serving"]


def test_new_incarnation_first_counts_as_offline() -> None:
    """Goal: a fast restart is recorded. Oracle: offline before it syncs and serves again."""
    manager, nodes = ready()
    manager.register(nodes[1], 5)
    assert sorted(manager.states()) == ["offline", "serving", "serving"]
    manager.beat(nodes[1], LocalState.ONLINE)
    assert manager.states() == ["serving", "serving", "syncing"]
    manager.settle(nodes)
    assert manager.states() == ["serving"] * 3


def test_old_lives_and_old_versions_change_nothing() -> None:
    """Goal: protocol point 21. Oracle: the state's version."""
    manager, nodes = ready()
    manager.register(nodes[1], 5)
    version = manager.state.version
    manager.beat(nodes[1], LocalState.ONLINE, version_offset=-1)
    assert manager.state.version == version
    manager.lives[nodes[1]] = Incarnation(nodes[1] * 1000)
    with pytest.raises(NodeUnknown):
        manager.beat(nodes[1])
    with pytest.raises(InvalidArgument, match="retired"):
        manager.register(nodes[1], nodes[1] * 1000)
    assert manager.state.version == version


def test_evicted_node_must_register_and_resync() -> None:
    """Goal: a frozen process that wakes is not taken for complete. Oracle: states on its way."""
    manager, nodes = ready()
    beat_all(manager, nodes[1:], 3000)
    with pytest.raises(NodeUnknown):
        manager.beat(nodes[0])
    manager.register(nodes[0])
    manager.beat(nodes[0], LocalState.UP_TO_DATE)
    assert manager.states() == ["serving", "serving", "waiting"]
    manager.beat(nodes[0], LocalState.ONLINE)
    assert manager.states() == ["serving", "serving", "syncing"]


def test_new_manager_gives_a_full_lease() -> None:
    """Goal: a manager that just started, or stalled, evicts nobody early. Oracle: who lives."""
    manager, nodes = ready()
    manager.state = load(manager.state)
    object.__setattr__(manager.state, "leases", {})
    object.__setattr__(manager.state, "tick_ns", 0)
    manager.now_ns += 3_600_000 * MILLISECOND
    manager.pass_ms(2000)
    assert all(manager.state.nodes[node].alive for node in nodes)
    for node in nodes:
        manager.beat(node)
    manager.now_ns += 10_000 * MILLISECOND
    manager.pass_ms(2000)
    assert all(manager.state.nodes[node].alive for node in nodes)
    manager.pass_ms(500)
    assert not any(manager.state.nodes[node].alive for node in nodes)


def test_wiped_disk_is_resynced_and_never_a_source() -> None:
    """Goal: a swapped disk is seen by its generation. Oracle: it waits while it is alone."""
    manager, nodes = ready()
    manager.do(Observed(gone=tuple(manager.lives.items())))
    manager.register(nodes[0], 7)
    manager.beat(nodes[0], LocalState.ONLINE, generation=4242)
    assert manager.states() == ["last-serving", "last-serving", "waiting"]
    manager.beat(nodes[0], LocalState.ONLINE, generation=4242)
    assert "serving" not in manager.states()
    manager.register(nodes[1], 8)
    manager.beat(nodes[1], LocalState.ONLINE)
    assert manager.states()[0] == "serving"


def test_failed_disk_takes_its_targets_offline() -> None:
    """Goal: a disk may die without its node. Oracle: the chain goes on without it."""
    manager, nodes = ready()
    manager.beat(nodes[0], LocalState.OFFLINE)
    assert sorted(manager.states()) == ["offline", "serving", "serving"]
    assert manager.state.nodes[nodes[0]].alive


def test_second_metadata_server_is_refused() -> None:
    """Goal: no second namespace appears in silence. Oracle: the error; the first may restart."""
    manager, nodes = ready()
    for _ in range(2):
        manager.do(AllocateNodeId())
    first, second = NodeId(len(nodes) + 1), NodeId(len(nodes) + 2)
    manager.register(first, 1, role="meta")
    with pytest.raises(InvalidArgument, match="only one"):
        manager.register(second, 2, role="meta")
    manager.register(first, 3, role="meta")
    assert manager.state.nodes[first].alive and second not in manager.state.nodes


def test_namespaces() -> None:
    """Goal: creating twice is creating once; ids are never used again. Oracle: ids and errors."""
    manager, _ = ready()
    create = CreateNamespace("kv", Durability.CACHE, 1 << 30)
    manager.do(create)
    version = manager.state.version
    manager.do(create)
    assert manager.state.version == version and len(manager.state.namespaces) == 1
    with pytest.raises(NamespaceConflict):
        manager.do(CreateNamespace("kv", Durability.DURABLE, 1 << 30))
    manager.do(RemoveNamespace("kv"))
    with pytest.raises(NamespaceUnknown):
        manager.do(RemoveNamespace("kv"))
    manager.do(create)
    assert sorted(manager.state.namespaces) == [1, 2]


def test_extending_adds_chains_on_new_nodes() -> None:
    """Goal: later nodes get chains; old editions stay. Oracle: editions and heads."""
    manager, nodes = ready()
    with pytest.raises(InvalidArgument):
        manager.do(ExtendTables())
    fresh = manager.join(1)
    manager.do(ExtendTables())
    first = manager.state.tables[FILE_TABLE, 1]
    second = manager.state.table_newest(FILE_TABLE)
    assert second and second.version == 2 and second.chains[:3] == first.chains
    added = manager.state.chains[second.chains[3]]
    assert added.members[0].node == fresh[0]
    for node in fresh + nodes:
        manager.beat(node, served=False)
    manager.settle(nodes + fresh)
    assert {str(one.state) for one in added.members} == {"offline"}
    final = manager.state.chains[added.id]
    assert {str(one.state) for one in final.members} == {"serving"}


def test_lost_cache_does_not_make_files_unavailable() -> None:
    """Goal: "not ready" means files. Oracle: the status with one, then with all nodes dead."""
    manager, nodes = ready()
    meta = NodeId(manager.state.node_id_next)
    manager.do(AllocateNodeId())
    manager.register(meta, role="meta")

    def seen() -> dict[str, Any]:
        return cluster_status(manager.state, Term(1), manager.now_ns, 0)

    assert seen()["ready"] and set(seen()["target_states"]) == {"serving"}
    manager.do(Observed(gone=((nodes[0], manager.lives[nodes[0]]),)))
    assert seen()["ready"] and seen()["target_states"]["last-serving"] == 1
    manager.do(Observed(gone=tuple((node, manager.lives[node]) for node in nodes[1:])))
    assert not seen()["ready"] and "chains" in seen()["waiting_for"]


def test_an_update_that_only_the_dead_showed_is_not_lost() -> None:
    """Goal: a head that lost an update is not made the last one when the others, which showed that
    update, die before the manager hears of it (seeds 54428, 56379, 56838). Method: they are found
    dead, the head follows, and then says so; it starts again, and so does the manager.
    Oracle: the states by hand; the first of the others to come back serves."""
    manager, _ = ready()
    chain = manager.file_chain()
    head, second, third = (member.node for member in chain.members)
    gone = tuple((node, manager.lives[node]) for node in (second, third))
    manager.do(Observed(gone=gone))
    manager.do(Followed(manager.lives[head]))
    assert manager.states() == ["serving", "offline", "offline"]
    manager.beat(head, LocalState.OFFLINE, lost_version=chain.version)
    assert manager.states() == ["last-serving", "last-serving", "offline"]
    manager.register(head, 77)
    manager.state = load(replace(manager.state, locals={}, leases={}, departed={}))
    manager.beat(head, LocalState.ONLINE, lost_version=chain.version)
    assert manager.states() == ["last-serving", "last-serving", "waiting"]
    manager.register(third, 78)
    manager.beat(third, LocalState.ONLINE)
    manager.beat(head, LocalState.ONLINE, lost_version=chain.version)
    assert {one.node: str(one.state) for one in manager.file_chain().members} == {
        third: "serving",
        second: "offline",
        head: "syncing",
    }


def test_a_chain_need_not_wait_for_an_update_that_was_only_shown() -> None:
    """Goal: when those that stand in for a head that lost an update are gone for good, there is a
    way out. Method: new disks, or removals. Oracle: the head waits, then serves."""
    for wiped in (True, False):
        manager, _ = ready()
        chain = manager.file_chain()
        head, *others = (member.node for member in chain.members)
        manager.do(Observed(gone=tuple((node, manager.lives[node]) for node in others)))
        manager.do(Followed(manager.lives[head]))
        manager.beat(head, LocalState.OFFLINE, lost_version=chain.version)
        manager.beat(head, LocalState.ONLINE, lost_version=chain.version)
        assert manager.states() == ["last-serving", "last-serving", "waiting"]
        manager.do(Reorder(chain.id, tuple(one.target for one in chain.members)))
        for member in chain.members[1:]:
            assert "serving" not in manager.states()
            if wiped:
                manager.register(member.node, member.node * 100)
                fresh = member.node + 900
                manager.beat(member.node, LocalState.ONLINE, served=False, generation=fresh)
            else:
                assert member.target in manager.file_chain().preferred
                manager.do(RemoveTarget(chain.id, member.target))
                assert member.target not in manager.file_chain().preferred
        first = manager.file_chain().members[0]
        assert (first.node, str(first.state)) == (head, "serving")
        assert len(manager.file_chain().members) == (3 if wiped else 1)
        # It is the chain now, also if it dies before it said more.
        manager.do(Observed(gone=((head, manager.lives[head]),)))
        assert manager.states()[0] == "last-serving"
        assert manager.file_chain().members[0].node == head


def test_who_lost_an_update_comes_back_if_nobody_else_is_better() -> None:
    """Goal: no chain is down for an update that nobody has. Method: the others left before it was
    lost, or got new disks. Oracle: the head is last-serving, and serves when it is back."""
    for wiped in (False, True):
        manager, _ = ready()
        head, second, third = (member.node for member in manager.file_chain().members)
        manager.do(Observed(gone=tuple((one, manager.lives[one]) for one in (second, third))))
        manager.do(Followed(manager.lives[head]))
        lost = manager.file_chain().version - wiped
        for node in (second, third) if wiped else ():
            manager.register(node, node * 100)
            manager.beat(node, LocalState.ONLINE, served=False, generation=node + 900)
        manager.beat(head, LocalState.OFFLINE, lost_version=lost)
        assert manager.states()[0] == "last-serving"
        assert manager.file_chain().members[0].node == head
        manager.beat(head, LocalState.ONLINE, lost_version=lost)
        assert manager.states()[0] == "serving"


def test_a_failed_disk_leaves_a_complete_copy() -> None:
    """Goal: two disks that failed one after the other do not stop a chain for ever (seed 211196).
    Method: one says that its disk failed, with or without work that others may have; the others
    die before they can have heard of it, and their disks are new, or not. Then it starts again and
    knows of no loss, as its disk took no note. Oracle: it serves; but not while there is another
    one that may have shown what it lost."""
    for lost in (False, True):
        for wiped in (False, True):
            manager, _ = ready()
            chain = manager.file_chain()
            failed, *others = (member.node for member in chain.members)
            version = chain.version if lost else 0
            manager.beat(failed, LocalState.OFFLINE, lost_version=version)
            assert manager.states() == ["serving", "serving", "offline"]
            manager.do(Observed(gone=tuple((one, manager.lives[one]) for one in others)))
            for node in others if wiped else ():
                manager.register(node, node * 100)
                manager.beat(node, LocalState.ONLINE, served=False, generation=node + 900)
            manager.register(failed, 77)
            manager.beat(failed, LocalState.ONLINE)
            states = {one.node: str(one.state) for one in manager.file_chain().members}
            expected = "waiting" if lost and not wiped else "serving"
            assert states[failed] == expected, (lost, wiped, states)
