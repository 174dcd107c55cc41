"""What a work item is made of: counts and sizes of the objects it reaches.

Items travel as pickles, so an item that drags a big object along (a table in a closure, a whole
plan) costs every send. This finds it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None), type)


def count_objects(
    obj: Any,
    object_cnt: dict[str, tuple[int, int]] | None = None,
    visited_objs: set[int] | None = None,
    depth: int = 0,
) -> dict[str, tuple[int, int]]:
    """Add (count, bytes) for each class that `obj` reaches into `object_cnt`, and return it."""
    counts = {} if object_cnt is None else object_cnt
    visited = set() if visited_objs is None else visited_objs
    pending = [obj]
    # Objects are kept alive while their ids are remembered, or an id could be used twice.
    kept = []
    while pending:
        one = pending.pop()
        if id(one) in visited:
            continue
        visited.add(id(one))
        kept.append(one)
        if not isinstance(one, dict | list | tuple | set | frozenset):
            name = type(one).__name__
            count, size = counts.get(name, (0, 0))
            counts[name] = (count + 1, size + sys.getsizeof(one))
        pending.extend(_parts(one))
    return counts


def _parts(obj: Any) -> Iterator[Any]:
    if isinstance(obj, dict):
        yield from obj.keys()
        yield from obj.values()
    elif isinstance(obj, list | tuple | set | frozenset):
        yield from obj
    elif not isinstance(obj, LEAVES):
        yield from getattr(obj, "__dict__", {}).values()
        for cls in type(obj).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in [slots] if isinstance(slots, str) else slots:
                if not name.startswith("__") and hasattr(obj, name):
                    yield getattr(obj, name)
