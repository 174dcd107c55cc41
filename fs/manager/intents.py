"""Changes of a chain that were asked for, and how they come about while clients write.

A target that serves never just disappears from a chain or moves inside it: others would acknowledge
updates while it still answers reads by its older routing, and a replica that becomes the head must
know every update that was under way. So there is one way to move and to remove, made of steps that
the transition table knows: the node is asked to let the target step down (`stepping_down`, in the
reply to a heartbeat); it finishes what is under way, serves nothing any more and reports the target
offline; it leaves the serving ones. From there it is dropped, or comes back at the tail as after a
restart, and gets only what changed meanwhile.

Owns: what becomes of the intents `leaving`, `preferred` and `reordering` of a chain; they are
persisted, so that a new manager goes on. Invariants: a target steps down only while another one of
its chain is known to serve; to be moved, only while all are; an intent that cannot be met waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from firepond.fs.ids import NodeId, TargetId
from firepond.fs.manager import transitions
from firepond.fs.manager.model import Chain, Leaving, LocalState, Member, PublicState, State


def settle(before: Chain, chain: Chain) -> Chain:
    """The chain without the targets that can leave now, and without intents that are met.

    `before`: as it was before this decision, which gives it one new version at most.
    """
    serving = {one.target for one in chain.members if one.state is PublicState.SERVING}
    held = {PublicState.SERVING, PublicState.LAST_SERVING}
    states = {member.target: member.state for member in chain.members}
    gone = {
        one.target
        for one in chain.leaving
        if serving and states[one.target] not in held and _may_leave(one, serving)
    }
    if gone:
        members = tuple(one for one in chain.members if one.target not in gone)
        chain = replace(
            chain,
            members=before.members,
            version=before.version,
            served_version=before.served_version,
        )
        chain = replace(
            transitions.with_members(chain, members),
            leaving=tuple(one for one in chain.leaving if one.target not in gone),
            preferred=tuple(one for one in chain.preferred if one not in gone),
        )
    if chain.reordering and is_whole(chain) and next_to_move(chain) is None:
        chain = replace(chain, reordering=False)
    return chain


def stepping_down(state: State, node: NodeId) -> Iterator[TargetId]:
    """Targets of a node that are to finish their work and serve no more."""
    for chain in state.chains.values():
        if not chain.leaving and not chain.reordering:
            continue
        target = _stepping_down(state, chain)
        if target is not None and state.targets[target].node == node:
            yield target


def _stepping_down(state: State, chain: Chain) -> TargetId | None:
    well = {one.target for one in chain.members if _is_well(state, one)}
    serving = {one.target for one in chain.members if one.state is PublicState.SERVING}
    for leaving in chain.leaving:
        others = well - {leaving.target}
        if leaving.target in serving and others and _may_leave(leaving, well):
            return leaving.target
    if chain.reordering and len(well) == len(chain.members):
        return next_to_move(chain)
    return None


def next_to_move(chain: Chain) -> TargetId | None:
    """Which target goes to the tail next, so that few moves give the preferred order.

    Those that need not move are the longest beginning of the preferred order that stands in this
    order already; the others go to the tail one after the other.
    """
    places = {member.target: place for place, member in enumerate(chain.members)}
    last = -1
    for member in in_order(chain):
        if places[member.target] < last:
            return member.target
        last = places[member.target]
    return None


def is_whole(chain: Chain) -> bool:
    """Every target serves."""
    return all(member.state is PublicState.SERVING for member in chain.members)


def in_order(chain: Chain) -> list[Member]:
    """The members in the order in which they shall serve."""
    wanted = {target: place for place, target in enumerate(chain.preferred)}
    return sorted(chain.members, key=lambda one: (wanted.get(one.target, len(wanted)), one.target))


def _may_leave(leaving: Leaving, serving: set[TargetId]) -> bool:
    return leaving.successor is None or leaving.successor in serving


def _is_well(state: State, member: Member) -> bool:
    """Serves, as far as anybody knows."""
    local = state.locals.get(member.target)
    return (
        member.state is PublicState.SERVING
        and local is not None
        and local.state is LocalState.UP_TO_DATE
        and state.nodes[member.node].alive
        and member.node not in state.doubts
    )
