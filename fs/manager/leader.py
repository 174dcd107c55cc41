"""Who leads: the manager with the newest term.

A manager takes a new term when it starts, by a transaction; from then on no manager of an earlier
term can write. With the embedded store there is one manager at a time: the store's directory is
locked, and a second process is refused here, in plain words. Nothing depends on wall-clock time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from firepond import _native
from firepond.fs.errors import StoreLocked
from firepond.fs.manager.store import ManagerStore, take_term


def lead(directory: Path, engine: Literal["embedded", "memory"]) -> ManagerStore:
    """Opens the store and begins a term. Raises StoreLocked when another manager has it."""
    path = None
    if engine == "embedded":
        directory.mkdir(parents=True, exist_ok=True)
        path = str(directory)
    try:
        kv = _native.KvStore.open(path, engine)
    except StoreLocked:
        raise StoreLocked(
            "another manager runs on this store; the embedded store allows one at a time",
            {"directory": str(directory)},
        ) from None
    return ManagerStore(kv, take_term(kv))
