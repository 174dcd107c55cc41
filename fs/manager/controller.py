"""Runs the decisions: one at a time, persisted before anybody sees them, then carried out.

Owns: the order event → decide → save → publish → actions, the proof that we still lead.
Invariants: decisions are serial; a state that was not persisted is never shown; a manager that
cannot persist stops (`failed`), as it would otherwise promise what it forgets.

A manager that lost its term answers nothing. Every answer that promises something (a lease first of
all) comes after a look at the term in the store that began after the request had arrived: the save
of the decision, or else `_confirm_term`. Why that is enough for leases: a node counts its lease
from when it sent the heartbeat, so what we promise ends at the latest one lease after our look; a
newer manager, whose term began after it, gives everybody a full lease before it judges.
Routing may be handed out without a look: it was persisted, so it is merely old, as if it had been
delayed on its way; only a follower that knows newer routing shows that we may not lead any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Any

from firepond.fs.config import ManagerSettings
from firepond.fs.errors import FirepondError, InvalidArgument, ManagerNotLeader
from firepond.fs.ids import Incarnation, NodeId, RoutingVersion
from firepond.fs.logging import get_logger
from firepond.fs.manager.decide import decide, load
from firepond.fs.manager.events import (
    Action,
    Event,
    Followed,
    Note,
    Observed,
    Probe,
    Register,
    Tick,
)
from firepond.fs.manager.model import Node, Rules, State
from firepond.fs.manager.probe import ProbeResult
from firepond.fs.manager.routing import encode
from firepond.fs.manager.store import ManagerStore
from firepond.fs.manager.surroundings import Surroundings

TICK_S = 0.1
REWATCH_PAUSE_S = 0.5
CONFIRM_PAUSE_NS = 1_000_000_000
"""A manager that nobody asks anything looks after its term this often."""

Life = tuple[NodeId, Incarnation]


def rules_of(settings: ManagerSettings) -> Rules:
    """The settings that decisions depend on."""
    return Rules(
        lease_ns=settings.lease_ms * 1_000_000,
        heartbeat_ns=settings.heartbeat_ms * 1_000_000,
        margin_ns=settings.eviction_margin_ms * 1_000_000,
        replicas=settings.replicas,
        storage_nodes_needed=settings.storage_nodes_needed,
        chains_per_node=settings.chains_per_node,
        resyncs_per_node=settings.resyncs_per_node,
        order_after_ns=settings.order_after_s * 1_000_000_000,
    )


class Controller:
    """The manager behind its HTTP service. All methods belong to one event loop."""

    def __init__(
        self,
        store: ManagerStore,
        settings: ManagerSettings,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.surroundings = surroundings or Surroundings()
        self._confirmed_ns = self.surroundings.clock_ns()
        self.state = load(store.load(rules_of(settings)))
        self.failed = asyncio.Event()
        self.failure: FirepondError | None = None
        self._log = get_logger("firepond.manager")
        self._deciding = asyncio.Lock()
        self._confirming = asyncio.Lock()
        self._published = asyncio.Condition()
        self._stopping = False
        self._tasks: dict[asyncio.Task[None], None] = {}  # In order: a run can be repeated.
        self._watches: dict[Life, asyncio.Task[None]] = {}
        self._probing: dict[NodeId, asyncio.Task[None]] = {}
        self._alarms: Counter[NodeId] = Counter()

    def start(self) -> None:
        """Begins to tick."""
        self._log.info("manager leads", term=self.store.term, version=self.state.version)
        self._spawn(self._tick_forever())

    async def stop(self) -> None:
        """Ends all waiting calls and closes the store."""
        self._stopping = True
        async with self._published:
            self._published.notify_all()
        self.abandon()
        async with self._deciding, self._confirming:  # What comes after us sees that we stopped.
            await self.surroundings.run_blocking(self.store.close)

    def abandon(self) -> None:
        """Ends all work in the background; nothing is saved and nothing is closed."""
        for task in [*self._tasks, *self._watches.values()]:
            task.cancel()

    async def apply(self, event: Event, now_ns: int | None = None) -> tuple[State, State]:
        """Decides, persists, publishes. The states before and after; raises what refuses it."""
        async with self._deciding:
            self._check_running()
            before = self.state
            now = self.surroundings.clock_ns() if now_ns is None else now_ns
            after, actions = decide(before, event, now)
            if after.version > before.version:
                await self._save(before, after)
            self.state = after
        if after.version > before.version:
            async with self._published:
                self._published.notify_all()
        self._sync_watches()
        self._carry_out(actions)
        if not isinstance(event, Tick | Observed | Followed):  # Those that promise nothing.
            await self._confirm_term(now)
        return before, after

    async def register(self, event: Register, now_ns: int) -> State:
        """Registers a node; if it is a new life, first finds out whether the old one is gone.

        A registration alone does not prove it: it may have been under way for long, and its sender
        be dead, while the life that is known serves.
        """
        known = self.state.nodes.get(event.node)
        if known is not None and known.alive and known.incarnation != event.incarnation:
            life = (known.id, known.incarnation)
            found = await self.investigate([life])
            if life in found[ProbeResult.ANSWERED]:
                raise InvalidArgument(
                    "another process with this node id is alive",
                    {"node": str(known.id), "admin_address": known.admin_address},
                )
        return (await self.apply(event, now_ns))[1]

    async def investigate(self, suspects: Iterable[Life]) -> dict[ProbeResult, list[Life]]:
        """Probes suspects and everybody they share chains with; one decision covers the result.

        An answer counts only if the node's connection has not broken since it was asked: others may
        let us wait for long. If we were stopped meanwhile, no answer counts: what happened to those
        who gave it waits to be heard, and a chain left to one of them now may be left to the dead.
        """
        asked = {life for life in suspects if self._is_current(life)}
        for node, _ in list(asked):
            for chain in self.state.chains_of(node):
                mates = (self.state.nodes[member.node] for member in chain.members)
                asked.update((mate.id, mate.incarnation) for mate in mates if mate.alive)
        lives = sorted(asked)
        timeout_s = self.settings.probe_timeout_ms / 1000
        nodes = [self.state.nodes[node] for node, _ in lives]
        alarms = {node.id: self._alarms[node.id] for node in nodes}
        began_ns = self.surroundings.clock_ns()
        probes = (self.surroundings.probe(node, timeout_s) for node in nodes)
        results = await asyncio.gather(*probes)
        if self.surroundings.clock_ns() - began_ns > 2 * timeout_s * 1e9:
            stale = {ProbeResult.ANSWERED: ProbeResult.UNANSWERED}
            results = [stale.get(result, result) for result in results]
        found: dict[ProbeResult, list[Life]] = {result: [] for result in ProbeResult}
        for life, result in zip(lives, results, strict=True):
            found[result].append(life)
        fresh = (
            one for one in found[ProbeResult.ANSWERED] if self._alarms[one[0]] == alarms[one[0]]
        )
        await self.apply(
            Observed(
                gone=tuple(found[ProbeResult.GONE]),
                unanswered=tuple(found[ProbeResult.UNANSWERED]),
                answered=tuple(fresh),
            )
        )
        return found

    def suspect(self, suspects: Iterable[Life]) -> None:
        """Has suspects probed in the background; nobody is probed twice at a time."""
        fresh = [one for one in suspects if self._is_current(one) and one[0] not in self._probing]
        if not fresh:
            return
        task = self._spawn(self._investigate(fresh))
        for node, _ in fresh:
            self._probing[node] = task
        task.add_done_callback(self._forget_probe)

    async def _investigate(self, suspects: Iterable[Life]) -> None:
        await self.investigate(suspects)

    def _alarm(self, node: Node) -> None:
        """A node's idle connection broke: its process is gone, or the network is not well.

        It is in doubt until it answers again, so that meanwhile no chain is left to it alone: if it
        died together with another one, both are complete.
        """
        self._alarms[node.id] += 1
        self._spawn(self._doubt((node.id, node.incarnation)))

    async def _doubt(self, life: Life) -> None:
        await self.apply(Observed(unanswered=(life,)))
        await self.investigate((life,))

    def _forget_probe(self, task: asyncio.Task[None]) -> None:
        self._probing = {node: one for node, one in self._probing.items() if one is not task}

    async def routing_since(
        self, since: RoutingVersion, wait_s: float, incarnation: Incarnation | None
    ) -> bytes:
        """Routing newer than `since`; waits for it. Unchanged routing is an empty delta.

        `incarnation`: of the process that is to see it, 0 of one that serves no data.
        """
        clock_ns = self.surroundings.clock_ns
        deadline_ns = clock_ns() + int(wait_s * 1e9)
        if since > self.state.version:
            await self._confirm_term(clock_ns())
        async with self._published:
            while self.state.version == since and not self._stopping:
                left_s = (deadline_ns - clock_ns()) / 1e9
                if left_s <= 0:
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._published.wait(), left_s)
        if self.state.departed and incarnation != 0:
            await self.apply(Followed(incarnation))
        return encode(self.state, since)

    async def _save(self, before: State, after: State) -> None:
        began_ns = self.surroundings.clock_ns()
        save = self.surroundings.run_blocking(lambda: self.store.save(before, after))
        try:
            await asyncio.shield(save)
        except BaseException as error:  # A save that was cancelled may have happened, too.
            self._fail(error)
            raise
        self._confirmed_ns = began_ns

    async def _confirm_term(self, since_ns: int) -> None:
        """We still led at some time after `since_ns`. One look serves all who wait for one."""
        async with self._confirming:
            if self._confirmed_ns > since_ns:
                return
            self._check_running()
            began_ns = self.surroundings.clock_ns()
            try:
                await self.surroundings.run_blocking(self.store.check_term)
            except Exception as error:
                self._fail(error)
                raise
            self._confirmed_ns = began_ns

    def _check_running(self) -> None:
        if self._stopping or self.failed.is_set():
            raise ManagerNotLeader("this manager has stopped")

    def _fail(self, error: BaseException) -> None:
        self.failure = FirepondError("the manager could not keep its state")
        if isinstance(error, ManagerNotLeader):
            self.failure = error
            self._log.info("another manager leads, this one stops", error=str(error))
        elif not (isinstance(error, asyncio.CancelledError) and self._stopping):
            self._log.error("the manager cannot keep its state and stops", error=str(error))
        self.failed.set()

    def _is_current(self, life: Life) -> bool:
        node = self.state.nodes.get(life[0])
        return node is not None and node.alive and node.incarnation == life[1]

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Note():
                    self._log.info(action.event, **action.fields)
                case Probe():
                    nodes = (self.state.nodes[node] for node in action.nodes)
                    self.suspect((node.id, node.incarnation) for node in nodes)

    async def _tick_forever(self) -> None:
        while not self.failed.is_set():
            try:
                await self.apply(Tick())
                await self._confirm_term(self.surroundings.clock_ns() - CONFIRM_PAUSE_NS)
            except ManagerNotLeader:
                return
            except FirepondError as error:
                self._log.error("tick failed", error=str(error))
            await asyncio.sleep(TICK_S)

    def _sync_watches(self) -> None:
        """One idle connection to each living node; a manager does not watch itself."""
        wanted = {
            (node.id, node.incarnation): node
            for node in self.state.nodes.values()
            if node.alive and "manager" not in node.roles
        }
        for life in [one for one in self._watches if one not in wanted]:
            self._watches.pop(life).cancel()
        for life in [one for one in wanted if one not in self._watches]:
            self._watches[life] = asyncio.create_task(self._watch_forever(wanted[life]))

    async def _watch_forever(self, node: Node) -> None:
        while True:
            await self.surroundings.watch(node, self._alarm)
            await asyncio.sleep(REWATCH_PAUSE_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
