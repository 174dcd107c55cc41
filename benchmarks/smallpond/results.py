"""One peer, one work, once: what it cost and what it wrote; kept as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.smallpond.check import Output
from benchmarks.smallpond.measure import Cost


@dataclass(frozen=True)
class Run:
    """One run; `log` has the end of what was printed where it failed."""

    peer: str
    work: str
    cost: Cost
    output: Output | None
    limit_bytes: int = 0
    log: str = ""


def stored(path: Path) -> list[Run]:
    """The runs in a file that `--json` wrote."""
    found = []
    for entry in json.loads(path.read_text()):
        entry["cost"] = Cost(**entry["cost"])
        entry["output"] = Output(**entry["output"]) if entry["output"] else None
        found.append(Run(**entry))
    return found
