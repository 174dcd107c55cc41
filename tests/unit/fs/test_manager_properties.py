"""Random lives and deaths of nodes: what must hold after every single decision.

Goal: no sequence of events breaks a chain. Method: a Hypothesis state machine that plays engines
which are honest but slow: they crash, freeze, lose disks, report late. It keeps, for each chain,
which targets really are complete: those that served when the last change was made.
Oracle: the invariants below, after each step.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from firepond.fs.errors import FirepondError
from firepond.fs.ids import ChainId, NodeId, TargetId
from firepond.fs.manager.events import Followed, Heartbeat, Observed
from firepond.fs.manager.model import Durability, LocalState, PublicState, TargetReport
from tests.unit.fs.manager_kit import ready

NODES = st.integers(1, 3).map(NodeId)


class Cluster(RuleBasedStateMachine):
    """Three storage nodes and a manager."""

    @initialize()
    def begin(self) -> None:
        self.manager, self.nodes = ready()
        self.life = 10_000
        self.dead: set[NodeId] = set()
        self.generation = {target: target * 10 for target in self.manager.state.targets}
        self.complete: dict[ChainId, set[TargetId]] = {}
        self.versions: dict[ChainId, int] = {}
        self.routing = 0
        self.local = dict.fromkeys(self.manager.state.targets, LocalState.UP_TO_DATE)
        self.served = set(self.manager.state.targets)
        self.synced: set[TargetId] = set()
        self.learn()

    def learn(self) -> None:
        """Who serves now must have been complete, and is the only one that will stay so.

        Here every process follows routing at once; `test_chain_model` has those that do not.
        """
        for node in self.nodes:
            if node not in self.dead:
                self.manager.do(Followed(self.manager.lives[node]))
        for chain in self.manager.state.chains.values():
            serving = {one.target for one in chain.members if one.state is PublicState.SERVING}
            if not serving:
                continue
            if chain.durability is Durability.DURABLE:
                known = self.complete.get(chain.id, serving) | self.synced
                assert serving <= known, f"{chain} is served by an incomplete target"
            # From now on writes are acknowledged by these alone.
            self.complete[chain.id] = serving
            self.synced -= serving

    def engine(self, node: NodeId) -> None:
        """What the engine of a node makes of its targets' public states."""
        for target in self.manager.state.targets.values():
            if target.node != node:
                continue
            state = self.manager.state_of(target.id)
            was = self.local[target.id]
            if state is PublicState.SERVING:
                self.local[target.id] = LocalState.UP_TO_DATE
                self.served.add(target.id)
            elif state is not PublicState.SYNCING or was is not LocalState.UP_TO_DATE:
                self.local[target.id] = LocalState.ONLINE
                self.synced.discard(target.id)

    def beat(self, node: NodeId) -> None:
        state = self.manager.state
        reports = tuple(
            TargetReport(
                target.id,
                state.chains[target.chain].version,
                self.generation[target.id],
                target.id in self.served,
                self.local[target.id],
            )
            for target in state.targets.values()
            if target.node == node
        )
        self.manager.do(Heartbeat(node, self.manager.lives[node], reports))
        self.learn()

    @rule(node=NODES)
    def crash(self, node: NodeId) -> None:
        self.dead.add(node)

    @rule()
    def power_cut(self) -> None:
        self.dead.update(self.nodes)

    @rule(node=NODES, wipe=st.booleans())
    def start(self, node: NodeId, wipe: bool) -> None:
        if node not in self.dead:
            return
        # As the controller does: the new life is proof that the old one is gone, and everybody who
        # shares a chain with it is probed before the decision.
        self.probe(node)
        self.dead.discard(node)
        self.life += 1
        self.manager.register(node, self.life)
        for target in self.manager.state.targets.values():
            if target.node == node:
                self.local[target.id] = LocalState.ONLINE
                if wipe and self.may_be_wiped(target.id):
                    self.generation[target.id] = self.life
                    self.served.discard(target.id)
                    self.synced.discard(target.id)
                    for members in self.complete.values():
                        members.discard(target.id)
        self.learn()

    def is_up(self, node: NodeId) -> bool:
        return node not in self.dead and self.manager.state.nodes[node].alive

    def may_be_wiped(self, target: TargetId) -> bool:
        """A fault model: the last complete replica is not lost by its disk."""
        chain = self.manager.state.targets[target].chain
        return self.complete[chain] != {target}

    @rule(node=NODES)
    def probe(self, node: NodeId) -> None:
        lives = self.manager.lives
        gone = tuple((one, lives[one]) for one in self.nodes if one in self.dead)
        answered = tuple((one, lives[one]) for one in self.nodes if one not in self.dead)
        if node in self.dead:
            self.manager.do(Observed(gone=gone, answered=answered))
        self.learn()

    @rule(node=NODES, fresh=st.booleans())
    def heartbeat(self, node: NodeId, fresh: bool) -> None:
        if node in self.dead:
            return
        if fresh:
            self.engine(node)
        try:
            self.beat(node)
        except FirepondError:
            self.manager.register(node)

    @rule(node=NODES)
    def resync_done(self, node: NodeId) -> None:
        if node in self.dead or not self.manager.state.nodes[node].alive:
            return
        self.engine(node)
        for target in self.manager.state.targets.values():
            targets = self.manager.state.targets
            source = [one for one in self.complete[target.chain] if self.is_up(targets[one].node)]
            syncing = self.manager.state_of(target.id) is PublicState.SYNCING
            if target.node == node and syncing and source:
                self.local[target.id] = LocalState.UP_TO_DATE
                self.synced.add(target.id)
                self.served.add(target.id)
        self.beat(node)

    @rule(milliseconds=st.sampled_from([100, 500, 1000, 3000]))
    def time_passes(self, milliseconds: int) -> None:
        self.manager.pass_ms(milliseconds)
        self.learn()

    @precondition(lambda self: self.dead)
    @rule()
    def everybody_comes_back(self) -> None:
        """All processes start, undamaged; then every durable chain must serve again."""
        for node in self.nodes:
            if node in self.dead:
                self.start(node, False)
        for _ in range(12):
            for node in self.nodes:
                if not self.manager.state.nodes[node].alive:
                    self.manager.register(node)
                self.engine(node)
                self.resync_done(node)
            self.manager.pass_ms(500)
        for chain in self.manager.state.chains.values():
            states = {member.state for member in chain.members}
            assert states == {PublicState.SERVING}, (chain, self.complete[chain.id])

    @invariant()
    def one_syncs_and_order_holds(self) -> None:
        order = list(PublicState)
        for chain in self.manager.state.chains.values():
            states = [member.state for member in chain.members]
            assert states.count(PublicState.SYNCING) <= 1
            assert states == sorted(states, key=order.index)

    @invariant()
    def versions_only_grow(self) -> None:
        assert self.manager.state.version >= self.routing
        self.routing = self.manager.state.version
        for chain in self.manager.state.chains.values():
            assert chain.version >= self.versions.get(chain.id, 0)
            self.versions[chain.id] = chain.version

    @invariant()
    def a_complete_replica_serves_or_is_remembered(self) -> None:
        """The last complete replica of a chain is never forgotten."""
        for chain in self.manager.state.chains.values():
            if chain.durability is Durability.CACHE:
                continue
            states = {one.target: one.state for one in chain.members}
            kept = {PublicState.SERVING, PublicState.LAST_SERVING}
            if self.complete[chain.id]:
                assert any(states[one] in kept for one in self.complete[chain.id]), chain


Cluster.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
)
TestCluster = Cluster.TestCase
