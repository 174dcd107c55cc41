"""A work queue inside one process, between threads."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from smallpond.execution.queue.base import WorkQueue
from smallpond.execution.workitem import WorkItem


class WorkQueueInMemory(WorkQueue):
    """Items in a thread-safe queue, by default `queue.Queue`."""

    def __init__(self, queue_type: Callable[[], Any] = queue.Queue) -> None:
        super().__init__()
        self.queue = queue_type()

    def _pop_unbuffered(self, count: int) -> list[WorkItem]:
        works: list[WorkItem] = []
        try:
            while len(works) < max(1, count):
                works.append(self.queue.get(block=False))
        except queue.Empty:
            pass
        return works

    def _push_unbuffered(self, item: WorkItem) -> bool:
        self.queue.put(item)
        return True
