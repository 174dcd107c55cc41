"""What a person sees of a job: progress, timeline, plan, profile, and errors that help.

Everything here reads a `JobRecord`, which subscribes to a scheduler's events
(`execution/events.py`) and is the only part that runs while tasks do: it appends an event to a
list. All folding, drawing and writing happens on a display thread or after the run, so that
watching costs a job nothing.

Names are resolved on first use: importing this package imports neither rich nor anything heavy.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "JobRecord": "record",
    "JobView": "view",
    "NodeProfile": "profile",
    "failure_report": "failure",
    "node_profiles": "profile",
    "plan_digraph": "plan_graphviz",
    "plan_svg": "plan_drawing",
    "plan_text": "plan_tree",
    "profile_text": "profile",
    "write_metrics_csv": "metrics_csv",
    "write_timeline_html": "timeline_html",
    "write_timeline_json": "timeline_json",
}

__all__ = [  # noqa: PLE0604 the names of _HOMES, written out for readers and type checkers
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
