"""Which chains exist, and which node and disk each of their targets is on.

Table 1 has chains of R replicas on distinct nodes, each node at the head of the same number of
them; table 2 has one-replica chains over all nodes. Several chains a node (4 unless set) so that
the load of a dead node falls on many others and that a node resyncs as several streams; not more,
as each chain is a target to open, to report and to resync on every replica.
Why greedy: it spreads pairs evenly enough for tens of nodes, and is deterministic. Nodes that come
later get chains in a new edition of the table; earlier layouts keep the edition they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from firepond.fs.errors import ClusterNotReady, InvalidArgument
from firepond.fs.ids import ChainId, ChainTableId, ChainTableVersion, ChainVersion, NodeId, TargetId
from firepond.fs.manager.draft import Draft
from firepond.fs.manager.model import (
    CACHE_TABLE,
    FILE_TABLE,
    Chain,
    Durability,
    Member,
    Node,
    PublicState,
    Table,
    Target,
)


def create_tables(draft: Draft) -> bool:
    """Makes the first edition of both tables once enough storage nodes live; says whether."""
    if draft.tables:
        return False
    nodes = _storage_nodes(draft)
    if len(nodes) < draft.rules.storage_nodes_needed:
        return False
    _add_edition(draft, FILE_TABLE, nodes, nodes, draft.rules.replicas)
    _add_edition(draft, CACHE_TABLE, nodes, nodes, 1)
    draft.note("chain tables created", nodes=len(nodes), chains=len(draft.chains))
    return True


def extend_tables(draft: Draft) -> None:
    """Makes new editions that also have chains on the storage nodes that have none yet."""
    if not draft.tables:
        raise ClusterNotReady("the first chain tables do not exist yet")
    nodes = _storage_nodes(draft)
    used = {target.node for target in draft.targets.values() if not target.removed}
    fresh = [node for node in nodes if node.id not in used]
    if not fresh:
        raise InvalidArgument("every living storage node has chains already")
    _add_edition(draft, FILE_TABLE, fresh, nodes, draft.rules.replicas)
    _add_edition(draft, CACHE_TABLE, fresh, fresh, 1)
    draft.note("chain tables extended", nodes=[node.id for node in fresh])


def _storage_nodes(draft: Draft) -> list[Node]:
    found = (one for one in draft.nodes.values() if one.alive and one.disks)
    return sorted((one for one in found if "storage" in one.roles), key=lambda one: one.id)


def _add_edition(
    draft: Draft, table: ChainTableId, heads: Sequence[Node], nodes: Sequence[Node], replicas: int
) -> None:
    if len(nodes) < replicas:
        raise ClusterNotReady(
            "fewer storage nodes than replicas",
            {"storage_nodes": str(len(nodes)), "replicas": str(replicas)},
        )
    durability = Durability.DURABLE if table == FILE_TABLE else Durability.CACHE
    editions = [one for one in draft.tables.values() if one.id == table]
    newest = max(editions, key=lambda one: one.version, default=None)
    groups = _Balance(draft.chains.values()).groups(
        [head.id for head in heads] * draft.rules.chains_per_node,
        [node.id for node in nodes],
        replicas,
    )
    made = tuple(_add_chain(draft, durability, group) for group in groups)
    version = ChainTableVersion(newest.version + 1 if newest else 1)
    draft.put_table(Table(table, version, (newest.chains if newest else ()) + made))


def _add_chain(draft: Draft, durability: Durability, group: Sequence[NodeId]) -> ChainId:
    chain = ChainId(max(draft.chains, default=0) + 1)
    members = []
    for node in group:
        target = TargetId(max(draft.targets, default=0) + 1)
        draft.put_target(Target(target, chain, node, emptiest_disk(draft, node)))
        members.append(Member(target, node, PublicState.OFFLINE))
    draft.put_chain(Chain(chain, ChainVersion(1), durability, tuple(members)))
    return chain


def emptiest_disk(draft: Draft, node: NodeId) -> str:
    """The disk of a node with the fewest targets."""
    disks = draft.nodes[node].disks
    there = (one for one in draft.targets.values() if one.node == node and not one.removed)
    load = Counter(one.disk for one in there)
    return min(disks, key=lambda disk: (load[disk], disks.index(disk)))


class _Balance:
    """Counts how often nodes and pairs of nodes are used, and picks the least used next."""

    def __init__(self, chains: Iterable[Chain]) -> None:
        self.pairs: Counter[tuple[NodeId, NodeId]] = Counter()
        self.loads: Counter[NodeId] = Counter()
        self.places: Counter[tuple[NodeId, int]] = Counter()
        for chain in chains:
            self._count([member.node for member in chain.members])

    def groups(
        self, heads: Sequence[NodeId], nodes: Sequence[NodeId], replicas: int
    ) -> list[list[NodeId]]:
        """One group of distinct nodes for each head, the head first."""
        found = []
        for head in heads:
            group = [head]
            while len(group) < replicas:
                group.append(self._next(group, nodes))
            assert len(set(group)) == replicas, "one target of a chain per node"
            self._count(group)
            found.append(group)
        return found

    def _next(self, group: Sequence[NodeId], nodes: Sequence[NodeId]) -> NodeId:
        def cost(node: NodeId) -> tuple[int, int, int, NodeId]:
            met = sum(self.pairs[min(node, one), max(node, one)] for one in group)
            return met, self.loads[node], self.places[node, len(group)], node

        return min((node for node in nodes if node not in group), key=cost)

    def _count(self, group: Sequence[NodeId]) -> None:
        self.loads.update(group)
        self.pairs.update((min(pair), max(pair)) for pair in combinations(group, 2))
        self.places.update((node, place) for place, node in enumerate(group))
