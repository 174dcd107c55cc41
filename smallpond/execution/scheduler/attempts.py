"""Attempts: what becomes of a task each time that it is tried, and what to do next.

An attempt is a copy of the planner's task with its inputs and its limits. Failures are answered by
one policy:

- out of memory: twice, four, eight times the memory, up to the largest machine; after that once
  more with `low_memory` (one thread, early spilling); these do not count as failures of the task;
- a lost machine: again, elsewhere; does not count either, but not without end;
- anything else counts, and more than `max_fail_count` of them end the job.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallpond.common import (
    GB,
    ColumnNotFound,
    InvalidArgument,
    MissingDependency,
    WorkerLost,
)
from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Completion
    from smallpond.execution.task.base import Task

# A task that takes so many machines with it is the reason, not the victim.
LOST_COUNT_MAX = 8
# DuckDB's errors about the text of a query; named here because the scheduler does not import it.
_SQL_MODULES = ("duckdb", "_duckdb")
_SQL_PERMANENT = ("BinderException", "CatalogException", "ParserException", "SyntaxException")


def attempt_of(task: Task, outputs: Callable[[str], object], epoch: int) -> Task:
    """A copy of the task that can travel: inputs as data sets, dependencies by key only."""
    attempt = copy.copy(task)
    attempt.input_datasets = [outputs(key) for key in task.input_deps]  # type: ignore[misc]
    attempt.input_deps = dict.fromkeys(task.input_deps)
    attempt.perf_metrics = defaultdict(int)
    attempt.sched_epoch = epoch
    attempt.status = WorkStatus.INCOMPLETE
    attempt.start_time = attempt.finish_time = None
    attempt.exception = None
    attempt._output_files = None
    attempt._temp_made = False
    return attempt


@dataclass(frozen=True)
class Verdict:
    """What to do after an attempt that did not succeed, and why, for people."""

    give_up: bool
    reason: str


class Recovery:
    """Decides after failures; raises the limits of the planner's task where that helps."""

    def __init__(self, max_fail_count: int, nonzero_exitcode_as_oom: bool) -> None:
        self.max_fail_count = max_fail_count
        self.nonzero_exitcode_as_oom = nonzero_exitcode_as_oom
        self._oom_counts: dict[str, int] = defaultdict(int)
        self._lost_counts: dict[str, int] = defaultdict(int)

    def decide(self, task: Task, completion: Completion, memory_bytes_max: int) -> Verdict:
        """`task` is the planner's; `completion.task` the attempt that went wrong."""
        attempt = completion.task
        if attempt.status == WorkStatus.EXEC_FAILED:
            return self._lost(task, completion)
        if attempt.oom(self.nonzero_exitcode_as_oom):
            relaxed = self._memory_relax(task, completion, memory_bytes_max)
            if relaxed is not None:
                return Verdict(False, relaxed)
        task.fail_count += 1
        what = _what_happened(attempt)
        if _is_permanent(attempt.exception):
            return Verdict(True, what)
        if task.fail_count > self.max_fail_count:
            return Verdict(True, f"{what}; {task.fail_count} failures are too many")
        return Verdict(False, f"{what}; failure {task.fail_count} of {self.max_fail_count}")

    def _lost(self, task: Task, completion: Completion) -> Verdict:
        self._lost_counts[task.key] += 1
        count = self._lost_counts[task.key]
        reason = f"{completion.worker} was lost"
        if completion.reason:
            reason += f" ({completion.reason})"
        if count > LOST_COUNT_MAX:
            completion.task.exception = WorkerLost(f"{reason}, the {count}th one with this task")
            return Verdict(True, f"{reason}; {count} lost workers are too many")
        return Verdict(False, reason)

    def _memory_relax(self, task: Task, completion: Completion, bytes_max: int) -> str | None:
        attempt = completion.task
        if task._memory_limit is None:
            task._memory_limit = attempt._memory_limit
        before = attempt.memory_limit
        self._oom_counts[task.key] += 1
        if before < bytes_max and task._memory_limit:
            wanted = before * 2 ** self._oom_counts[task.key]
            wanted = max(wanted, completion.rss_max_bytes * 3 // 2)
            limit = min(bytes_max, wanted)
            task._memory_boost = limit / task._memory_limit
            return f"out of memory with {before / GB:.3f} GB, again with {limit / GB:.3f} GB"
        if not task.low_memory:
            task.low_memory = True
            task._cpu_boost = 1 / (task._cpu_limit or 1)
            return (
                f"out of memory with all {before / GB:.3f} GB of the largest machine, again "
                "with one thread and early spilling"
            )
        return None


def _is_permanent(error: BaseException | None) -> bool:
    """Whether another try can only fail the same way: wrong arguments, wrong SQL."""
    if isinstance(error, (ColumnNotFound, InvalidArgument, MissingDependency)):
        return True
    return type(error).__module__ in _SQL_MODULES and type(error).__name__ in _SQL_PERMANENT


def _what_happened(attempt: Task) -> str:
    if attempt.exception is not None:
        # One line: the rest, such as the query, is in the report and where it was raised.
        first, *_ = str(attempt.exception).strip().splitlines() or [""]
        return f"{type(attempt.exception).__name__}: {first}"
    return "run() returned False"
