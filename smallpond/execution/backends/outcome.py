"""The outcome of an attempt that travels as a work item: a light copy out, the outcome back in.

What the sender alone has (the context, the graph around the task, its inputs and functions) stays
as it is; only what the attempt brought about is taken over.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smallpond.execution.task import Task

OUTCOME_ATTRIBUTES = (
    "status",
    "start_time",
    "finish_time",
    "exception",
    "dataset",
    "perf_metrics",
    "runtime_state",
    "_memory_limit",
    "_output_files",
)


def outcome_light(task: Task) -> Task:
    """A copy to send back: without the inputs, and without what only running needs."""
    light = copy.copy(task)
    light.input_datasets = []
    light._local_gpu = {}
    light.clean_complex_attrs()
    return light


def outcome_copy(result: Task, task: Task) -> None:
    """Fill the outcome, which came back in a copy, into the task that was sent."""
    for name in OUTCOME_ATTRIBUTES:
        if hasattr(result, name):
            setattr(task, name, getattr(result, name))
