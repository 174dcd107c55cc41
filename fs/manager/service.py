"""The manager's HTTP routes: thin translations between HTTP and `requests`.

Never: decisions, request shapes. Errors: see `service.http_errors`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from firepond.fs.errors import NotFound
from firepond.fs.ids import ChainId, Incarnation, NodeId, RoutingVersion, TargetId
from firepond.fs.manager import requests
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.events import (
    AcceptLoss,
    AddTarget,
    ExtendTables,
    RemoveNamespace,
    RemoveTarget,
    Reorder,
    ReplaceTarget,
)
from firepond.fs.manager.report import chain_info, cluster_status

WAIT_MAX_MS = 30_000


def manager_routes(controller: Controller) -> APIRouter:
    """All routes of a manager."""
    router = APIRouter(prefix="/v1")
    _add_node_routes(router, controller)
    _add_client_routes(router, controller)
    _add_chain_routes(router, controller)
    return router


def _add_chain_routes(router: APIRouter, controller: Controller) -> None:
    @router.get("/chains")
    async def chains() -> list[dict[str, Any]]:
        state, unix_time_ms = controller.state, _unix_time_ms(controller)
        return [chain_info(state, chain, unix_time_ms) for chain in state.chains.values()]

    @router.get("/chains/{chain}")
    async def chain_one(chain: int) -> dict[str, Any]:
        found = controller.state.chains.get(ChainId(chain))
        if found is None:
            raise NotFound("no such chain", {"chain": str(chain)})
        return chain_info(controller.state, found, _unix_time_ms(controller))

    @router.post("/chains/{chain}/targets")
    async def add(chain: int, body: requests.NewTargetBody) -> dict[str, Any]:
        event = AddTarget(ChainId(chain), NodeId(body.node), body.disk)
        return await requests.change_chain(controller, event)

    @router.delete("/chains/{chain}/targets/{target}")
    async def remove(chain: int, target: int) -> dict[str, Any]:
        event = RemoveTarget(ChainId(chain), TargetId(target))
        return await requests.change_chain(controller, event)

    @router.post("/chains/{chain}/targets/{target}/accepted-loss")
    async def accept(chain: int, target: int) -> dict[str, Any]:
        event = AcceptLoss(ChainId(chain), TargetId(target))
        return await requests.change_chain(controller, event)

    @router.post("/chains/{chain}/targets/{target}/replacement")
    async def replace(chain: int, target: int, body: requests.NewTargetBody) -> dict[str, Any]:
        event = ReplaceTarget(ChainId(chain), TargetId(target), NodeId(body.node), body.disk)
        return await requests.change_chain(controller, event)

    @router.put("/chains/{chain}/order")
    async def order(chain: int, body: requests.OrderBody) -> dict[str, Any]:
        event = Reorder(ChainId(chain), tuple(TargetId(one) for one in body.targets))
        return await requests.change_chain(controller, event)


def _add_node_routes(router: APIRouter, controller: Controller) -> None:
    @router.post("/node-ids")
    async def node_ids() -> dict[str, int]:
        return await requests.allocate_node_id(controller)

    @router.post("/register")
    async def register(body: requests.RegisterBody) -> dict[str, int]:
        return await requests.register(controller, body)

    @router.post("/heartbeat")
    async def heartbeat(body: requests.HeartbeatBody) -> dict[str, Any]:
        return await requests.heartbeat(controller, body)

    @router.post("/suspicions")
    async def suspicions(body: requests.SuspicionsBody) -> dict[str, bool]:
        return requests.suspicions(controller, body)


def _add_client_routes(router: APIRouter, controller: Controller) -> None:
    @router.get("/routing")
    async def routing(
        since: Annotated[int, Query(ge=0)] = 0,
        wait_ms: Annotated[int, Query(ge=0, le=WAIT_MAX_MS)] = 0,
        incarnation: Annotated[int | None, Query(ge=0, lt=1 << 64)] = None,
    ) -> Response:
        life = None if incarnation is None else Incarnation(incarnation)
        content = await controller.routing_since(RoutingVersion(since), wait_ms / 1000, life)
        return Response(content, media_type="application/msgpack")

    @router.get("/status")
    async def status() -> dict[str, Any]:
        now_ns = controller.surroundings.clock_ns()
        unix_time_ms = _unix_time_ms(controller)
        return cluster_status(controller.state, controller.store.term, now_ns, unix_time_ms)

    @router.post("/namespaces")
    async def create_namespace(body: requests.NamespaceBody) -> dict[str, Any]:
        return await requests.create_namespace(controller, body)

    @router.delete("/namespaces/{name:path}")
    async def remove_namespace(name: str) -> dict[str, str]:
        await controller.apply(RemoveNamespace(name))
        return {"removed": name}

    @router.post("/tables/extend")
    async def extend() -> dict[str, int]:
        before, after = await controller.apply(ExtendTables())
        return {"chains_added": len(after.chains) - len(before.chains)}


def _unix_time_ms(controller: Controller) -> int:
    return controller.surroundings.unix_time_ns() // 1_000_000
