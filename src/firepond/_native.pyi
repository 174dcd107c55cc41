"""Types of the native module. Each section belongs to one file of fs/native/py/src."""

from types import TracebackType
from typing import Any, Self, final

__version__: str

# --- kv.rs: transactional stores ---

@final
class KvStore:
    """An ordered transactional store, in memory or in a directory."""

    @staticmethod
    def open(path: str | None, engine: str) -> KvStore:
        """Opens the store of a directory ("embedded") or an empty one ("memory", no path)."""

    def begin(self) -> KvTransaction:
        """Begins a transaction that reads one consistent, durable state."""

    def close(self) -> None:
        """Refuses further transactions and waits for the commits that were accepted."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

@final
class KvTransaction:
    """One transaction. It ends with `commit`, or is forgotten."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; adds the key to the read conflicts."""

    def range(
        self, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Pairs from start up to but not including end; they are read conflicts."""

    def set(self, key: bytes, value: bytes) -> None:
        """Sets a key."""

    def clear(self, key: bytes) -> None:
        """Removes a key."""

    def clear_range(self, start: bytes, end: bytes) -> None:
        """Removes all keys from start up to but not including end."""

    def commit(self) -> int:
        """Commits durably; returns the version. Raises TransactionConflict or
        TransactionMaybeCommitted."""

# --- routing.rs: the routing of this process ---

@final
class RoutingHandle:
    """The newest routing of this process, shared by every engine and client it is given to."""

    def __new__(cls) -> Self: ...
    def publish(self, encoded: bytes) -> bool:
        """Publishes MessagePack-encoded routing; says whether it was newer."""

    @property
    def version(self) -> int:
        """The version of the newest routing, 0 before the first."""

    def encoded(self) -> bytes:
        """The newest routing as MessagePack."""

    def wait_suspicions(self, timeout_ms: int) -> list[tuple[int, int]]:
        """Waits for suspicions: (node, incarnation), possibly none."""

# --- connection.rs: a client's connection to a cluster ---

@final
class Connection:
    """One runtime, one transport, one set of peers for the clients of a process."""

    def __new__(
        cls, routing: RoutingHandle, buffer_bytes: int = ..., worker_count: int = ...
    ) -> Self: ...
    def close(self) -> None:
        """Lets the connection go; it ends when the clients made from it are gone, too."""

# --- verify.rs: the comparison of replicas ---

def verify_replicas(connection: Connection, timeout_ms: int) -> dict[str, Any]:
    """Compares all serving replicas of all chains: counts, and the differences as text."""

# --- mount.rs: the FUSE mount ---

@final
class Mount:
    """The file system of a cluster as a directory of this machine."""

    def __new__(
        cls, connection: Connection, mount_point: str, options: dict[str, int | str]
    ) -> Self: ...
    def start(self) -> None:
        """Mounts; requests are served from then on."""

    def wait(self, timeout_ms: int) -> bool:
        """Waits until the mount has ended and all data is written out; says whether it has."""

    def unmount(self, detach: bool = False) -> None:
        """Takes the mount point away; `MountBusy` while it is in use, unless `detach` is set."""

    def status(self) -> dict[str, int | str | bool]:
        """What it is doing."""

def unmount(mount_point: str, detach: bool = False) -> None:
    """Takes a mount point away, whoever serves it; `MountBusy` while it is in use."""

# --- logging.rs: logs of the native side ---

def logging_init(level: str) -> None:
    """Starts logging at a level ("debug", "info", "warning", "error"). Once per process."""

# --- meta.rs: the metadata engine ---

@final
class MetaEngine:
    """A metadata service of this process.

    Options: `store` ("embedded" or "memory"), `chunk_size_bytes`, `stripe_count`,
    `session_lease_ms`, `root_uid`, `root_gid`, `worker_count`.
    """

    def __init__(
        self,
        node_id: int,
        incarnation: int,
        listen: str,
        data_dir: str,
        routing: RoutingHandle,
        options: dict[str, int | str],
    ) -> None: ...
    @property
    def data_address(self) -> str:
        """Where it listens, with the port that was picked."""

    def start(self) -> None:
        """Opens the store, listens and serves."""

    def status(self) -> dict[str, Any]:
        """Counts: inodes, clients, open_files, collect_backlog, conflicts, operations."""

    def stop(self) -> None:
        """Stops serving and closes the store. Stopping twice is fine."""
