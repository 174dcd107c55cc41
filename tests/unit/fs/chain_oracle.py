"""Storage nodes as a model, for the manager's property test: what they hold and may serve.

A node knows the routing that it fetched last and its own lease, nothing else. An update is a
number; it is acknowledged when the head and everybody behind it took it under one chain version,
as the shipping chain does. What a target holds is the set of the updates that it took.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from firepond.fs.errors import FirepondError
from firepond.fs.ids import ChainId, ChainVersion, Incarnation, NodeId, TargetId
from firepond.fs.manager.decide import load
from firepond.fs.manager.events import Followed, Heartbeat, Observed
from firepond.fs.manager.intents import stepping_down
from firepond.fs.manager.model import Chain, LocalState, PublicState, State, TargetReport
from tests.unit.fs.manager_kit import Manager

SERVING, SYNCING = PublicState.SERVING, PublicState.SYNCING
READY, ONLINE, OFFLINE = LocalState.UP_TO_DATE, LocalState.ONLINE, LocalState.OFFLINE


@dataclass
class Replica:
    """One target on its node."""

    generation: int
    holds: set[int] = field(default_factory=set)
    served: bool = False
    local: LocalState = ONLINE
    synced_in: int = 0
    complete_version: int = 0
    lost_version: int = 0


@dataclass
class Process:
    """One storage node."""

    life: Incarnation
    running: bool = True
    lease_end_ns: int = 0
    seen: Mapping[ChainId, Chain] = field(default_factory=dict)
    seen_lives: Mapping[NodeId, Incarnation] = field(default_factory=dict)
    replicas: dict[TargetId, Replica] = field(default_factory=dict)


class Nodes:
    """All storage nodes under one manager."""

    def __init__(self, manager: Manager, nodes: list[NodeId]) -> None:
        self.manager = manager
        self.life = 10_000
        self.update = 0
        self.acknowledged: dict[ChainId, set[int]] = {}
        self.processes = {node: Process(manager.lives[node]) for node in nodes}
        for node in nodes:
            self.make_targets(node)
            self.follow(node)
            self.beat(node)

    @property
    def state(self) -> State:
        """What the manager knows."""
        return self.manager.state

    def make_targets(self, node: NodeId) -> None:
        """What a heartbeat's reply assigns and drops."""
        replicas = self.processes[node].replicas
        for target in self.state.targets.values():
            if target.node == node and target.removed:
                replicas.pop(target.id, None)
            elif target.node == node and target.id not in replicas:
                replicas[target.id] = Replica(target.generation or target.id * 10)

    def follow(self, node: NodeId) -> None:
        """The node fetches routing and acts upon it."""
        process = self.processes[node]
        self.manager.do(Followed(process.life))
        process.seen = self.state.chains
        process.seen_lives = {one.id: one.incarnation for one in self.state.nodes.values()}
        if process.seen_lives.get(node) != process.life:
            return
        for target, replica in process.replicas.items():
            chain, public = self.view(node, target)
            if public is SERVING:
                if replica.local is ONLINE:
                    replica.local, replica.lost_version = READY, 0
                replica.served = replica.served or replica.local is READY
            elif replica.local is OFFLINE:
                replica.local = OFFLINE if public is SYNCING else ONLINE
            elif not (public is SYNCING and chain and replica.synced_in == chain.version):
                replica.local = ONLINE

    def view(self, node: NodeId, target: TargetId) -> tuple[Chain | None, PublicState | None]:
        """A target's chain and state as its node knows them."""
        chain = self.processes[node].seen.get(self.state.targets[target].chain)
        members = chain.members if chain else ()
        return chain, next((one.state for one in members if one.target == target), None)

    def beat(self, node: NodeId) -> None:
        """A heartbeat, or a registration if the manager does not know this life."""
        process = self.processes[node]
        sent_ns = self.manager.now_ns
        try:
            self.manager.do(Heartbeat(node, process.life, tuple(self.reports(node))))
        except FirepondError:
            process.lease_end_ns = 0
            self.register(node)
            self.follow(node)
        process.lease_end_ns = sent_ns + self.manager.state.rules.lease_ns
        for target in stepping_down(self.state, node):
            if process.replicas[target].local is READY:
                process.replicas[target].local = OFFLINE
        self.make_targets(node)

    def reports(self, node: NodeId) -> Iterator[TargetReport]:
        for target, replica in self.processes[node].replicas.items():
            chain, _ = self.view(node, target)
            yield TargetReport(
                target,
                chain.version if chain else ChainVersion(0),
                replica.generation,
                replica.served,
                replica.local,
                ChainVersion(replica.complete_version),
                ChainVersion(replica.lost_version),
            )

    def register(self, node: NodeId) -> None:
        """As the controller does: a new life is proof of the death of the old one."""
        known, process = self.state.nodes[node], self.processes[node]
        if known.alive and known.incarnation != process.life:
            self.observe(node)
        self.manager.register(node, process.life)

    def observe(self, suspect: NodeId) -> None:
        """The controller's probes: everybody who shares a chain with the suspect."""
        gone, answered = [], []
        for node, process in self.processes.items():
            known = self.state.nodes[node]
            lives = process.running and process.life == known.incarnation
            (answered if lives else gone).append((node, known.incarnation))
        assert suspect
        self.manager.do(Observed(gone=tuple(gone), answered=tuple(answered)))

    def crash(self, node: NodeId) -> None:
        process = self.processes[node]
        process.running = False
        process.lease_end_ns = 0

    def start(self, node: NodeId, wipe: bool) -> None:
        self.life += 1
        process = self.processes[node]
        process.life, process.running, process.seen = Incarnation(self.life), True, {}
        for target, replica in process.replicas.items():
            replica.local, replica.synced_in = ONLINE, 0
            if wipe and self.may_be_wiped(target):
                process.replicas[target] = Replica(self.life)

    def may_be_wiped(self, target: TargetId) -> bool:
        """A fault model: the disk of the last replica that is known to be complete is not lost."""
        chain = self.state.chains[self.state.targets[target].chain]
        known = {SERVING, PublicState.LAST_SERVING}
        for member in chain.members:
            other = self.processes[member.node].replicas.get(member.target)
            kept = member.target != target and member.state in known and other is not None
            if kept and other and other.holds >= self.acknowledged.get(chain.id, set()):
                return True
        return False

    def takes_part(self, node: NodeId, chain: Chain, target: TargetId) -> Replica | None:
        """A target that takes updates of a chain in this very version, or None."""
        process = self.processes[node]
        replica = process.replicas.get(target)
        leased = process.running and self.manager.now_ns < process.lease_end_ns
        if replica is None or not leased or process.seen_lives.get(node) != process.life:
            return None
        known, public = self.view(node, target)
        if known is None or known.version != chain.version:
            return None
        takes = (public is SERVING and replica.local is READY) or (
            public is SYNCING and replica.local is not OFFLINE
        )
        return replica if takes else None

    def team(self, chain_id: ChainId, node: NodeId) -> list[tuple[TargetId, Replica]]:
        """All who take an update of the head on this node; empty if it is none or one lacks."""
        chain = self.processes[node].seen.get(chain_id)
        if chain is None or not chain.members or chain.members[0].node != node:
            return []
        active = [one for one in chain.members if one.state in (SERVING, SYNCING)]
        found = []
        for member in active:
            replica = self.takes_part(member.node, chain, member.target)
            if replica is None or chain.members[0].state is not SERVING:
                return []
            found.append((member.target, replica))
        return found

    def write(self, chain: ChainId, node: NodeId) -> bool:
        """A client writes to what it takes for the head; says whether it was acknowledged."""
        team = self.team(chain, node)
        self.update += 1
        for _, replica in team:
            replica.holds.add(self.update)
        if team:
            self.acknowledged.setdefault(chain, set()).add(self.update)
        return bool(team)

    def lose(self, chain: ChainId, node: NodeId) -> None:
        """The head loses an update that the others take and show, and takes itself out."""
        team = self.team(chain, node)
        self.update += 1
        for _, replica in team[1:]:
            replica.holds.add(self.update)
        if len(team) > 1:
            _, head = team[0]
            head.local = OFFLINE
            head.lost_version = head.lost_version or self.processes[node].seen[chain].version

    def sync(self, chain_id: ChainId, node: NodeId) -> None:
        """The last serving target of the head's chain fills the one that syncs."""
        team = self.team(chain_id, node)
        chain = self.processes[node].seen.get(chain_id)
        if not team or chain is None or chain.members[len(team) - 1].state is not SYNCING:
            return
        source, (_, target) = team[-2][1], team[-1]
        target.holds |= source.holds
        target.complete_version = max(target.complete_version, source.complete_version)
        target.served, target.local, target.synced_in = True, READY, chain.version
        target.lost_version = 0

    def note_complete(self, chain_id: ChainId, node: NodeId) -> None:
        """The head tells everybody who serves that all has ended up to now."""
        team = self.team(chain_id, node)
        chain = self.processes[node].seen.get(chain_id)
        for target, replica in team:
            if chain and self.serves(target, chain):
                replica.complete_version = max(replica.complete_version, chain.version)

    @staticmethod
    def serves(target: TargetId, chain: Chain) -> bool:
        return any(one.target == target and one.state is SERVING for one in chain.members)

    def readable(self) -> Iterator[tuple[ChainId, TargetId, Replica]]:
        """Every target that would answer a read now."""
        for node, process in self.processes.items():
            for target, replica in process.replicas.items():
                chain, public = self.view(node, target)
                if chain and public is SERVING and self.takes_part(node, chain, target):
                    yield chain.id, target, replica

    def restart_manager(self) -> None:
        """A new manager has only what was persisted."""
        soft = ("leases", "locals", "doubts", "departed", "disordered", "reports")
        kept = replace(self.state, **{name: {} for name in soft})
        self.manager.state = load(replace(kept, held_chains=frozenset(), tick_ns=0))
