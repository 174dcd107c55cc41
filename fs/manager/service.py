"""The manager's HTTP routes: thin translations between JSON and events.

Owns: request shapes and their checks. Never: decisions. Errors: see `service.http_errors`.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from firepond.fs.ids import ChainVersion, Incarnation, NodeId, RoutingVersion, TargetId
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.events import (
    AllocateNodeId,
    CreateNamespace,
    ExtendTables,
    Heartbeat,
    Register,
    RemoveNamespace,
)
from firepond.fs.manager.model import Durability, LocalState, State, TargetReport
from firepond.fs.manager.report import cluster_status
from firepond.fs.manager.routing import namespace_info

WAIT_MAX_MS = 30_000

_Id = Annotated[int, Field(ge=1, lt=1 << 32)]
_Life = Annotated[int, Field(ge=1, lt=1 << 64)]


class DiskBody(BaseModel):
    """A disk of a storage node; what else it says is shown by `status`."""

    model_config = ConfigDict(extra="allow")
    path: str = Field(min_length=1, max_length=4096)
    total_bytes: int = Field(default=0, ge=0)


class RegisterBody(BaseModel):
    """`POST /v1/register`."""

    node_id: _Id
    incarnation: _Life
    data_address: str = Field(max_length=300)
    admin_address: str = Field(max_length=300, pattern=r"^.+:\d+$")
    roles: list[Literal["manager", "meta", "storage"]] = Field(min_length=1)
    disks: list[DiskBody] = Field(default=[], max_length=256)


class TargetBody(BaseModel):
    """What a node says of a target; what else it says is shown by `status`."""

    model_config = ConfigDict(extra="allow")
    target: int = Field(ge=1, lt=1 << 64)
    chain_version: int = Field(ge=0, lt=1 << 32)
    generation: int = Field(ge=0, lt=1 << 64)
    served: bool
    local_state: Literal["up-to-date", "online", "offline"]


class HeartbeatBody(BaseModel):
    """`POST /v1/heartbeat`."""

    node_id: _Id
    incarnation: _Life
    routing_version: int = 0
    targets: list[TargetBody] = Field(default=[], max_length=100_000)
    disks: list[DiskBody] = Field(default=[], max_length=256)
    meta: dict[str, Any] = {}


class SuspicionsBody(BaseModel):
    """`POST /v1/suspicions`."""

    suspicions: list[tuple[int, int]] = Field(max_length=10_000)


class NamespaceBody(BaseModel):
    """`POST /v1/namespaces`."""

    model_config = ConfigDict(populate_by_name=True)
    name: str
    durability: Literal["cache", "durable"] = Field(alias="class")
    capacity_bytes: int = Field(lt=1 << 63)


def manager_routes(controller: Controller) -> APIRouter:
    """All routes of a manager."""
    router = APIRouter(prefix="/v1")
    _add_node_routes(router, controller)
    _add_client_routes(router, controller)
    return router


def _add_node_routes(router: APIRouter, controller: Controller) -> None:
    @router.post("/node-ids")
    async def node_ids() -> dict[str, int]:
        before, _ = await controller.apply(AllocateNodeId())
        return {"node_id": before.node_id_next}

    @router.post("/register")
    async def register(body: RegisterBody) -> dict[str, int]:
        received_ns = time.monotonic_ns()
        event = Register(
            node=NodeId(body.node_id),
            incarnation=Incarnation(body.incarnation),
            data_address=body.data_address,
            admin_address=body.admin_address,
            roles=tuple(body.roles),
            disks=tuple(disk.path for disk in body.disks),
            report={"disks": [disk.model_dump() for disk in body.disks]},
        )
        state = await controller.register(event, received_ns)
        settings = controller.settings
        return {
            "lease_ms": settings.lease_ms,
            "heartbeat_ms": settings.heartbeat_ms,
            "routing_version": state.version,
        }

    @router.post("/heartbeat")
    async def heartbeat(body: HeartbeatBody) -> dict[str, Any]:
        received_ns = time.monotonic_ns()
        report = body.model_dump(include={"targets", "disks", "meta"})
        event = Heartbeat(
            node=NodeId(body.node_id),
            incarnation=Incarnation(body.incarnation),
            targets=tuple(_target_report(one) for one in body.targets),
            report={**report, "routing_version": body.routing_version},
        )
        _, state = await controller.apply(event, received_ns)
        return {
            "lease_ms": controller.settings.lease_ms,
            "heartbeat_ms": controller.settings.heartbeat_ms,
            "assignments": _assignments(state, event.node),
            "routing_version": state.version,
        }

    @router.post("/suspicions")
    async def suspicions(body: SuspicionsBody) -> dict[str, bool]:
        controller.suspect((NodeId(node), Incarnation(life)) for node, life in body.suspicions)
        return {"accepted": True}


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
        return cluster_status(controller.state, controller.store.term, time.monotonic_ns())

    @router.post("/namespaces")
    async def create_namespace(body: NamespaceBody) -> dict[str, Any]:
        event = CreateNamespace(body.name, Durability(body.durability), body.capacity_bytes)
        _, state = await controller.apply(event)
        living = (one for one in state.namespaces.values() if not one.removed)
        return namespace_info(next(one for one in living if one.name == body.name))

    @router.delete("/namespaces/{name:path}")
    async def remove_namespace(name: str) -> dict[str, str]:
        await controller.apply(RemoveNamespace(name))
        return {"removed": name}

    @router.post("/tables/extend")
    async def extend() -> dict[str, int]:
        before, after = await controller.apply(ExtendTables())
        return {"chains_added": len(after.chains) - len(before.chains)}


def _target_report(body: TargetBody) -> TargetReport:
    return TargetReport(
        target=TargetId(body.target),
        chain_version=ChainVersion(body.chain_version),
        generation=body.generation,
        served=body.served,
        local=LocalState(body.local_state),
    )


def _assignments(state: State, node: NodeId) -> list[tuple[int, int, str]]:
    return [
        (target.id, target.chain, target.disk)
        for target in state.targets.values()
        if target.node == node
    ]
