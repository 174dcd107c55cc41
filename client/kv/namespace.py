"""An open namespace of the KV tier.

Owns: creating the namespace at the manager, this process's use of the shared connection, and the
thread-based async twins. After a fork the child opens everything anew at its next call.
Invariant: wrong arguments raise; what happens to single keys, the cluster being away included, is a
status, an exception object in the list, or a miss.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload

from firepond import _native
from firepond.client import connection
from firepond.client.connection import ClusterConnection
from firepond.client.kv.memory import Key, Memory, encoded, in_place
from firepond.client.kv.status import Status
from firepond.fs.errors import Closed, FirepondError, InvalidArgument
from firepond.fs.manager_client import ManagerClient

CAPACITY_BYTES = 16 << 30
TIMEOUT_S = 10.0

Class = Literal["cache", "durable"]
# What a fork left behind. Kept for ever: ending it would end what the parent uses.
_abandoned: list[object] = []


class HasAddress(Protocol):
    """A connected cluster, as `firepond.connect` returns it."""

    @property
    def address(self) -> str:
        """Its managers: "firepond://host:port"."""


def kv(
    cluster: str | HasAddress,
    namespace: str,
    cls: Class = "cache",
    capacity_bytes: int = CAPACITY_BYTES,
    create: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> KvNamespace:
    """Opens a namespace of the KV tier.

    Args:
        cluster: "firepond://host:port", or a cluster that `firepond.connect` returned.
        namespace: its name. Whatever makes values incompatible (model, weights, layout, dtype,
            parallel geometry) belongs into the name, so that foreign values are never found.
        cls: "cache" (in memory of one replica: loss is a miss) or "durable" (as files are).
        capacity_bytes: bytes of values it may hold; above, the least recently used go.
        create: makes the namespace when it does not exist.
        timeout_s: the deadline of opening, and of every call that names none.

    Raises:
        NamespaceConflict: it exists with another class or capacity.
        NamespaceUnknown: it does not exist and `create` is false.
        ClusterUnreachable, ClusterNotReady: there is nobody to ask.
    """
    if cls not in ("cache", "durable"):
        raise InvalidArgument('cls is "cache" or "durable"', {"cls": str(cls)})
    if timeout_s <= 0:
        raise InvalidArgument("timeout_s is above 0", {"timeout_s": str(timeout_s)})
    address = cluster if isinstance(cluster, str) else cluster.address
    if create:
        body = {"name": namespace, "class": cls, "capacity_bytes": capacity_bytes}
        manager = ManagerClient(connection.managers_of(address), timeout_s)
        try:
            manager.post("/v1/namespaces", body)
        finally:
            manager.close()
    return KvNamespace(address, namespace, timeout_s)


class KvNamespace:
    """Batches of values by key. Safe to use from many threads, and after a fork.

    Keys are bytes or text of 1 to 1024 bytes, values at most 32 MiB. Every method takes
    `timeout_s`, which bounds the whole call. The `a…` methods are the same for asyncio; one that is
    cancelled still uses its buffers until its deadline.
    """

    def __init__(self, address: str, namespace: str, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self.namespace = namespace
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._closed = False
        self._connection: ClusterConnection | None = None
        self._native: _native.KvCache | None = None
        self._open()

    def put(
        self, keys: Sequence[Key], values: Sequence[Memory], timeout_s: float | None = None
    ) -> list[Status | FirepondError]:
        """Publishes values; each appears whole or not at all, and the first writer of a key wins.

        Returns one entry a key: `Status.STORED`, `Status.EXISTS`, or the error as an object.
        A value must not change during the call; one that does is refused.
        """
        outcomes = self._open().put(
            encoded(keys), [in_place(value) for value in values], self._ms(timeout_s)
        )
        status = {True: Status.STORED, False: Status.EXISTS}
        return [status[one] if isinstance(one, bool) else one for one in outcomes]

    @overload
    def get(
        self, keys: Sequence[Key], buffers: None = None, timeout_s: float | None = None
    ) -> list[bytes | None]: ...

    @overload
    def get(
        self, keys: Sequence[Key], buffers: Sequence[Memory], timeout_s: float | None = None
    ) -> list[int | None]: ...

    def get(
        self,
        keys: Sequence[Key],
        buffers: Sequence[Memory] | None = None,
        timeout_s: float | None = None,
    ) -> list[bytes | None] | list[int | None]:
        """Reads values, into the caller's writable buffers if given, without another copy.

        Returns one entry a key, None for a miss: the value, or with buffers its size in bytes. A
        failure (a buffer that is too small, a node that is away) is a miss, too; `stats()` tells.
        After a miss the content of its buffer is arbitrary.
        """
        native = self._open()
        if buffers is None:
            return native.get(encoded(keys), self._ms(timeout_s))
        places = [in_place(buffer) for buffer in buffers]
        return native.get_into(encoded(keys), places, self._ms(timeout_s))

    def exists(self, keys: Sequence[Key], timeout_s: float | None = None) -> list[bool]:
        """Whether each key has a value now."""
        sizes = self._open().sizes(encoded(keys), self._ms(timeout_s))
        return [size is not None for size in sizes]

    def match_prefix(self, keys: Sequence[Key], timeout_s: float | None = None) -> int:
        """How many leading keys have a value; all chains are asked at once."""
        return self._open().match_prefix(encoded(keys), self._ms(timeout_s))

    def delete(
        self, keys: Sequence[Key], timeout_s: float | None = None
    ) -> list[Status | FirepondError]:
        """Removes values. One entry a key: `Status.DELETED` (also if it had none), or the error."""
        outcomes = self._open().delete(encoded(keys), self._ms(timeout_s))
        return [Status.DELETED if one is None else one for one in outcomes]

    def stats(self) -> dict[str, Any]:
        """Counts of this object in this process: hits, misses, failures, bytes, the last error."""
        return self._open().stats()

    async def aput(
        self, keys: Sequence[Key], values: Sequence[Memory], timeout_s: float | None = None
    ) -> list[Status | FirepondError]:
        """As `put`."""
        return await asyncio.to_thread(self.put, keys, values, timeout_s)

    @overload
    async def aget(
        self, keys: Sequence[Key], buffers: None = None, timeout_s: float | None = None
    ) -> list[bytes | None]: ...

    @overload
    async def aget(
        self, keys: Sequence[Key], buffers: Sequence[Memory], timeout_s: float | None = None
    ) -> list[int | None]: ...

    async def aget(
        self,
        keys: Sequence[Key],
        buffers: Sequence[Memory] | None = None,
        timeout_s: float | None = None,
    ) -> list[bytes | None] | list[int | None]:
        """As `get`."""
        if buffers is None:
            return await asyncio.to_thread(self.get, keys, None, timeout_s)
        return await asyncio.to_thread(self.get, keys, buffers, timeout_s)

    async def aexists(self, keys: Sequence[Key], timeout_s: float | None = None) -> list[bool]:
        """As `exists`."""
        return await asyncio.to_thread(self.exists, keys, timeout_s)

    async def amatch_prefix(self, keys: Sequence[Key], timeout_s: float | None = None) -> int:
        """As `match_prefix`."""
        return await asyncio.to_thread(self.match_prefix, keys, timeout_s)

    async def adelete(
        self, keys: Sequence[Key], timeout_s: float | None = None
    ) -> list[Status | FirepondError]:
        """As `delete`."""
        return await asyncio.to_thread(self.delete, keys, timeout_s)

    def close(self) -> None:
        """Lets the namespace and its share of the connection go. Closing twice is fine."""
        with self._lock:
            self._closed = True
            self._let_go()

    async def aclose(self) -> None:
        """As `close`."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __getstate__(self) -> dict[str, Any]:
        state = {"address": self.address, "namespace": self.namespace}
        return {**state, "timeout_s": self._timeout_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _ms(self, timeout_s: float | None) -> int:
        seconds = self._timeout_s if timeout_s is None else timeout_s
        if seconds < 0:
            raise InvalidArgument("timeout_s is at least 0", {"timeout_s": str(seconds)})
        return int(seconds * 1000)

    def _open(self) -> _native.KvCache:
        """The native namespace of this process."""
        native, shared = self._native, self._connection
        if native is not None and shared is not None and shared.process == os.getpid():
            return native
        with self._lock:
            if self._closed:
                raise Closed("the namespace is closed", {"namespace": self.namespace})
            if self._connection is not None and self._connection.process != os.getpid():
                # A fork's child: what the parent opened is kept and not touched.
                _abandoned.extend((self._native, self._connection))
                self._native = self._connection = None
            if self._native is None:
                self._connection = connection.acquire(self.address, self._timeout_s)
                try:
                    self._native = _native.KvCache.open(
                        self._connection.native, self.namespace, self._ms(None)
                    )
                except BaseException:
                    self._let_go()
                    raise
            return self._native

    def _let_go(self) -> None:
        native, shared = self._native, self._connection
        self._native = self._connection = None
        if shared is None:
            return
        if shared.process != os.getpid():
            _abandoned.extend((native, shared))
            return
        if native is not None:
            native.close()
        connection.release(shared)
