"""docs/semantics.md promises nothing without a test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_promise_names_tests_that_exist() -> None:
    """Goal: the page and the tests stay together. Method: names in brackets. Oracle: the files."""
    page = (ROOT / "docs/semantics.md").read_text()
    files = (ROOT / "tests/cluster").glob("test_mount*.py")
    known = set(re.findall(r"def test_(\w+)", "".join(path.read_text() for path in files)))
    brackets = re.findall(r"\(((?:`[a-z_]+`(?:, |\n| )*)+)\)", page)
    named = {name for bracket in brackets for name in re.findall(r"`([a-z_]+)`", bracket)}
    assert len(named) >= 20, named
    assert named <= known, named - known
