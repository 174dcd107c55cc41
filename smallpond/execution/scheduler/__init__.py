"""The one scheduler, under the name it was published with, and the seam to its backends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.execution.backends.local import LocalExecutor as LocalExecutor
    from smallpond.execution.backends.remote import ExecutorState as ExecutorState
    from smallpond.execution.backends.remote import RemoteExecutor as RemoteExecutor
    from smallpond.execution.scheduler.backend import Backend as Backend
    from smallpond.execution.scheduler.backend import Completion as Completion
    from smallpond.execution.scheduler.backend import Machine as Machine
    from smallpond.execution.scheduler.scheduler import Scheduler as Scheduler

_HOMES = {
    "Backend": "smallpond.execution.scheduler.backend",
    "Completion": "smallpond.execution.scheduler.backend",
    "ExecutorState": "smallpond.execution.backends.remote",
    "LocalExecutor": "smallpond.execution.backends.local",
    "Machine": "smallpond.execution.scheduler.backend",
    "RemoteExecutor": "smallpond.execution.backends.remote",
    "Scheduler": "smallpond.execution.scheduler.scheduler",
}
__all__ = [
    "Backend",
    "Completion",
    "ExecutorState",
    "LocalExecutor",
    "Machine",
    "RemoteExecutor",
    "Scheduler",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
