"""Open files of a cluster as fsspec, DuckDB and pyarrow use them.

Why not `io.BufferedReader`: DuckDB 2 reads one handle from several threads at once, each with a
`seek` and then a `read`. Here the position is a thread's own, the size is fixed at the open, and
no buffer is shared, so such reads cannot take each other's place; the interpreter is left while
bytes arrive.

Invariants: a reader never changes; a writer's bytes appear under its name when `close` (or, in a
transaction, `commit`) has returned.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any

from firepond.fs.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from firepond.client.cluster import Cluster
    from firepond.client.raw_file import RawFile


BUFFER_BYTES = 1 << 20


def open_created(cluster: Cluster, path: str, mode: str) -> RawFile:
    """Opens a file to be written, with the directories above it: URLs name no directories."""
    try:
        return cluster.open_raw(path, mode)
    except NotFound:
        cluster.makedirs(path.rpartition("/")[0] or "/", exist_ok=True)
        return cluster.open_raw(path, mode)


class _Position(threading.local):
    """Where a thread is in a file."""

    offset = 0


class ReadFile(io.RawIOBase):
    """A file that is read, by any number of threads.

    Attributes:
        path: the path within the cluster.
        size: bytes when it was opened.
        mode: "rb".
    """

    mode = "rb"

    def __init__(self, raw: RawFile, path: str) -> None:
        super().__init__()
        self.path = path
        self.name = path
        self._raw = raw
        self.size: int = raw.native.size
        self._position = _Position()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position.offset

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves this thread's position."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position.offset, os.SEEK_END: self.size}
        if whence not in starts or starts[whence] + offset < 0:
            raise InvalidArgument(
                "no such position", {"offset": str(offset), "whence": str(whence)}
            )
        self._position.offset = starts[whence] + offset
        return self._position.offset

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end of the file."""
        start = self._position.offset
        rest = max(0, self.size - start)
        length = rest if size is None or size < 0 else min(size, rest)
        data = self._raw.pread(length, start) if length else b""
        self._position.offset = start + len(data)
        return data

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: Any, /) -> int:
        """Fills a buffer, short only at the end of the file."""
        start = self._position.offset
        view = memoryview(buffer).cast("B")[: max(0, self.size - start)]
        count = self._raw.pread_into(view, start) if view.nbytes else 0
        self._position.offset = start + count
        return count

    def close(self) -> None:
        if not self.closed:
            try:
                self._raw.close()
            finally:
                super().close()


class WriteFile(io.BufferedWriter):
    """A file that is written from its begin to its end.

    Without `autocommit` it is written beside its name and gets it in `commit`.
    """

    def __init__(self, cluster: Cluster, path: str, mode: str, *, autocommit: bool) -> None:
        self.path = path
        self._cluster = cluster
        self._autocommit = autocommit
        self._place = path if autocommit else f"{path}.{os.urandom(8).hex()}.part"
        super().__init__(open_created(cluster, self._place, mode), BUFFER_BYTES)

    def commit(self) -> None:
        """Gives the file its name; it replaces what has that."""
        assert self.closed, "a transaction commits what is closed"
        if not self._autocommit:
            self._cluster.replace(self._place, self.path)

    def discard(self) -> None:
        """Forgets what was written."""
        if not self._autocommit:
            self._cluster.remove(self._place)
