"""What happened in a job so far, folded from its scheduler's events.

`JobRecord` is a subscriber: `scheduler.subscribe(record.append)`. `append` puts an event on a
deque, about 100 ns on the scheduler's thread, whatever is displayed. Readers call `advance()`,
which folds the waiting events into per-node counters and one `Span` for each started run of a
task. Only a plan is folded at once, on the scheduler's thread: later its tasks change while they
run.

Invariants: one fold at a time (`_lock`); an event is folded once; a task is done once (a
speculative copy that also finishes counts as a run, not as a task); counters never decrease,
except `running`. Spans beyond SPAN_COUNT_MAX are counted, not kept: a job of millions of tasks
must not fill memory.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smallpond.common import MB
from smallpond.execution.events import (
    Event,
    PlanFinished,
    PlanStarted,
    TaskFinished,
    TaskRetried,
    TaskSkipped,
    TaskStarted,
)

if TYPE_CHECKING:
    from smallpond.execution.task.ids import TaskRuntimeId

SPAN_COUNT_MAX = 200_000
SUCCEEDED = "SUCCEED"
"""Name of the status of a run that succeeded (`WorkStatus.SUCCEED`)."""
RUNNING = "RUNNING"
SKIPPED_METRIC = "num skipped rows or files"
LOST = "LOST"
"""Status of a run that was still open when its plan ended: its worker died or it was cancelled."""


@dataclass(slots=True)
class Span:
    """One run of one task on one worker."""

    key: str
    node_id: int
    runtime_id: TaskRuntimeId
    worker: str
    start_s: float
    finish_s: float | None = None
    status: str = RUNNING
    event: TaskFinished | None = None
    """The `TaskFinished` of the run, for its metrics."""

    def elapsed_s(self, now_s: float) -> float:
        return max(0.0, (now_s if self.finish_s is None else self.finish_s) - self.start_s)


@dataclass(slots=True)
class NodeRecord:
    """Counters of the tasks of one node."""

    node_id: int
    name: str
    location: str | None = None
    task_count: int = 0
    done_count: int = 0
    skipped_count: int = 0
    failure_count: int = 0
    retry_count: int = 0
    running: int = 0
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    spilled_bytes: int = 0
    damaged_count: int = 0
    """Rows and files that were left out because they are damaged."""
    busy_s: float = 0.0
    """Sum of `elapsed_s`."""
    cpu_s: float = 0.0
    rss_max_bytes: int = 0
    start_s: float | None = None
    finish_s: float | None = None
    elapsed_s: array[float] = field(default_factory=lambda: array("d"))
    """Of each successful run, for medians and skew."""
    rows_each: array[float] = field(default_factory=lambda: array("d"))
    """Rows read (or, of a source, written) by each successful run."""

    @property
    def is_stage(self) -> bool:
        """Whether there is anything to show; tasks of no node (0), such as roots, are no stage."""
        return self.task_count > 0 and self.node_id != 0

    @property
    def finished(self) -> bool:
        return self.done_count >= self.task_count

    @property
    def open_count(self) -> int:
        return max(0, self.task_count - self.done_count)


class JobRecord:
    """Counters, spans and failures of everything that one session or driver ran."""

    def __init__(self) -> None:
        self.nodes: dict[int, NodeRecord] = {}
        self.spans: list[Span] = []
        self.span_count_dropped = 0
        self.plans: list[Any] = []
        self.tasks: dict[str, Any] = {}
        """Planned tasks by key, as the plans gave them."""
        self.failures: list[TaskFinished] = []
        """`TaskFinished` of runs that failed, in order."""
        self.retries: list[TaskRetried] = []
        self.start_s: float | None = None
        self.finish_s: float | None = None
        self.success: bool | None = None
        self._done: set[str] = set()
        self._open: dict[TaskRuntimeId, Span] = {}
        self._waiting: deque[Event] = deque()
        self._active_s = 0.0
        self._active_count = 0
        self._active_since_s = 0.0
        self._lock = threading.Lock()

    def append(self, event: Event) -> None:
        """Takes an event; cheap, because it runs on the scheduler's thread."""
        self._waiting.append(event)
        if type(event) is PlanStarted:
            self.advance()

    @property
    def open_spans(self) -> list[Span]:
        with self._lock:
            return list(self._open.values())

    @property
    def task_count(self) -> int:
        return sum(node.task_count for node in self.nodes.values())

    @property
    def done_count(self) -> int:
        return len(self._done)

    @property
    def running_count(self) -> int:
        return len(self._open)

    def elapsed_s(self, now_s: float) -> float:
        """How long plans have run, without the time between one's end and the next one's start."""
        if self._active_count == 0:
            return self._active_s
        return self._active_s + max(0.0, now_s - self._active_since_s)

    def advance(self) -> int:
        """Folds what came since the last call; returns how many events that was."""
        folded = 0
        with self._lock:
            while self._waiting:
                event = self._waiting.popleft()
                _FOLDS[type(event)](self, event)
                folded += 1
        return folded

    def node(self, node_id: int, task_key: str = "") -> NodeRecord:
        """The record of a node; made, named after a task's class, when no plan announced it."""
        found = self.nodes.get(node_id)
        if found is None:
            name = f"{task_key.split('-')[0] or 'Tasks'}-{int(node_id):06d}"
            found = self.nodes[node_id] = NodeRecord(int(node_id), name)
        return found

    def _plan_started(self, event: PlanStarted) -> None:
        if self.start_s is None:
            self.start_s = event.time_s
        if self._active_count == 0:
            self._active_since_s = event.time_s
        self._active_count += 1
        self.finish_s = None
        self.plans.append(event.plan)
        logical = getattr(event.plan, "logical_plan", None)
        for node_id, node in (logical.nodes if logical is not None else {}).items():
            record = self.node(int(node_id))
            record.name, record.location = repr(node), node.location
        for key, task in event.plan.tasks.items():
            if key not in self.tasks:
                self.tasks[key] = task
                self._announce(key, int(task.node_id))

    def _announce(self, key: str, node_id: int) -> NodeRecord:
        record = self.node(node_id, key)
        record.task_count += 1
        return record

    def _node_of(self, event: TaskStarted | TaskFinished) -> NodeRecord:
        """The node of a task event; announces tasks that no plan held."""
        if event.key not in self.tasks:
            self.tasks[event.key] = None
            return self._announce(event.key, int(event.node_id))
        return self.node(int(event.node_id), event.key)

    def _task_started(self, event: TaskStarted) -> None:
        node = self._node_of(event)
        node.running += 1
        if node.start_s is None:
            node.start_s = event.time_s
        run = event.runtime_id
        span = Span(event.key, node.node_id, run, event.worker or "scheduler", event.time_s)
        replaced = self._open.get(run)
        if replaced is not None:
            self._close(replaced, event.time_s, LOST)
        self._open[run] = span
        if len(self.spans) < SPAN_COUNT_MAX:
            self.spans.append(span)
        else:
            self.span_count_dropped += 1

    def _task_finished(self, event: TaskFinished) -> None:
        node = self._node_of(event)
        span = self._open.get(event.runtime_id)
        if span is not None:
            span.event = event
            self._close(span, event.time_s, event.status.name)
        node.finish_s = event.time_s
        node.cpu_s += max(0.0, event.cpu_s)
        node.rss_max_bytes = max(node.rss_max_bytes, event.rss_max_bytes)
        if event.status.name != SUCCEEDED:
            node.failure_count += 1
            self.failures.append(event)
            return
        if event.key in self._done:
            return
        self._done.add(event.key)
        node.done_count += 1
        # Counts are -1 where nobody counted.
        node.rows_in += max(0, event.rows_in)
        node.rows_out += max(0, event.rows_out)
        node.bytes_in += max(0, event.bytes_in)
        node.bytes_out += max(0, event.bytes_out)
        node.spilled_bytes += spilled_bytes(event.metrics)
        node.damaged_count += int(event.metrics.get(SKIPPED_METRIC, 0))
        node.busy_s += event.elapsed_s
        node.elapsed_s.append(event.elapsed_s)
        node.rows_each.append(max(0, event.rows_in) or max(0, event.rows_out))

    def _node_of_key(self, key: str) -> NodeRecord:
        """As `_node_of`, for events that name only the task."""
        if key not in self.tasks:
            self.tasks[key] = None
            return self._announce(key, 0)
        return self.node(int(getattr(self.tasks[key], "node_id", 0)), key)

    def _task_retried(self, event: TaskRetried) -> None:
        self.retries.append(event)
        self._node_of_key(event.key).retry_count += 1

    def _task_skipped(self, event: TaskSkipped) -> None:
        node = self._node_of_key(event.key)
        if event.key not in self._done:
            self._done.add(event.key)
            node.done_count += 1
            node.skipped_count += 1

    def _plan_finished(self, event: PlanFinished) -> None:
        self._active_count -= 1
        if self._active_count == 0:
            for span in list(self._open.values()):
                self._close(span, event.time_s, LOST)
            self._active_s += event.time_s - self._active_since_s
            self.finish_s = event.time_s
        self.success = event.success and self.success is not False

    def _close(self, span: Span, time_s: float, status: str) -> None:
        span.finish_s, span.status = time_s, status
        self.node(span.node_id, span.key).running -= 1
        del self._open[span.runtime_id]


def spilled_bytes(metrics: Mapping[str, float]) -> int:
    """Bytes that a task wrote to its temporary directory, from its metrics."""
    total = 0.0
    for name, value in metrics.items():
        if "spill" in name:
            total += float(value) * (MB if "(MB)" in name else 1)
    return int(total)


_FOLDS: dict[type[Any], Callable[[JobRecord, Any], None]] = {
    PlanStarted: JobRecord._plan_started,
    TaskStarted: JobRecord._task_started,
    TaskFinished: JobRecord._task_finished,
    TaskRetried: JobRecord._task_retried,
    TaskSkipped: JobRecord._task_skipped,
    PlanFinished: JobRecord._plan_finished,
}
