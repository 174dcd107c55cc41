"""firepond: a distributed file system with a KV-cache tier.

    import firepond

    with firepond.connect("firepond://127.0.0.1:7300") as cluster:
        cluster.write_bytes("/hello", b"hello")
        print(cluster.read_bytes("/hello"))

Owns: the names that programs use. Everything else may change with any release.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from firepond.fs import errors

if TYPE_CHECKING:
    from firepond.client.async_cluster import AsyncCluster, AsyncFile
    from firepond.client.attributes import DirEntry, FileStat, FileSystemStat
    from firepond.client.cluster import Cluster
    from firepond.client.kv import kv

__version__ = "0.1.0"

DEFAULT_ADDRESS = "firepond://127.0.0.1:7300"
"""Where `connect` looks for a manager when nothing else says where."""

_CLUSTER_FILE = ".firepond/cluster.json"

_LAZY = {
    "AsyncCluster": "firepond.client.async_cluster",
    "AsyncFile": "firepond.client.async_cluster",
    "Cluster": "firepond.client.cluster",
    "DirEntry": "firepond.client.attributes",
    "FileStat": "firepond.client.attributes",
    "FileSystemStat": "firepond.client.attributes",
    "kv": "firepond.client.kv",
}


def default_address() -> str:
    """Where a cluster is: FIREPOND_ADDRESS, or what `firepond up` started in this directory, or
    `DEFAULT_ADDRESS`."""
    address = os.environ.get("FIREPOND_ADDRESS")
    if address:
        return address
    try:
        with open(_CLUSTER_FILE, encoding="utf-8") as file:  # noqa: PTH123 (a light import)
            return str(json.load(file)["address"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_ADDRESS


def connect(
    address: str | None = None,
    *,
    timeout_s: float = 30.0,
    uid: int | None = None,
    gid: int | None = None,
) -> Cluster:
    """Connects to the files of a cluster.

    Args:
        address: "firepond://host:port" of a manager, or several with commas; the default is
            `default_address()`.
        timeout_s: no operation takes longer than this, in seconds.
        uid, gid: who acts; the user of this process is the default.

    Raises:
        errors.ClusterUnreachable: no manager answers.
        errors.InvalidArgument: not such an address.
    """
    from firepond.client.cluster import Cluster

    return Cluster(address or default_address(), timeout_s=timeout_s, uid=uid, gid=gid)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(module), name)


__all__ = [
    "DEFAULT_ADDRESS",
    "AsyncCluster",
    "AsyncFile",
    "Cluster",
    "DirEntry",
    "FileStat",
    "FileSystemStat",
    "__version__",
    "connect",
    "default_address",
    "errors",
    "kv",
]
