"""Keeps a process's routing handle up to date, and forwards its suspicions to the manager.

Owns: two daemon threads. One long-polls the managers, merges what changed and publishes whole
snapshots to the native handle; the other waits for peers that the native side could not reach.
Why one for all: servers, the SDK and the mount follow in the same way. Idle, it costs one request
every few seconds. After a fork the child has no threads: `start` or `wait_ready` makes them anew.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgpack

from firepond.fs.errors import ClusterNotReady, ClusterUnreachable, FirepondError
from firepond.fs.logging import get_logger
from firepond.fs.manager_client import ManagerClient

POLL_WAIT_MS = 2_000
POLL_PATIENCE_S = POLL_WAIT_MS / 1000 + 1.0
"""A manager that does not answer by then has vanished: the next one is asked."""
SUSPICION_WAIT_MS = 2_000
SUSPICION_PAUSE_S = 0.05
BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
READY_POLL_S = 0.02


class RoutingHandle(Protocol):
    """What this module needs of `_native.RoutingHandle`."""

    def publish(self, encoded: bytes) -> bool:
        """Publishes a whole snapshot."""

    def wait_suspicions(self, timeout_ms: int) -> list[tuple[int, int]]:
        """Peers that could not be reached."""


class Snapshot:
    """Routing as a whole, made from deltas."""

    KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {  # noqa: RUF012
        "nodes": lambda item: item["id"],
        "chains": lambda item: item["id"],
        "tables": lambda item: (item["id"], item["version"]),
        "namespaces": lambda item: item["id"],
    }

    def __init__(self) -> None:
        self.version = 0
        self.lease_ms = 0
        self.items: dict[str, dict[Any, dict[str, Any]]] = {kind: {} for kind in self.KEYS}

    def merge(self, encoded: bytes) -> bool:
        """Takes what the manager sent; says whether anything changed."""
        delta = msgpack.unpackb(encoded)
        changed = bool(delta["version"] != self.version)
        if delta["full"]:
            self.items = {kind: {} for kind in self.KEYS}
        for kind, key in self.KEYS.items():
            self.items[kind].update({key(item): item for item in delta[kind]})
            for removed in delta["removed"].get(kind, ()):
                self.items[kind].pop(removed, None)
        self.version = delta["version"]
        self.lease_ms = delta["lease_ms"]
        return changed

    def encode(self) -> bytes:
        """The form that the native side decodes."""
        lists = {kind: list(items.values()) for kind, items in self.items.items()}
        encoded: bytes = msgpack.packb(
            {"version": self.version, "lease_ms": self.lease_ms, **lists}
        )
        return encoded

    def missing(self) -> str | None:
        """What the cluster lacks to be of use; None when it is ready."""
        if not self.items["tables"]:
            return "its chains are not made yet: not enough storage processes have registered"
        nodes = self.items["nodes"].values()
        if not any(node["alive"] and "meta" in node["roles"] for node in nodes):
            return "no metadata server lives"
        for chain in self.items["chains"].values():
            if any(target["state"] == "serving" for target in chain["targets"]):
                return None
        return "no chain has a serving target"


class RoutingFollower:
    """Follows the managers of one cluster for one routing handle.

    A server gives its incarnation, so that the manager knows who may act upon which routing.
    """

    def __init__(
        self, managers: Sequence[str], handle: RoutingHandle, incarnation: int = 0
    ) -> None:
        self._managers = list(managers)
        self._incarnation = incarnation
        self._handle = handle
        self._listeners: list[Callable[[], None]] = []
        self._log = get_logger("firepond.routing")
        self._reset()

    def _reset(self) -> None:
        self._process = 0
        self._stopping = threading.Event()
        self._snapshot = Snapshot()
        self._failure: FirepondError | None = None

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Has `listener` called, in the follower's thread, after each publication."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Starts the threads; does nothing when they run in this process already."""
        if self._process == os.getpid():
            return
        self._reset()
        self._process = os.getpid()
        for work in (self._follow, self._forward_suspicions):
            thread = threading.Thread(
                target=work, args=(self._stopping,), name="firepond-routing", daemon=True
            )
            thread.start()

    def stop(self) -> None:
        """Ends the threads at their next breath; does not wait for them."""
        self._stopping.set()

    def wait_ready(self, deadline_s: float) -> None:
        """Waits until the cluster can serve.

        Raises:
            ClusterUnreachable: no manager answered within `deadline_s`.
            ClusterNotReady: a manager answers; the context says what the cluster lacks.
        """
        self.start()
        deadline = time.monotonic() + deadline_s
        while True:
            snapshot = self._snapshot
            missing = snapshot.missing() if snapshot.version else None
            if snapshot.version and missing is None:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(READY_POLL_S)
        if snapshot.version:
            raise ClusterNotReady("the cluster is not ready", {"lacks": str(missing)})
        raise self._failure or ClusterUnreachable("", {"address": ",".join(self._managers)})

    def _follow(self, stopping: threading.Event) -> None:
        client = ManagerClient(self._managers)
        failures = 0
        while not stopping.is_set():
            try:
                snapshot = self._poll(client)
            except (FirepondError, ValueError, KeyError, TypeError) as error:
                if failures == 0:
                    self._log.info("routing cannot be followed for now", error=str(error))
                if isinstance(error, FirepondError):
                    self._failure = error
                stopping.wait(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                continue
            failures = 0
            if snapshot is not None and not stopping.is_set():
                self._handle.publish(snapshot.encode())
                self._snapshot = snapshot
                for listener in self._listeners:
                    listener()
        client.close()

    def _poll(self, client: ManagerClient) -> Snapshot | None:
        """One long poll; the new snapshot, or None when nothing changed."""
        known = self._snapshot
        parameters = {
            "since": known.version,
            "wait_ms": POLL_WAIT_MS,
            "incarnation": self._incarnation,
        }
        response = client.request(
            "GET", "/v1/routing", timeout_s=POLL_PATIENCE_S, params=parameters
        )
        fresh = Snapshot()
        fresh.version = known.version
        fresh.items = {kind: dict(items) for kind, items in known.items.items()}
        return fresh if fresh.merge(response.content) else None

    def _forward_suspicions(self, stopping: threading.Event) -> None:
        client = ManagerClient(self._managers, timeout_s=1.0)
        while not stopping.is_set():
            suspicions = self._handle.wait_suspicions(SUSPICION_WAIT_MS)
            if not suspicions or stopping.is_set():
                continue
            try:
                client.post("/v1/suspicions", {"suspicions": sorted(set(suspicions))})
            except FirepondError as error:
                self._log.debug("suspicions were not delivered", error=str(error))
            # A peer that is down is reported by every request that meets it.
            stopping.wait(SUSPICION_PAUSE_S)
        client.close()
