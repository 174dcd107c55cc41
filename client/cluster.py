"""Files of a cluster, for Python programs.

Owns: `Cluster`, the object that `firepond.connect` returns. Never: policy of its own; every rule
is the native client's or Python's. Safe after a fork (the child connects again) and to pickle (by
address).
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, Self, overload

from firepond import _native
from firepond.client import connection as connections
from firepond.client.attributes import DirEntry, FileStat, FileSystemStat
from firepond.client.namespace import Namespace
from firepond.client.open_mode import StrPath, parse_mode, path_bytes, path_text, process_umask
from firepond.client.raw_file import RawFile, SupportsBuffer, raw_of
from firepond.fs.errors import FirepondError, InvalidArgument

if TYPE_CHECKING:
    from types import TracebackType

    from firepond.client.async_cluster import AsyncCluster

BUFFER_BYTES = 1 << 20
DEFAULT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = connections.CONNECT_TIMEOUT_S


class Cluster(Namespace):
    """A connection to the files of a cluster. All methods are safe to call from many threads.

    Paths are absolute; a relative one starts at the root. Sizes and offsets are bytes. Errors are
    `firepond.errors.FirepondError`, each also the fitting `OSError` (`FileNotFoundError`, ...).
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._uid = os.geteuid() if uid is None else uid
        self._gid = os.getegid() if gid is None else gid
        self._closed = False
        self._connect()

    def _connect(self) -> None:
        self._connection = connections.acquire(self.address, min(self.timeout_s, CONNECT_TIMEOUT_S))
        groups = os.getgroups() if self._uid == os.geteuid() else []
        try:
            self._native = _native.FileClient(
                self._connection.native,
                self._uid,
                self._gid,
                groups,
                operation_timeout_ms=int(self.timeout_s * 1000),
            )
        except BaseException:
            connections.release(self._connection)
            raise
        self._process = os.getpid()
        _clusters.add(self)

    def native(self) -> _native.FileClient:
        """The native client of this process; a forked child gets its own."""
        if self._closed:
            raise ValueError("the cluster is closed")
        if self._process != os.getpid():
            self._connect()
        return self._native

    @overload
    def open(  # type: ignore[overload-overlap]
        self,
        path: StrPath,
        mode: str,
        buffering: Literal[0],
        *,
        permissions: int = ...,
        chunk_size_bytes: int = ...,
        stripe_count: int = ...,
    ) -> RawFile: ...
    @overload
    def open(  # type: ignore[overload-overlap]
        self,
        path: StrPath,
        mode: str = ...,
        *,
        buffering: Literal[0],
        permissions: int = ...,
        chunk_size_bytes: int = ...,
        stripe_count: int = ...,
    ) -> RawFile: ...
    @overload
    def open(
        self,
        path: StrPath,
        mode: str = ...,
        buffering: int = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        newline: str | None = ...,
        *,
        permissions: int = ...,
        chunk_size_bytes: int = ...,
        stripe_count: int = ...,
    ) -> IO[Any]: ...
    def open(
        self,
        path: StrPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        permissions: int = 0o666,
        chunk_size_bytes: int = 0,
        stripe_count: int = 0,
    ) -> IO[Any] | RawFile:
        """Opens a file, as the builtin `open`.

        Args:
            path: the file.
            mode: one of r, w, x, a, with + and with b or t.
            buffering: bytes of the buffer; 0 (binary) gives the raw file, 1 is line-wise (text).
            encoding, errors, newline: as for `open`, text only.
            permissions: of a file that is created, before the umask.
            chunk_size_bytes: of a file that is created: a power of two from 64 KiB; 0: default.
            stripe_count: of a file that is created: chains that it is spread over; 0: default.

        Raises:
            NotFound, AlreadyExists, IsADirectory, PermissionDenied: as for `open`.
            InvalidArgument: no such mode.
        """
        parsed = parse_mode(mode)
        if parsed.binary and (encoding or errors or newline is not None):
            raise InvalidArgument("encoding, errors and newline are for text modes")
        if buffering == 0 and not parsed.binary:
            raise InvalidArgument("text cannot be unbuffered")
        raw = self.open_raw(
            path,
            "".join(letter for letter in mode if letter != "t"),
            permissions=permissions,
            chunk_size_bytes=chunk_size_bytes,
            stripe_count=stripe_count,
        )
        if buffering == 0:
            return raw
        size = BUFFER_BYTES if buffering in (-1, 1) else buffering
        buffered: io.BufferedReader | io.BufferedWriter | io.BufferedRandom
        if parsed.read and parsed.write:
            buffered = io.BufferedRandom(raw, size)
        elif parsed.write:
            buffered = io.BufferedWriter(raw, size)
        else:
            buffered = io.BufferedReader(raw, size)
        if parsed.binary:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

    def open_raw(
        self,
        path: StrPath,
        mode: str = "rb",
        *,
        permissions: int = 0o666,
        chunk_size_bytes: int = 0,
        stripe_count: int = 0,
    ) -> RawFile:
        """As `open` with `buffering=0`: the file that has `pread`, `pwrite` and `pread_into`."""
        parsed = parse_mode(mode if "b" in mode else mode + "b")
        native = self.native().open(
            path_bytes(path),
            read=parsed.read,
            write=parsed.write,
            create=parsed.create,
            exclusive=parsed.exclusive,
            truncate=parsed.truncate,
            mode=permissions & ~process_umask(),
            chunk_size_bytes=chunk_size_bytes,
            stripe_count=stripe_count,
        )
        return RawFile(native, path_text(path), parsed)

    def read_bytes(self, path: StrPath) -> bytes:
        """The whole contents of a file."""
        with self.open_raw(path) as file:
            return file.readall()

    def write_bytes(self, path: StrPath, data: SupportsBuffer) -> int:
        """Makes `data` the contents of a file, durable when this returns; returns its bytes."""
        with self.open_raw(path, "wb") as file:
            return file.write(data)

    def read_text(self, path: StrPath, encoding: str = "utf-8") -> str:
        """The whole contents of a text file."""
        return self.read_bytes(path).decode(encoding)

    def write_text(self, path: StrPath, text: str, encoding: str = "utf-8") -> int:
        """Makes `text` the contents of a file; durable when this returns."""
        return self.write_bytes(path, text.encode(encoding))

    def read_into(self, path: StrPath, buffer: SupportsBuffer, offset: int = 0) -> int:
        """Fills a buffer from a file without a copy; returns the bytes read."""
        with self.open_raw(path) as file:
            return file.pread_into(buffer, offset)

    def read_batch(
        self,
        reads: Sequence[tuple[object, int, SupportsBuffer]],
        *,
        raise_errors: bool = True,
    ) -> list[int | FirepondError]:
        """Reads of (file, offset, buffer) in one go: one request per storage node.

        Returns the bytes of each read, short only at the end of its file. A read that failed
        raises its error or, without `raise_errors`, has it in its place.
        """
        rows = [(raw_of(file).native, offset, buffer) for file, offset, buffer in reads]
        results = self.native().read_batch(rows)
        if raise_errors:
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return results

    def fsync(self, file: object) -> None:
        """Flushes a file's Python buffer, makes it durable and settles its length."""
        raw = raw_of(file)
        flush = getattr(file, "flush", None)
        if flush is not None and raw.writable():
            flush()
        raw.sync()

    def scandir(self, path: StrPath = "/", *, attributes: bool = False) -> Iterator[DirEntry]:
        """The entries of a directory in the order of their names, in pages.

        Args:
            attributes: bring each entry's attributes along, so that `DirEntry.stat` costs nothing.
        """
        directory = path_text(path)
        native = self.native()
        inode = native.stat(path_bytes(path), True)[0][0]
        after: bytes | None = None
        more = True
        while more:
            rows, more = native.read_directory(inode, after, self.PAGE_COUNT, attributes)
            for row in rows:
                yield DirEntry(directory, row, self._stat_for_entry)
            after = rows[-1][0] if rows else after
            more = more and bool(rows)

    def _stat_for_entry(self, path: str, follow: bool) -> FileStat:
        return self.stat(path, follow_symlinks=follow)

    def statvfs(self) -> FileSystemStat:
        """Space of the file system."""
        return FileSystemStat(*self.native().stat_file_system())

    def read_counts(self) -> dict[str, int]:
        """Requests for reads of this process to this cluster: `request_count`; `hedge_count`, those
        that a second replica was asked, because the first was slow; `hedge_won_count`, how often
        that one was faster."""
        self.native()
        return self._connection.native.read_counts()

    @property
    def aio(self) -> AsyncCluster:
        """The same files for asyncio."""
        from firepond.client.async_cluster import AsyncCluster

        return AsyncCluster(self)

    def close(self) -> None:
        """Sends what is not sent yet and lets the connection go. Open files are closed, too late to
        tell of errors: close them yourself."""
        if self._closed:
            return
        ours = self._process == os.getpid()
        try:
            if ours:
                self._native.shutdown()
        finally:
            self._closed = True
            if ours:
                del self._native
                connections.release(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        self.close()
        return False

    def __reduce__(self) -> tuple[Any, tuple[str, float, int, int]]:
        return _unpickle, (self.address, self.timeout_s, self._uid, self._gid)

    def __repr__(self) -> str:
        return f"<firepond.Cluster {self.address!r}>"


_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()


def _unpickle(address: str, timeout_s: float, uid: int, gid: int) -> Cluster:
    return Cluster(address, timeout_s=timeout_s, uid=uid, gid=gid)


@atexit.register
def _close_all() -> None:
    for cluster in list(_clusters):
        with contextlib.suppress(FirepondError):
            cluster.close()
