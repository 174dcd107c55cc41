"""Chains against a model of their data: deaths, wiped disks, slow followers, changes asked for.

Goal: whatever happens, nobody who would answer a read lacks an acknowledged update, and when all
come back every chain serves. Method: a Hypothesis state machine over `chain_oracle`, in which each
node follows routing, beats and dies on its own, and managers are restarted.
Oracle: the sets of updates.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firepond.fs.errors import FirepondError
from firepond.fs.ids import ChainId, NodeId
from firepond.fs.manager.events import AddTarget, Event, RemoveTarget, Reorder, ReplaceTarget
from firepond.fs.manager.model import Durability, PublicState
from tests.unit.fs.chain_oracle import Nodes
from tests.unit.fs.manager_kit import ready

NODES = st.integers(1, 4).map(NodeId)
PLACES = st.integers(0, 3)


class Chains(RuleBasedStateMachine):
    """Three nodes with chains, a spare one, and one chain of files that is looked at."""

    @initialize()
    def begin(self) -> None:
        manager, nodes = ready()
        self.nodes = Nodes(manager, [*nodes, *manager.join(1)])
        self.chain = manager.file_chain().id
        self.rounds(2)

    def head(self, chain: ChainId) -> NodeId:
        return self.nodes.state.chains[chain].members[0].node

    def ask(self, event: Event) -> None:
        try:
            self.nodes.manager.do(event)
        except FirepondError:
            return  # Refused in plain words, which other tests look at.

    @rule(node=NODES, noticed=st.booleans())
    def die(self, node: NodeId, noticed: bool) -> None:
        self.nodes.crash(node)
        if noticed:
            self.nodes.observe(node)

    @rule(nodes=st.permutations(list(range(1, 5))), writes=st.booleans(), follows=st.booleans())
    def die_in_order(self, nodes: list[int], writes: bool, follows: bool) -> None:
        """One after the other, each noticed; between deaths the others may go on, or not."""
        for one in nodes:
            node = NodeId(one)
            self.nodes.crash(node)
            self.nodes.observe(node)
            for other, process in self.nodes.processes.items():
                if follows and process.running:
                    self.nodes.follow(other)
            if writes:
                self.nodes.write(self.chain, self.head(self.chain))

    @rule(node=NODES, wipe=st.booleans(), heard=st.booleans())
    def start(self, node: NodeId, wipe: bool, heard: bool) -> None:
        if self.nodes.processes[node].running:
            return
        self.nodes.start(node, wipe)
        if heard:
            for _ in range(2):
                self.nodes.follow(node)
                self.nodes.beat(node)

    @rule(node=NODES, what=st.sampled_from(["follow", "beat", "write", "lose", "sync", "complete"]))
    def act(self, node: NodeId, what: str) -> None:
        if not self.nodes.processes[node].running:
            return
        match what:
            case "follow":
                self.nodes.follow(node)
            case "beat":
                self.nodes.beat(node)
            case "write":
                self.nodes.write(self.chain, node)
            case "lose":
                self.nodes.lose(self.chain, node)
            case "sync":
                self.nodes.sync(self.chain, node)
            case "complete":
                self.nodes.note_complete(self.chain, node)

    @rule(milliseconds=st.sampled_from([100, 1500, 3000]))
    def time_passes(self, milliseconds: int) -> None:
        self.nodes.manager.pass_ms(milliseconds)

    @rule(silent=NODES, steps=st.integers(1, 6), beats=st.booleans())
    def go_on_without(self, silent: NodeId, steps: int, beats: bool) -> None:
        """One node hears nothing, and perhaps says nothing; the others work on."""
        for _ in range(steps):
            for node, process in self.nodes.processes.items():
                if process.running and node != silent:
                    self.nodes.follow(node)
                    self.nodes.beat(node)
            self.nodes.write(self.chain, self.head(self.chain))
            self.who_would_answer_has_all()
            if beats and self.nodes.processes[silent].running:
                self.nodes.beat(silent)
            self.nodes.manager.pass_ms(500)

    @rule()
    def restart_manager(self) -> None:
        self.nodes.restart_manager()

    @rule(what=st.sampled_from(["add", "remove", "replace", "reorder"]), place=PLACES, node=NODES)
    def change(self, what: str, place: int, node: NodeId) -> None:
        """A change is asked for, and the node of one of the targets hears of it late."""
        members = self.nodes.state.chains[self.chain].members
        targets = [one.target for one in members]
        place %= len(targets)
        events: dict[str, Event] = {
            "add": AddTarget(self.chain, node),
            "remove": RemoveTarget(self.chain, targets[place]),
            "replace": ReplaceTarget(self.chain, targets[place], node),
            "reorder": Reorder(self.chain, (*targets[place:], *targets[:place])),
        }
        self.ask(events[what])
        self.go_on_without(members[place].node, 2, False)

    @rule(count=st.integers(1, 2))
    def rounds(self, count: int) -> None:
        """All who live follow, beat and write, as they do when nothing is wrong."""
        for _ in range(count):
            self.nodes.manager.pass_ms(100)
            for node, process in self.nodes.processes.items():
                if process.running:
                    self.nodes.follow(node)
                    self.nodes.beat(node)
            for chain in self.nodes.state.chains:
                self.nodes.sync(chain, self.head(chain))
                self.nodes.write(chain, self.head(chain))

    @rule()
    def everybody_comes_back(self) -> None:
        """All processes run, undamaged: every chain of files serves whole, and takes writes."""
        for node, process in self.nodes.processes.items():
            if not process.running:
                self.nodes.start(node, False)
        self.rounds(40)
        chain = self.nodes.state.chains[self.chain]
        assert chain.durability is Durability.DURABLE
        assert {one.state for one in chain.members} == {PublicState.SERVING}, chain
        assert not chain.leaving and not chain.reordering, chain
        assert self.nodes.write(self.chain, self.head(self.chain)), chain

    @invariant()
    def who_would_answer_has_all(self) -> None:
        for chain, target, replica in self.nodes.readable():
            missing = self.nodes.acknowledged.get(chain, set()) - replica.holds
            durable = self.nodes.state.chains[chain].durability is Durability.DURABLE
            assert not (missing and durable), (target, self.nodes.state.chains[chain])

    @invariant()
    def only_removed_targets_are_dropped(self) -> None:
        for chain in self.nodes.state.chains.values():
            for member in chain.members:
                assert not self.nodes.state.targets[member.target].removed


Chains.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True
)
TestChains = Chains.TestCase
