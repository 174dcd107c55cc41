"""One table of all runs: medians, and the ratio of each figure to the best peer's.

Only peers with a right output count as best. A peer that took more memory than its limit and a
fifth is marked, as its time then says little.

    python -m benchmarks.smallpond.table RUNS.json...

prints stored runs.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.smallpond.results import Run, stored

RIGHT = "right"
ALONE = "nothing to compare"
FAIR = (RIGHT, ALONE)
OVER_LIMIT = 1.2
FIGURES = ("wall_s", "cpu_s", "peak_bytes")


@dataclass(frozen=True)
class Row:
    """One peer at one work."""

    work: str
    peer: str
    verdict: str
    wall_s: float
    cpu_s: float
    peak_bytes: float
    written_bytes: float
    output_bytes: int
    file_count: int
    left_behind: int
    limit_bytes: int


def rows(runs: Sequence[Run]) -> list[Row]:
    """The runs of a peer at a work as one row."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.work, run.peer), []).append(run)
    truths = {work: _truth([run for run in runs if run.work == work]) for work, _ in groups}
    return [
        Row(
            work=work,
            peer=peer,
            verdict=_verdict(group, truths[work]),
            wall_s=statistics.median(run.cost.wall_s for run in group),
            cpu_s=statistics.median(run.cost.cpu_s for run in group),
            peak_bytes=max(run.cost.peak_bytes for run in group),
            written_bytes=statistics.median(run.cost.written_bytes for run in group),
            output_bytes=max(run.output.size_bytes if run.output else 0 for run in group),
            file_count=max(run.output.file_count if run.output else 0 for run in group),
            left_behind=max(run.cost.left_behind for run in group),
            limit_bytes=group[0].limit_bytes,
        )
        for (work, peer), group in groups.items()
    ]


def _truth(runs: list[Run]) -> tuple[tuple[int, str] | None, int]:
    """What most peers found, and how many of them."""
    found = Counter(
        (run.output.row_count, run.output.checksum)
        for run in {run.peer: run for run in runs if run.cost.outcome == "done"}.values()
        if run.output is not None and not run.output.fault
    )
    return found.most_common(1)[0] if found else (None, 0)


def _verdict(group: list[Run], truth: tuple[tuple[int, str] | None, int]) -> str:
    for run in group:
        if run.cost.outcome != "done":
            return run.cost.outcome
        if run.output is None:
            continue
        if run.output.fault:
            return run.output.fault
        if (run.output.row_count, run.output.checksum) != truth[0]:
            return "differs from the others"
    return RIGHT if truth[1] > 1 else ALONE


def title(size_bytes: int, limit_bytes: int) -> str:
    """What was measured."""
    limit = f"memory limit {limit_bytes / 1e9:.2f} GB" if limit_bytes else "no memory limit"
    return f"{size_bytes / 1e9:g} GB, {limit}"


def show(console: Console, rows: list[Row], title: str) -> None:
    """Prints the table."""
    table = Table(title=f"{title}; ratios are to the best of a work")
    table.add_column("work")
    table.add_column("peer")
    for name in ("wall s", "ratio", "CPU s", "ratio", "peak MB", "ratio"):
        table.add_column(name, justify="right")
    for name in ("written MB", "output MB", "files", "left behind"):
        table.add_column(name, justify="right")
    table.add_column("output")
    work = ""
    for row in rows:
        if work and row.work != work:
            table.add_section()
        table.add_row(*_cells(row, rows, row.work != work))
        work = row.work
    console.print(table)


def _cells(row: Row, rows: list[Row], is_first: bool) -> list[str]:
    fair = [other for other in rows if other.work == row.work and other.verdict in FAIR]
    cells = [row.work if is_first else "", row.peer]
    for figure in FIGURES:
        value = getattr(row, figure)
        best = min((getattr(other, figure) for other in fair), default=0)
        cells.append(f"{value / 1e6:,.0f}" if figure == "peak_bytes" else f"{value:,.2f}")
        cells.append(f"{value / best:.2f}" if best and row.verdict in FAIR else "")
    verdict = row.verdict
    if row.limit_bytes and row.peak_bytes > row.limit_bytes * OVER_LIMIT:
        verdict += ", over its limit"
    cells += [f"{row.written_bytes / 1e6:,.0f}", f"{row.output_bytes / 1e6:,.0f}"]
    return [*cells, str(row.file_count), str(row.left_behind or ""), verdict]


if __name__ == "__main__":
    names = sys.argv[1:]
    runs = [run for name in names for run in stored(Path(name))]
    show(Console(width=150), rows(runs), ", ".join(names))
