"""The same rows with 3 and with 6 storage processes on this machine, side by side.

Each is compared as a share of the limit that was measured in its own half of the run, where it has
one, so that a machine that became slower in between does not count as ours.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.report import Row, shown

COUNTS = (3, 6)
FAMILIES = ("sequential", "small-reads", "overwrites", "kv")
RATIO_MIN = 0.9


def print_ratios(console: Console, few: list[Row], many: list[Row]) -> None:
    """A table of both, and what became worse."""
    table = Table(title=f"{COUNTS[1]} storage processes beside {COUNTS[0]}, on the same cores")
    for name in ("family", "measured", *(f"{count} processes" for count in COUNTS)):
        table.add_column(name)
    for name in ("ratio", "ratio of the shares", "at most 10 % lower"):
        table.add_column(name, justify="right")
    worse = []
    for before, after in zip(few, many, strict=True):
        ratio, shares = after.value / before.value, after.ratio / before.ratio
        if before.bar is not None and before.bar.at_most:
            ratio, shares = 1 / ratio, 1 / shares
        kept = max(ratio, shares) >= RATIO_MIN
        if not kept:
            worse.append(f"{after.family}: {after.name}")
        values = (shown(row.value, row.unit) for row in (before, after))
        verdict = "[green]yes[/]" if kept else "[red]no[/]"
        table.add_row(after.family, after.name, *values, f"{ratio:.2f}", f"{shares:.2f}", verdict)
    console.print(table)
    if worse:
        console.print(f"[red]lower with more processes:[/] {', '.join(worse)}")
