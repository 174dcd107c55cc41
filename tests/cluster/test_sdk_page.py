"""docs/sdk.md against a real cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.fixtures.cluster import TestCluster

PAGE = Path(__file__).resolve().parents[2] / "docs/sdk.md"


def test_every_snippet_runs(cluster: TestCluster) -> None:
    """Goal: the page is true. Method: its snippets in one namespace. Oracle: their asserts."""
    address = cluster.address.removeprefix("firepond://")
    text = PAGE.read_text().replace("127.0.0.1:7300", address)
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) >= 7
    names: dict[str, Any] = {"__name__": "page"}
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"sdk.md snippet {number}", "exec"), names)
