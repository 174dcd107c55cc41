"""The managers of a simulated cluster: the code that ships, on a clock that somebody else turns.

Why: the simulator's world is Rust, the manager is Python. This runs the shipping `Controller` and
`ManagerStore` over one shared store in memory; the world hands in requests, asks for what is due at
a time, and answers probes. Several managers may run at once: only the newest one leads.
Invariants: nothing here reads a clock, waits or draws at random; the same calls give the same
replies. A request to a manager that does not run is refused as a closed port refuses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgpack
from pydantic import ValidationError

from firepond import _native
from firepond.fs.config import ManagerSettings
from firepond.fs.errors import ClusterUnreachable, FirepondError, InvalidArgument
from firepond.fs.ids import NodeId, RoutingVersion
from firepond.fs.manager import requests
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.events import AddTarget, RemoveTarget, Reorder, ReplaceTarget
from firepond.fs.manager.model import Node
from firepond.fs.manager.probe import ProbeResult
from firepond.fs.manager.store import ManagerStore, take_term
from firepond.fs.manager.surroundings import Surroundings
from tests.sim.stepped_loop import SteppedLoop

NEVER_NS = (1 << 63) - 1
"""No timer is set."""

TRIP_S = 0.0002
"""One way of a probe."""

REFUSED = ClusterUnreachable("the manager does not run")

Reply = tuple[int, bool, bytes]
_RESULTS = {
    "answered": ProbeResult.ANSWERED,
    "gone": ProbeResult.GONE,
    "unanswered": ProbeResult.UNANSWERED,
}


class SimulatedManagers:
    """Managers over one store, stepped by `advance`. Times are nanoseconds of their machine."""

    def __init__(self, settings: dict[str, int], probe: Callable[[int, int], str]) -> None:
        self._settings = ManagerSettings.model_validate(settings)
        self._probe = probe
        self._kv = _native.KvStore.open(None, "memory")
        self._loop = SteppedLoop()
        self._managers: dict[int, _Manager] = {}
        self._replies: list[Reply] = []
        self._request_last = 0

    def start(self, index: int, now_ns: int) -> None:
        """A manager process starts and takes a new term; one of that index is killed before."""
        self.kill(index)
        self._loop.advance(now_ns)
        self._managers[index] = _Manager(self._loop, self._kv, self._settings, self._probe)

    def kill(self, index: int) -> None:
        """The process is gone: what it has not answered is refused, what it saved stays."""
        manager = self._managers.pop(index, None)
        if manager is not None:
            manager.kill()
            self._refuse(manager)

    def leads(self, index: int) -> bool:
        """Whether a manager runs and has not found out that another one leads."""
        manager = self._managers.get(index)
        return manager is not None and not manager.controller.failed.is_set()

    def controller(self, index: int) -> Controller:
        """A running manager's controller, for checkers that look at its state."""
        return self._managers[index].controller

    def request(self, now_ns: int, index: int, name: str, body: bytes) -> int:
        """A request arrives; `advance` returns its reply under the id that this returns.

        Names: allocate_node_id, register, heartbeat, suspicions, create_namespace (bodies as JSON
        has them on the admin port, in MessagePack); add_target, remove_target, replace_target and
        reorder (the fields of the events); and routing (`since`, `wait_ms`, and `incarnation`: of
        the storage process that follows, 0 of others; the reply is routing).
        """
        self._request_last += 1
        request = self._request_last
        self._loop.advance(now_ns)
        manager = self._managers.get(index)
        if manager is None or manager.controller.failed.is_set():
            self._replies.append((request, False, _error(REFUSED)))
            return request
        answer = self._answer(request, manager, name, msgpack.unpackb(body))
        manager.spawn(answer, request)
        return request

    def advance(self, now_ns: int) -> tuple[list[Reply], int]:
        """Runs all that is due: the replies, and when something is due next."""
        self._loop.advance(now_ns)
        for index in [at for at, one in self._managers.items() if one.controller.failed.is_set()]:
            self.kill(index)  # As `firepond serve` does: the process ends.
        replies, self._replies = self._replies, []
        return replies, self._loop.next_timer_ns() or NEVER_NS

    def woke(self, now_ns: int) -> None:
        """The machine was stopped until now: what was due meanwhile is late, and sees so."""
        self._loop.jump(now_ns)

    def broken(self, index: int, node: int) -> None:
        """The idle connection of a manager to a node broke."""
        manager = self._managers.get(index)
        if manager is not None:
            manager.broken(node)

    def close(self) -> None:
        """Ends everything."""
        for index in list(self._managers):
            self.kill(index)
        self._loop.advance(0)  # What was cancelled ends.
        self._loop.close()
        self._kv.close()

    def _refuse(self, manager: _Manager) -> None:
        for request in manager.waiting:
            self._replies.append((request, False, _error(REFUSED)))

    async def _answer(self, request: int, manager: _Manager, name: str, body: Any) -> None:
        try:
            content = await _dispatch(manager.controller, name, body)
        except ValidationError as error:
            failure: FirepondError = InvalidArgument(str(error.errors()[0]["msg"]))
            self._replies.append((request, False, _error(failure)))
        except FirepondError as error:
            self._replies.append((request, False, _error(error)))
        else:
            self._replies.append((request, True, content))


class _Manager:
    """One process."""

    def __init__(
        self,
        loop: SteppedLoop,
        kv: Any,
        settings: ManagerSettings,
        probe: Callable[[int, int], str],
    ) -> None:
        self.waiting: dict[int, asyncio.Task[None]] = {}
        self._loop = loop
        self._ask = probe
        self._watched: dict[NodeId, asyncio.Event] = {}
        surroundings = Surroundings(loop.time_ns, loop.time_ns, _inline, self._probe, self._watch)
        store = ManagerStore(kv, take_term(kv))
        with loop.running():
            self.controller = Controller(store, settings, surroundings)
            self.controller.start()

    def spawn(self, work: Coroutine[Any, Any, None], request: int) -> None:
        with self._loop.running():
            task = asyncio.create_task(work)
        self.waiting[request] = task
        task.add_done_callback(lambda _: self.waiting.pop(request, None))

    def kill(self) -> None:
        with self._loop.running():
            self.controller.abandon()
            for task in self.waiting.values():
                task.cancel()

    def broken(self, node: int) -> None:
        event = self._watched.get(NodeId(node))
        if event is not None:
            with self._loop.running():
                event.set()

    async def _probe(self, node: Node, timeout_s: float) -> ProbeResult:
        await asyncio.sleep(TRIP_S)
        result = _RESULTS[self._ask(node.id, node.incarnation)]
        await asyncio.sleep(timeout_s - TRIP_S if result is ProbeResult.UNANSWERED else TRIP_S)
        return result

    async def _watch(self, node: Node, alarm: Callable[[Node], None]) -> None:
        """Connects when the node can be reached, and then waits for `broken`."""
        self._watched[node.id] = broken = asyncio.Event()
        result = await self._probe(node, 1.0)
        if result is ProbeResult.ANSWERED:
            await broken.wait()
        if result is not ProbeResult.UNANSWERED:
            alarm(node)


async def _inline(work: Callable[[], None]) -> None:
    work()


async def _dispatch(controller: Controller, name: str, body: Any) -> bytes:
    """What the admin port would answer, in MessagePack."""
    made: Awaitable[Any]
    match name:
        case "routing":
            since, wait_s = RoutingVersion(body["since"]), body["wait_ms"] / 1000
            life = body.get("incarnation")
            return await controller.routing_since(since, wait_s, life)
        case "allocate_node_id":
            made = requests.allocate_node_id(controller)
        case "register":
            made = requests.register(controller, requests.RegisterBody.model_validate(body))
        case "heartbeat":
            made = requests.heartbeat(controller, requests.HeartbeatBody.model_validate(body))
        case "create_namespace":
            content = requests.NamespaceBody.model_validate(body)
            made = requests.create_namespace(controller, content)
        case "add_target":
            made = requests.change_chain(controller, AddTarget(**body))
        case "remove_target":
            made = requests.change_chain(controller, RemoveTarget(**body))
        case "replace_target":
            made = requests.change_chain(controller, ReplaceTarget(**body))
        case "reorder":
            order = Reorder(body["chain"], tuple(body["targets"]))
            made = requests.change_chain(controller, order)
        case "suspicions":
            given = requests.SuspicionsBody.model_validate(body)
            return _packed(requests.suspicions(controller, given))
        case _:
            raise InvalidArgument("no such request", {"name": name})
    return _packed(await made)


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _error(error: FirepondError) -> bytes:
    """An error as the admin port words it."""
    message = error.message or error.summary
    return _packed({"code": error.code, "message": message, "context": error.context})
