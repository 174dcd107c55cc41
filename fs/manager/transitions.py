"""The states of a chain's targets: one table, as data, and the small function that applies it.

Owns: which public state follows from (public state, local state, condition).
Invariants, each tested: every reachable combination has a row; at most one target syncs; a target
whose disk was replaced, or that never served, never becomes the source of a durable chain; a chain
comes back only by a target that is complete.

The conditions of a row are facts about the chain (is there a source?) and about the target (was it
chosen?); the first row that fits holds. A *source* is a target that serves after this decision.

Who is complete when the last source is gone: those found dead with it in one decision, as nothing
can have been acknowledged without them; those that left before, if nobody who stayed can have
served since (`departed`: no process of theirs ever saw the routing without them); and a target that
was being synced and durably noted that it has everything of the chain's last served version, as it
got every later update of that version, too. Nobody else: others may have acknowledged more.

A target that lost an update which others may have takes itself out, and says in which version of
the chain (`lost_version`). Readers may have seen that update, and the target served nothing since,
even if the manager, which did not know, left the chain to it. So it is *barred* while another one
served in that version or later; and if all that stood at the end are barred, those that served last
among the others stand in for them. When these are gone for good (their disks are new, or an
operator removed them), it may bring the chain back after all: what was acknowledged it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from firepond.fs.ids import ChainVersion, NodeId, TargetId
from firepond.fs.manager.model import (
    NEVER_SERVED,
    Chain,
    Durability,
    Local,
    LocalState,
    Member,
    PublicState,
    served_in,
)

_SERVING, _LAST = PublicState.SERVING, PublicState.LAST_SERVING
_SYNCING, _WAITING, _AWAY = PublicState.SYNCING, PublicState.WAITING, PublicState.OFFLINE
_READY, _ONLINE = LocalState.UP_TO_DATE, LocalState.ONLINE
_GONE, _UNKNOWN = LocalState.OFFLINE, LocalState.UNKNOWN


class Condition(Enum):
    """What must hold beside the two states."""

    ALWAYS = auto()
    SOURCE = auto()
    """Another target, or this one, serves after this decision."""
    NO_SOURCE = auto()
    """No target serves after this decision."""
    ELECTED = auto()
    """This target was chosen to bring the chain (back) into service."""
    REPLACED = auto()
    """The target's generation changed: its disk was wiped or swapped."""
    NEXT_TO_SYNC = auto()
    """There is a source, nobody syncs, and this is the first target that could."""
    DEPARTED = auto()
    """There is no source, and the target left in time: nobody can have served without it."""
    BARRED = auto()
    """The target lost an update that another one, which served then or later, may have."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    public: PublicState
    local: LocalState
    condition: Condition
    result: PublicState


def _rows() -> tuple[Row, ...]:
    always, source, no_source = Condition.ALWAYS, Condition.SOURCE, Condition.NO_SOURCE
    elected, replaced, next_one = Condition.ELECTED, Condition.REPLACED, Condition.NEXT_TO_SYNC
    departed, barred = Condition.DEPARTED, Condition.BARRED
    table = (
        # Serving: goes on while its node lives; its death is recorded at once.
        (_SERVING, _READY, replaced, _AWAY),
        (_SERVING, _READY, always, _SERVING),
        (_SERVING, _ONLINE, replaced, _AWAY),
        (_SERVING, _ONLINE, always, _SERVING),
        (_SERVING, _UNKNOWN, always, _SERVING),
        (_SERVING, _GONE, source, _AWAY),
        (_SERVING, _GONE, barred, _AWAY),
        (_SERVING, _GONE, no_source, _LAST),
        # Last-serving: was complete at the end; one of them brings the chain back.
        (_LAST, _READY, elected, _SERVING),
        (_LAST, _READY, replaced, _WAITING),
        (_LAST, _READY, source, _WAITING),
        (_LAST, _READY, no_source, _LAST),
        (_LAST, _ONLINE, elected, _SERVING),
        (_LAST, _ONLINE, next_one, _SYNCING),
        (_LAST, _ONLINE, replaced, _WAITING),
        (_LAST, _ONLINE, source, _WAITING),
        (_LAST, _ONLINE, barred, _WAITING),
        (_LAST, _ONLINE, no_source, _LAST),
        (_LAST, _GONE, source, _AWAY),
        (_LAST, _GONE, barred, _AWAY),
        (_LAST, _GONE, no_source, _LAST),
        (_LAST, _UNKNOWN, source, _AWAY),
        (_LAST, _UNKNOWN, no_source, _LAST),
        # Syncing: receives every update, so that it is complete once it says so.
        (_SYNCING, _READY, replaced, _WAITING),
        (_SYNCING, _READY, always, _SERVING),
        (_SYNCING, _ONLINE, elected, _SERVING),
        (_SYNCING, _ONLINE, replaced, _WAITING),
        (_SYNCING, _ONLINE, source, _SYNCING),
        (_SYNCING, _ONLINE, no_source, _WAITING),
        (_SYNCING, _GONE, departed, _LAST),
        (_SYNCING, _GONE, always, _AWAY),
        (_SYNCING, _UNKNOWN, source, _SYNCING),
        (_SYNCING, _UNKNOWN, departed, _LAST),
        (_SYNCING, _UNKNOWN, no_source, _WAITING),
        # Waiting: alive, until its turn. One that still claims to be complete must first let go.
        (_WAITING, _READY, elected, _SERVING),
        (_WAITING, _READY, always, _WAITING),
        (_WAITING, _ONLINE, elected, _SERVING),
        (_WAITING, _ONLINE, next_one, _SYNCING),
        (_WAITING, _ONLINE, always, _WAITING),
        (_WAITING, _GONE, departed, _LAST),
        (_WAITING, _GONE, always, _AWAY),
        (_WAITING, _UNKNOWN, departed, _LAST),
        (_WAITING, _UNKNOWN, always, _WAITING),
        # Offline: away, until it is heard of again.
        (_AWAY, _READY, elected, _SERVING),
        (_AWAY, _READY, always, _WAITING),
        (_AWAY, _ONLINE, elected, _SERVING),
        (_AWAY, _ONLINE, next_one, _SYNCING),
        (_AWAY, _ONLINE, always, _WAITING),
        (_AWAY, _GONE, departed, _LAST),
        (_AWAY, _GONE, always, _AWAY),
        (_AWAY, _UNKNOWN, departed, _LAST),
        (_AWAY, _UNKNOWN, always, _AWAY),
    )
    return tuple(Row(*line) for line in table)


TABLE: tuple[Row, ...] = _rows()
"""The table; the first row whose states and condition fit holds."""

ORDER = {state: position for position, state in enumerate(PublicState)}
"""The order of a chain: serving, last-serving, syncing, waiting, offline; stable inside a state."""

_BY_STATES: dict[tuple[PublicState, LocalState], tuple[Row, ...]] = {
    (public, local): tuple(row for row in TABLE if (row.public, row.local) == (public, local))
    for public in PublicState
    for local in LocalState
}


def next_state(public: PublicState, local: LocalState, facts: frozenset[Condition]) -> PublicState:
    """The state that the table gives; `facts` are the conditions that hold besides ALWAYS."""
    for row in _BY_STATES[public, local]:
        if row.condition is Condition.ALWAYS or row.condition in facts:
            return row.result
    raise AssertionError(f"no row for {public}, {local}, {facts}")


def apply(
    chain: Chain,
    reported: Mapping[TargetId, Local],
    departed: frozenset[TargetId] = frozenset(),
    may_sync: Callable[[NodeId], bool] = lambda _: True,
) -> Chain:
    """The chain after one decision; the same object when nothing changes.

    `departed`: see the module. `may_sync`: whether a node may take one more target that syncs.
    """
    pairs = [(member, reported.get(member.target, _NOT_HEARD)) for member in chain.members]
    barred, stand_ins = _barred(chain, pairs)
    departed = (departed | stand_ins) - barred
    elected = _elect(chain, pairs, departed, barred)
    has_source = bool(elected) or any(_is_source(*pair) for pair in pairs)
    syncing = _next_to_sync(pairs, elected, may_sync) if has_source else None
    members = []
    for member, local in pairs:
        facts = {Condition.SOURCE if has_source else Condition.NO_SOURCE}
        if member.target in departed and not has_source:
            facts.add(Condition.DEPARTED)
        if member.target in barred:
            facts.add(Condition.BARRED)
        if member.target in elected:
            facts.add(Condition.ELECTED)
        if local.replaced:
            facts.add(Condition.REPLACED)
        if member.target == syncing:
            facts.add(Condition.NEXT_TO_SYNC)
        state = next_state(member.state, local.state, frozenset(facts))
        members.append(replace(member, state=state))
    return _renewed(chain, members, [local for _, local in pairs])


_NOT_HEARD = Local(LocalState.UNKNOWN)


def _renewed(chain: Chain, members: list[Member], heard: list[Local]) -> Chain:
    newborn = chain.newborn and not any(local.served for local in heard)
    if newborn and all(member.state is _SERVING for member in members):
        members.sort(key=lambda member: member.target)  # The order that placement meant.
    ordered = tuple(sorted(members, key=lambda member: ORDER[member.state]))
    if ordered == chain.members and newborn == chain.newborn:
        return chain
    assert sum(member.state is _SYNCING for member in ordered) <= 1
    return with_members(replace(chain, newborn=newborn), ordered)


def with_members(chain: Chain, members: tuple[Member, ...]) -> Chain:
    """The chain with other members, or the same ones in other states or another order."""
    if members == chain.members:
        return chain
    version = ChainVersion(chain.version + 1)
    serves = any(member.state is _SERVING for member in members)
    served_version = version if serves else chain.served_version
    return replace(chain, members=members, version=version, served_version=served_version)


def _is_source(member: Member, local: Local) -> bool:
    """Whether a target serves after this decision without having been elected."""
    if local.replaced:
        return False
    if member.state is _SERVING:
        return local.state is not _GONE
    return member.state is _SYNCING and local.state is _READY


def _barred(
    chain: Chain, pairs: Sequence[tuple[Member, Local]]
) -> tuple[frozenset[TargetId], frozenset[TargetId]]:
    """Who must not bring the chain back, and who stands in if that leaves nobody."""
    lost, sound = {}, {}
    for member, local in pairs:
        if local.lost_version and local.state is not _READY:
            lost[member.target] = local.lost_version
        elif not local.replaced:
            sound[member.target] = served_in(chain, member)
    newest = max(sound.values(), default=NEVER_SERVED)
    barred = frozenset(target for target, version in lost.items() if version <= newest)
    stood = _stood(pairs)
    if not stood or not stood <= barred:
        return barred, frozenset()
    return barred, frozenset(one for one, version in sound.items() if version == newest)


def _stood(pairs: Sequence[tuple[Member, Local]]) -> frozenset[TargetId]:
    """Who served at the end, with the data of then."""
    ends = (_SERVING, _LAST)
    return frozenset(one.target for one, local in pairs if one.state in ends and not local.replaced)


def lacks_only_shown(chain: Chain, member: Member) -> bool:
    """Whether a target has all that was acknowledged, if not all that was shown: it was among those
    that served last, and has been neither synced nor elected since."""
    return served_in(chain, member) == chain.served_version > 0


def _elect(
    chain: Chain,
    pairs: Sequence[tuple[Member, Local]],
    departed: frozenset[TargetId],
    barred: frozenset[TargetId],
) -> frozenset[TargetId]:
    """Who brings a chain without a source into service: nobody, one, or, at its birth, all."""
    if any(_is_source(*pair) for pair in pairs):
        return frozenset()
    alive = [(one, local) for one, local in pairs if local.state in (_ONLINE, _READY)]
    never_served = chain.newborn and not any(local.served for _, local in pairs)
    if never_served and len(alive) == len(pairs):
        return frozenset(member.target for member, _ in alive)
    stood = _stood(pairs)
    for member, local in alive:
        complete = member.target not in barred and (
            member.state is _LAST
            or member.target in departed
            or local.complete_version >= chain.served_version > 0
        )
        complete |= not stood and lacks_only_shown(chain, member)
        if complete and local.served and not local.replaced:
            return frozenset((member.target,))
    # What a cache chain has lost is a miss: an empty target may serve when no other can.
    if chain.durability is Durability.CACHE and len(alive) == len(pairs):
        return frozenset(member.target for member, _ in alive[:1])
    return frozenset()


def _next_to_sync(
    pairs: Sequence[tuple[Member, Local]],
    elected: frozenset[TargetId],
    may_sync: Callable[[NodeId], bool],
) -> TargetId | None:
    """The one target that starts to sync now, if nobody goes on syncing."""
    for member, local in pairs:
        goes_on = local.state in (_ONLINE, _UNKNOWN) and not local.replaced
        if member.state is _SYNCING and goes_on:
            return None
    for member, local in pairs:
        candidate = member.state in (_LAST, _WAITING, _AWAY) and local.state is _ONLINE
        if candidate and member.target not in elected and may_sync(member.node):
            return member.target
    return None
