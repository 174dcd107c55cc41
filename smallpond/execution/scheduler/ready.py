"""Tasks that could start, in the order in which they should.

Nodes take turns, so that no stage of a plan waits for all of another one; within a node, tasks go
by retries, then by id. Tasks of a node with unequal limits queue apart, so that one large request
at a head never hides small ones behind it. Nor do small ones starve a large one: a group that has
been refused for `STARVED_S` is served alone, which lets the machines drain until it fits.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task

STARVED_S = 20.0

Group = tuple[int, int, float, int]


def group_of(task: Task) -> Group:
    return (task.node_id, task.cpu_limit, task.gpu_limit, task.memory_limit)


class ReadyQueue:
    """A heap for each group of alike tasks; `take` goes around the groups."""

    def __init__(self, retries_first: bool = False) -> None:
        self._sign = -1 if retries_first else 1
        self._heaps: dict[Group, list[tuple[int, int, Task]]] = {}
        self._count = 0
        # When a group was served last, in a count of tasks: who waits longest comes first.
        self._turns: dict[Group, int] = {}
        self._turn = 0
        # Since when nothing of a group could be placed.
        self._refused_s: dict[Group, float] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        return (task for heap in self._heaps.values() for _, _, task in heap)

    def push(self, task: Task) -> None:
        heap = self._heaps.setdefault(group_of(task), [])
        heapq.heappush(heap, (self._sign * task.retry_count, int(task.id), task))
        self._count += 1

    def clear(self) -> None:
        self._heaps.clear()
        self._refused_s.clear()
        self._count = 0

    def take(self, place: Callable[[Task], bool]) -> int:
        """Offer the head of each group in turn; the group leaves the round at its first refusal.

        `place` returns whether it took the task. Returns how many it took.
        """
        taken = 0
        now = time.monotonic()
        round_groups = self._starved(now) or sorted(self._heaps, key=self._order)
        while round_groups:
            willing = []
            for group in round_groups:
                heap = self._heaps[group]
                if not place(heap[0][2]):
                    self._refused_s.setdefault(group, now)
                    continue
                self._refused_s.pop(group, None)
                self._turn += 1
                self._turns[group] = self._turn
                heapq.heappop(heap)
                taken += 1
                if heap:
                    willing.append(group)
                else:
                    del self._heaps[group]
            round_groups = willing
        self._count -= taken
        return taken

    def _order(self, group: Group) -> tuple[int, Group]:
        return self._turns.get(group, 0), group

    def _starved(self, now: float) -> list[Group]:
        """The group that has waited too long, if there is one."""
        since = {group: at for group, at in self._refused_s.items() if group in self._heaps}
        self._refused_s = since
        oldest = min(since, key=since.__getitem__, default=None)
        if oldest is None or now - since[oldest] < STARVED_S:
            return []
        return [oldest]
