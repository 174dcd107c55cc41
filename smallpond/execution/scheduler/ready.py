"""Tasks that could start, in the order in which they should.

Nodes take turns, so that no stage of a plan waits for all of another one; within a node, tasks go
by retries, then by id. Tasks of a node with unequal limits queue apart, so that one large request
at a head never hides small ones behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task

Group = tuple[int, int, float, int]


def group_of(task: Task) -> Group:
    return (task.node_id, task.cpu_limit, task.gpu_limit, task.memory_limit)


class ReadyQueue:
    """A heap for each group of alike tasks; `take` goes around the groups."""

    def __init__(self, retries_first: bool = False) -> None:
        self._sign = -1 if retries_first else 1
        self._heaps: dict[Group, list[tuple[int, int, Task]]] = {}
        self._count = 0

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
        self._count = 0

    def take(self, place: Callable[[Task], bool]) -> int:
        """Offer the head of each group in turn; the group leaves the round at its first refusal.

        `place` returns whether it took the task. Returns how many it took.
        """
        taken = 0
        round_groups = sorted(self._heaps)
        while round_groups:
            willing = []
            for group in round_groups:
                heap = self._heaps[group]
                if not place(heap[0][2]):
                    continue
                heapq.heappop(heap)
                taken += 1
                if heap:
                    willing.append(group)
                else:
                    del self._heaps[group]
            round_groups = willing
        self._count -= taken
        return taken
