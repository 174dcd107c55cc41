"""Every setting of every role, with its default, its range and what it means.

Owns: names, defaults, ranges. Never: where a value comes from (that is `sources`).
Why one model for all roles: one file serves a whole cluster, and a process takes its sections.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MEBIBYTE = 1 << 20


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LogSettings(Section):
    """Logs of every process."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is written to standard error."
    )


class ClusterSettings(Section):
    """How a process finds its cluster."""

    managers: list[str] = Field(
        default=["127.0.0.1:7300"],
        min_length=1,
        description="Admin addresses (host:port) of the managers; tried in turn.",
    )

    @model_validator(mode="after")
    def _addresses(self) -> ClusterSettings:
        for address in self.managers:
            host, separator, port = address.rpartition(":")
            if not (host and separator and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"managers are host:port, and {address!r} is not")
        return self


class NodeSettings(Section):
    """One process, whatever roles it has."""

    data_dir: str = Field(
        default="./.firepond/data",
        description="Where the process keeps its node ids and, unless said otherwise, its data.",
    )
    listen_host: str = Field(
        default="127.0.0.1", description="Address to listen on; 0.0.0.0 listens on all interfaces."
    )
    advertise_host: str = Field(
        default="",
        description="Host name or address that others use to reach this process; "
        "empty takes listen_host.",
    )
    admin_port: int = Field(
        default=7300,
        ge=0,
        le=65535,
        description="Port of health, metrics and, on a manager, its service; 0 picks a free one.",
    )
    meta_port: int = Field(
        default=0, ge=0, le=65535, description="Data port of the meta role; 0 picks a free one."
    )
    storage_port: int = Field(
        default=0, ge=0, le=65535, description="Data port of the storage role; 0 picks a free one."
    )

    @model_validator(mode="after")
    def _reachable(self) -> NodeSettings:
        if self.listen_host in ("0.0.0.0", "::") and not self.advertise_host:
            raise ValueError("advertise_host must be set when listening on all interfaces")
        return self

    @property
    def public_host(self) -> str:
        """The host that others use."""
        return self.advertise_host or self.listen_host


class ManagerSettings(Section):
    """The manager: membership, placement, failure detection."""

    store: Literal["embedded", "memory"] = Field(
        default="embedded",
        description="Where the manager keeps its state; memory loses it at exit (tests).",
    )
    lease_ms: int = Field(
        default=2000,
        ge=200,
        le=60_000,
        description="How long a heartbeat lets a node serve. Shorter finds a vanished machine "
        "sooner, longer forgives longer pauses.",
    )
    heartbeat_ms: int = Field(
        default=500, ge=50, le=15_000, description="Pause between two heartbeats of a node."
    )
    eviction_margin_ms: int = Field(
        default=200, ge=0, le=10_000, description="Waited after the end of a lease before eviction."
    )
    probe_timeout_ms: int = Field(
        default=300, ge=10, le=10_000, description="How long the answer to a probe may take."
    )
    replicas: int = Field(
        default=3, ge=1, le=8, description="Replicas of each file chain, on distinct storage nodes."
    )
    storage_nodes_min: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Storage nodes that must have registered before chains are made; "
        "0 means as many as replicas.",
    )
    chains_per_node: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Chains that each storage node heads, per table. Several spread the load of "
        "a dead node over the others; each costs a little memory and one resync stream.",
    )
    resyncs_per_node: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Targets of one node that are synced at the same time; the others wait.",
    )
    order_after_s: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Seconds that a chain must have been whole and unchanged before targets are "
        "moved back to their preferred places, so that a head that failed heads again; 0: never.",
    )

    @model_validator(mode="after")
    def _lease_outlives_beats(self) -> ManagerSettings:
        if self.lease_ms < 2 * self.heartbeat_ms:
            raise ValueError("lease_ms must be at least twice heartbeat_ms")
        return self

    @property
    def storage_nodes_needed(self) -> int:
        """Storage nodes before chains are made."""
        return max(self.storage_nodes_min, self.replicas)


class MetaSettings(Section):
    """The metadata server."""

    store: Literal["embedded", "memory"] = Field(
        default="embedded",
        description="Where the namespace is kept; memory loses it at exit (tests).",
    )
    chunk_size_bytes: int = Field(
        default=MEBIBYTE,
        ge=64 * 1024,
        le=32 * MEBIBYTE,
        description="Chunk size of new files: a power of two.",
    )
    stripe_count: int = Field(
        default=16, ge=1, le=4096, description="Chains that a new file is spread over, at most."
    )
    session_lease_ms: int = Field(
        default=15_000,
        ge=1000,
        le=3_600_000,
        description="How long the open files of a silent client are kept open.",
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> MetaSettings:
        if self.chunk_size_bytes & (self.chunk_size_bytes - 1):
            raise ValueError("chunk_size_bytes must be a power of two")
        return self


class StorageSettings(Section):
    """The storage server."""

    disks: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="One directory a disk; none means the directory disk-0 below node.data_dir.",
    )
    buffer_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=64 * MEBIBYTE,
        description="Memory for bytes that are being received or sent.",
    )
    cache_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=0,
        description="Memory for chunk metadata and recently read blocks.",
    )
    worker_count: int = Field(
        default=0, ge=0, le=1024, description="Threads of the data path; 0 means one for each core."
    )
    resync_bytes_per_second: int = Field(
        default=200 * MEBIBYTE,
        ge=MEBIBYTE,
        description="The most that this node sends to replicas that are being resynced.",
    )
    scrub_bytes_per_second: int = Field(
        default=32 * MEBIBYTE,
        ge=MEBIBYTE,
        description="The most that this node reads to find chunks that rotted; clients go first.",
    )
    disk_engine: Literal["auto", "io_uring", "positional"] = Field(
        default="auto",
        description="How disks are driven; auto takes io_uring when the kernel allows it.",
    )

    @property
    def workers(self) -> int:
        """Threads of the data path."""
        return self.worker_count or (os.cpu_count() or 1)


class Settings(Section):
    """All settings."""

    log: LogSettings = LogSettings()
    cluster: ClusterSettings = ClusterSettings()
    node: NodeSettings = NodeSettings()
    manager: ManagerSettings = ManagerSettings()
    meta: MetaSettings = MetaSettings()
    storage: StorageSettings = StorageSettings()
