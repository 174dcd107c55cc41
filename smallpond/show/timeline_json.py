"""The timeline of a job as Chrome trace events, for chrome://tracing and ui.perfetto.dev.

Two files, as smallpond 0.15 wrote: grouped by worker (`{path}_exec`) and by node (`{path}_plan`).
Each holds a JSON array of complete events ("ph": "X") with times in microseconds. Viewers want
numbers for pid and tid to nest events, and names of them come from metadata events ("ph": "M").
Runs of one group that overlap in time get lanes of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smallpond.show.lanes import lanes_of
from smallpond.show.record import RUNNING, SUCCEEDED, JobRecord, Span

COLOURS = {SUCCEEDED: "good", RUNNING: "yellow"}
"""Chrome's names of colours by status; anything else failed."""


def write_timeline_json(record: JobRecord, path: str | Path, now_s: float) -> list[Path]:
    """Writes `{path}_exec` and `{path}_plan`; returns their paths."""
    record.advance()
    written = []
    for suffix, group in (("_exec", _worker_of), ("_plan", _node_of(record))):
        target = Path(f"{path}{suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(trace_events(record, group, now_s)))
        written.append(target)
    return written


def trace_events(
    record: JobRecord, group_of: Callable[[Span], str], now_s: float
) -> list[dict[str, Any]]:
    """The events of all kept spans: a group is a process of the trace, a lane a thread."""
    groups: dict[str, list[Span]] = {}
    for span in record.spans:
        groups.setdefault(group_of(span), []).append(span)
    origin_s = record.start_s or min((span.start_s for span in record.spans), default=0.0)
    events: list[dict[str, Any]] = []
    for pid, name in enumerate(sorted(groups), 1):
        events.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}})
        for tid, lane in enumerate(lanes_of(groups[name], now_s), 1):
            label = {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid}
            events.append({**label, "args": {"name": f"lane {tid}"}})
            events += [_event(record, span, pid, tid, origin_s, now_s) for span in lane]
    return events


def _worker_of(span: Span) -> str:
    return span.worker


def _node_of(record: JobRecord) -> Callable[[Span], str]:
    return lambda span: record.node(span.node_id, span.key).name


def _event(
    record: JobRecord, span: Span, pid: int, tid: int, origin_s: float, now_s: float
) -> dict[str, Any]:
    args: dict[str, Any] = {
        "status": span.status,
        "run": str(span.runtime_id),
        "node": record.node(span.node_id, span.key).name,
        "worker": span.worker,
    }
    if span.event is not None:
        for name in ("cpu_s", "rss_max_bytes", "rows_in", "rows_out", "bytes_in", "bytes_out"):
            args[name] = getattr(span.event, name, None)
        if span.event.error:
            args["error"] = str(span.event.error)
    return {
        "ph": "X",
        "name": span.key,
        "cat": span.status,
        "cname": COLOURS.get(span.status, "terrible"),
        "pid": pid,
        "tid": tid,
        "ts": round((span.start_s - origin_s) * 1e6),
        "dur": max(1, round(span.elapsed_s(now_s) * 1e6)),
        "args": args,
    }
