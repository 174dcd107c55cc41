"""Work items and work queues under the one name they were published with.

The items live in `workitem`, the queues in `queue/`; the queues are imported on first use, because
most jobs never need a queue on a file system.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smallpond.execution.workitem import (
    StopExecutor,
    StopWorkItem,
    WorkBatch,
    WorkItem,
    WorkStatus,
)

if TYPE_CHECKING:
    from smallpond.execution.queue import (
        WorkQueue,
        WorkQueueInMemory,
        WorkQueueOnFilesystem,
        count_objects,
        main,
    )

__all__ = [
    "StopExecutor",
    "StopWorkItem",
    "WorkBatch",
    "WorkItem",
    "WorkQueue",
    "WorkQueueInMemory",
    "WorkQueueOnFilesystem",
    "WorkStatus",
    "count_objects",
    "main",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        value = getattr(import_module("smallpond.execution.queue"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    import_module("smallpond.execution.queue").main()
