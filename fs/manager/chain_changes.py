"""What an operator asks of a chain: more, other or fewer targets, or another order.

Owns: which of it is refused, and the intents that it becomes (`intents` carries them out).
Invariants: a target has a node and a chain of its own; a chain keeps a target that serves, or one
that has all that was acknowledged, unless an operator accepts the loss in so many words.
"""

from __future__ import annotations

from dataclasses import replace

from firepond.fs.errors import ClusterNotReady, InvalidArgument, NotFound
from firepond.fs.ids import ChainId, TargetId
from firepond.fs.manager import transitions
from firepond.fs.manager.draft import Draft
from firepond.fs.manager.events import (
    AcceptLoss,
    AddTarget,
    RemoveTarget,
    Reorder,
    ReplaceTarget,
)
from firepond.fs.manager.intents import in_order
from firepond.fs.manager.model import (
    NEVER_SERVED,
    Chain,
    Leaving,
    LocalState,
    Member,
    PublicState,
    Target,
)
from firepond.fs.manager.placement import emptiest_disk

MEMBERS_MAX = 16


def add_target(draft: Draft, event: AddTarget) -> TargetId:
    """One more replica: it enters as offline, is made by its node, synced, and then serves."""
    chain = _chain(draft, event.chain)
    node = draft.nodes.get(event.node)
    if node is None or not node.alive or "storage" not in node.roles or not node.disks:
        raise InvalidArgument("no storage node of this id is alive", {"node": str(event.node)})
    if any(member.node == event.node for member in chain.members):
        raise InvalidArgument(
            "the node has a target of this chain already",
            {"node": str(event.node), "chain": str(chain.id)},
        )
    if len(chain.members) >= MEMBERS_MAX:
        raise InvalidArgument("the chain has as many targets as a chain may have")
    if event.disk is not None and event.disk not in node.disks:
        context = {"disk": event.disk, "disks": ", ".join(node.disks)}
        raise InvalidArgument("the node has no such disk", context)
    target = TargetId(max(draft.targets, default=0) + 1)
    disk = event.disk or emptiest_disk(draft, event.node)
    draft.put_target(Target(target, chain.id, event.node, disk))
    members = (*chain.members, Member(target, event.node, PublicState.OFFLINE))
    draft.put_chain(transitions.with_members(chain, members))
    draft.note("target added", chain=chain.id, target=target, node=event.node, disk=disk)
    return target


def remove_target(draft: Draft, event: RemoveTarget) -> None:
    """A target leaves; asking twice is the same as asking once."""
    chain = _chain(draft, event.chain)
    if _is_given_up(draft, chain, _member(chain, event.target)):
        _give_up(draft, chain, event.target)
        return
    leaves = {one.target for one in chain.leaving} | {event.target}
    if not any(
        one.state is PublicState.SERVING and one.target not in leaves for one in chain.members
    ):
        raise ClusterNotReady(
            "no other target of the chain serves and stays",
            {"chain": str(chain.id), "target": str(event.target)},
        )
    # Who waited for this one to take its place stays.
    kept = tuple(one for one in chain.leaving if event.target not in (one.target, one.successor))
    draft.put_chain(replace(chain, leaving=(*kept, Leaving(event.target))))
    draft.note("target leaves", chain=chain.id, target=event.target)
    draft.evaluate([chain.id])


def _is_given_up(draft: Draft, chain: Chain, member: Member) -> bool:
    """Whether the chain is down and waits for this target only for the sake of an update that was
    shown and never acknowledged: another one that is here has all the rest."""
    serves = any(one.state is PublicState.SERVING for one in chain.members)
    if serves or member.state is not PublicState.LAST_SERVING:
        return False
    departed = draft.departed.get(chain.id, frozenset())
    heard = [(one, draft.locals.get(one.target)) for one in chain.members if one != member]
    return any(
        local is not None
        and local.state is LocalState.ONLINE
        and (one.target in departed or transitions.lacks_only_shown(chain, one))
        for one, local in heard
        if one.state is not PublicState.LAST_SERVING
    )


def _give_up(draft: Draft, chain: Chain, target: TargetId) -> None:
    kept = tuple(one for one in chain.leaving if target not in (one.target, one.successor))
    preferred = tuple(one for one in chain.preferred if one != target)
    others = tuple(one for one in chain.members if one.target != target)
    chain = replace(chain, leaving=kept, preferred=preferred)
    draft.put_chain(transitions.with_members(chain, others))
    draft.drop_target(target)
    draft.note("target given up", chain=chain.id, target=target)
    draft.evaluate([chain.id])


def accept_loss(draft: Draft, event: AcceptLoss) -> None:
    """A chain of which nobody that is left is known to be complete goes on with one target alone.

    The others leave: what they have beyond it would otherwise come back in pieces.
    """
    chain = _chain(draft, event.chain)
    member, context = _member(chain, event.target), {"chain": str(chain.id)}
    if any(one.state is PublicState.SERVING for one in chain.members):
        raise InvalidArgument("the chain serves: nothing of it is lost", context)
    local = draft.locals.get(member.target)
    if local is None or local.state is not LocalState.ONLINE or not local.served:
        raise ClusterNotReady(
            "the target does not say that it has served: start its node, or take another",
            {**context, "target": str(member.target)},
        )
    for other in chain.members:
        if other.target != member.target:
            draft.drop_target(other.target)
    draft.locals[member.target] = replace(local, lost_version=NEVER_SERVED)
    only = replace(member, state=PublicState.LAST_SERVING)
    chain = replace(chain, leaving=(), preferred=(member.target,), reordering=False)
    draft.put_chain(transitions.with_members(chain, (only,)))
    draft.note("loss accepted", chain=chain.id, target=member.target)
    draft.evaluate([chain.id])


def replace_target(draft: Draft, event: ReplaceTarget) -> None:
    """A new target, and the old one leaves as soon as that serves."""
    chain = _chain(draft, event.chain)
    _member(chain, event.target)
    if any(one.target == event.target for one in chain.leaving):
        raise InvalidArgument(
            "the target leaves already", {"chain": str(chain.id), "target": str(event.target)}
        )
    successor = add_target(draft, AddTarget(event.chain, event.node, event.disk))
    chain = draft.chains[event.chain]
    wanted = [one.target for one in in_order(chain) if one.target != successor]
    wanted[wanted.index(event.target)] = successor
    leaving = (*chain.leaving, Leaving(event.target, successor))
    draft.put_chain(replace(chain, leaving=leaving, preferred=tuple(wanted)))


def reorder(draft: Draft, event: Reorder) -> None:
    """Wants the serving targets in an order; the head first."""
    chain = _chain(draft, event.chain)
    members = {member.target for member in chain.members}
    if len(event.targets) != len(members) or set(event.targets) != members:
        context = {"targets": ", ".join(str(one) for one in sorted(members))}
        raise InvalidArgument("an order names each target of the chain once", context)
    draft.put_chain(replace(chain, preferred=event.targets, reordering=True))
    draft.note("chain is to be reordered", chain=chain.id, targets=list(event.targets))
    draft.evaluate([chain.id])


def _chain(draft: Draft, chain: ChainId) -> Chain:
    found = draft.chains.get(chain)
    if found is None:
        raise NotFound("no such chain", {"chain": str(chain)})
    return found


def _member(chain: Chain, target: TargetId) -> Member:
    for member in chain.members:
        if member.target == target:
            return member
    raise NotFound("the chain has no such target", {"chain": str(chain.id), "target": str(target)})
