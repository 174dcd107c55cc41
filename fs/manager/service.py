"""The manager's HTTP routes: thin translations between HTTP and `requests`.

Never: decisions, request shapes. Errors: see `service.http_errors`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from firepond.fs.ids import RoutingVersion
from firepond.fs.manager import requests
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.events import ExtendTables, RemoveNamespace
from firepond.fs.manager.report import cluster_status

WAIT_MAX_MS = 30_000


def manager_routes(controller: Controller) -> APIRouter:
    """All routes of a manager."""
    router = APIRouter(prefix="/v1")
    _add_node_routes(router, controller)
    _add_client_routes(router, controller)
    return router


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
    ) -> Response:
        content = await controller.routing_since(RoutingVersion(since), wait_ms / 1000)
        return Response(content, media_type="application/msgpack")

    @router.get("/status")
    async def status() -> dict[str, Any]:
        now_ns = controller.surroundings.clock_ns()
        return cluster_status(controller.state, controller.store.term, now_ns)

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
