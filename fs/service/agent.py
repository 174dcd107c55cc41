"""Registers a role with the manager and keeps its lease: one thread a role.

Owns: the node id on disk, registration, heartbeats, assignments, and what replies to heartbeats ask
of targets: to step down, to be dropped. Invariants: the lease is counted
from before a heartbeat is sent; a node that the manager does not know serves nothing until it has
registered again; making targets never delays a heartbeat (it has a thread of its own).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firepond.fs.errors import (
    ClusterUnreachable,
    FirepondError,
    InvalidArgument,
    NodeUnknown,
    StoreCorrupt,
)
from firepond.fs.ids import Incarnation, NodeId
from firepond.fs.logging import get_logger
from firepond.fs.manager_client import ManagerClient

if TYPE_CHECKING:
    from firepond.fs.service.roles import Assignment, Role

REQUEST_TIMEOUT_S = 1.0
RETRY_PAUSE_S = 0.1
EARLY_BEAT_DELAY_S = 0.03
ROUTING_POLL_S = 0.005


class Agent:
    """One role of this process, as the manager sees it: a node."""

    def __init__(
        self,
        role: Role,
        managers: list[str],
        admin_address: str,
        incarnation: Incarnation,
        directory: Path,
        routing: Any,
        on_fatal: Callable[[FirepondError], None],
    ) -> None:
        self.role = role
        self.node: NodeId | None = None
        self.started = threading.Event()
        self._client = ManagerClient(managers, timeout_s=REQUEST_TIMEOUT_S)
        self._admin_address = admin_address
        self._incarnation = incarnation
        self._file = directory / role.name / "node.json"
        self._routing = routing
        self._on_fatal = on_fatal
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._assigned: list[Assignment] = []
        self._assigning: threading.Thread | None = None
        self._log = get_logger(f"firepond.{role.name}")
        self._thread = threading.Thread(target=self._run, name=f"agent-{role.name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops heartbeats, then the engine."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=5)
        if self.started.is_set():
            self.role.stop()

    def wake(self) -> None:
        """Has a heartbeat sent soon: something changed."""
        self._wake.set()

    def _run(self) -> None:
        try:
            self.node = self._node_id()
            if self.node is None:
                return
            self.role.start(self.node, self._incarnation, self._routing, self.wake)
            self.started.set()
            self._log.info("role started", node=self.node, incarnation=self._incarnation)
            while not self._stopping.is_set():
                heartbeat_ms = self._register()
                if heartbeat_ms is not None:
                    self._beat_until_unknown(heartbeat_ms)
        except FirepondError as error:
            self._on_fatal(error)
        except Exception as error:
            # An engine's defect must end the process: a silent node would look alive.
            self._on_fatal(FirepondError(f"{self.role.name} failed: {error!r}"))

    def _node_id(self) -> NodeId | None:
        """The id on disk, or a new one from the manager; None when stopped before."""
        if self._file.exists():
            try:
                return NodeId(int(json.loads(self._file.read_text())["node_id"]))
            except (ValueError, KeyError, TypeError) as error:
                raise StoreCorrupt(f"not a node id: {error}", {"file": str(self._file)}) from None
        told = False
        while not self._stopping.is_set():
            try:
                node = NodeId(self._client.post("/v1/node-ids")["node_id"])
            except ClusterUnreachable as error:
                if not told:
                    self._log.info("waiting for a manager", error=str(error))
                told = True
                self._stopping.wait(RETRY_PAUSE_S)
                continue
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(".tmp")
            draft.write_text(json.dumps({"node_id": node}))
            draft.replace(self._file)
            return node
        return None

    def _register(self) -> int | None:
        """Registers; the pause between heartbeats, or None to try again."""
        assert self.node is not None
        body = {
            "node_id": self.node,
            "incarnation": self._incarnation,
            "admin_address": self._admin_address,
            "roles": [self.role.name],
            **self.role.registration(),
        }
        token = self.role.lease_begin()
        try:
            reply = self._client.post("/v1/register", body)
        except (InvalidArgument, NodeUnknown):
            raise  # The manager will never take this node.
        except FirepondError as error:
            self._log.info("registration failed, trying again", error=str(error))
            self._stopping.wait(RETRY_PAUSE_S)
            return None
        if not self._follows(reply["routing_version"], reply["lease_ms"] / 1000):
            self._log.info("registered, but the routing does not arrive, trying again")
            return None
        self.role.lease_end(token, reply["lease_ms"])
        self._log.info("registered", node=self.node)
        return int(reply["heartbeat_ms"])

    def _follows(self, version: int, patience_s: float) -> bool:
        """Waits for the routing of the registration.

        A node that was evicted may still believe older routing in which it serves; with a lease it
        would answer from data that the others have replaced.
        """
        deadline_s = time.monotonic() + patience_s
        while self._routing.version < version:
            if time.monotonic() >= deadline_s or self._stopping.wait(ROUTING_POLL_S):
                return False
        return True

    def _beat_until_unknown(self, heartbeat_ms: int) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                self._beat()
                failing = False
            except NodeUnknown:
                self._log.info("the manager does not know this node any more", node=self.node)
                self.role.lease_lost()
                return
            except FirepondError as error:
                if not failing:
                    self._log.info("heartbeat failed, trying again", error=str(error))
                failing = True
            pause_s = RETRY_PAUSE_S if failing else heartbeat_ms / 1000
            if self._wake.wait(pause_s):
                # The engine needs a moment to act upon new routing.
                self._stopping.wait(EARLY_BEAT_DELAY_S)
                self._wake.clear()

    def _beat(self) -> None:
        token = self.role.lease_begin()
        body = {
            "node_id": self.node,
            "incarnation": self._incarnation,
            "routing_version": self._routing.version,
            **self.role.report(),
        }
        reply = self._client.post("/v1/heartbeat", body)
        self.role.lease_end(token, reply["lease_ms"])
        if reply["step_down"]:
            self.role.step_down(reply["step_down"])
            self.wake()  # The manager hears of it at once: writers wait for the next head.
        made = [(target, chain, disk) for target, chain, disk in reply["assignments"]]
        self._assign(made, reply["drop"])

    def _assign(self, assignments: list[Assignment], dropped: list[int]) -> None:
        busy = self._assigning is not None and self._assigning.is_alive()
        if (assignments == self._assigned and not dropped) or busy:
            return
        self._assigning = threading.Thread(
            target=self._make_targets, args=(assignments, dropped), name="assign", daemon=True
        )
        self._assigning.start()

    def _make_targets(self, assignments: list[Assignment], dropped: list[int]) -> None:
        try:
            if dropped:
                self.role.drop(dropped)
            self.role.assign(assignments)
        except FirepondError as error:
            if self._stopping.is_set():
                return
            # Not fatal: a failing disk takes its own targets offline only. Tried at the next beat.
            self._log.error("targets cannot be made or dropped", error=str(error))
            self._stopping.wait(1)
            return
        self._assigned = assignments
        self.wake()
