"""Second copies of slow tasks, by the rules of smallpond 0.15.

A task is slow when it takes longer than the median of its node by a threshold: the spread of the
node's times (p99 - p50; p95 - p50 when little work is queued), but never less than a floor, and
times (2 + retries) unless the policy is aggressive or the queue short. Nodes with fewer than 20
finished tasks have no usable spread.

The floor is one probe interval of the context (30 s unless set): a copy costs as much as the task,
so it has to have a chance to win.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task

SAMPLES_MIN = 20


def _percentile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the two nearest values."""
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class Speculation:
    """Elapsed times by node, and the choice of tasks worth a second copy."""

    def __init__(self, mode: str, floor_s: float, max_retry_count: int) -> None:
        self.enabled = mode != "disable"
        self.aggressive = mode == "aggressive"
        self.floor_s = floor_s
        self.max_retry_count = max_retry_count
        self._times_s: dict[int, list[float]] = defaultdict(list)

    @property
    def interval_s(self) -> float:
        """How often to look."""
        return min(5.0, max(0.05, self.floor_s / 2))

    def add(self, node_id: int, elapsed_s: float) -> None:
        self._times_s[node_id].append(elapsed_s)

    def mean_s(self, node_id: int) -> float | None:
        """The mean time of the latest tasks of a node; None before there is one to speak of."""
        latest = self._times_s[node_id][-32:]
        return sum(latest) / len(latest) if len(latest) >= 4 else None

    def slow(self, running: Iterable[Task], tasks: dict[str, Task], queue_short: bool) -> list[str]:
        """Keys of the running tasks that should be tried once more beside."""
        found = []
        ordered: dict[int, list[float]] = {}
        for attempt in running:
            times = self._times_s.get(attempt.node_id, ())
            if (
                len(times) < SAMPLES_MIN
                or not attempt.allow_speculative_exec
                or attempt.retry_count >= self.max_retry_count
                or attempt.retry_count != tasks[attempt.key].retry_count
            ):
                continue
            if attempt.node_id not in ordered:
                ordered[attempt.node_id] = sorted(times)
            if self._is_slow(attempt, ordered[attempt.node_id], queue_short):
                found.append(attempt.key)
        return found

    def _is_slow(self, attempt: Task, ordered: list[float], queue_short: bool) -> bool:
        median = _percentile(ordered, 0.5)
        spread = _percentile(ordered, 0.95 if queue_short else 0.99) - median
        threshold = max(self.floor_s, spread)
        if not queue_short and not self.aggressive:
            threshold *= 2 + attempt.retry_count
        return attempt.elapsed_time - median >= threshold
