"""The cluster as `GET /v1/status` shows it: for people and for monitoring, never for decisions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from firepond.fs.ids import Term
from firepond.fs.manager.intents import in_order
from firepond.fs.manager.model import Chain, Durability, Node, PublicState, State
from firepond.fs.manager.progress import resync_progress
from firepond.fs.manager.routing import namespace_info


def cluster_status(state: State, term: Term, now_ns: int, unix_time_ms: int) -> dict[str, Any]:
    """Everything there is to see, as plain values."""
    reported = _rows(state)
    waiting_for = _waiting_for(state)
    return {
        "term": term,
        "version": state.version,
        "lease_ms": state.rules.lease_ns // 1_000_000,
        "ready": waiting_for is None,
        "waiting_for": waiting_for,
        "nodes": [_node(state, state.nodes[node], now_ns) for node in sorted(state.nodes)],
        "chains": [_chain(state, chain, reported, unix_time_ms) for chain in state.chains.values()],
        "tables": [
            {"id": table.id, "version": table.version, "chains": list(table.chains)}
            for table in state.tables.values()
        ],
        "namespaces": [namespace_info(one) for one in state.namespaces.values() if not one.removed],
        "target_states": dict(
            Counter(str(one.state) for chain in state.chains.values() for one in chain.members)
        ),
    }


def chain_info(state: State, chain: Chain, unix_time_ms: int) -> dict[str, Any]:
    """One chain: its targets in order, what they say, and what is under way."""
    return _chain(state, chain, _rows(state), unix_time_ms)


def _rows(state: State) -> dict[int, dict[str, Any]]:
    """What each target last said, by target."""
    reports = state.reports.values()
    return {row["target"]: row for report in reports for row in report.get("targets", ())}


def _waiting_for(state: State) -> str | None:
    """Why the cluster is not ready, in words; None when all files can be used.

    A cache chain whose only replica is away makes no difference: its values are misses until then.
    """
    if not state.tables:
        have, need = len(state.storage_nodes()), state.rules.storage_nodes_needed
        return f"{need - have} more storage nodes ({have} of {need} have registered)"
    if not any(node.alive and "meta" in node.roles for node in state.nodes.values()):
        return "a metadata server"
    down = [
        chain.id
        for chain in state.chains.values()
        if chain.durability is Durability.DURABLE
        and not any(one.state is PublicState.SERVING for one in chain.members)
    ]
    return f"{len(down)} chains that have no serving target" if down else None


def _node(state: State, node: Node, now_ns: int) -> dict[str, Any]:
    lease = state.leases.get(node.id)
    report = state.reports.get(node.id, {})
    return {
        "id": node.id,
        "roles": list(node.roles),
        "alive": node.alive,
        "incarnation": node.incarnation,
        "data_address": node.data_address,
        "admin_address": node.admin_address,
        "heartbeat_age_ms": (now_ns - lease.heartbeat_ns) // 1_000_000 if lease else None,
        "routing_version": report.get("routing_version"),
        "disks": report.get("disks") or [{"path": disk} for disk in node.disks],
        "meta": report.get("meta", {}),
    }


def _chain(
    state: State, chain: Chain, reported: dict[int, dict[str, Any]], unix_time_ms: int
) -> dict[str, Any]:
    targets = []
    for member in chain.members:
        row = reported.get(member.target, {})
        local = state.locals.get(member.target)
        resync = row.get("resync")
        targets.append(
            {
                "target": member.target,
                "node": member.node,
                "state": str(member.state),
                "local_state": str(local.state) if local else "unknown",
                "disk": state.targets[member.target].disk,
                "used_bytes": row.get("used_bytes", 0),
                "chunk_count": row.get("chunk_count", 0),
                "namespaces": row.get("namespaces", []),
                "complete_through": row.get("complete_through", 0),
                "lost_version": row.get("lost_version", 0),
                "resync": resync_progress(resync, unix_time_ms) if resync else None,
                "scrub": row.get("scrub"),
                "full": row.get("full", False),
            }
        )
    return {
        "id": chain.id,
        "version": chain.version,
        "durability": str(chain.durability),
        "held": chain.id in state.held_chains,
        "preferred": [one.target for one in in_order(chain)],
        "reordering": chain.reordering,
        "leaving": [{"target": one.target, "successor": one.successor} for one in chain.leaving],
        "targets": targets,
    }
