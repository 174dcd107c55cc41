"""One connection to a cluster per process and address, shared by files and the KV tier.

Why shared: routing is followed once, and sockets, buffers and threads exist once, however many
clients a program makes. `acquire` gives the process's connection to an address, `release` gives it
back; the last one closes it. After a fork the child makes its own: the parent's threads do not
exist there, and its sockets must not be touched.
"""

from __future__ import annotations

import os
import threading
from urllib.parse import urlsplit

from firepond import _native
from firepond.fs.errors import InvalidArgument
from firepond.fs.routing_follower import RoutingFollower

CONNECT_TIMEOUT_S = 10.0

_lock = threading.Lock()
_open: dict[tuple[int, tuple[str, ...]], ClusterConnection] = {}
# What a fork left behind. Kept for ever: ending it would end the parent's connections.
_abandoned: list[ClusterConnection] = []


def managers_of(address: str) -> list[str]:
    """The managers of "firepond://host:port[,host:port]", or of the same without the scheme."""
    scheme, separator, rest = address.partition("://")
    hosts = rest if separator else address
    if separator and scheme not in ("firepond", "http"):
        raise InvalidArgument("an address is firepond://host:port", {"address": address})
    managers = []
    for host in hosts.split("/")[0].split(","):
        try:
            parts = urlsplit(f"//{host}")
            valid = bool(parts.hostname) and parts.port is not None
        except ValueError:
            valid = False
        if not valid:
            raise InvalidArgument("an address is firepond://host:port", {"address": address})
        managers.append(f"http://{host}")
    return managers


class ClusterConnection:
    """Follows a cluster's routing and carries the calls of this process to it.

    Attributes:
        managers: base URLs of the managers.
        routing: the native handle that always has the newest routing.
        native: what native clients are made from.
    """

    def __init__(self, address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.address = address
        self.managers = managers_of(address)
        self.process = os.getpid()
        self.user_count = 0
        self.routing = _native.RoutingHandle()
        self._follower = RoutingFollower(self.managers, self.routing)
        self._follower.start()
        try:
            self._follower.wait_ready(timeout_s)
            self.native = _native.Connection(self.routing)
        except BaseException:
            self._follower.stop()
            raise

    def close(self) -> None:
        """Ends the connection; in a forked child this does nothing."""
        if self.process == os.getpid():
            self._follower.stop()
            self.native.close()


def acquire(address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> ClusterConnection:
    """This process's connection to a cluster, made when there is none.

    Raises:
        InvalidArgument: the address is not firepond://host:port.
        ClusterUnreachable: no manager answered within `timeout_s`.
    """
    key = (os.getpid(), tuple(managers_of(address)))
    with _lock:
        connection = _open.get(key)
        if connection is None:
            connection = ClusterConnection(address, timeout_s)
            _open[key] = connection
        connection.user_count += 1
        return connection


def release(connection: ClusterConnection) -> None:
    """Gives a connection back; the last user's release closes it."""
    with _lock:
        connection.user_count -= 1
        if connection.user_count > 0 or connection.process != os.getpid():
            return
        _open.pop((connection.process, tuple(connection.managers)), None)
    connection.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _abandoned.extend(_open.values())
    _open.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
