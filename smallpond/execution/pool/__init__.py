"""Where tasks run on this machine: in the driver itself, or in worker processes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.execution.pool.in_process import InProcessBackend as InProcessBackend
    from smallpond.execution.pool.local import LocalPool as LocalPool

_HOMES = {"InProcessBackend": "in_process", "LocalPool": "local"}
__all__ = ["InProcessBackend", "LocalPool"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
