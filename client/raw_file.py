"""An open file as Python's I/O classes want it.

Owns: position, append mode, the rules of `io.RawIOBase`. Never: buffering, which `io` does
above and the native client below.
What is durable when: `write` is buffered; `flush` returns when all replicas have it; `sync` also
settles length and times; `close` does both and raises what went wrong.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firepond.client.attributes import FileStat
from firepond.fs.errors import InvalidArgument

if TYPE_CHECKING:
    from firepond import _native
    from firepond.client.open_mode import OpenMode

READ_ALL_BYTES = 1 << 62


SupportsBuffer = Any
"""Whatever has the buffer protocol: bytes, bytearray, memoryview, arrays. Before Python 3.12 types
have no name for it that arrays answer to."""


class RawFile(io.RawIOBase):
    """An unbuffered file of a cluster. Thread-safe; the position is shared as with `os` files.

    Attributes:
        name: the path it was opened with.
        mode: as `io.FileIO.mode`.
    """

    def __init__(self, native: _native.File, name: str, mode: OpenMode) -> None:
        super().__init__()
        self.native = native
        self.name = name
        self.mode = mode.text
        self._readable = mode.read
        self._writable = mode.write
        self._append = mode.append
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._position = native.size if mode.append else 0

    def readable(self) -> bool:
        self._check_open()
        return self._readable

    def writable(self) -> bool:
        self._check_open()
        return self._writable

    def seekable(self) -> bool:
        self._check_open()
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._check(self._readable, "reading")
        with self._lock:
            count = self.native.readinto(self._position, buffer)
            self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, or all to the end; straight into the object that is returned."""
        self._check(self._readable, "reading")
        if size is None or size < 0:
            return self.readall()
        with self._lock:
            data = self.native.pread(self._position, size)
            self._position += len(data)
        return data

    def readall(self) -> bytes:
        self._check(self._readable, "reading")
        parts = []
        while part := self.read(READ_ALL_BYTES):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, data: Any, /) -> int:
        self._check(self._writable, "writing")
        with self._lock:
            if self._append:
                self._position = self.native.append(data)
                return memoryview(data).nbytes
            count = self.native.pwrite(self._position, data)
            self._position += count
        return count

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset`; the position stays."""
        self._check(self._readable, "reading")
        return self.native.pread(_natural(offset), _natural(size))

    def pread_into(self, buffer: SupportsBuffer, offset: int) -> int:
        """Fills a buffer from `offset` without a copy; returns the bytes read."""
        self._check(self._readable, "reading")
        return self.native.readinto(_natural(offset), buffer)

    def pwrite(self, data: SupportsBuffer, offset: int) -> int:
        """Writes at `offset`; the position stays."""
        self._check(self._writable, "writing")
        return self.native.pwrite(_natural(offset), data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        with self._lock:
            starts: dict[int, Callable[[], int]] = {
                os.SEEK_SET: lambda: 0,
                os.SEEK_CUR: lambda: self._position,
                os.SEEK_END: lambda: self.native.size,
            }
            if whence not in starts:
                raise InvalidArgument("whence is 0, 1 or 2", {"whence": str(whence)})
            self._position = _natural(starts[whence]() + offset)
            return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def truncate(self, size: int | None = None, /) -> int:
        """Cuts or extends with zeros; the position stays."""
        self._check(self._writable, "writing")
        length = self._position if size is None else _natural(size)
        self.native.truncate(length)
        return length

    def punch_hole(self, offset: int, length: int) -> None:
        """Makes a range zeros, as far as the file reaches; whole chunks give their space back."""
        self._check(self._writable, "writing")
        self.native.punch_hole(_natural(offset), _natural(length))

    def flush(self) -> None:
        """Returns when every byte written so far is durable on all replicas."""
        super().flush()
        if self._writable and self._process == os.getpid():
            self.native.flush()

    def sync(self) -> None:
        """fsync: `flush`, and others see the new length and times."""
        self._check_open()
        self.native.sync()

    fsync = sync

    def stat(self) -> FileStat:
        """The attributes of the open file, even when its name is gone."""
        self._check_open()
        return FileStat.from_row(self.native.stat())

    def close(self) -> None:
        """Makes everything durable and gives the file back; raises what went wrong."""
        if self.closed:
            return
        try:
            # A forked child has the parent's file, which is the parent's to close.
            if self._process == os.getpid():
                self.native.close()
        finally:
            self._writable = False
            super().close()

    def fileno(self) -> int:
        raise io.UnsupportedOperation(
            "a file of the SDK has no descriptor; mount the cluster for programs that need one"
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else self.mode
        return f"<firepond.RawFile {self.name!r} {state}>"

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check(self, allowed: bool, what: str) -> None:
        self._check_open()
        if not allowed:
            raise io.UnsupportedOperation(f"the file is not open for {what}")


def raw_of(file: object) -> RawFile:
    """The raw file behind whatever `Cluster.open` returned.

    Raises:
        InvalidArgument: not a file of a cluster.
    """
    inner = file
    while not isinstance(inner, RawFile):
        inner = getattr(inner, "buffer", None) or getattr(inner, "raw", None)
        if inner is None:
            raise InvalidArgument("not a file of a cluster", {"type": type(file).__name__})
    return inner


def _natural(value: int) -> int:
    if value < 0:
        raise InvalidArgument("offsets and sizes are not negative", {"value": str(value)})
    return value
