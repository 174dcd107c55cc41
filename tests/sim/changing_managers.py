"""Managers that also change chains: what an operator asks for, in the middle of everything else.

Why here and not in the plan: the same seed with and without changes shows whether these break it.
The changes are a function of the times at which the world asks, and so of the seed.
Invariants: nothing is changed after `CHANGES_END_NS` of the managers' clock, so that the cluster
can settle; refusals are fine.
"""

from __future__ import annotations

from collections.abc import Callable

import msgpack

from firepond.fs.manager.model import Chain, State
from tests.sim.manager import Reply, SimulatedManagers

CHANGES_BEGIN_NS = 300_000_000
CHANGES_END_NS = 4_000_000_000
PAUSE_NS = 230_000_000


class ChangingManagers(SimulatedManagers):
    """`SimulatedManagers` with an operator who never rests."""

    def __init__(self, settings: dict[str, int], probe: Callable[[int, int], str]) -> None:
        super().__init__({**settings, "order_after_s": 1}, probe)
        self._own: set[int] = set()
        self._first_ns: int | None = None
        self._next_ns = 0
        self._turn = 0

    def advance(self, now_ns: int) -> tuple[list[Reply], int]:
        """As of any managers; the operator's replies are his own."""
        if self._first_ns is None:
            self._first_ns = now_ns
            self._next_ns = now_ns + CHANGES_BEGIN_NS
        if self._next_ns <= now_ns < self._first_ns + CHANGES_END_NS:
            self._next_ns = now_ns + PAUSE_NS
            self._change(now_ns)
        replies, next_ns = super().advance(now_ns)
        kept = [reply for reply in replies if reply[0] not in self._own]
        return kept, next_ns

    def _change(self, now_ns: int) -> None:
        index = next((at for at in sorted(self._managers) if self.leads(at)), None)
        if index is None:
            return
        state = self.controller(index).state
        chains = [one for one in state.chains.values() if len(one.members) > 1]
        if not chains:
            return
        self._turn += 1
        chain = chains[self._turn * 7 % len(chains)]
        name, body = _change(state, chain, self._turn)
        self._own.add(self.request(now_ns, index, name, msgpack.packb(body)))


def _change(state: State, chain: Chain, turn: int) -> tuple[str, dict[str, object]]:
    """One of the changes, over and over again, at other places."""
    targets = [member.target for member in chain.members]
    used = {member.node for member in chain.members}
    spare = [one.id for one in state.storage_nodes() if one.id not in used]
    place = turn // 3 % len(targets)
    body: dict[str, object] = {"chain": chain.id}
    match turn % 4:
        case 0 if spare:
            return "add_target", {**body, "node": spare[0]}
        case 1 if len(targets) > 2:
            return "remove_target", {**body, "target": targets[place]}
        case 2 if spare:
            return "replace_target", {**body, "target": targets[place], "node": spare[0]}
    return "reorder", {**body, "targets": targets[place:] + targets[:place]}
