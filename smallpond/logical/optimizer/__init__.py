"""The optimiser: from what the user asked to the nodes that run.

`Optimizer(exclude_nodes).visit(plan)` is its published face. It is imported on first use, because
the relational nodes use the SQL tools of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.logical.optimizer.optimizer import Optimizer as Optimizer
    from smallpond.logical.optimizer.settings import OptimizerSettings as OptimizerSettings

__all__ = ["Optimizer", "OptimizerSettings"]


def __getattr__(name: str) -> Any:
    if name == "Optimizer":
        from smallpond.logical.optimizer.optimizer import Optimizer

        return Optimizer
    if name == "OptimizerSettings":
        from smallpond.logical.optimizer.settings import OptimizerSettings

        return OptimizerSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
