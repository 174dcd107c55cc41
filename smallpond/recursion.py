"""Deep plans: what walks them recurses once or more a node, beyond Python's usual limit.

The limit is raised for the walk and for no longer. Left raised, it would let C code that trusts it
(`json`, for one) run out of stack, and the user's process would die instead of raising.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

PLAN_LIMIT = 20_000


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Let Python functions recurse as deep as a plan may be."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, PLAN_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
