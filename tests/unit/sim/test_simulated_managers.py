"""The managers on a stepped clock: leases, probes, fail-over, fencing, the same run twice."""

from __future__ import annotations

from typing import Any

import msgpack

from tests.sim.manager import NEVER_NS, SimulatedManagers

MILLISECOND = 1_000_000
SETTINGS = {"replicas": 3, "storage_nodes_min": 3, "chains_per_node": 1}


class World:
    """Three storage nodes, some managers, one clock."""

    def __init__(self, replicas: int = 3) -> None:
        self.now_ns = 1_000 * MILLISECOND
        self.gone: set[int] = set()
        self.silent: set[int] = set()
        self.trace: list[tuple[int, bool, bytes]] = []
        self.managers = SimulatedManagers({**SETTINGS, "replicas": replicas}, self.probe)
        self.managers.start(0, self.now_ns)

    def probe(self, node: int, _incarnation: int) -> str:
        if node in self.gone:
            return "gone"
        return "unanswered" if node in self.silent else "answered"

    def ask(self, index: int, name: str, body: Any = None) -> tuple[bool, Any]:
        """One request and its reply, a millisecond at a time."""
        request = self.managers.request(self.now_ns, index, name, msgpack.packb(body))
        for _ in range(3000):
            replies, _ = self.managers.advance(self.now_ns)
            self.trace += replies
            for at, ok, content in replies:
                if at == request:
                    return ok, msgpack.unpackb(content, strict_map_key=False)
            self.now_ns += MILLISECOND
        raise AssertionError(f"{name} is not answered")

    def pass_ms(self, milliseconds: int) -> None:
        """Time passes, timer by timer."""
        end_ns = self.now_ns + milliseconds * MILLISECOND
        while self.now_ns < end_ns:
            replies, next_ns = self.managers.advance(self.now_ns)
            self.trace += replies
            assert next_ns > self.now_ns
            self.now_ns = min(next_ns, end_ns)
        self.trace += self.managers.advance(self.now_ns)[0]

    def register(self, index: int, node: int, life: int) -> tuple[bool, Any]:
        body = {"node_id": node, "incarnation": life, "data_address": f"n{node}:1"}
        body |= {"admin_address": f"n{node}:2", "roles": ["storage"], "disks": [{"path": "/d"}]}
        return self.ask(index, "register", body)

    def routing(self, index: int) -> dict[str, Any]:
        return self.ask(index, "routing", {"since": 0, "wait_ms": 0})[1]

    def beat(self, index: int, node: int, life: int, local: str | None = None) -> tuple[bool, Any]:
        """A heartbeat of an engine that follows at once; `local`: what it says of all targets."""
        targets = []
        for chain in self.routing(index)["chains"]:
            for one in chain["targets"]:
                if one["node"] == node:
                    serving = one["state"] == "serving"
                    row = {"target": one["target"], "chain_version": chain["version"]}
                    row |= {"generation": 5, "served": one["state"].endswith("serving")}
                    row["local_state"] = local or ("up-to-date" if serving else "online")
                    targets.append(row)
        body = {"node_id": node, "incarnation": life, "routing_version": 1, "targets": targets}
        return self.ask(index, "heartbeat", body)

    def bring_up(self) -> None:
        for node in (1, 2, 3):
            assert self.ask(0, "allocate_node_id") == (True, {"node_id": node})
            assert self.register(0, node, node * 10)[0]
        for node in (1, 2, 3):
            assert self.beat(0, node, node * 10)[0]
        assert set(self.states(0)) == {"serving"}

    def states(self, index: int) -> list[str]:
        return [one["state"] for chain in self.routing(index)["chains"] for one in chain["targets"]]

    def chain_of(self, index: int, *nodes: int) -> dict[int, str]:
        """The states in the chain of just these nodes, by node."""
        for chain in self.routing(index)["chains"]:
            states = {one["node"]: one["state"] for one in chain["targets"]}
            if set(states) == set(nodes):
                return states
        raise AssertionError(f"no chain of {nodes}")

    def alive(self, index: int) -> list[int]:
        return [one["id"] for one in self.routing(index)["nodes"] if one["alive"]]


def test_a_silent_node_is_evicted_when_its_lease_has_ended() -> None:
    """Goal: ticks and leases run on the given clock. Oracle: who lives, before and after."""
    world = World()
    world.bring_up()
    world.silent.add(3)
    for _ in range(4):
        world.pass_ms(500)
        assert world.alive(0) == [1, 2, 3]
        for node in (1, 2):
            assert world.beat(0, node, node * 10)[0]
    world.pass_ms(300)
    assert world.alive(0) == [1, 2]


def test_a_broken_connection_has_the_node_probed() -> None:
    """Goal: death is known at once. Method: `broken`, then a probe. Oracle: who is alive."""
    world = World()
    world.bring_up()
    world.pass_ms(10)
    world.gone.add(2)
    world.managers.broken(0, 2)
    world.pass_ms(10)
    assert world.alive(0) == [1, 3]


def test_an_answer_from_before_the_connection_broke_does_not_count() -> None:
    """Goal: of two that die within one round of probes, which a third one delays, neither is taken
    for a survivor (seed 13573). Method: the second one's poll for routing still waits here, so that
    it would count as having served alone. Oracle: both are last-serving."""
    world = World(replicas=2)
    world.bring_up()
    world.pass_ms(10)
    body = {"since": world.routing(0)["version"], "wait_ms": 9000, "incarnation": 30}
    world.managers.request(world.now_ns, 0, "routing", msgpack.packb(body))
    world.silent.add(1)
    world.gone.add(2)
    world.managers.broken(0, 2)
    world.pass_ms(20)
    world.gone.add(3)
    world.managers.broken(0, 3)
    world.pass_ms(400)
    assert world.alive(0) == [1]
    assert world.chain_of(0, 2, 3) == {2: "last-serving", 3: "last-serving"}


def test_an_answer_from_before_the_manager_stopped_does_not_count() -> None:
    """Goal: of two that die, one while the manager is frozen, neither is taken for a survivor (seed
    50469). Method: the second one answers the probe, dies, and its broken connection is heard of
    after its answer; its poll for routing waits here. Oracle: both are last-serving."""
    world = World(replicas=2)
    world.bring_up()
    world.pass_ms(10)
    body = {"since": world.routing(0)["version"], "wait_ms": 9000, "incarnation": 30}
    world.managers.request(world.now_ns, 0, "routing", msgpack.packb(body))
    world.silent.add(1)
    world.gone.add(2)
    world.managers.broken(0, 2)
    world.pass_ms(20)
    world.gone.add(3)
    world.now_ns += 5000 * MILLISECOND
    world.managers.woke(world.now_ns)
    world.silent.discard(1)
    world.pass_ms(1)
    world.managers.broken(0, 3)
    world.pass_ms(400)
    assert world.alive(0) == [1]
    assert world.chain_of(0, 2, 3) == {2: "last-serving", 3: "last-serving"}


def test_a_manager_that_was_stopped_judges_nobody_by_old_leases() -> None:
    """Goal: a frozen machine's timers are late, and the manager sees that. Method: all are silent
    as long as it stands still. Oracle: all live, and who stays silent does not for long."""
    world = World()
    world.bring_up()
    world.now_ns += 5000 * MILLISECOND
    world.managers.woke(world.now_ns)
    world.pass_ms(1000)
    assert world.alive(0) == [1, 2, 3]
    world.pass_ms(1500)
    assert world.alive(0) == []


def test_a_chain_is_not_left_to_a_node_whose_connection_broke() -> None:
    """Goal: while a node whose connection broke does not answer, nobody else leaves its chain, as
    they may have gone together (seed 10755). Method: a probe that is cut off, and meanwhile the
    disk of the other member fails. Oracle: the chain, before and after its death is known."""
    world = World(replicas=2)
    world.bring_up()
    world.pass_ms(10)
    world.silent.add(2)
    world.managers.broken(0, 2)
    world.pass_ms(100)
    assert world.beat(0, 3, 30, "offline")[0]
    assert world.chain_of(0, 2, 3) == {2: "serving", 3: "serving"}
    world.silent.discard(2)
    world.gone.add(2)
    world.pass_ms(1000)
    assert world.alive(0) == [1, 3]
    assert world.chain_of(0, 2, 3) == {2: "last-serving", 3: "last-serving"}
    assert world.beat(0, 3, 30, "online")[0]
    assert world.chain_of(0, 2, 3) == {2: "offline", 3: "serving"}


def test_a_broken_connection_alone_changes_nothing() -> None:
    """Goal: a node that answers again is trusted again. Oracle: a chain goes on with it at once."""
    world = World(replicas=2)
    world.bring_up()
    world.pass_ms(10)
    world.managers.broken(0, 2)
    world.pass_ms(10)
    assert set(world.states(0)) == {"serving"}
    assert world.beat(0, 3, 30, "offline")[0]
    assert world.chain_of(0, 2, 3) == {2: "serving", 3: "offline"}


def test_a_newer_manager_fences_the_older() -> None:
    """Goal: an old leader answers nothing that a new one does not know of.

    Method: two managers on one store; each kind of request to the old one. Oracle: all that
    promise something are refused, and the old process ends; the new one goes on.
    """
    for name in ("heartbeat", "register", "allocate_node_id"):
        world = World()
        world.bring_up()
        world.managers.start(1, world.now_ns)
        assert world.managers.leads(0)
        if name == "heartbeat":
            # Routing that was persisted may still be handed out: it is old, not wrong.
            ok, reply = world.beat(0, 1, 10)
        elif name == "register":
            ok, reply = world.register(0, 1, 10)
        else:
            ok, reply = world.ask(0, name)
        assert not ok and "manager" in reply["message"], reply
        assert not world.managers.leads(0)
        assert world.beat(1, 1, 10)[0]


def test_an_idle_fenced_manager_stops() -> None:
    """Goal: an old leader finds out by itself. Oracle: it ends within two seconds."""
    world = World()
    world.bring_up()
    world.managers.start(1, world.now_ns)
    world.pass_ms(2000)
    assert not world.managers.leads(0) and world.managers.leads(1)


def test_an_old_leader_never_outlives_the_patience_of_a_new_one() -> None:
    """Goal: no lease of an old leader runs when the new one evicts.

    Method: an old and a new leader; one node beats to the old one only, as often as it can, and
    counts its lease from when it sent. Oracle: the lease ends before the eviction.
    """
    world = World()
    world.bring_up()
    lease_end_ns = 0
    for step in range(1, 400):
        if step == 20:
            world.managers.start(1, world.now_ns)
        sent_ns = world.now_ns
        ok, reply = world.beat(0, 3, 30) if world.managers.leads(0) else (False, None)
        if ok:
            lease_end_ns = sent_ns + reply["lease_ms"] * MILLISECOND
        world.pass_ms(10)
        if step >= 20:
            for node in (1, 2):
                world.beat(1, node, node * 10)
            if 3 not in world.alive(1):
                assert world.now_ns >= lease_end_ns, "evicted while it may serve"
                return
    raise AssertionError("the silent node is never evicted")


def test_a_restarted_manager_knows_everything() -> None:
    """Goal: kill and start keep the state. Oracle: the same routing; refusals in between."""
    world = World()
    world.bring_up()
    before = world.routing(0)
    world.managers.kill(0)
    assert not world.ask(0, "allocate_node_id")[0]
    world.managers.start(0, world.now_ns)
    assert world.routing(0)["chains"] == before["chains"]
    world.pass_ms(1000)
    assert world.alive(0) == [1, 2, 3]


def test_a_killed_manager_answers_nothing_more() -> None:
    """Goal: a request that waits is refused, once. Method: a long poll, a kill. Oracle: replies."""
    world = World()
    world.bring_up()
    version = world.routing(0)["version"]
    body = msgpack.packb({"since": version, "wait_ms": 5000})
    request = world.managers.request(world.now_ns, 0, "routing", body)
    assert world.managers.advance(world.now_ns)[0] == []
    world.managers.kill(0)
    replies, next_ns = world.managers.advance(world.now_ns)
    assert [(at, ok) for at, ok, _ in replies] == [(request, False)]
    assert next_ns == NEVER_NS
    assert world.managers.advance(world.now_ns + 10_000 * MILLISECOND)[0] == []


def test_the_same_calls_give_the_same_replies() -> None:
    """Goal: a run can be repeated. Method: one story with a death and a fail-over, twice."""
    traces = []
    for _ in range(2):
        world = World()
        world.bring_up()
        world.gone.add(1)
        world.managers.broken(0, 1)
        world.pass_ms(50)
        world.managers.start(1, world.now_ns)
        for _ in range(5):
            world.pass_ms(500)
            world.beat(1, 2, 20)
        traces.append((world.trace, world.now_ns, world.states(1)))
        world.managers.close()
    assert traces[0] == traces[1]


def test_chain_changes_can_be_asked_for() -> None:
    """Goal: plans may change chains. Method: each request. Oracle: what the replies say."""
    world = World()
    world.bring_up()
    chain = world.routing(0)["chains"][0]
    targets = [one["target"] for one in chain["targets"]]
    ok, found = world.ask(0, "reorder", {"chain": chain["id"], "targets": targets[::-1]})
    assert ok and found["reordering"]
    body = {"chain": chain["id"], "target": targets[0]}
    ok, found = world.ask(0, "remove_target", body)
    assert ok and found["leaving"][0]["target"] == targets[0]
    assert not world.ask(0, "add_target", {"chain": chain["id"], "node": 1})[0]
    assert not world.ask(0, "replace_target", {**body, "node": 9})[0]


def test_a_dead_life_that_still_registers_does_not_retire_the_next_one() -> None:
    """Goal: of two registrations on their way at once the later one stands.

    Method: the first waits for the probe of a silent neighbour, the second need not; a third comes
    late from the first life. Oracle: refusals, and heartbeats of the second.
    """
    world = World()
    world.bring_up()
    world.pass_ms(10)
    world.silent.add(3)
    world.gone.add(1)
    world.managers.broken(0, 1)
    world.pass_ms(200)
    body = {"node_id": 1, "incarnation": 11, "data_address": "n1:1", "admin_address": "n1:2"}
    body |= {"roles": ["storage"], "disks": [{"path": "/d"}]}
    world.managers.request(world.now_ns, 0, "register", msgpack.packb(body))
    world.pass_ms(150)
    assert world.alive(0) == [2, 3]
    world.gone.discard(1)
    assert world.register(0, 1, 12)[0]
    world.pass_ms(1_000)
    ok, reply = world.beat(0, 1, 12)
    assert ok, reply
    ok, reply = world.register(0, 1, 13)
    assert not ok and "is alive" in reply["message"]
    world.silent.add(1)
    ok, reply = world.register(0, 1, 13)
    assert not ok and "may still serve" in reply["message"]


def test_a_new_life_waits_until_no_chain_takes_it_for_the_old_one() -> None:
    """Goal: while a chain is held, because whoever else serves it does not answer, a member that
    died there and comes back is not let in as serving. Oracle: its registration, then its state."""
    world = World()
    world.bring_up()
    world.pass_ms(10)
    world.gone.add(1)
    world.silent |= {2, 3}
    world.managers.broken(0, 1)
    world.pass_ms(400)
    assert world.alive(0) == [2, 3]
    world.gone.discard(1)
    ok, reply = world.register(0, 1, 11)
    assert not ok, reply
    world.pass_ms(2_500)
    assert world.register(0, 1, 11)[0]
    chains = world.routing(0)["chains"]
    shown = [one["state"] for chain in chains for one in chain["targets"] if one["node"] == 1]
    assert "serving" not in shown
