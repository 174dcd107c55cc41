"""`task_metrics.csv`: one line for each finished run of a task.

Columns as smallpond 0.15 named them: `task_props.*` (plain attributes of the task),
`partition_infos.*` (index by dimension), `perf_metrics.*`; and `run.*` from the scheduler's
events, which 0.15 had not. A cell is empty where a task has no such value.
"""

from __future__ import annotations

import csv
from enum import Enum
from numbers import Number
from pathlib import Path
from typing import Any

from smallpond.show.record import JobRecord, Span

RUN_FIELDS = (
    "elapsed_s", "cpu_s", "rss_max_bytes", "rows_in", "rows_out", "bytes_in", "bytes_out",
)  # fmt: skip


def write_metrics_csv(record: JobRecord, path: str | Path) -> int:
    """Writes the file; returns its number of lines without the head."""
    record.advance()
    names: dict[type[Any], list[str]] = {}
    rows = [_row(record, span, names) for span in record.spans if span.event is not None]
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row))
    groups = ("task_props", "partition_infos", "run", "perf_metrics")
    ordered = sorted(columns, key=lambda name: groups.index(name.split(".", 1)[0]))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, ordered, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def _row(record: JobRecord, span: Span, names: dict[type[Any], list[str]]) -> dict[str, Any]:
    """One line; `names` remembers the attributes of each class of tasks."""
    event = span.event
    row: dict[str, Any] = {"task_props.key": span.key, "task_props.node_id": span.node_id}
    task = record.tasks.get(span.key)
    if task is not None:
        kind = type(task)
        if kind not in names:
            names[kind] = sorted(task._pristine_attrs)
        for name in names[kind]:
            value = getattr(task, name, None)
            # Most are None; asking for the type of a Number is slow.
            if value is not None and isinstance(value, (str, int, float, Enum, Number)):
                row[f"task_props.{name}"] = _plain(value)
        for info in task.partition_infos:
            row[f"partition_infos.{info.dimension}"] = info.index
    row |= {
        "task_props.start_time": span.start_s,
        "task_props.finish_time": span.finish_s,
        "task_props.exec_id": span.worker,
        "run.runtime_id": span.runtime_id,
        "run.status": span.status,
    }
    row |= {f"run.{name}": getattr(event, name) for name in RUN_FIELDS}
    if event is not None:
        row |= {f"perf_metrics.{name}": value for name, value in event.metrics.items()}
    return row


def _plain(value: Any) -> Any:
    """Ids are written as the numbers they are; statuses by name."""
    if isinstance(value, Enum):
        return str(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
