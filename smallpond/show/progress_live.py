"""Progress on a terminal: a table of stages under one sentence, redrawn by rich.

A stage is a node of the plan. Stages that work come first, then those that wait, then the latest
finished ones, as many as fit above the prompt; the rest is one line, so that a plan of a thousand
nodes stays readable.
"""

from __future__ import annotations

import os
from typing import TextIO

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from smallpond.show.progress_line import progress_sentence
from smallpond.show.record import JobRecord, NodeRecord
from smallpond.show.units import bytes_text, count_text, plural, seconds_text

STAGE_ROWS_MAX = 14
STAGE_COLUMNS_MIN = 24
BAR_COLUMNS = 14
WIDE_COLUMNS = 110
"""Terminals from here on also show the user's line of each stage."""
COLUMNS = ("line", "tasks", "running", "retried", "rows", "written", "time")
STYLES = {"line": "dim", "retried": "yellow"}


class LiveRenderer:
    """A rich `Live` that is refreshed by the display's thread alone."""

    def __init__(self, title: str, stream: TextIO) -> None:
        self.title = title
        self.console = Console(file=stream)
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.live.start()

    def draw(self, record: JobRecord, now_s: float) -> None:
        size = self.console.size
        rows = max(3, min(STAGE_ROWS_MAX, size.height - 6))
        table = job_table(self.title, record, now_s, rows, size.width)
        self.live.update(table, refresh=True)

    def close(self, record: JobRecord, now_s: float) -> None:
        try:
            self.draw(record, now_s)
        finally:
            self.live.stop()


def shown_stages(record: JobRecord, rows_max: int) -> tuple[list[NodeRecord], int]:
    """The stages to show, in plan order, and how many are left out."""
    stages = [node for node in record.nodes.values() if node.is_stage]

    def urgency(node: NodeRecord) -> tuple[int, float]:
        if node.running or (node.done_count and not node.finished):
            return (0, node.node_id)
        return (2, -(node.finish_s or 0.0)) if node.finished else (1, node.node_id)

    chosen = sorted(stages, key=urgency)[:rows_max]
    return sorted(chosen, key=lambda node: node.node_id), len(stages) - len(chosen)


def job_table(
    title: str, record: JobRecord, now_s: float, rows_max: int, columns: int = 120
) -> RenderableType:
    """The whole picture at `now_s`, for a terminal of so many columns."""
    stages, left_out = shown_stages(record, rows_max)
    rows = [_stage_cells(node, now_s) for node in stages]
    # A column that says nothing gives its room to the names.
    names = [name for name in COLUMNS if any(row[name] for row in rows)]
    if columns < WIDE_COLUMNS:
        names = [name for name in names if name != "line"]
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("stage", no_wrap=True, overflow="ellipsis", min_width=STAGE_COLUMNS_MIN)
    table.add_column("", width=BAR_COLUMNS)
    for name in names:
        justify: JustifyMethod = "left" if name == "line" else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for node, row in zip(stages, rows, strict=True):
        style = "green" if node.finished else ("cyan" if node.running else "dim")
        total, done = max(1, node.task_count), node.done_count
        bar = ProgressBar(total, done, BAR_COLUMNS, complete_style="cyan", finished_style="green")
        cells = (Text(row[name], style=STYLES.get(name, "")) for name in names)
        table.add_row(Text(node.name, style=style), bar, *cells)
    head = Text.assemble((title, "bold"), "  ", progress_sentence(record, now_s))
    parts: list[RenderableType] = [head, table]
    if left_out:
        parts.append(Text(f"and {plural(left_out, 'more stage')}", style="dim"))
    if record.failures:
        parts.append(Text(_failure_line(record), style="red", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _stage_cells(node: NodeRecord, now_s: float) -> dict[str, str]:
    def shown(value: int, text: str) -> str:
        return text if value else ""

    end_s = node.finish_s if node.finished and node.finish_s is not None else now_s
    bad = node.retry_count or node.failure_count
    return {
        "line": os.path.basename(node.location or ""),
        "tasks": f"{count_text(node.done_count)}/{count_text(node.task_count)}",
        "running": shown(node.running, count_text(node.running)),
        "retried": shown(bad, count_text(bad)),
        "rows": shown(node.rows_out, count_text(node.rows_out)),
        "written": shown(node.bytes_out, bytes_text(node.bytes_out)),
        "time": seconds_text(max(0.0, end_s - node.start_s)) if node.start_s else "",
    }


def _failure_line(record: JobRecord) -> str:
    last = record.failures[-1]
    lines = str(last.error or "").strip().splitlines()
    return f"{last.key} failed: {lines[-1] if lines else 'no message'}"
