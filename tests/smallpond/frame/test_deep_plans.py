"""Plans deeper than Python's usual limit of recursion, and what they leave behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import smallpond

DEPTH = 400


def test_deep_plans_leave_the_limit_alone(tmp_path: Path) -> None:
    """Goal: a long chain of steps runs, and the user's process keeps its protection.

    Method: 400 SQL steps on each other; then JSON that is nested too deep. Oracle: the sum, the
    limit, and a RecursionError (with a raised limit the interpreter runs out of stack and dies).
    """
    before = sys.getrecursionlimit()
    session = smallpond.init(data_root=str(tmp_path), executor="inprocess", progress=False)
    try:
        frame = session.from_items([1])
        for _ in range(DEPTH):
            frame = frame.map("item + 1 as item")
        assert frame.take_all() == [{"item": 1 + DEPTH}]
        assert sys.getrecursionlimit() == before
        with pytest.raises(RecursionError):
            json.loads("[" * 100_000)
    finally:
        session.shutdown()
