"""One process with any set of roles: starts them, serves the admin port, stops them in order.

Invariants: the engines have stopped before the admin port closes, because others take a closed
admin port as proof that the engines of this life serve nothing any more; a role that fails ends the
process; SIGTERM and SIGINT end it cleanly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from firepond import _native
from firepond.fs import logging
from firepond.fs.config import Settings
from firepond.fs.errors import ConfigInvalid, FirepondError
from firepond.fs.ids import Incarnation
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.leader import lead
from firepond.fs.routing_follower import RoutingFollower
from firepond.fs.service.agent import Agent
from firepond.fs.service.app import make_app
from firepond.fs.service.roles import ManagerRole, MetaRole, Role, StorageRole

ROLES = ("manager", "meta", "storage")
PROCESS_FILE = "process.json"


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: the process stops its engines first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the process."""
        yield


def serve(settings: Settings, roles: Sequence[str]) -> None:
    """Runs until a signal. Raises FirepondError when a role cannot start or fails."""
    logging.configure(settings.log.level)
    _native.logging_init(settings.log.level)
    failure = asyncio.run(_Process(settings, roles).run())
    if failure is not None:
        raise failure


class _Process:
    def __init__(self, settings: Settings, roles: Sequence[str]) -> None:
        self.settings = settings
        self.roles = roles
        self.directory = Path(settings.node.data_dir)
        self.incarnation = Incarnation(secrets.randbits(63) | 1)
        self.failure: FirepondError | None = None
        self.log = logging.get_logger("firepond.process")

    async def run(self) -> FirepondError | None:
        """From start to stop; what went wrong, if anything did."""
        loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        # Private: what is below has the bytes of files that only their owners may read.
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        listening = _listen(self.settings.node.listen_host, self.settings.node.admin_port)
        port = listening.getsockname()[1]
        admin_address = f"{self.settings.node.public_host}:{port}"
        controller = None
        if "manager" in self.roles:
            store = lead(self.directory / "manager" / "store", self.settings.manager.store)
            controller = Controller(store, self.settings.manager)
            controller.start()
        agents, follower = self._agents(admin_address, loop)
        app = make_app(self.incarnation, agents, controller)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        self._write_process_file(admin_address)
        self.log.info("process started", roles=list(self.roles), admin_address=admin_address)
        follower.start()
        for agent in agents:
            agent.start()
        await self._until_stopped(serving, controller)
        follower.stop()
        await asyncio.gather(*(asyncio.to_thread(agent.stop) for agent in agents))
        if controller is not None:
            await controller.stop()
        server.should_exit = True
        await serving
        self.log.info("process stopped", roles=list(self.roles))
        return self.failure

    def _agents(
        self, admin_address: str, loop: asyncio.AbstractEventLoop
    ) -> tuple[list[Agent], RoutingFollower]:
        """The agents of this process, and what keeps their routing up to date."""
        managers = self.settings.cluster.managers
        if "manager" in self.roles:
            managers = [f"{self.settings.node.public_host}:{admin_address.rpartition(':')[2]}"]
        routing = _native.RoutingHandle()
        follower = RoutingFollower(managers, routing, self.incarnation)

        def on_fatal(error: FirepondError) -> None:
            self.failure = error
            self.log.error("a role failed, the process stops", error=str(error))
            loop.call_soon_threadsafe(self.stopping.set)

        agents = [
            Agent(
                role,
                managers,
                admin_address,
                self.incarnation,
                self.directory,
                routing,
                on_fatal,
            )
            for role in map(self._role, self.roles)
        ]
        for agent in agents:
            follower.add_listener(agent.wake)
        return agents, follower

    def _role(self, name: str) -> Role:
        match name:
            case "manager":
                return ManagerRole()
            case "meta":
                return MetaRole(self.settings)
            case "storage":
                return StorageRole(self.settings)
        raise ConfigInvalid("no such role", {"role": name, "roles": ", ".join(ROLES)})

    async def _until_stopped(
        self, serving: asyncio.Task[None], controller: Controller | None
    ) -> None:
        """Waits for a signal, a failed role, a failed manager or a dead admin port."""
        waits = [serving, asyncio.create_task(self.stopping.wait())]
        if controller is not None:
            waits.append(asyncio.create_task(controller.failed.wait()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if controller is not None and self.failure is None:
            self.failure = controller.failure
        if serving.done() and self.failure is None:
            self.failure = FirepondError("the admin port stopped serving")
        for wait in waits[1:]:
            wait.cancel()

    def _write_process_file(self, admin_address: str) -> None:
        """Says who runs here, for `firepond up` and for people."""
        content = {
            "pid": os.getpid(),
            "admin_address": admin_address,
            "roles": list(self.roles),
            "incarnation": self.incarnation,
        }
        draft = self.directory / f"{PROCESS_FILE}.tmp"
        draft.write_text(json.dumps(content))
        draft.replace(self.directory / PROCESS_FILE)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigInvalid(
            f"cannot listen: {error.strerror}", {"key": "node.admin_port", "port": str(port)}
        ) from None
    listening.listen(1024)
    listening.setblocking(False)
    return listening
