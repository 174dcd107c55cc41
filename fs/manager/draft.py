"""A decision in the making: a copy of the state that one decision may change.

Owns: stamping (every change of a persisted item carries the next routing version), eviction, and
the evaluation of chains. Never: which event does what (`decide`).
Invariants: the version grows by one if and only if a persisted item changed; that of a chain by one
at most, however often it is evaluated, as nobody sees what is in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from firepond.fs.ids import ChainId, ChainVersion, Incarnation, NodeId, RoutingVersion, TargetId
from firepond.fs.manager import intents, transitions
from firepond.fs.manager.events import Action, Note
from firepond.fs.manager.model import (
    NEVER_SERVED,
    Chain,
    Lease,
    Local,
    LocalState,
    Member,
    Namespace,
    Node,
    PublicState,
    State,
    Table,
    Target,
    served_in,
)


class Draft:
    """One decision. Read and write its attributes, then take `finish()`."""

    def __init__(self, state: State, now_ns: int) -> None:
        self.before = state
        self.rules = state.rules
        self.now_ns = now_ns
        self.stamp = RoutingVersion(state.version + 1)
        self.nodes = dict(state.nodes)
        self.targets = dict(state.targets)
        self.chains = dict(state.chains)
        self.tables = dict(state.tables)
        self.namespaces = dict(state.namespaces)
        self.node_id_next = state.node_id_next
        self.leases = dict(state.leases)
        self.locals = dict(state.locals)
        self.doubts = dict(state.doubts)
        self.held_chains = set(state.held_chains)
        self.departed = dict(state.departed)
        self.disordered = dict(state.disordered)
        self.reports = dict(state.reports)
        self.tick_ns = state.tick_ns
        self.actions: list[Action] = []
        self._changed = False
        self._to_evaluate: set[ChainId] = set()
        self._emptied: set[TargetId] = set()

    def note(self, event: str, **fields: Any) -> None:
        """Asks for a log line."""
        self.actions.append(Note(event, fields))

    def put_node(self, node: Node) -> None:
        """Stores a changed node."""
        self.nodes[node.id] = replace(node, stamp=self.stamp)
        self._changed = True

    def put_target(self, target: Target) -> None:
        """Stores a new or changed target."""
        self.targets[target.id] = replace(target, stamp=self.stamp)
        self._changed = True

    def put_chain(self, chain: Chain) -> None:
        """Stores a new or changed chain."""
        served = self._served(chain)
        members = tuple(replace(one, served_version=version) for one, version in served)
        self.chains[chain.id] = replace(chain, members=members, stamp=self.stamp)
        self._changed = True

    def _served(self, chain: Chain) -> Iterator[tuple[Member, ChainVersion]]:
        """When each member served last, as far as anybody could see: not inside this decision."""
        before = self.before.chains.get(chain.id)
        known = {one.target: served_in(before, one) for one in before.members} if before else {}
        for member in chain.members:
            if member.state is PublicState.SERVING:
                yield member, chain.version
            elif member.target in self._emptied:
                yield member, NEVER_SERVED
            else:
                yield member, known.get(member.target, NEVER_SERVED)

    def drop_target(self, target: TargetId) -> None:
        """A target that left its chain: its node removes it."""
        self.put_target(replace(self.targets[target], removed=True))
        self.locals.pop(target, None)

    def put_table(self, table: Table) -> None:
        """Stores a new edition of a table."""
        assert (table.id, table.version) not in self.tables, "an edition never changes"
        self.tables[table.id, table.version] = replace(table, stamp=self.stamp)
        self._changed = True

    def put_namespace(self, namespace: Namespace) -> None:
        """Stores a new or removed namespace."""
        self.namespaces[namespace.id] = replace(namespace, stamp=self.stamp)
        self._changed = True

    def take_node_id(self) -> NodeId:
        """An id that was never used."""
        node = NodeId(self.node_id_next)
        self.node_id_next += 1
        self._changed = True
        return node

    def renew_lease(self, node: NodeId, incarnation: Incarnation) -> None:
        """The node was heard of now."""
        self.leases[node] = Lease(incarnation, self.now_ns, self.now_ns + self.rules.lease_ns)
        if self.doubts.pop(node, None) is not None:
            self._to_evaluate |= self.held_chains

    def doubt(self, node: NodeId, incarnation: Incarnation) -> None:
        """The node does not answer, and its lease still runs."""
        self.doubts[node] = incarnation

    def trust(self, node: NodeId) -> None:
        """The node answered a probe. Its lease is not renewed: only a heartbeat does that."""
        if self.doubts.pop(node, None) is not None:
            self._to_evaluate |= self.held_chains

    def set_local(self, target: TargetId, local: Local) -> None:
        """Takes a report, or the lack of one, and has the target's chain evaluated."""
        if self.locals.get(target) != local:
            self.locals[target] = local
            self._to_evaluate.add(self.targets[target].chain)

    def lose_targets(self, node: NodeId) -> None:
        """All targets of a node count as offline from now on."""
        for target in self.targets.values():
            if target.node == node and not target.removed:
                heard = self.locals.get(target.id, Local(LocalState.UNKNOWN))
                away = Local(LocalState.OFFLINE, heard.served, lost_version=heard.lost_version)
                self.set_local(target.id, away)

    def evict(self, node: NodeId, reason: str) -> None:
        """The node is gone, or must believe itself that it is."""
        record = self.nodes[node]
        assert record.alive, "only a living node is evicted"
        self.put_node(replace(record, alive=False))
        self.leases.pop(node, None)
        self.doubts.pop(node, None)
        self._to_evaluate |= self.held_chains
        self.lose_targets(node)
        self.note("node evicted", node=node, incarnation=record.incarnation, reason=reason)

    def evaluate(self, chains: Iterable[ChainId]) -> None:
        """Has chains evaluated at the end of the decision."""
        self._to_evaluate.update(chains)

    def finish(self) -> tuple[State, tuple[Action, ...]]:
        """Evaluates what was touched; the state after the decision, and what it asks for."""
        while self._to_evaluate:
            chain = min(self._to_evaluate)
            self._to_evaluate.discard(chain)
            self._evaluate(self.chains[chain])
        state = State(
            rules=self.rules,
            version=self.stamp if self._changed else self.before.version,
            nodes=self.nodes,
            targets=self.targets,
            chains=self.chains,
            tables=self.tables,
            namespaces=self.namespaces,
            node_id_next=self.node_id_next,
            leases=self.leases,
            locals=self.locals,
            doubts=self.doubts,
            held_chains=frozenset(self.held_chains),
            departed=self.departed,
            disordered=self.disordered,
            tick_ns=self.tick_ns,
            reports=self.reports,
        )
        return state, tuple(self.actions)

    def _evaluate(self, chain: Chain) -> None:
        if self._must_hold(chain):
            self.held_chains.add(chain.id)
            return
        self.held_chains.discard(chain.id)
        reported = {
            member.target: self.locals[member.target]
            for member in chain.members
            if member.target in self.locals
        }
        departed = self.departed.get(chain.id, frozenset())
        applied = transitions.apply(chain, reported, departed, self._room_to_sync(chain))
        after = self._in_one_step(intents.settle(chain, applied))
        emptied = {target for target, local in reported.items() if local.replaced}
        self._emptied |= emptied  # What they had when they served is gone.
        if emptied and chain.id in self.departed:
            self.departed[chain.id] -= emptied
        if after is not chain or emptied:
            self.put_chain(after)
        if after.members != chain.members:
            self._note_departures(chain, after)
            self._drop_targets(chain, after)
            self._use_room(chain, after)
            states = {str(member.target): str(member.state) for member in after.members}
            self.note("chain changed", chain=chain.id, version=after.version, targets=states)
        self._note_order(chain, after)
        serving = {one.target for one in _serving(after)}
        elected = serving.difference(one.target for one in _serving(chain))
        for target, local in reported.items():
            if local.replaced:  # The chain knows now; the next decision is about the new target.
                self.locals[target] = replace(local, replaced=False)
            elif target in elected:  # What it has is the chain's from now on.
                self.locals[target] = replace(local, lost_version=NEVER_SERVED)

    def _in_one_step(self, chain: Chain) -> Chain:
        """The chain under the version that follows the one before this decision, at most."""
        before = self.before.chains.get(chain.id)
        if before is None or chain.version <= before.version + 1:
            return chain
        version = ChainVersion(before.version + 1)
        return replace(chain, version=version, served_version=min(chain.served_version, version))

    def _note_departures(self, before: Chain, after: Chain) -> None:
        """Who left the serving ones and is complete until somebody serves without them.

        Those that lost an update are among them: what was acknowledged they have, and what others
        may have shown bars them (`transitions`) for as long as there are others.
        """
        complete = set(self.departed.pop(before.id, ()))
        complete.update(one.target for one in before.members if one.state in _STOOD)
        complete -= self._emptied | {one.target for one in _serving(after)}
        if left := complete.intersection(one.target for one in after.members):
            self.departed[before.id] = frozenset(left)

    def _drop_targets(self, before: Chain, after: Chain) -> None:
        """Targets that left the chain are removed from their nodes."""
        kept = {member.target for member in after.members}
        for member in before.members:
            if member.target not in kept:
                self.drop_target(member.target)
                self.note("target removed", chain=before.id, target=member.target)

    def _note_order(self, before: Chain, after: Chain) -> None:
        if after.members == before.members and after.preferred == before.preferred:
            return
        self.disordered.pop(after.id, None)
        if intents.is_whole(after) and intents.next_to_move(after) is not None:
            self.disordered[after.id] = self.now_ns

    def _room_to_sync(self, chain: Chain) -> Callable[[NodeId], bool]:
        """Whether a node may take one more target that syncs; counted only when asked."""
        counts: list[Counter[NodeId]] = []

        def room(node: NodeId) -> bool:
            if not counts:
                others = (one for one in self.chains.values() if one.id != chain.id)
                counts.append(Counter(node for one in others for node in _syncing(one)))
            return counts[0][node] < self.rules.resyncs_per_node

        return room

    def _use_room(self, before: Chain, after: Chain) -> None:
        """Nodes where a sync ended may begin another."""
        for node in set(_syncing(before)).difference(_syncing(after)):
            for chain in self.chains.values():
                idle = any(one.node == node and one.state in _IDLE for one in chain.members)
                if idle and chain.id != after.id:
                    self._to_evaluate.add(chain.id)

    def _must_hold(self, chain: Chain) -> bool:
        """Whether to wait: one serving target is dead and no other is known to live.

        The others may have died with it, and then each is complete. Waiting costs nothing: a chain
        with a member that does not answer makes no progress anyway.
        """
        serving = _serving(chain)
        heard = {one.target: _state(self.locals, one.target) for one in serving}
        dead = any(heard[one.target] is LocalState.OFFLINE for one in serving)
        in_doubt = [one.node in self.doubts for one in serving]
        known = any(
            heard[one.target] is not LocalState.OFFLINE and one.node not in self.doubts
            for one in serving
        )
        return dead and any(in_doubt) and not known


_STOOD = (PublicState.SERVING, PublicState.LAST_SERVING)
_IDLE = (PublicState.LAST_SERVING, PublicState.WAITING, PublicState.OFFLINE)


def _serving(chain: Chain) -> list[Member]:
    return [one for one in chain.members if one.state is PublicState.SERVING]


def _syncing(chain: Chain) -> list[NodeId]:
    return [one.node for one in chain.members if one.state is PublicState.SYNCING]


def _state(locals_: Mapping[TargetId, Local], target: TargetId) -> LocalState:
    return locals_[target].state if target in locals_ else LocalState.UNKNOWN
