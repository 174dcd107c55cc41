"""Tasks under the one name they were published with.

What belongs to every task is in `base`, `context`, `ids`, `plan` and `probe`; each operation has a
module of its own. Names are resolved on first use: a task that only moves metadata must not pay for
the import of DuckDB or Arrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smallpond.execution.workitem import WorkItem as WorkItem
from smallpond.execution.workitem import WorkStatus as WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task as Task
    from smallpond.execution.task.context import RuntimeContext as RuntimeContext
    from smallpond.execution.task.ids import JobId as JobId
    from smallpond.execution.task.ids import PartitionInfo as PartitionInfo
    from smallpond.execution.task.ids import PerfStats as PerfStats
    from smallpond.execution.task.ids import TaskId as TaskId
    from smallpond.execution.task.ids import TaskRuntimeId as TaskRuntimeId
    from smallpond.execution.task.plan import ExecutionPlan as ExecutionPlan
    from smallpond.execution.task.probe import Probe as Probe

# Where each name lives. Operations: owner of the module adds its classes here.
_MODULES: dict[str, tuple[str, ...]] = {
    "base": ("Task",),
    "context": ("RuntimeContext",),
    "ids": ("JobId", "PartitionInfo", "PerfStats", "TaskId", "TaskRuntimeId"),
    "plan": ("ExecutionPlan",),
    "probe": ("Probe",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

# Operations: found by asking `operations`, the table of the task classes.
_OPERATIONS = "smallpond.execution.task.operations"


def _operation_homes() -> dict[str, str]:
    homes: dict[str, str] = import_module(_OPERATIONS).HOMES
    return homes


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":
        raise AttributeError(name)
    if name == "__all__":
        return ["WorkItem", "WorkStatus", *_HOMES, *_operation_homes()]
    home = _HOMES.get(name) or _operation_homes().get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_operation_homes()])
