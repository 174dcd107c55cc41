"""The manager behind HTTP: shapes, errors, long poll, persistence, terms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import msgpack
import pytest

from firepond.fs.config import ManagerSettings
from firepond.fs.errors import ManagerNotLeader, StoreCorrupt
from firepond.fs.ids import Incarnation, NodeId, RoutingVersion
from firepond.fs.manager.controller import Controller, rules_of
from firepond.fs.manager.events import AllocateNodeId, Register
from firepond.fs.manager.model import NEVER_SERVED
from firepond.fs.manager.store import ManagerStore, take_term
from firepond.fs.routing_follower import Snapshot
from firepond.fs.service.app import make_app
from firepond.fs.service.body_limit import BODY_MAX_BYTES
from tests.unit.fs.manager_kit import FakeKv

SETTINGS = ManagerSettings(replicas=1, chains_per_node=2)
Http = httpx.AsyncClient


_node_address = [""]


async def answer_health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The admin port of every node of these tests: alive, incarnation 7."""
    if await reader.readline():
        body = b'{"incarnation": 7}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


def run(kv: FakeKv, work: Callable[[Http, Controller], Awaitable[None]]) -> None:
    """Runs `work` against a manager on a store."""

    async def inside() -> None:
        node = await asyncio.start_server(answer_health, "127.0.0.1", 0)
        _node_address[0] = f"127.0.0.1:{node.sockets[0].getsockname()[1]}"
        controller = Controller(ManagerStore(kv, take_term(kv)), SETTINGS)
        app = make_app(Incarnation(1), [], controller)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        json = {"content-type": "application/json"}
        async with Http(transport=transport, base_url="http://manager", headers=json) as http:
            await work(http, controller)
        await controller.stop()
        node.close()

    asyncio.run(inside())


async def join(http: Http, incarnation: int = 7) -> int:
    """A storage node registers."""
    node = (await http.post("/v1/node-ids")).json()["node_id"]
    body = {
        "node_id": node,
        "incarnation": incarnation,
        "data_address": "127.0.0.1:9",
        "admin_address": _node_address[0],
        "roles": ["storage"],
        "disks": [{"path": "/d0", "total_bytes": 5}],
    }
    reply = await http.post("/v1/register", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["lease_ms"] == SETTINGS.lease_ms
    return int(node)


def row(target: int, version: int, local: str) -> dict[str, Any]:
    """What an engine reports of a target."""
    report = {"target": target, "chain_version": version, "generation": 5, "served": False}
    return {**report, "local_state": local, "used_bytes": 0, "chunk_count": 0, "resync": None}


async def bring_up(http: Http) -> int:
    """A storage node whose targets serve."""
    node = await join(http)
    body: dict[str, Any] = {"node_id": node, "incarnation": 7, "routing_version": 0}
    made = (await http.post("/v1/heartbeat", json=body)).json()["assignments"]
    assert len(made) == 4 and all(disk == "/d0" for _, _, disk in made)
    body["targets"] = [row(target, 1, "online") for target, _, _ in made]
    assert (await http.post("/v1/heartbeat", json=body)).status_code == 200
    return node


def test_routing_is_what_the_native_side_decodes() -> None:
    """Goal: field names and states of the wire. Oracle: the names in routing.rs, written out."""

    async def work(http: Http, _: Controller) -> None:
        await bring_up(http)
        reply = await http.get("/v1/routing")
        routing = msgpack.unpackb(reply.content)
        assert routing["full"] and routing["lease_ms"] == SETTINGS.lease_ms
        assert routing["nodes"] == [
            {
                "id": 1,
                "data_address": "127.0.0.1:9",
                "admin_address": _node_address[0],
                "roles": ["storage"],
                "incarnation": 7,
                "alive": True,
            }
        ]
        assert routing["chains"][0] == {
            "id": 1,
            "version": 2,
            "durability": "durable",
            "targets": [{"target": 1, "node": 1, "state": "serving"}],
        }
        assert routing["tables"][1] == {"id": 2, "version": 1, "chains": [3, 4]}
        body = {"name": "kv", "class": "cache", "capacity_bytes": 10}
        made = (await http.post("/v1/namespaces", json=body)).json()
        since = {"since": routing["version"]}
        delta = msgpack.unpackb((await http.get("/v1/routing", params=since)).content)
        assert not delta["full"] and delta["chains"] == [] and delta["namespaces"] == [made]
        assert made == {
            "id": 1,
            "name": "kv",
            "table": 2,
            "table_version": 1,
            "class": "cache",
            "capacity_bytes": 10,
        }

    run(FakeKv(), work)


def test_deltas_add_up_to_the_whole() -> None:
    """Goal: a follower of deltas sees what a newcomer sees. Oracle: equality of the two."""

    async def work(http: Http, _: Controller) -> None:
        follower = Snapshot()

        async def follow() -> None:
            reply = await http.get("/v1/routing", params={"since": follower.version})
            follower.merge(reply.content)

        await follow()
        await bring_up(http)
        await follow()
        for name in ("a", "b"):
            body = {"name": name, "class": "durable", "capacity_bytes": 10}
            await http.post("/v1/namespaces", json=body)
            await follow()
        assert (await http.delete("/v1/namespaces/a")).status_code == 200
        await follow()
        newcomer = Snapshot()
        newcomer.merge((await http.get("/v1/routing")).content)
        assert newcomer.items == follower.items
        assert [one["name"] for one in newcomer.items["namespaces"].values()] == ["b"]
        assert set(msgpack.unpackb(follower.encode())) == {
            "version",
            "lease_ms",
            "nodes",
            "chains",
            "tables",
            "namespaces",
        }

    run(FakeKv(), work)


def test_long_poll_wakes_at_once() -> None:
    """Goal: a change reaches those who wait. Oracle: the time, with and without a change."""

    async def work(http: Http, controller: Controller) -> None:
        version = controller.state.version
        parameters = {"since": version, "wait_ms": 200}
        started = time.monotonic()
        reply = await http.get("/v1/routing", params={**parameters, "since": 0})
        await join(http)
        version = controller.state.version
        assert (await http.get("/v1/routing", params={**parameters, "since": version})).is_success
        assert time.monotonic() - started >= 0.2
        waiting = asyncio.create_task(
            http.get("/v1/routing", params={"since": version, "wait_ms": 20_000})
        )
        await asyncio.sleep(0.05)
        await join(http, 8)
        reply = await asyncio.wait_for(waiting, 2)
        assert msgpack.unpackb(reply.content)["version"] > version

    run(FakeKv(), work)


def test_state_survives_a_new_manager() -> None:
    """Goal: kill -9 of the manager loses nothing. Oracle: the routing before and after."""
    kv = FakeKv()
    seen: list[bytes] = []

    async def first(http: Http, _: Controller) -> None:
        await bring_up(http)
        await http.post("/v1/namespaces", json={"name": "x", "class": "cache", "capacity_bytes": 1})
        seen.append((await http.get("/v1/routing")).content)

    async def second(http: Http, controller: Controller) -> None:
        seen.append((await http.get("/v1/routing")).content)
        assert controller.store.term == 2
        body = {"node_id": 1, "incarnation": 7, "targets": []}
        assert (await http.post("/v1/heartbeat", json=body)).status_code == 200

    run(kv, first)
    run(kv, second)
    assert seen[0] == seen[1]


def test_older_term_can_write_nothing() -> None:
    """Goal: one manager leads. Method: take a newer term. Oracle: the error, the store."""
    kv = FakeKv()

    async def work(http: Http, controller: Controller) -> None:
        take_term(kv)
        pairs = dict(kv.pairs)
        reply = await http.post("/v1/node-ids")
        assert reply.status_code == 503
        assert reply.json()["error"]["kind"] == "manager_not_leader"
        assert controller.failed.is_set() and kv.pairs == pairs

    run(kv, work)
    with pytest.raises(ManagerNotLeader):
        kv.pairs.pop(b"header", None)
        ManagerStore(kv, take_term(kv) - 1).load(rules_of(SETTINGS))  # type: ignore[arg-type]


def test_rotten_record_is_named() -> None:
    """Goal: a record that does not decode is an error, not a crash. Oracle: its kind."""
    kv = FakeKv()
    store = ManagerStore(kv, take_term(kv))
    kv.pairs[b"node/00000001"] = b"\xc1"
    with pytest.raises(StoreCorrupt):
        store.load(rules_of(SETTINGS))
    kv.pairs[b"node/00000001"] = msgpack.packb({"format": 1, "id": 1})
    with pytest.raises(StoreCorrupt):
        store.load(rules_of(SETTINGS))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/v1/register", b"no json", 400, "invalid_argument"),
        ("POST", "/v1/register", b"{}", 400, "invalid_argument"),
        ("POST", "/v1/heartbeat", b'{"node_id":5,"incarnation":5}', 404, "node_unknown"),
        ("POST", "/v1/suspicions", b'{"suspicions":[[1]]}', 400, "invalid_argument"),
        ("POST", "/v1/suspicions", b'{"suspicions":[[1,2],[99,1]]}', 200, ""),
        ("GET", "/v1/routing?since=-1", b"", 400, "invalid_argument"),
        ("GET", "/v1/routing?since=999999", b"", 200, ""),
        ("GET", "/v1/nothing", b"", 404, "not_found"),
        ("DELETE", "/v1/namespaces/none", b"", 404, "namespace_unknown"),
        ("POST", "/v1/namespaces", b'{"name":"","class":"cache","capacity_bytes":1}', 400, ""),
        ("POST", "/v1/namespaces", b'{"name":"a","class":"gold","capacity_bytes":1}', 400, ""),
        ("POST", "/v1/tables/extend", b"", 503, "cluster_not_ready"),
    ],
)
def test_bad_requests(method: str, path: str, body: bytes, status: int, kind: str) -> None:
    """Goal: nonsense gets a clear error. Oracle: status, kind, a next step."""

    async def work(http: Http, _: Controller) -> None:
        reply = await http.request(method, path, content=body)
        assert reply.status_code == status, reply.text
        if status >= 400:
            error = reply.json()["error"]
            assert error["message"] and error["next_step"]
            assert kind in ("", error["kind"])

    run(FakeKv(), work)


def test_endless_body_is_refused() -> None:
    """Goal: no client can fill the manager's memory. Method: a body without an end, in chunks.

    Oracle: the status, and how much of it was taken.
    """
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1 << 20
            yield bytes(1 << 20)

    async def work(http: Http, _: Controller) -> None:
        reply = await http.post("/v1/suspicions", content=endless())
        assert reply.status_code == 413, reply.text
        assert reply.json()["error"]["kind"] == "invalid_argument"

    run(FakeKv(), work)
    assert taken <= BODY_MAX_BYTES + (2 << 20)


def test_chains_can_be_seen_and_changed() -> None:
    """Goal: the routes of `firepond admin chain`. Method: two nodes, one replica; one more, then
    the first one goes. Oracle: replies of the routes and of heartbeats.
    """

    async def work(http: Http, _: Controller) -> None:
        first = await bring_up(http)
        second = await join(http)
        chain = (await http.get("/v1/chains")).json()[0]
        assert (await http.get("/v1/chains/99")).status_code == 404
        assert (await http.get(f"/v1/chains/{chain['id']}")).json() == chain
        target = chain["targets"][0]["target"]
        path = f"/v1/chains/{chain['id']}/targets"
        assert (await http.delete(f"{path}/{target}")).status_code == 503
        assert (await http.post(path, json={"node": first})).status_code == 400
        added = (await http.post(path, json={"node": second})).json()
        fresh = added["targets"][1]
        assert (fresh["node"], fresh["state"], added["leaving"]) == (second, "offline", [])
        version = added["version"]
        for local, state in (("online", "syncing"), ("up-to-date", "serving")):
            beat = {"node_id": second, "incarnation": 7}
            beat["targets"] = [row(fresh["target"], version, local)]
            assert (await http.post("/v1/heartbeat", json=beat)).status_code == 200
            found = (await http.get(f"/v1/chains/{chain['id']}")).json()
            assert found["targets"][1]["state"] == state
            version = found["version"]
        beat["targets"] = [row(fresh["target"], version, "up-to-date")]
        assert (await http.post("/v1/heartbeat", json=beat)).status_code == 200
        order = {"targets": [fresh["target"], target]}
        assert (await http.put(f"/v1/chains/{chain['id']}/order", json=order)).json()["reordering"]
        found = (await http.delete(f"{path}/{target}")).json()
        assert found["leaving"] == [{"target": target, "successor": None}]
        beat = {"node_id": first, "incarnation": 7, "targets": [row(target, version, "up-to-date")]}
        reply = (await http.post("/v1/heartbeat", json=beat)).json()
        assert (reply["step_down"], reply["drop"]) == ([target], [])
        beat["targets"] = [row(target, version, "offline")]
        reply = (await http.post("/v1/heartbeat", json=beat)).json()
        assert (reply["step_down"], reply["drop"]) == ([], [target])
        assert target not in [one for one, _, _ in reply["assignments"]]
        assert len((await http.get(f"/v1/chains/{chain['id']}")).json()["targets"]) == 1

    run(FakeKv(), work)


def test_records_of_the_first_format_are_read() -> None:
    """Goal: a manager starts on what an older one wrote. Method: a store with the fields of format
    1 only. Oracle: the same chains, and what is new is unset or careful.
    """
    kv = FakeKv()

    async def begin(http: Http, _: Controller) -> None:
        await bring_up(http)

    run(kv, begin)
    before = ManagerStore(kv, take_term(kv)).load(rules_of(SETTINGS))
    later = {"removed", "served_version", "preferred", "reordering", "leaving"}
    for key, record in kv.pairs.items():
        values = {name: one for name, one in msgpack.unpackb(record).items() if name not in later}
        if "members" in values:
            values["members"] = [one[:3] for one in values["members"]]
        kv.pairs[key] = msgpack.packb({**values, "format": 1})
    after = ManagerStore(kv, take_term(kv)).load(rules_of(SETTINGS))
    unset = {
        chain.id: replace(
            chain, members=tuple(replace(one, served_version=NEVER_SERVED) for one in chain.members)
        )
        for chain in before.chains.values()
    }
    assert after == replace(before, chains=unset)
    assert all(chain.served_version == chain.version for chain in after.chains.values())


def test_a_stopped_manager_promises_nothing_and_did_not_fail() -> None:
    """Goal: a request that arrives while the manager stops is refused, and is no fault of it.

    Method: `stop`, then a registration, an event that changes nothing and newer routing.
    Oracle: "not the leader" each time, the closed store is not asked, `failed` is not set.
    """

    class ClosingKv(FakeKv):
        closed = False

        def close(self) -> None:
            self.closed = True

        def begin(self) -> Any:
            assert not self.closed, "a closed store was asked"
            return super().begin()

    async def inside() -> None:
        kv = ClosingKv()
        controller = Controller(ManagerStore(kv, take_term(kv)), SETTINGS)
        controller.start()
        await controller.stop()
        event = Register(NodeId(1), Incarnation(7), "host:1", "host:1", ("storage",), ("/disk",))
        with pytest.raises(ManagerNotLeader):
            await controller.register(event, time.monotonic_ns())
        with pytest.raises(ManagerNotLeader):
            await controller.apply(AllocateNodeId())
        with pytest.raises(ManagerNotLeader):
            await controller.routing_since(RoutingVersion(1 << 40), 0.0, None)
        assert not controller.failed.is_set()

    asyncio.run(inside())
