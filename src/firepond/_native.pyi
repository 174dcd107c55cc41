"""Types of the native module. Each section belongs to one file of fs/native/py/src."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, final

from typing_extensions import Buffer

from firepond.fs.errors import FirepondError

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
    def read_counts(self) -> dict[str, int]:
        """Read requests of all clients: `request_count`, `hedge_count`, `hedge_won_count`."""
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

# --- client.rs: files ---

# Every method of FileClient and File takes `done`: without it the call waits; with it the call
# returns None at once, and done(result, error) is called at the end, on another thread.

_Done = Callable[[Any, BaseException | None], object] | None
_Row = tuple[tuple[int, int, int, int, int, int, int], tuple[int, int, int, int, int]]

@final
class FileClient:
    """The files of a cluster, as one user. Paths are absolute bytes."""

    def __new__(
        cls,
        connection: Connection,
        uid: int,
        gid: int,
        groups: list[int],
        operation_timeout_ms: int = 30_000,
    ) -> Self: ...
    def open(
        self,
        path: bytes,
        read: bool,
        write: bool,
        create: bool,
        exclusive: bool,
        truncate: bool,
        mode: int,
        chunk_size_bytes: int = 0,
        stripe_count: int = 0,
        done: _Done = None,
    ) -> File: ...
    def stat(self, path: bytes, follow: bool, done: _Done = None) -> _Row: ...
    def set_attributes(
        self,
        path: bytes,
        follow: bool,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        accessed_ns: int | None = None,
        modified_ns: int | None = None,
        done: _Done = None,
    ) -> _Row: ...
    def make_directory(self, path: bytes, mode: int, done: _Done = None) -> _Row: ...
    def remove_directory(self, path: bytes, done: _Done = None) -> None: ...
    def unlink(self, path: bytes, done: _Done = None) -> None: ...
    def rename(self, path: bytes, new_path: bytes, replace: bool, done: _Done = None) -> None: ...
    def exchange(self, path: bytes, new_path: bytes, done: _Done = None) -> None: ...
    def link(self, path: bytes, new_path: bytes, done: _Done = None) -> _Row: ...
    def make_symlink(self, target: bytes, path: bytes, done: _Done = None) -> _Row: ...
    def read_link(self, path: bytes, done: _Done = None) -> bytes: ...
    def read_directory(
        self, inode: int, after: bytes | None, limit: int, attributes: bool, done: _Done = None
    ) -> tuple[list[tuple[bytes, int, int, _Row | None]], bool]: ...
    def stat_file_system(self, done: _Done = None) -> tuple[int, int, int]: ...
    def read_batch(
        self, reads: list[tuple[File, int, Any]], done: _Done = None
    ) -> list[int | FirepondError]: ...
    def shutdown(self, done: _Done = None) -> None: ...

@final
class File:
    """An open file. Offsets and lengths are bytes."""

    def pread(self, offset: int, length: int, done: _Done = None) -> bytes: ...
    def readinto(self, offset: int, buffer: Any, done: _Done = None) -> int: ...
    def pwrite(self, offset: int, buffer: Any, done: _Done = None) -> int: ...
    def append(self, buffer: Any, done: _Done = None) -> int: ...
    def flush(self, done: _Done = None) -> None: ...
    def sync(self, done: _Done = None) -> None: ...
    def close(self, done: _Done = None) -> None: ...
    def truncate(self, size: int, done: _Done = None) -> _Row: ...
    def punch_hole(self, offset: int, length: int, done: _Done = None) -> None: ...
    def stat(self, done: _Done = None) -> _Row: ...
    @property
    def size(self) -> int: ...
    @property
    def inode(self) -> int: ...

# --- kv_cache.rs: the KV tier ---

@final
class KvCache:
    """An open namespace of the KV tier."""

    @staticmethod
    def open(connection: Connection, namespace: str, timeout_ms: int) -> KvCache:
        """Opens a namespace that exists or is about to appear in routing."""

    def put(
        self, keys: list[bytes], values: list[Buffer], timeout_ms: int
    ) -> list[bool | FirepondError]:
        """Per key: True when it was stored, False when it existed, or an exception."""

    def get_into(
        self, keys: list[bytes], buffers: list[Buffer], timeout_ms: int
    ) -> list[int | None]:
        """Per key: the size of the value that is in its buffer now, or None."""

    def get(self, keys: list[bytes], timeout_ms: int) -> list[bytes | None]:
        """Per key: the value, or None."""

    def sizes(self, keys: list[bytes], timeout_ms: int) -> list[int | None]:
        """Per key: the size of its value, or None."""

    def match_prefix(self, keys: list[bytes], timeout_ms: int) -> int:
        """How many leading keys have a value."""

    def delete(self, keys: list[bytes], timeout_ms: int) -> list[FirepondError | None]:
        """Per key: None, or an exception."""

    def stats(self) -> dict[str, Any]:
        """Counts since the namespace was opened."""

    def close(self) -> None:
        """Lets the namespace go; calls that run end first."""

# --- storage.rs: the storage engine ---

@final
class StorageEngine:
    """A storage service of this process: disks, targets, chains."""

    def __new__(
        cls,
        node_id: int,
        incarnation: int,
        listen: str,
        disks: list[str],
        routing: RoutingHandle,
        options: dict[str, int | str],
    ) -> Self: ...
    def start(self) -> None:
        """Opens the disks, listens and serves."""

    @property
    def data_address(self) -> str:
        """Where it listens, with the port that was picked."""

    def set_targets(self, targets: list[tuple[int, int, str]]) -> None:
        """Opens the assigned targets (target, chain, disk path); makes those that are missing."""

    def step_down(self, targets: list[int]) -> None:
        """Asks targets to leave their chains: they report themselves offline, serve nothing."""

    def drop_targets(self, targets: list[int]) -> None:
        """Forgets targets that no chain has any more, with their chunks; unknown ones are fine."""

    def set_listener(self, listener: Callable[[], None]) -> None:
        """Has `listener()` called, from any thread, when a target took itself out of its chain."""

    def heartbeat_begin(self) -> int:
        """A heartbeat is being sent now; give the token to `heartbeat_end`."""

    def heartbeat_end(self, token: int, lease_ms: int) -> None:
        """The heartbeat was answered: the lease lasts `lease_ms` from when it was sent."""

    def lease_lost(self) -> None:
        """The manager does not know this node: serve nothing until it is registered again."""

    def status(self) -> dict[str, Any]:
        """Keys: targets, disks, repaired_blocks, evicted_values."""

    def stop(self) -> None:
        """Stops serving and closes the stores."""
