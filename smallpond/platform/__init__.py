"""Platforms: where jobs run. `get_platform` finds the one that is meant or the one that is
there."""

from __future__ import annotations

import importlib

from smallpond.common import InvalidArgument
from smallpond.platform.base import Platform
from smallpond.platform.mpi import MPI

__all__ = ["MPI", "Platform", "get_platform"]

_PLATFORMS: dict[str, type[Platform]] = {"mpi": MPI}


def get_platform(name: str | None = None) -> Platform:
    """The platform of this name or module; without a name, the first that is available here."""
    if name is None:
        found = (one for one in _PLATFORMS.values() if one.is_available())
        return next(found, Platform)()
    if name in _PLATFORMS:
        return _PLATFORMS[name]()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"there is no platform '{name}': name one of {sorted(_PLATFORMS)}, or a module that "
            f"can be imported ({error})"
        ) from error
    classes = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Platform) and one is not Platform
    ]
    # What the module defines comes before what it imported to build on.
    classes.sort(key=lambda one: one.__module__ != module.__name__)
    if not classes:
        raise InvalidArgument(f"the module '{name}' has no subclass of smallpond's Platform")
    return classes[0]()
