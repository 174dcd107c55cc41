"""The native engines of a process, each as one role that an agent starts and reports on.

Owns: which settings become which engine options. Never: talks to the manager (`agent`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from firepond import _native
from firepond.fs.config import Settings
from firepond.fs.ids import Incarnation, NodeId

Assignment = tuple[int, int, str]


class Role(Protocol):
    """What an agent needs of a role."""

    name: str

    def start(
        self, node: NodeId, incarnation: Incarnation, routing: Any, wake: Callable[[], None]
    ) -> None:
        """Starts the engine; it calls `wake` when the manager should hear of something soon."""

    def stop(self) -> None:
        """Stops the engine: it serves nothing when this returns."""

    def registration(self) -> dict[str, Any]:
        """What registration says of the role: `data_address` and `disks`."""

    def report(self) -> dict[str, Any]:
        """What a heartbeat says of the role."""

    def assign(self, assignments: list[Assignment]) -> None:
        """Makes the targets that the manager placed here."""

    def step_down(self, targets: list[int]) -> None:
        """Has targets finish what is under way, serve no more and report themselves offline."""

    def drop(self, targets: list[int]) -> None:
        """Forgets targets that no chain has any more, with their data."""

    def lease_begin(self) -> int:
        """A heartbeat is about to be sent."""

    def lease_end(self, token: int, lease_ms: int) -> None:
        """The heartbeat was answered."""

    def lease_lost(self) -> None:
        """The manager believes that this node is gone."""


class ManagerRole:
    """The manager's own entry in the list of nodes; it has no engine."""

    name = "manager"

    def start(
        self, node: NodeId, incarnation: Incarnation, routing: Any, wake: Callable[[], None]
    ) -> None:
        """Nothing to start: the controller runs in the service."""

    def stop(self) -> None:
        """Nothing to stop."""

    def registration(self) -> dict[str, Any]:
        """No data port."""
        return {"data_address": "", "disks": []}

    def report(self) -> dict[str, Any]:
        """Nothing to report."""
        return {}

    def assign(self, assignments: list[Assignment]) -> None:
        """A manager has no targets."""

    def step_down(self, targets: list[int]) -> None:
        """See `assign`."""

    def drop(self, targets: list[int]) -> None:
        """See `assign`."""

    def lease_begin(self) -> int:
        """A manager serves no data, so its lease means nothing."""
        return 0

    def lease_end(self, token: int, lease_ms: int) -> None:
        """See `lease_begin`."""

    def lease_lost(self) -> None:
        """See `lease_begin`."""


class MetaRole(ManagerRole):
    """The metadata server."""

    name = "meta"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: _native.MetaEngine | None = None

    def start(
        self, node: NodeId, incarnation: Incarnation, routing: Any, wake: Callable[[], None]
    ) -> None:
        """Opens the namespace and listens."""
        meta, place = self._settings.meta, self._settings.node
        directory = Path(place.data_dir) / "meta" / "store"
        directory.mkdir(parents=True, exist_ok=True)
        options: dict[str, int | str] = {
            "store": meta.store,
            "chunk_size_bytes": meta.chunk_size_bytes,
            "stripe_count": meta.stripe_count,
            "session_lease_ms": meta.session_lease_ms,
            "root_uid": os.getuid(),
            "root_gid": os.getgid(),
        }
        listen = f"{place.listen_host}:{place.meta_port}"
        engine = _native.MetaEngine(node, incarnation, listen, str(directory), routing, options)
        engine.start()
        self._engine = engine

    def stop(self) -> None:
        """Stops the engine."""
        if self._engine is not None:
            self._engine.stop()

    def registration(self) -> dict[str, Any]:
        """Where it listens."""
        assert self._engine is not None
        return {"data_address": _public(self._settings, self._engine.data_address), "disks": []}

    def report(self) -> dict[str, Any]:
        """The engine's status."""
        assert self._engine is not None
        return {"meta": self._engine.status()}


class StorageRole:
    """The storage server."""

    name = "storage"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: _native.StorageEngine | None = None
        default = str(Path(settings.node.data_dir) / "disk-0")
        self.disks = [str(Path(one).resolve()) for one in settings.storage.disks or [default]]

    def start(
        self, node: NodeId, incarnation: Incarnation, routing: Any, wake: Callable[[], None]
    ) -> None:
        """Opens the disks and listens."""
        for disk in self.disks:
            Path(disk).mkdir(mode=0o700, parents=True, exist_ok=True)
        storage, place = self._settings.storage, self._settings.node
        options: dict[str, int | str] = {
            "buffer_bytes": storage.buffer_bytes,
            "cache_bytes": storage.cache_bytes,
            "worker_count": storage.workers,
            "resync_bytes_per_second": storage.resync_bytes_per_second,
            "scrub_bytes_per_second": storage.scrub_bytes_per_second,
            "disk_engine": storage.disk_engine,
        }
        listen = f"{place.listen_host}:{place.storage_port}"
        engine = _native.StorageEngine(node, incarnation, listen, self.disks, routing, options)
        engine.start()
        engine.set_listener(wake)
        self._engine = engine

    def stop(self) -> None:
        """Stops the engine."""
        if self._engine is not None:
            self._engine.stop()

    def registration(self) -> dict[str, Any]:
        """Where it listens, and its disks."""
        disks = self.engine.status()["disks"]
        return {"data_address": _public(self._settings, self.engine.data_address), "disks": disks}

    def report(self) -> dict[str, Any]:
        """Targets, disks and counts; see `StorageEngine.status`."""
        return self.engine.status()

    def assign(self, assignments: list[Assignment]) -> None:
        """Makes missing targets."""
        self.engine.set_targets(assignments)

    def step_down(self, targets: list[int]) -> None:
        """Targets leave the serving ones of their chains."""
        self.engine.step_down(targets)

    def drop(self, targets: list[int]) -> None:
        """Their space comes back in the background."""
        self.engine.drop_targets(targets)

    def lease_begin(self) -> int:
        """Remembers now on the engine's clock."""
        return self.engine.heartbeat_begin()

    def lease_end(self, token: int, lease_ms: int) -> None:
        """Extends the lease, counted from `lease_begin`."""
        self.engine.heartbeat_end(token, lease_ms)

    def lease_lost(self) -> None:
        """Serves nothing until registered again."""
        self.engine.lease_lost()

    @property
    def engine(self) -> _native.StorageEngine:
        """The started engine."""
        assert self._engine is not None, "started"
        return self._engine


def _public(settings: Settings, listening: str) -> str:
    """The address that others use: the port that was picked, on the advertised host."""
    return f"{settings.node.public_host}:{listening.rpartition(':')[2]}"
