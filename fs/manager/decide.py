"""Every decision of the manager: `decide(state, event, now_ns) -> (state, actions)`.

Pure: no clock, no I/O, no randomness, so that a simulator can drive the very same decisions.
A refused event raises and changes nothing. The caller persists the state when its version grew,
before anybody sees it, and then carries out the actions.

Invariants: a lease is counted from receipt; a node is evicted only after its lease and a margin, or
when its incarnation is known to be gone; a manager that was away (just started, or stalled) gives
everybody a full lease before it judges; a new incarnation first counts as offline for all its
targets; reports of old incarnations or with old chain versions change no state.
"""

from __future__ import annotations

from dataclasses import replace

from firepond.fs.errors import (
    ClusterNotReady,
    InvalidArgument,
    NamespaceConflict,
    NamespaceUnknown,
    NodeUnknown,
)
from firepond.fs.ids import ChainVersion, Incarnation, NamespaceId, NodeId
from firepond.fs.manager import chain_changes, intents
from firepond.fs.manager.draft import Draft
from firepond.fs.manager.events import (
    AcceptLoss,
    Action,
    AddTarget,
    AllocateNodeId,
    CreateNamespace,
    Event,
    ExtendTables,
    Followed,
    Heartbeat,
    Observed,
    Probe,
    Register,
    RemoveNamespace,
    RemoveTarget,
    Reorder,
    ReplaceTarget,
    Tick,
)
from firepond.fs.manager.model import (
    CACHE_TABLE,
    FILE_TABLE,
    NEVER_SERVED,
    RETIRED_KEPT,
    Durability,
    Local,
    LocalState,
    Namespace,
    Node,
    PublicState,
    State,
    Target,
    TargetReport,
)
from firepond.fs.manager.placement import create_tables, emptiest_disk, extend_tables

NAMESPACE_ID_MAX = (1 << 24) - 1


def decide(state: State, event: Event, now_ns: int) -> tuple[State, tuple[Action, ...]]:
    """The state after an event, and what is to be done. Raises FirepondError to refuse it."""
    draft = Draft(state, now_ns)
    match event:
        case Heartbeat():
            _heartbeat(draft, event)
        case Tick():
            _tick(draft)
        case Observed():
            _observed(draft, event)
        case Register():
            _register(draft, event)
        case AllocateNodeId():
            draft.take_node_id()
        case CreateNamespace():
            _create_namespace(draft, event)
        case RemoveNamespace():
            _remove_namespace(draft, event)
        case ExtendTables():
            extend_tables(draft)
        case AddTarget():
            chain_changes.add_target(draft, event)
        case RemoveTarget():
            chain_changes.remove_target(draft, event)
        case AcceptLoss():
            chain_changes.accept_loss(draft, event)
        case ReplaceTarget():
            chain_changes.replace_target(draft, event)
        case Reorder():
            chain_changes.reorder(draft, event)
        case Followed():
            _followed(draft, event)
    return draft.finish()


def load(state: State) -> State:
    """The soft state with which a new manager begins: nodes that were dead still are."""
    lost = {
        target.id: Local(LocalState.OFFLINE)
        for target in state.targets.values()
        if target.node not in state.nodes or not state.nodes[target.node].alive
    }
    disordered = {
        chain.id: 0
        for chain in state.chains.values()
        if intents.is_whole(chain) and intents.next_to_move(chain) is not None
    }
    return replace(state, locals=lost, disordered=disordered)


def _register(draft: Draft, event: Register) -> None:
    known = draft.nodes.get(event.node)
    if event.node >= draft.node_id_next or event.node < 1:
        raise NodeUnknown("the node id was not given out by this cluster", _who(event))
    if known is not None and event.incarnation in known.retired:
        raise InvalidArgument(
            "another process has registered with this node id since: it is retired", _who(event)
        )
    if known is not None and known.alive and known.incarnation != event.incarnation:
        raise ClusterNotReady("an earlier life of the node may still serve", _who(event))
    _refuse_while_held(draft, event)
    _refuse_second_meta(draft, event)
    retired = known.retired if known else ()
    if known is not None and known.incarnation != event.incarnation:
        retired = (*retired, known.incarnation)[-RETIRED_KEPT:]
        draft.lose_targets(event.node)
        draft.note("node restarted", node=event.node, incarnation=event.incarnation)
    elif known is None:
        draft.note("node joined", node=event.node, incarnation=event.incarnation)
    elif not known.alive:
        draft.note("node came back", node=event.node, incarnation=event.incarnation)
    node = Node(
        id=event.node,
        incarnation=event.incarnation,
        data_address=event.data_address,
        admin_address=event.admin_address,
        roles=event.roles,
        alive=True,
        disks=event.disks,
        retired=retired,
    )
    if known is None or replace(known, stamp=node.stamp) != node:
        draft.put_node(node)
    _move_from_lost_disks(draft, node)
    draft.reports[event.node] = event.report
    draft.renew_lease(event.node, event.incarnation)
    create_tables(draft)


def _move_from_lost_disks(draft: Draft, node: Node) -> None:
    """Targets on a disk that the node has no more are made anew on another one of its disks.

    A disk that failed is still among them, so this is a disk that was taken out of the settings.
    """
    if not node.disks:
        return
    for target in list(draft.targets.values()):
        if target.node == node.id and target.disk not in node.disks and not target.removed:
            disk = emptiest_disk(draft, node.id)
            draft.put_target(replace(target, disk=disk))
            draft.note("target moves to another disk", target=target.id, disk=disk)


def _refuse_while_held(draft: Draft, event: Register) -> None:
    """A held chain still shows the targets of the earlier life as serving: the new life would take
    itself for one that knows what that one knew, perhaps with an empty disk."""
    known = draft.nodes.get(event.node)
    if known is None or known.incarnation == event.incarnation:
        return
    for chain in sorted(draft.held_chains):
        for member in draft.chains[chain].members:
            if member.node == event.node and member.state is PublicState.SERVING:
                why = "a chain of the earlier life waits for a member that does not answer"
                raise ClusterNotReady(why, {**_who(event), "chain": str(chain)})


def _refuse_second_meta(draft: Draft, event: Register) -> None:
    """A second metadata server would have a store, and so a namespace, of its own."""
    if "meta" not in event.roles:
        return
    for node in draft.nodes.values():
        if "meta" in node.roles and node.id != event.node:
            raise InvalidArgument(
                "the cluster has a metadata server; with the embedded store there is only one",
                {"node": str(node.id), "admin_address": node.admin_address},
            )


def _heartbeat(draft: Draft, event: Heartbeat) -> None:
    known = draft.nodes.get(event.node)
    if known is None or known.incarnation != event.incarnation or not known.alive:
        raise NodeUnknown("the node has to register", _who(event))
    draft.renew_lease(event.node, event.incarnation)
    draft.reports[event.node] = event.report
    for report in event.targets:
        _take_report(draft, event.node, report)


def _take_report(draft: Draft, node: NodeId, report: TargetReport) -> None:
    target = draft.targets.get(report.target)
    if target is None or target.node != node or target.removed:
        return
    if report.chain_version != draft.chains[target.chain].version:
        return
    heard = draft.locals.get(target.id)
    if target.chain in draft.held_chains and heard and heard.state is LocalState.OFFLINE:
        return  # Its absence is not recorded in the chain yet.
    replaced = target.generation is not None and report.generation != target.generation
    if report.generation != target.generation:
        draft.put_target(replace(target, generation=report.generation))
    if replaced:
        draft.note("target replaced", node=node, target=target.id, disk=target.disk)
    local = Local(
        report.local,
        report.served,
        replaced,
        complete_version=report.complete_version,
        lost_version=max(report.lost_version, _loss_remembered(draft, target)),
    )
    draft.set_local(target.id, local)


def _loss_remembered(draft: Draft, target: Target) -> ChainVersion:
    """The version in which a target lost an update, though its failing disk could not note that,
    while it counts as complete but for that."""
    heard = draft.locals.get(target.id)
    if heard is None or target.id not in draft.departed.get(target.chain, ()):
        return NEVER_SERVED
    return heard.lost_version


def _observed(draft: Draft, event: Observed) -> None:
    for node, incarnation in event.answered:
        if _is_current(draft, node, incarnation):
            draft.trust(node)
    for node, incarnation in event.unanswered:
        if _is_current(draft, node, incarnation):
            draft.doubt(node, incarnation)
    for node, incarnation in event.gone:
        if _is_current(draft, node, incarnation):
            draft.evict(node, "its process is gone")


def _tick(draft: Draft) -> None:
    away = draft.tick_ns and draft.now_ns - draft.tick_ns > draft.rules.lease_ns // 2
    draft.tick_ns = draft.now_ns
    living = [node for node in draft.nodes.values() if node.alive]
    expired, late = [], []
    for node in sorted(living, key=lambda one: one.id):
        if away or node.id not in draft.leases:
            draft.renew_lease(node.id, node.incarnation)
            continue
        lease = draft.leases[node.id]
        if draft.now_ns > lease.end_ns + draft.rules.margin_ns:
            expired.append(node.id)
        elif draft.now_ns - lease.heartbeat_ns > 2 * draft.rules.heartbeat_ns:
            late.append(node.id)
    for node_id in expired:
        draft.evict(node_id, "its lease ran out")
    if late:
        draft.actions.append(Probe(tuple(late)))
    create_tables(draft)
    _restore_order(draft)


def _restore_order(draft: Draft) -> None:
    """Has one chain at a time put in its preferred order, after it has not changed for a while."""
    patience_ns = draft.rules.order_after_ns
    if not draft.disordered or not patience_ns:
        return
    for chain_id, since_ns in draft.disordered.items():
        if since_ns == 0:  # From before this manager.
            draft.disordered[chain_id] = draft.now_ns
    if any(chain.reordering for chain in draft.chains.values()):
        return
    for chain_id in sorted(draft.disordered):
        chain = draft.chains[chain_id]
        if draft.now_ns - draft.disordered[chain_id] >= patience_ns:
            draft.put_chain(replace(chain, reordering=True))
            draft.note("chain goes back to its order", chain=chain_id)
            return


def _followed(draft: Draft, event: Followed) -> None:
    """A process sees the routing of now, and may serve by it."""
    for chain_id in sorted(draft.departed):
        serving = (
            draft.nodes[one.node].incarnation
            for one in draft.chains[chain_id].members
            if one.state is PublicState.SERVING
        )
        if event.incarnation is None or event.incarnation in serving:
            del draft.departed[chain_id]


def _create_namespace(draft: Draft, event: CreateNamespace) -> None:
    if not event.name or len(event.name.encode()) > 255:
        raise InvalidArgument("a namespace's name has 1 to 255 bytes", {"name": event.name[:300]})
    if event.capacity_bytes <= 0:
        raise InvalidArgument("a namespace's capacity is positive", {"name": event.name})
    for one in draft.namespaces.values():
        if one.name == event.name and not one.removed:
            if (one.durability, one.capacity_bytes) != (event.durability, event.capacity_bytes):
                context = {
                    "namespace": one.name,
                    "class": str(one.durability),
                    "capacity_bytes": str(one.capacity_bytes),
                }
                raise NamespaceConflict("", context)
            return
    table = draft.before.table_newest(
        CACHE_TABLE if event.durability is Durability.CACHE else FILE_TABLE
    )
    if table is None:
        raise ClusterNotReady("the chain tables do not exist yet")
    namespace = NamespaceId(max(draft.namespaces, default=0) + 1)
    if namespace > NAMESPACE_ID_MAX:
        raise InvalidArgument("all namespace ids are used", {"name": event.name})
    draft.put_namespace(
        Namespace(
            id=namespace,
            name=event.name,
            durability=event.durability,
            capacity_bytes=event.capacity_bytes,
            table=table.id,
            table_version=table.version,
        )
    )


def _remove_namespace(draft: Draft, event: RemoveNamespace) -> None:
    for one in draft.namespaces.values():
        if one.name == event.name and not one.removed:
            draft.put_namespace(replace(one, removed=True))
            return
    raise NamespaceUnknown("", {"namespace": event.name})


def _is_current(draft: Draft, node: NodeId, incarnation: Incarnation) -> bool:
    """Whether an observation is about the life of the node that counts now."""
    known = draft.nodes.get(node)
    return known is not None and known.alive and known.incarnation == incarnation


def _who(event: Register | Heartbeat) -> dict[str, str]:
    return {"node": str(event.node), "incarnation": str(event.incarnation)}
