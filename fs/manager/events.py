"""What may happen to the manager, and what it may ask for, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firepond.fs.ids import ChainId, Incarnation, NodeId, TargetId
from firepond.fs.manager.model import Durability, TargetReport


@dataclass(frozen=True, slots=True)
class AllocateNodeId:
    """A node that never registered asks for its id: the `node_id_next` before this event."""


@dataclass(frozen=True, slots=True)
class Register:
    """A node starts, or was evicted and comes back."""

    node: NodeId
    incarnation: Incarnation
    data_address: str
    admin_address: str
    roles: tuple[str, ...]
    disks: tuple[str, ...]
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A node lives, and this is what it says of its targets. `report` is kept for `status` only."""

    node: NodeId
    incarnation: Incarnation
    targets: tuple[TargetReport, ...]
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """The results of probes that belong together, so that one decision covers them all."""

    gone: tuple[tuple[NodeId, Incarnation], ...] = ()
    unanswered: tuple[tuple[NodeId, Incarnation], ...] = ()
    answered: tuple[tuple[NodeId, Incarnation], ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class CreateNamespace:
    """Somebody wants a KV namespace; asking twice is the same as asking once."""

    name: str
    durability: Durability
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class RemoveNamespace:
    """Somebody removes a KV namespace and with it all its values."""

    name: str


@dataclass(frozen=True, slots=True)
class ExtendTables:
    """New storage nodes shall hold data: new editions of the tables with chains on them."""


@dataclass(frozen=True, slots=True)
class AddTarget:
    """A chain shall have one more replica, on this node; `disk` None: its emptiest."""

    chain: ChainId
    node: NodeId
    disk: str | None = None


@dataclass(frozen=True, slots=True)
class RemoveTarget:
    """A target shall leave its chain, and its node drop the data."""

    chain: ChainId
    target: TargetId


@dataclass(frozen=True, slots=True)
class AcceptLoss:
    """A chain that is down shall go on with what this target has, whatever others had more."""

    chain: ChainId
    target: TargetId


@dataclass(frozen=True, slots=True)
class ReplaceTarget:
    """A new target on `node` shall take the place of another."""

    chain: ChainId
    target: TargetId
    node: NodeId
    disk: str | None = None


@dataclass(frozen=True, slots=True)
class Reorder:
    """The serving targets of a chain shall stand in this order: all members, the head first."""

    chain: ChainId
    targets: tuple[TargetId, ...]


@dataclass(frozen=True, slots=True)
class Followed:
    """A process is about to see the routing of now. None: nobody knows whose process."""

    incarnation: Incarnation | None


Event = (
    AllocateNodeId
    | Register
    | Heartbeat
    | Observed
    | Tick
    | CreateNamespace
    | RemoveNamespace
    | ExtendTables
    | AddTarget
    | RemoveTarget
    | AcceptLoss
    | ReplaceTarget
    | Reorder
    | Followed
)


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask these nodes whether they live: their heartbeats are late."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that belongs into the log."""

    event: str
    fields: Mapping[str, Any]


Action = Probe | Note
