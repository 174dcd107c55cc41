"""The requests that a manager answers: their shapes, and from each to an event and a reply.

Owns: request shapes and their checks, and what is answered. Never: decisions (`decide`), HTTP
(`service`): the simulator asks here too. Errors are raised as FirepondError.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from firepond.fs.ids import ChainVersion, Incarnation, NodeId, TargetId
from firepond.fs.manager.controller import Controller
from firepond.fs.manager.events import (
    AcceptLoss,
    AddTarget,
    AllocateNodeId,
    CreateNamespace,
    Heartbeat,
    Register,
    RemoveTarget,
    Reorder,
    ReplaceTarget,
)
from firepond.fs.manager.intents import stepping_down
from firepond.fs.manager.model import Durability, LocalState, State, TargetReport
from firepond.fs.manager.report import chain_info
from firepond.fs.manager.routing import namespace_info

ChainChange = AddTarget | RemoveTarget | AcceptLoss | ReplaceTarget | Reorder

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
    complete_through: int = Field(default=0, ge=0, lt=1 << 64)
    lost_version: int = Field(default=0, ge=0, lt=1 << 32)


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


class NewTargetBody(BaseModel):
    """`POST /v1/chains/{chain}/targets` and `.../targets/{target}/replacement`."""

    node: _Id
    disk: str | None = Field(default=None, max_length=4096)


class OrderBody(BaseModel):
    """`PUT /v1/chains/{chain}/order`."""

    targets: list[_Life] = Field(max_length=256)


class NamespaceBody(BaseModel):
    """`POST /v1/namespaces`."""

    model_config = ConfigDict(populate_by_name=True)
    name: str
    durability: Literal["cache", "durable"] = Field(alias="class")
    capacity_bytes: int = Field(lt=1 << 63)


async def allocate_node_id(controller: Controller) -> dict[str, int]:
    """An id that no node has or had."""
    before, _ = await controller.apply(AllocateNodeId())
    return {"node_id": before.node_id_next}


async def register(controller: Controller, body: RegisterBody) -> dict[str, int]:
    """A node starts, or comes back."""
    received_ns = controller.surroundings.clock_ns()
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
    return {**_times(controller), "routing_version": state.version}


async def heartbeat(controller: Controller, body: HeartbeatBody) -> dict[str, Any]:
    """A node lives."""
    received_ns = controller.surroundings.clock_ns()
    report = body.model_dump(include={"targets", "disks", "meta"})
    event = Heartbeat(
        node=NodeId(body.node_id),
        incarnation=Incarnation(body.incarnation),
        targets=tuple(_target_report(one) for one in body.targets),
        report={**report, "routing_version": body.routing_version},
    )
    _, state = await controller.apply(event, received_ns)
    return {
        **_times(controller),
        "assignments": _assignments(state, event.node),
        "step_down": list(stepping_down(state, event.node)),
        "drop": _to_drop(state, event),
        "routing_version": state.version,
    }


def suspicions(controller: Controller, body: SuspicionsBody) -> dict[str, bool]:
    """Somebody cannot reach peers."""
    controller.suspect((NodeId(node), Incarnation(life)) for node, life in body.suspicions)
    return {"accepted": True}


async def create_namespace(controller: Controller, body: NamespaceBody) -> dict[str, Any]:
    """A KV namespace; the same again is the same one."""
    event = CreateNamespace(body.name, Durability(body.durability), body.capacity_bytes)
    _, state = await controller.apply(event)
    living = (one for one in state.namespaces.values() if not one.removed)
    return namespace_info(next(one for one in living if one.name == body.name))


async def change_chain(controller: Controller, event: ChainChange) -> dict[str, Any]:
    """The chain as it is after the request was taken in; the rest comes about by itself."""
    _, state = await controller.apply(event)
    unix_time_ms = controller.surroundings.unix_time_ns() // 1_000_000
    return chain_info(state, state.chains[event.chain], unix_time_ms)


def _times(controller: Controller) -> dict[str, int]:
    settings = controller.settings
    return {"lease_ms": settings.lease_ms, "heartbeat_ms": settings.heartbeat_ms}


def _target_report(body: TargetBody) -> TargetReport:
    return TargetReport(
        target=TargetId(body.target),
        chain_version=ChainVersion(body.chain_version),
        generation=body.generation,
        served=body.served,
        local=LocalState(body.local_state),
        complete_version=ChainVersion(body.complete_through >> 32),
        lost_version=ChainVersion(body.lost_version),
    )


def _assignments(state: State, node: NodeId) -> list[tuple[int, int, str]]:
    return [
        (target.id, target.chain, target.disk)
        for target in state.targets.values()
        if target.node == node and not target.removed
    ]


def _to_drop(state: State, event: Heartbeat) -> list[TargetId]:
    """Targets that the node still has and no chain has any more."""
    rows = (state.targets.get(row.target) for row in event.targets)
    return [one.id for one in rows if one and one.node == event.node and one.removed]
