"""What the manager's tests share: rules, events in one line, a store in memory."""

from __future__ import annotations

from firepond.fs.errors import TransactionConflict
from firepond.fs.ids import ChainVersion, Incarnation, NodeId, TargetId
from firepond.fs.manager.decide import decide
from firepond.fs.manager.events import (
    AllocateNodeId,
    Event,
    Heartbeat,
    Observed,
    Register,
    Tick,
)
from firepond.fs.manager.intents import stepping_down
from firepond.fs.manager.model import (
    Chain,
    Durability,
    LocalState,
    PublicState,
    Rules,
    State,
    TargetReport,
)

MILLISECOND = 1_000_000
RULES = Rules(
    lease_ns=2000 * MILLISECOND,
    heartbeat_ns=500 * MILLISECOND,
    margin_ns=200 * MILLISECOND,
    replicas=3,
    storage_nodes_needed=3,
    chains_per_node=1,
)


class Manager:
    """A manager without clock, network and disk: the decisions alone."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.state = State(rules=rules)
        self.now_ns = 1_000 * MILLISECOND
        self.lives: dict[NodeId, Incarnation] = {}

    def do(self, event: Event) -> None:
        """Decides one event at the present time; a chain gets one new version at most."""
        before = self.state.chains
        self.state, _ = decide(self.state, event, self.now_ns)
        for chain in self.state.chains.values():
            assert chain.version - before.get(chain.id, chain).version in (0, 1), chain

    def pass_ms(self, milliseconds: int) -> None:
        """Lets time pass in ticks of 100 ms."""
        for _ in range(milliseconds // 100):
            self.now_ns += 100 * MILLISECOND
            self.do(Tick())

    def register(self, node: NodeId, incarnation: int | None = None, role: str = "storage") -> None:
        """A new life of a node, or the present one again."""
        life = Incarnation(incarnation or self.lives.get(node, Incarnation(node * 1000)))
        self.lives[node] = life
        known = self.state.nodes.get(node)
        if known and known.alive and life not in (known.incarnation, *known.retired):
            self.do(Observed(gone=((node, known.incarnation),)))
        disks = ("/disk",) if role == "storage" else ()
        address = f"host:{node}"
        self.do(Register(node, life, address, address, (role,), disks))

    def join(self, count: int) -> list[NodeId]:
        """New storage nodes."""
        nodes = []
        for _ in range(count):
            node = NodeId(self.state.node_id_next)
            self.do(AllocateNodeId())
            self.register(node)
            nodes.append(node)
        return nodes

    def beat(
        self,
        node: NodeId,
        local: LocalState | None = None,
        served: bool = True,
        generation: int = 0,
        version_offset: int = 0,
        lost_version: int = 0,
    ) -> None:
        """A heartbeat; without `local` an engine's honest answer to the public state."""
        reports = []
        asked = set(stepping_down(self.state, node))
        for target in self.state.targets.values():
            if target.node == node and not target.removed:
                chain = self.state.chains[target.chain]
                state = local or honest(self.state_of(target.id))
                if target.id in asked:
                    state = LocalState.OFFLINE
                version = ChainVersion(chain.version + version_offset)
                made = generation or target.id * 10
                lost = ChainVersion(lost_version)
                report = TargetReport(target.id, version, made, served, state, lost_version=lost)
                reports.append(report)
        self.do(Heartbeat(node, self.lives[node], tuple(reports)))

    def settle(self, nodes: list[NodeId]) -> None:
        """Honest heartbeats until nothing changes; syncing targets finish."""
        for _ in range(20):
            before = self.state.version
            for node in nodes:
                for target in self.state.targets.values():
                    if target.removed:
                        continue
                    if target.node == node and self.state_of(target.id) is PublicState.SYNCING:
                        self.finish_sync(target.id)
                self.beat(node)
            if self.state.version == before:
                return
        raise AssertionError("the cluster does not settle")

    def finish_sync(self, target_id: TargetId) -> None:
        """The target's engine got `ResyncDone`."""
        target = self.state.targets[target_id]
        report = TargetReport(
            target_id,
            self.state.chains[target.chain].version,
            target.generation or 0,
            True,
            LocalState.UP_TO_DATE,
        )
        self.do(Heartbeat(target.node, self.lives[target.node], (report,)))

    def state_of(self, target: TargetId) -> PublicState:
        """A target's public state."""
        chain = self.state.chains[self.state.targets[target].chain]
        return next(one.state for one in chain.members if one.target == target)

    def file_chain(self) -> Chain:
        """The first chain of files."""
        chains = self.state.chains.values()
        return next(one for one in chains if one.durability is Durability.DURABLE)

    def states(self) -> list[str]:
        """The states of the first chain of files, in its order."""
        return [str(one.state) for one in self.file_chain().members]


def honest(state: PublicState) -> LocalState:
    """What an engine reports of a target in a public state, once it has acted upon it."""
    return LocalState.UP_TO_DATE if state is PublicState.SERVING else LocalState.ONLINE


def ready(count: int = 3, rules: Rules = RULES) -> tuple[Manager, list[NodeId]]:
    """A manager with storage nodes whose chains all serve."""
    manager = Manager(rules)
    nodes = manager.join(count)
    for node in nodes:
        manager.beat(node, LocalState.ONLINE, served=False)
    manager.settle(nodes)
    return manager, nodes


class FakeKv:
    """A transactional store in memory: whole-store optimistic concurrency."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.commits = 0

    def begin(self) -> FakeTransaction:
        return FakeTransaction(self)

    def close(self) -> None:
        pass


class FakeTransaction:
    """See `FakeKv`."""

    def __init__(self, kv: FakeKv) -> None:
        self.kv = kv
        self.pairs = dict(kv.pairs)
        self.begun_at = kv.commits

    def get(self, key: bytes) -> bytes | None:
        return self.pairs.get(key)

    def range(
        self, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        found = sorted(pair for pair in self.pairs.items() if start <= pair[0] < end)
        return (found[::-1] if reverse else found)[:limit]

    def set(self, key: bytes, value: bytes) -> None:
        self.pairs[key] = value

    def commit(self) -> int:
        if self.kv.commits != self.begun_at:
            raise TransactionConflict()
        self.kv.pairs = self.pairs
        self.kv.commits += 1
        return self.kv.commits
