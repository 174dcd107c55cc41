"""What the manager knows, as frozen values.

Owns: the shape of the state. Never: how it changes (`decide`), where it is kept (`store`).
Invariants: every persisted item carries the routing version at which it last changed (`stamp`), so
that "what changed since V" is one comparison, for the store and for followers alike. Soft state
(leases, local states, reports) is never persisted: a new manager learns it again from heartbeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from firepond.fs.ids import (
    ChainId,
    ChainTableId,
    ChainTableVersion,
    ChainVersion,
    Incarnation,
    NamespaceId,
    NodeId,
    RoutingVersion,
    TargetId,
)

FILE_TABLE = ChainTableId(1)
"""The table of file chains, and of KV namespaces of the class durable."""

CACHE_TABLE = ChainTableId(2)
"""The table of one-replica chains for KV namespaces of the class cache."""

NEVER = RoutingVersion(0)
"""Before the first change."""

NEVER_SERVED = ChainVersion(0)
"""Before the first version of a chain."""

RETIRED_KEPT = 16
"""How many earlier incarnations of a node are remembered, to refuse a process that was replaced."""


class PublicState(StrEnum):
    """What a target may do, as the manager decided."""

    SERVING = "serving"
    LAST_SERVING = "last-serving"
    SYNCING = "syncing"
    WAITING = "waiting"
    OFFLINE = "offline"


class LocalState(StrEnum):
    """What is known of a target on its node. UNKNOWN: a new manager has not heard of it yet."""

    UP_TO_DATE = "up-to-date"
    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Durability(StrEnum):
    """How much a chain's acknowledgement promises."""

    DURABLE = "durable"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Node:
    """One role of one process."""

    id: NodeId
    incarnation: Incarnation
    data_address: str
    admin_address: str
    roles: tuple[str, ...]
    alive: bool
    disks: tuple[str, ...] = ()
    retired: tuple[Incarnation, ...] = ()
    stamp: RoutingVersion = NEVER


@dataclass(frozen=True, slots=True)
class Target:
    """A share of a disk. `generation` is None until the node has made it.

    `removed`: no chain has it any more; its node drops the data. Ids are never used again.
    """

    id: TargetId
    chain: ChainId
    node: NodeId
    disk: str
    generation: int | None = None
    removed: bool = False
    stamp: RoutingVersion = NEVER


@dataclass(frozen=True, slots=True)
class Member:
    """A target's place in its chain."""

    target: TargetId
    node: NodeId
    state: PublicState
    served_version: ChainVersion = NEVER_SERVED
    """The newest version of the chain in which it served, with the data that it has now."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A target that is to leave its chain, once `successor` serves if it has one."""

    target: TargetId
    successor: TargetId | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """Targets in order, serving ones first. `newborn`: no replica has ever served."""

    id: ChainId
    version: ChainVersion
    durability: Durability
    members: tuple[Member, ...]
    newborn: bool = True
    served_version: ChainVersion = NEVER_SERVED
    """The newest version with a serving target: updates may have been acknowledged in it."""
    preferred: tuple[TargetId, ...] = ()
    """The order wanted among targets that serve; those not named follow, by id."""
    reordering: bool = False
    """Targets are moved until they stand in the preferred order."""
    leaving: tuple[Leaving, ...] = ()
    stamp: RoutingVersion = NEVER


def served_in(chain: Chain, member: Member) -> ChainVersion:
    """The newest version of its chain in which a member served."""
    serves = member.state is PublicState.SERVING
    return chain.version if serves else member.served_version


@dataclass(frozen=True, slots=True)
class Table:
    """An edition of a chain table; never changed once made."""

    id: ChainTableId
    version: ChainTableVersion
    chains: tuple[ChainId, ...]
    stamp: RoutingVersion = NEVER


@dataclass(frozen=True, slots=True)
class Namespace:
    """A KV namespace. `removed` ones stay as tombstones, as ids are never used again."""

    id: NamespaceId
    name: str
    durability: Durability
    capacity_bytes: int
    table: ChainTableId
    table_version: ChainTableVersion
    removed: bool = False
    stamp: RoutingVersion = NEVER


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a node may serve, on the manager's monotonic clock, counted from receipt."""

    incarnation: Incarnation
    heartbeat_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What a node said of one of its targets."""

    target: TargetId
    chain_version: ChainVersion
    generation: int
    served: bool
    local: LocalState
    complete_version: ChainVersion = NEVER_SERVED
    lost_version: ChainVersion = NEVER_SERVED


@dataclass(frozen=True, slots=True)
class Local:
    """What is known of a target. `replaced`: its disk was wiped or swapped.

    `complete_version`: a chain version up to which it durably has every update, and in which, as a
    member, it gets every other one, too. 0 when nothing is known.
    `lost_version`: the chain version in which it lost an update that others may have; it served
    nothing after that, and has not been synced since. 0 when it lost none.
    """

    state: LocalState
    served: bool = False
    replaced: bool = False
    complete_version: ChainVersion = NEVER_SERVED
    lost_version: ChainVersion = NEVER_SERVED


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings that decisions depend on."""

    lease_ns: int
    heartbeat_ns: int
    margin_ns: int
    replicas: int
    storage_nodes_needed: int
    chains_per_node: int
    resyncs_per_node: int = 4
    order_after_ns: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """All that decisions are made from."""

    rules: Rules
    version: RoutingVersion = NEVER
    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    targets: Mapping[TargetId, Target] = field(default_factory=dict)
    chains: Mapping[ChainId, Chain] = field(default_factory=dict)
    tables: Mapping[tuple[ChainTableId, ChainTableVersion], Table] = field(default_factory=dict)
    namespaces: Mapping[NamespaceId, Namespace] = field(default_factory=dict)
    node_id_next: int = 1
    # Soft from here on.
    leases: Mapping[NodeId, Lease] = field(default_factory=dict)
    locals: Mapping[TargetId, Local] = field(default_factory=dict)
    doubts: Mapping[NodeId, Incarnation] = field(default_factory=dict)
    held_chains: frozenset[ChainId] = frozenset()
    # Targets that left a chain and are as complete as those that stayed: no process that serves
    # the chain since can have seen routing without them.
    departed: Mapping[ChainId, frozenset[TargetId]] = field(default_factory=dict)
    # Chains that are not in their preferred order, and since when they have not changed.
    disordered: Mapping[ChainId, int] = field(default_factory=dict)
    tick_ns: int = 0
    reports: Mapping[NodeId, Mapping[str, Any]] = field(default_factory=dict)

    def chains_of(self, node: NodeId) -> tuple[Chain, ...]:
        """Chains with a target on a node."""
        return tuple(
            chain
            for chain in self.chains.values()
            if any(member.node == node for member in chain.members)
        )

    def storage_nodes(self) -> tuple[Node, ...]:
        """Living storage nodes by id."""
        found = [one for one in self.nodes.values() if one.alive and "storage" in one.roles]
        return tuple(sorted(found, key=lambda one: one.id))

    def table_newest(self, table: ChainTableId) -> Table | None:
        """The newest edition of a table."""
        editions = [one for one in self.tables.values() if one.id == table]
        return max(editions, key=lambda one: one.version, default=None)
