"""Makes a failing seed small: delta debugging over the entries of its plan, faults and operations.

Source: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 2002.
A smaller run counts only if one of the same checkers complains, so that the search does not drift
to another defect. Invariant: what is returned failed when it was run last.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.sim import _sim
from tests.sim.replay import Run, run

SECONDS_MAX = 120.0
"""A failing seed is small enough after this long, whatever is left."""

Try = Callable[[frozenset[int]], bool]


def minimise(failed: Run, mistake: str | None = None) -> Run:
    """The smallest run found that fails as `failed` did."""
    every = frozenset(range(_sim.entry_count(failed.seed))) - frozenset(failed.dropped)
    deadline = time.monotonic() + SECONDS_MAX
    best = failed

    def fails(kept: frozenset[int]) -> bool:
        nonlocal best
        if time.monotonic() > deadline:
            return False
        everything = frozenset(range(_sim.entry_count(failed.seed)))
        found = run(failed.seed, everything - kept, mistake)
        if found.checkers & failed.checkers:
            best = found
            return True
        return False

    reduce(every, fails)
    return best


def reduce(entries: frozenset[int], fails: Try) -> frozenset[int]:
    """A subset that still fails and of which no single entry can be left out (ddmin)."""
    kept, parts = sorted(entries), 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        pieces = [kept[at : at + size] for at in range(0, len(kept), size)]
        smaller = _smaller(kept, pieces, fails)
        if smaller is not None:
            kept, parts = smaller, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(len(kept), parts * 2)
    if len(kept) == 1 and fails(frozenset()):
        kept = []
    return frozenset(kept)


def _smaller(kept: list[int], pieces: list[list[int]], fails: Try) -> list[int] | None:
    """Without one of the pieces, the last one first: later entries matter least."""
    for piece in reversed(pieces):
        rest = [entry for entry in kept if entry not in piece]
        if fails(frozenset(rest)):
            return rest
    return None
