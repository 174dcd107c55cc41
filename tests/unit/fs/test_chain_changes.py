"""Chains that change while they serve: adding, removing, replacing, reordering targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firepond.fs.errors import ClusterNotReady, InvalidArgument, NotFound
from firepond.fs.ids import ChainId, Incarnation, NodeId, TargetId
from firepond.fs.manager.decide import load
from firepond.fs.manager.events import (
    AcceptLoss,
    AddTarget,
    Followed,
    Observed,
    Register,
    RemoveTarget,
    Reorder,
    ReplaceTarget,
)
from firepond.fs.manager.intents import next_to_move, stepping_down
from firepond.fs.manager.model import Chain, Durability, LocalState, PublicState
from tests.unit.fs.manager_kit import MILLISECOND, RULES, Manager, ready

SERVING = PublicState.SERVING


def with_spare() -> tuple[Manager, list[NodeId], NodeId]:
    """Three nodes with chains, and a fourth without."""
    manager, nodes = ready()
    spare = manager.join(1)[0]
    return manager, [*nodes, spare], spare


def chain_now(manager: Manager, chain: Chain) -> Chain:
    return manager.state.chains[chain.id]


def order(chain: Chain) -> list[int]:
    return [member.target for member in chain.members]


def watch_settle(manager: Manager, nodes: list[NodeId], chain: Chain, least: int) -> list[int]:
    """Honest heartbeats until nothing changes; never fewer than `least` targets serve."""
    counts = []
    for _ in range(60):
        before = manager.state.version
        for node in nodes:
            for target in manager.state.targets.values():
                if target.removed or target.node != node:
                    continue
                if manager.state_of(target.id) is PublicState.SYNCING:
                    manager.finish_sync(target.id)
            manager.beat(node)
            states = [member.state for member in chain_now(manager, chain).members]
            counts.append(states.count(SERVING))
        if manager.state.version == before:
            assert min(counts) >= least, counts
            return counts
    raise AssertionError("the chain does not settle")


def test_an_added_target_is_synced_and_serves() -> None:
    """Goal: the replica count grows, and nobody stops serving. Oracle: states on the way."""
    manager, nodes, spare = with_spare()
    chain = manager.file_chain()
    manager.do(AddTarget(chain.id, spare))
    assert manager.states() == ["serving"] * 3 + ["offline"]
    watch_settle(manager, nodes, chain, least=3)
    assert manager.states() == ["serving"] * 4
    assert chain_now(manager, chain).members[-1].node == spare


def test_what_cannot_be_added_is_refused() -> None:
    """Goal: no target without a living node of its own. Oracle: errors, and nothing changed."""
    manager, _, spare = with_spare()
    chain = manager.file_chain()
    before = manager.state
    for event, error in [
        (AddTarget(ChainId(99), spare), NotFound),
        (AddTarget(chain.id, NodeId(99)), InvalidArgument),
        (AddTarget(chain.id, chain.members[0].node), InvalidArgument),
        (AddTarget(chain.id, spare, "/other"), InvalidArgument),
        (RemoveTarget(chain.id, TargetId(99)), NotFound),
        (Reorder(chain.id, tuple(order(chain)[:2])), InvalidArgument),
        (ReplaceTarget(chain.id, TargetId(99), spare), NotFound),
    ]:
        with pytest.raises(error):
            manager.do(event)
    assert manager.state == before


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_removed_target_steps_down_first(place: int) -> None:
    """Goal: nobody serves by old routing when others acknowledge without it.

    Method: remove each place. Oracle: the member stays until its node says that it stopped; then
    its target is marked as removed, so that the node drops the data.
    """
    manager, nodes = ready()
    chain = manager.file_chain()
    member = chain.members[place]
    manager.do(RemoveTarget(chain.id, member.target))
    assert chain_now(manager, chain).members == chain.members
    assert list(stepping_down(manager.state, member.node)) == [member.target]
    watch_settle(manager, nodes, chain, least=2)
    assert order(chain_now(manager, chain)) == [
        one.target for one in chain.members if one.target != member.target
    ]
    assert manager.state.targets[member.target].removed
    assert not chain_now(manager, chain).leaving


def test_the_last_complete_target_cannot_be_removed() -> None:
    """Goal: a chain keeps a target that serves. Oracle: refusals, also of a second removal."""
    manager, nodes = ready()
    chain = manager.file_chain()
    first, second, third = order(chain)
    dead = [member.node for member in chain.members[:2]]
    manager.do(Observed(gone=tuple((node, manager.lives[node]) for node in dead)))
    with pytest.raises(ClusterNotReady):
        manager.do(RemoveTarget(chain.id, TargetId(third)))
    manager.do(RemoveTarget(chain.id, TargetId(first)))  # It is dead, another one serves.
    assert order(chain_now(manager, chain)) == [third, second]
    assert manager.state.targets[TargetId(first)].removed
    assert nodes


def test_two_removals_leave_one() -> None:
    """Goal: intents count when others are judged. Oracle: the third removal is refused."""
    manager, nodes = ready()
    chain = manager.file_chain()
    for target in order(chain)[:2]:
        manager.do(RemoveTarget(chain.id, TargetId(target)))
    with pytest.raises(ClusterNotReady):
        manager.do(RemoveTarget(chain.id, TargetId(order(chain)[2])))
    watch_settle(manager, nodes, chain, least=1)
    assert order(chain_now(manager, chain)) == order(chain)[2:]


def test_removal_waits_while_nobody_else_serves() -> None:
    """Goal: an intent never costs the last replica. Method: the others die before it steps down.

    Oracle: it is not asked to; once another one serves again, it leaves.
    """
    manager, nodes = ready()
    chain = manager.file_chain()
    member = chain.members[0]
    others = [one.node for one in chain.members[1:]]
    manager.do(RemoveTarget(chain.id, member.target))
    manager.do(Observed(gone=tuple((node, manager.lives[node]) for node in others)))
    assert list(stepping_down(manager.state, member.node)) == []
    manager.beat(member.node)
    assert chain_now(manager, chain).members[0].state is SERVING
    for node in others:
        manager.register(node, manager.lives[node] + 1)
    watch_settle(manager, nodes, chain, least=1)
    assert member.target not in order(chain_now(manager, chain))


def test_replacing_survives_a_manager_restart() -> None:
    """Goal: add, wait until it serves, then remove. Method: a new manager in the middle.

    Oracle: three serve all the time, the new target in the place of the old one in the end.
    """
    manager, nodes, spare = with_spare()
    chain = manager.file_chain()
    old = chain.members[0]
    manager.do(ReplaceTarget(chain.id, old.target, spare))
    with pytest.raises(InvalidArgument):
        manager.do(ReplaceTarget(chain.id, old.target, spare))
    assert list(stepping_down(manager.state, old.node)) == []
    soft = {"locals": {}, "leases": {}, "departed": {}, "disordered": {}, "reports": {}}
    manager.state = load(replace(manager.state, **soft))
    manager.pass_ms(100)
    watch_settle(manager, nodes, chain, least=3)
    after = chain_now(manager, chain)
    assert old.target not in order(after) and manager.state.targets[old.target].removed
    assert spare in [member.node for member in after.members]
    assert manager.states() == ["serving"] * 3


def test_a_replacement_can_be_called_off() -> None:
    """Goal: removing the new target keeps the old one. Oracle: no intent is left."""
    manager, nodes, spare = with_spare()
    chain = manager.file_chain()
    manager.do(ReplaceTarget(chain.id, chain.members[0].target, spare))
    added = chain_now(manager, chain).members[-1].target
    manager.do(RemoveTarget(chain.id, added))
    watch_settle(manager, nodes, chain, least=3)
    assert order(chain_now(manager, chain)) == order(chain)
    assert not chain_now(manager, chain).leaving


@pytest.mark.parametrize("wanted", [(2, 3, 1), (3, 1, 2), (3, 2, 1), (1, 3, 2), (2, 1, 3)])
def test_reordering_moves_one_at_a_time(wanted: tuple[int, ...]) -> None:
    """Goal: any order can be had while the chain serves. Oracle: the order; two always serve."""
    manager, nodes = ready()
    chain = manager.file_chain()
    targets = [TargetId(order(chain)[place - 1]) for place in wanted]
    manager.do(Reorder(chain.id, tuple(targets)))
    watch_settle(manager, nodes, chain, least=2)
    after = chain_now(manager, chain)
    assert order(after) == targets and not after.reordering
    assert next_to_move(after) is None and manager.states() == ["serving"] * 3


def test_a_head_that_came_back_heads_again() -> None:
    """Goal: load goes back to where it was meant to be, when all is quiet.

    Method: the head dies and returns; time passes. Oracle: its place before and after the patience;
    never with an option of 0.
    """
    patience_ns = 10_000 * MILLISECOND
    for order_after_ns in (patience_ns, 0):
        manager, nodes = ready(rules=replace(RULES, order_after_ns=order_after_ns))
        chain = manager.file_chain()
        head = chain.members[0]
        manager.do(Observed(gone=((head.node, manager.lives[head.node]),)))
        manager.register(head.node, 77)
        manager.settle(nodes)
        assert order(chain_now(manager, chain))[-1] == head.target
        for step in range(24):
            manager.pass_ms(500)
            for node in nodes:
                manager.beat(node)
            if step == 10:
                assert order(chain_now(manager, chain))[-1] == head.target
        manager.settle(nodes)
        again = order(chain_now(manager, chain))[0] == head.target
        assert again is (order_after_ns > 0)


def test_a_swapped_disk_is_filled_without_a_hand() -> None:
    """Goal: an empty disk in the place of another is noticed and synced.

    Method: a node restarts with new generations. Oracle: all serve; the new generation is kept.
    """
    manager, nodes = ready()
    chain = manager.file_chain()
    victim = chain.members[1]
    manager.register(victim.node, 55)
    manager.beat(victim.node, generation=4711, served=False)
    assert manager.states() == ["serving", "serving", "syncing"]
    for _ in range(4):
        for target in list(manager.state.targets.values()):
            if target.node == victim.node and manager.state_of(target.id) is PublicState.SYNCING:
                manager.finish_sync(target.id)
        manager.beat(victim.node, generation=4711)
    assert manager.states() == ["serving"] * 3
    assert manager.state.targets[victim.target].generation == 4711
    assert nodes


def test_targets_of_a_disk_that_is_no_more_move() -> None:
    """Goal: a disk under another path needs no hand. Method: a node registers with other disks.

    Oracle: its targets are spread over these, and nothing else changed.
    """
    manager, nodes = ready()
    node = nodes[0]
    others = {one.id: one.disk for one in manager.state.targets.values() if one.node != node}
    address = f"host:{node}"
    disks = ("/new-0", "/new-1")
    manager.do(Observed(gone=((node, manager.lives[node]),)))
    manager.do(Register(node, Incarnation(9), address, address, ("storage",), disks))
    moved = [one.disk for one in manager.state.targets.values() if one.node == node]
    assert set(moved) == set(disks) and len(moved) == 4
    kept = {one.id: one.disk for one in manager.state.targets.values() if one.node != node}
    assert kept == others


def test_syncs_of_a_node_are_bounded() -> None:
    """Goal: a node that returns is not overrun. Method: many chains, a bound of 2; it returns.

    Oracle: never more than two of its targets sync, and all serve in the end.
    """
    rules = replace(RULES, chains_per_node=4, resyncs_per_node=2)
    manager, nodes = ready(rules=rules)
    back = nodes[0]
    manager.do(Observed(gone=((back, manager.lives[back]),)))
    manager.register(back, 99)
    most = 0
    for _ in range(60):
        for node in nodes:
            manager.beat(node)
        syncing = [
            member.target
            for chain in manager.state.chains.values()
            for member in chain.members
            if member.node == back and member.state is PublicState.SYNCING
        ]
        most = max(most, len(syncing))
        if syncing:
            manager.finish_sync(syncing[0])
    assert most == 2
    durable = [c for c in manager.state.chains.values() if c.durability is Durability.DURABLE]
    assert all(member.state is SERVING for chain in durable for member in chain.members)


def test_deaths_one_after_the_other_count_together_until_somebody_serves() -> None:
    """Goal: the last-serving rule. Method: the head dies, then both others; in between somebody
    saw the routing without it, or a client did, or nobody.

    Oracle: with nobody's or a client's sight the first to die is last-serving, too, and brings the
    chain back alone; with a replica's it is not, and waits.
    """
    for seen_by, complete in ((None, False), ("replica", False), ("client", True), ("", True)):
        manager, _ = ready()
        chain = manager.file_chain()
        first, second, third = (member.node for member in chain.members)
        manager.do(Observed(gone=((first, manager.lives[first]),)))
        if seen_by == "replica":
            manager.do(Followed(manager.lives[second]))
        elif seen_by == "client":
            manager.do(Followed(Incarnation(123456)))
        elif seen_by is None:
            manager.do(Followed(None))
        for node in (second, third):
            manager.do(Observed(gone=((node, manager.lives[node]),)))
        states = {m.node: str(m.state) for m in chain_now(manager, chain).members}
        assert (states[first] == "last-serving") is complete, (seen_by, states)
        manager.register(first, 4242)
        manager.beat(first, None)
        states = {m.node: str(m.state) for m in chain_now(manager, chain).members}
        assert states[first] == ("serving" if complete else "waiting"), (seen_by, states)


def test_an_operator_may_accept_a_loss() -> None:
    """Goal: no chain is down for ever while a copy is left. Method: one target dies, others serve
    on without it and go for good; the operator takes the first. Oracle: refused while the chain
    serves, while the target is away, and for one that never served; then it serves alone, the
    others' targets are removed, and the chain grows again."""
    manager, nodes = ready()
    chain = manager.file_chain()
    first, *others = chain.members
    accept = AcceptLoss(chain.id, first.target)
    manager.do(Observed(gone=((first.node, manager.lives[first.node]),)))
    manager.do(Followed(manager.lives[others[0].node]))
    with pytest.raises(InvalidArgument, match="the chain serves"):
        manager.do(accept)
    manager.do(Observed(gone=tuple((one.node, manager.lives[one.node]) for one in others)))
    with pytest.raises(ClusterNotReady, match="start its node"):
        manager.do(accept)
    manager.register(first.node, 4242)
    manager.beat(first.node, LocalState.ONLINE, served=False)
    with pytest.raises(ClusterNotReady, match="has served"):
        manager.do(accept)
    manager.beat(first.node, LocalState.ONLINE, lost_version=chain.version)
    assert "serving" not in manager.states()
    manager.do(accept)
    (only,) = manager.state.chains[chain.id].members
    assert (only.target, only.state) == (first.target, SERVING)
    assert all(manager.state.targets[one.target].removed for one in others)
    for node in [one.node for one in others]:
        manager.register(node, node * 77)
        manager.do(AddTarget(chain.id, node))
    manager.settle(nodes)
    assert [one.state for one in chain_now(manager, chain).members] == [SERVING] * 3
