"""Work queues: how items get from a scheduler to an executor and back.

Both kinds share `WorkQueue` (batches, buffering); one lives in memory, the other is a directory on
any file system that both sides see, so that no service has to run between them.
"""

from __future__ import annotations

from smallpond.execution.queue.base import WorkQueue
from smallpond.execution.queue.cli import main
from smallpond.execution.queue.directory import UnreadableWork, WorkQueueOnFilesystem
from smallpond.execution.queue.memory import WorkQueueInMemory
from smallpond.execution.queue.objects import count_objects

__all__ = [
    "UnreadableWork",
    "WorkQueue",
    "WorkQueueInMemory",
    "WorkQueueOnFilesystem",
    "count_objects",
    "main",
]
