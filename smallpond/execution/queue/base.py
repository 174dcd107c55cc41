"""What all work queues do: buffer outgoing items into batches, unpack incoming batches.

A queue object is used by one thread; any number of processes may pop from the same queue.

Invariant: an item that was pushed is popped by exactly one consumer.
"""

from __future__ import annotations

from smallpond.execution.workitem import WorkBatch, WorkItem


class WorkQueue:
    """A queue of work items. Subclasses move single items (a batch is one)."""

    def __init__(self) -> None:
        self.outbound_works: list[WorkItem] = []

    def _pop_unbuffered(self, count: int) -> list[WorkItem]:
        raise NotImplementedError

    def _push_unbuffered(self, item: WorkItem) -> bool:
        raise NotImplementedError

    def pop(self, count: int = 1) -> list[WorkItem]:
        """Up to `count` entries of the queue; the members of a batch come all together."""
        works: list[WorkItem] = []
        for item in self._pop_unbuffered(count):
            works.extend(item.works if isinstance(item, WorkBatch) else [item])
        return works

    def push(self, item: WorkItem, buffering: bool = False) -> bool:
        """Append an item; with `buffering` it leaves with the next flush or unbuffered push."""
        if not buffering and not self.outbound_works:
            return self._push_unbuffered(item)
        self.outbound_works.append(item)
        return True if buffering else self.flush()

    def flush(self) -> bool:
        """Send what is buffered, as one batch; an item alone goes without one."""
        works, self.outbound_works = self.outbound_works, []
        if not works:
            return True
        item = works[0] if len(works) == 1 else WorkBatch(works[0].key, works)
        return self._push_unbuffered(item)
