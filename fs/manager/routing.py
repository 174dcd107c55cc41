"""Routing information as followers get it: MessagePack, whole or what changed since a version.

Owns: the exact shape that the native side decodes (`fs/native/core/src/routing.rs`): field names
and kebab-case states. A delta has the same lists with the changed items only, plus `removed`.
"""

from __future__ import annotations

from typing import Any

import msgpack

from firepond.fs.ids import RoutingVersion
from firepond.fs.manager.model import Chain, Namespace, Node, State, Table

NONE = RoutingVersion(0)


def encode(state: State, since: RoutingVersion = NONE) -> bytes:
    """What changed after `since`; everything when that is 0 or not one of our versions."""
    full = since == 0 or since > state.version
    begin = NONE if full else since
    namespaces = [one for one in state.namespaces.values() if one.stamp > begin]
    message = {
        "version": state.version,
        "full": full,
        "lease_ms": state.rules.lease_ns // 1_000_000,
        "nodes": [_node(one) for one in state.nodes.values() if one.stamp > begin],
        "chains": [_chain(one) for one in state.chains.values() if one.stamp > begin],
        "tables": [_table(one) for one in state.tables.values() if one.stamp > begin],
        "namespaces": [_namespace(one) for one in namespaces if not one.removed],
        "removed": {"namespaces": [one.id for one in namespaces if one.removed]},
    }
    encoded: bytes = msgpack.packb(message)
    return encoded


def namespace_info(namespace: Namespace) -> dict[str, Any]:
    """A namespace as clients see it."""
    return _namespace(namespace)


def _node(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "data_address": node.data_address,
        "admin_address": node.admin_address,
        "roles": list(node.roles),
        "incarnation": node.incarnation,
        "alive": node.alive,
    }


def _chain(chain: Chain) -> dict[str, Any]:
    return {
        "id": chain.id,
        "version": chain.version,
        "durability": str(chain.durability),
        "targets": [
            {"target": one.target, "node": one.node, "state": str(one.state)}
            for one in chain.members
        ],
    }


def _table(table: Table) -> dict[str, Any]:
    return {"id": table.id, "version": table.version, "chains": list(table.chains)}


def _namespace(namespace: Namespace) -> dict[str, Any]:
    return {
        "id": namespace.id,
        "name": namespace.name,
        "table": namespace.table,
        "table_version": namespace.table_version,
        "class": str(namespace.durability),
        "capacity_bytes": namespace.capacity_bytes,
    }
