"""The chain state table, row by row, and what it does to whole chains."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from firepond.fs.ids import ChainId, ChainVersion, NodeId, TargetId
from firepond.fs.manager.model import (
    Chain,
    Durability,
    Local,
    LocalState,
    Member,
    PublicState,
)
from firepond.fs.manager.transitions import TABLE, Condition, Row, apply, next_state

S, L, Y, W, O = PublicState  # noqa: E741
UP, ON = LocalState.UP_TO_DATE, LocalState.ONLINE
OFF, UNKNOWN = LocalState.OFFLINE, LocalState.UNKNOWN


def chain_of(*states: PublicState, newborn: bool = False, cache: bool = False) -> Chain:
    members = tuple(
        Member(TargetId(number), NodeId(number), state) for number, state in enumerate(states, 1)
    )
    durability = Durability.CACHE if cache else Durability.DURABLE
    return Chain(ChainId(1), ChainVersion(7), durability, members, newborn)


def after(chain: Chain, *locals_: LocalState | Local) -> list[tuple[int, PublicState]]:
    heard = {
        TargetId(number): one if isinstance(one, Local) else Local(one, served=True)
        for number, one in enumerate(locals_, 1)
    }
    return [(member.target, member.state) for member in apply(chain, heard).members]


@pytest.mark.parametrize(
    "row", TABLE, ids=lambda row: f"{row.public}+{row.local}+{row.condition.name}"
)
def test_every_row_is_reached(row: Row) -> None:
    """Goal: no row is dead or shadowed. Method: the row's own facts. Oracle: the row's result."""
    earlier = {
        one.condition
        for one in TABLE[: TABLE.index(row)]
        if (one.public, one.local) == (row.public, row.local)
    }
    assert row.condition not in earlier and Condition.ALWAYS not in earlier
    assert next_state(row.public, row.local, frozenset({row.condition})) is row.result


def test_every_combination_has_a_row() -> None:
    """Goal: no state is stuck without a row. Method: all states and facts. Oracle: no assertion."""
    extras = [
        Condition.ELECTED,
        Condition.REPLACED,
        Condition.NEXT_TO_SYNC,
        Condition.DEPARTED,
        Condition.BARRED,
    ]
    for public, local in itertools.product(PublicState, LocalState):
        for source in (Condition.SOURCE, Condition.NO_SOURCE):
            for count in range(len(extras) + 1):
                for facts in itertools.combinations(extras, count):
                    next_state(public, local, frozenset({source, *facts}))


@pytest.mark.parametrize(
    ("before", "locals_", "expected"),
    [
        pytest.param([S, S, S], [UP, UP, UP], [(1, S), (2, S), (3, S)], id="all well"),
        pytest.param([S, S, S], [OFF, UP, UP], [(2, S), (3, S), (1, O)], id="head dies"),
        pytest.param([S, S, S], [UP, UP, OFF], [(1, S), (2, S), (3, O)], id="tail dies"),
        pytest.param([S, S, S], [OFF, OFF, OFF], [(1, L), (2, L), (3, L)], id="all die at once"),
        pytest.param([S, O, O], [OFF, OFF, OFF], [(1, L), (2, O), (3, O)], id="last one dies"),
        pytest.param([L, L, L], [OFF, ON, OFF], [(2, S), (1, O), (3, O)], id="any comes back"),
        pytest.param([L, L, L], [ON, ON, ON], [(1, S), (2, Y), (3, W)], id="all come back"),
        pytest.param([L, O, O], [OFF, ON, ON], [(1, L), (2, W), (3, W)], id="stale ones wait"),
        pytest.param([S, O, O], [UP, ON, ON], [(1, S), (2, Y), (3, W)], id="one syncs at a time"),
        pytest.param(
            [S, Y, W], [UP, UP, ON], [(1, S), (2, S), (3, Y)], id="sync ends, next begins"
        ),
        pytest.param([S, Y, W], [OFF, ON, ON], [(1, L), (2, W), (3, W)], id="source dies"),
        pytest.param([S, Y, W], [OFF, UP, ON], [(2, S), (3, Y), (1, O)], id="synced in time"),
        pytest.param([S, O, S], [UNKNOWN] * 3, [(1, S), (3, S), (2, O)], id="nobody heard yet"),
        pytest.param([S, W, O], [UP, UP, OFF], [(1, S), (2, W), (3, O)], id="must let go first"),
    ],
)
def test_chains(
    before: list[PublicState], locals_: list[LocalState], expected: list[tuple[int, PublicState]]
) -> None:
    """Goal: the usual lives and deaths of a chain. Oracle: states and order, by hand."""
    assert after(chain_of(*before), *locals_) == expected


def test_version_grows_only_with_a_change() -> None:
    """Goal: a chain version is a change. Oracle: the same object, or version + 1."""
    chain = chain_of(S, S, S)
    same = {TargetId(n): Local(UP, served=True) for n in (1, 2, 3)}
    assert apply(chain, same) is chain
    assert apply(chain, {**same, TargetId(2): Local(OFF, served=True)}).version == 8


def test_replaced_disk_never_brings_a_chain_back() -> None:
    """Goal: an empty disk is no source. Method: it returns first. Oracle: it waits for another."""
    wiped = Local(ON, served=True, replaced=True)
    fresh = Local(ON, served=False)
    assert after(chain_of(L, L), wiped, OFF) == [(2, L), (1, W)]
    assert after(chain_of(L, L), fresh, OFF) == [(1, L), (2, L)]
    assert after(chain_of(L, L), wiped, ON) == [(2, S), (1, Y)]
    assert after(chain_of(S, S), wiped, UP) == [(2, S), (1, O)]


def test_who_left_in_time_brings_a_chain_back() -> None:
    """Goal: a target that left is as good as those that stayed, if nobody served without it.

    Method: target 3 left, then the others die; it is `departed` or not. Oracle: states by hand.
    """
    gone = {TargetId(number): Local(OFF, served=True) for number in (1, 2, 3)}
    back = {**gone, TargetId(3): Local(ON, served=True)}
    three = frozenset((TargetId(3),))
    states = lambda chain: [(one.target, one.state) for one in chain.members]  # noqa: E731
    chain = chain_of(S, S, O)
    assert states(apply(chain, gone)) == [(1, L), (2, L), (3, O)]
    assert states(apply(chain, gone, three)) == [(1, L), (2, L), (3, L)]
    assert states(apply(chain, back)) == [(1, L), (2, L), (3, W)]
    assert states(apply(chain, back, three)) == [(3, S), (1, O), (2, O)]
    fresh = {**gone, TargetId(3): Local(ON, served=True, replaced=True)}
    assert states(apply(chain, fresh, three)) == [(1, L), (2, L), (3, W)]


def test_a_target_that_was_synced_to_the_end_brings_a_chain_back() -> None:
    """Goal: a target that durably has all of the last served version is complete.

    Method: the source and the target that it synced are gone; the latter returns with what it
    noted. Oracle: it serves if that is about the last served version, and waits if about an older.
    """
    dead = apply(chain_of(S, Y), {TargetId(1): Local(OFF, True), TargetId(2): Local(OFF, True)})
    dead = replace(dead, served_version=ChainVersion(7))
    assert [one.state for one in dead.members] == [L, O]
    for noted, state in ((7, S), (6, W), (0, W)):
        heard = {TargetId(1): Local(OFF, served=True)}
        heard[TargetId(2)] = Local(ON, served=True, complete_version=ChainVersion(noted))
        found = {one.target: one.state for one in apply(dead, heard).members}
        assert found[TargetId(2)] is state, noted


def lost(state: LocalState, version: int) -> Local:
    return Local(state, served=True, lost_version=ChainVersion(version))


def served_until(chain: Chain, *versions: int) -> Chain:
    """The chain whose members, those that do not serve, served last in these versions."""
    pairs = zip(chain.members, versions, strict=True)
    members = tuple(replace(one, served_version=ChainVersion(last)) for one, last in pairs)
    return replace(chain, members=members)


@pytest.mark.parametrize(
    ("before", "last", "locals_", "expected"),
    [
        # The chain is in version 7; 1 lost an update in 6, before 2 was found dead.
        pytest.param([S, O], [0, 6], [lost(OFF, 6), OFF], [(2, L), (1, O)], id="2 is dead"),
        pytest.param([S, O], [0, 6], [lost(OFF, 6), ON], [(2, S), (1, O)], id="2 is back"),
        pytest.param([S, O], [0, 6], [lost(OFF, 6), UNKNOWN], [(2, L), (1, O)], id="2 unheard"),
        pytest.param([S, W], [0, 6], [lost(OFF, 6), UNKNOWN], [(2, L), (1, O)], id="2 waited"),
        pytest.param([S, Y], [0, 6], [lost(OFF, 6), UNKNOWN], [(2, L), (1, O)], id="2 synced"),
        pytest.param([L, O], [0, 6], [lost(ON, 6), OFF], [(2, L), (1, W)], id="1 started again"),
        pytest.param([L, L], [6, 6], [lost(ON, 6), OFF], [(2, L), (1, W)], id="both died"),
        pytest.param([L, L], [6, 6], [lost(ON, 6), ON], [(2, S), (1, Y)], id="both are back"),
        pytest.param([S, S], [0, 0], [lost(OFF, 7), OFF], [(2, L), (1, O)], id="dead with it"),
        pytest.param([S, S], [0, 0], [lost(OFF, 7), UP], [(2, S), (1, O)], id="the other serves"),
        # Nobody else served since: what it lost is lost.
        pytest.param([S, O], [0, 5], [lost(OFF, 6), OFF], [(1, L), (2, O)], id="2 left before"),
        pytest.param([L, O], [6, 5], [lost(ON, 6), ON], [(1, S), (2, Y)], id="2 is no help"),
        pytest.param([S, O], [0, 6], [lost(OFF, 6), lost(ON, 6)], [(1, L), (2, W)], id="both lost"),
        # Only who served last stands in.
        pytest.param(
            [S, O, O], [0, 6, 5], [lost(OFF, 4), OFF, ON], [(2, L), (3, W), (1, O)], id="newest"
        ),
        # One that stands and lost nothing since 5 goes before those who left.
        pytest.param(
            [L, O, O],
            [6, 6, 5],
            [lost(ON, 6), lost(OFF, 3), ON],
            [(1, S), (3, Y), (2, O)],
            id="stands",
        ),
    ],
)
def test_a_target_that_lost_an_update_is_not_the_last(
    before: list[PublicState],
    last: list[int],
    locals_: list[LocalState | Local],
    expected: list[tuple[int, PublicState]],
) -> None:
    """Goal: an update that another one may have shown is not lost with the target that took itself
    out for it, and the chain is not left to nobody. Oracle: states and order, by hand."""
    assert after(served_until(chain_of(*before), *last), *locals_) == expected


def test_a_wiped_target_stands_in_for_nobody() -> None:
    """Goal: a new disk does not count. Oracle: who lost an update brings the chain back."""
    wiped = Local(ON, served=False, replaced=True)
    chain = served_until(chain_of(L, O), 6, 6)
    assert after(chain, lost(ON, 6), wiped) == [(1, S), (2, Y)]


def test_a_node_syncs_only_so_many_targets() -> None:
    """Goal: the bound holds, and another node of the chain goes first. Oracle: states by hand."""
    heard = {TargetId(1): Local(UP, True), TargetId(2): Local(ON), TargetId(3): Local(ON)}
    chain = chain_of(S, O, O)
    found = apply(chain, heard, may_sync=lambda node: node != 2)
    assert [(one.target, one.state) for one in found.members] == [(1, S), (3, Y), (2, W)]
    found = apply(chain, heard, may_sync=lambda _: False)
    assert [one.state for one in found.members] == [S, W, W]


def test_birth_waits_for_all_targets() -> None:
    """Goal: a new chain serves only when every target exists. Oracle: no state before that."""
    made = Local(ON, served=False)
    born = chain_of(O, O, O, newborn=True)
    assert after(born, made, made, OFF) == [(1, W), (2, W), (3, O)]
    assert after(born, made, made, made) == [(1, S), (2, S), (3, S)]
    assert after(chain_of(L, L, newborn=True), made, made) == [(1, S), (2, S)]


def test_cache_chain_takes_an_empty_target() -> None:
    """Goal: a lost cache is a miss, not an outage. Oracle: the wiped target serves."""
    wiped = Local(ON, served=False, replaced=True)
    assert after(chain_of(L, cache=True), wiped) == [(1, S)]
    assert after(chain_of(L), wiped) == [(1, W)]
