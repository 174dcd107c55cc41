"""A directory of this machine that answers like a cluster, for tests of what stands on the SDK."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from firepond.client.raw_file import raw_of


class LocalFile:
    """An open local file with the native file's methods."""

    def __init__(self, path: Path, flags: int) -> None:
        self.descriptor = os.open(path, flags, 0o644)

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def pread(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, min(length, self.size), offset)

    def readinto(self, offset: int, buffer: Any) -> int:
        return os.preadv(self.descriptor, [buffer], offset)

    def pwrite(self, offset: int, buffer: Any) -> int:
        return os.pwrite(self.descriptor, buffer, offset)

    def append(self, buffer: Any) -> int:
        end = self.size
        return end + os.pwrite(self.descriptor, buffer, end)

    def truncate(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)

    def stat(self) -> Any:
        found = os.fstat(self.descriptor)
        head = (found.st_ino, 0, 0o644, found.st_uid, found.st_gid, 1, found.st_size)
        return head, (0, 0, 0, 0, 0)

    def flush(self) -> None:
        """Local files have no buffer here."""

    def sync(self) -> None:
        os.fsync(self.descriptor)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class LocalClient:
    """The native client's methods that open and read files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: bytes, **named: Any) -> LocalFile:
        flags = os.O_RDWR if named["write"] else os.O_RDONLY
        flags |= os.O_CREAT if named["create"] else 0
        flags |= os.O_EXCL if named["exclusive"] else 0
        flags |= os.O_TRUNC if named["truncate"] else 0
        return LocalFile(self.root / path.decode().lstrip("/"), flags)

    def read_batch(self, reads: Any) -> list[int]:
        return [file.readinto(offset, buffer) for file, offset, buffer in reads]

    def rename(self, path: bytes, new_path: bytes, replace: bool) -> None:
        assert replace
        target = self.root / new_path.decode().lstrip("/")
        (self.root / path.decode().lstrip("/")).replace(target)

    def stat(self, path: bytes, follow: bool) -> Any:
        file = LocalFile(self.root / path.decode().lstrip("/"), os.O_RDONLY)
        row = file.stat()
        file.close()
        return row

    def unlink(self, path: bytes) -> None:
        (self.root / path.decode().lstrip("/")).unlink()


def local_cluster(root: Path) -> Any:
    """A `Cluster` over a local directory."""
    from firepond.client.cluster import Cluster

    class Local(Cluster):
        def __init__(self) -> None:
            self.client = LocalClient(root)

        def native(self) -> Any:
            return self.client

        def __repr__(self) -> str:
            return f"<local {root}>"

    return Local()


__all__ = ["local_cluster", "raw_of"]
