"""What the SDK says about a file, directory or symbolic link.

Owns: `FileStat`, `DirEntry`, `FileSystemStat`. Never: calls to the cluster, apart from
`DirEntry.stat` of an entry that was listed without attributes.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable
from dataclasses import dataclass

NANOSECONDS = 1_000_000_000
_KIND_BITS = (stat_bits.S_IFREG, stat_bits.S_IFDIR, stat_bits.S_IFLNK)
BLOCK_BYTES = 512

Row = tuple[tuple[int, int, int, int, int, int, int], tuple[int, int, int, int, int]]


@dataclass(frozen=True, slots=True)
class FileStat:
    """Attributes with the names of `os.stat_result`.

    Sizes are bytes, `*_ns` are nanoseconds since 1970.
    `st_blksize` is the chunk size of a file: the best size and alignment for reads and writes.
    """

    st_ino: int
    st_mode: int
    st_uid: int
    st_gid: int
    st_nlink: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_blksize: int
    stripe_count: int

    @classmethod
    def from_row(cls, row: Row) -> FileStat:
        """From what the native module gives."""
        (inode, kind, mode, uid, gid, links, size), times_and_layout = row
        accessed, modified, changed, chunk_size, stripe_count = times_and_layout
        return cls(
            st_ino=inode,
            st_mode=_KIND_BITS[kind] | mode,
            st_uid=uid,
            st_gid=gid,
            st_nlink=links,
            st_size=size,
            st_atime_ns=accessed,
            st_mtime_ns=modified,
            st_ctime_ns=changed,
            st_blksize=chunk_size or 4096,
            stripe_count=stripe_count,
        )

    @property
    def st_atime(self) -> float:
        """Last access in seconds."""
        return self.st_atime_ns / NANOSECONDS

    @property
    def st_mtime(self) -> float:
        """Last change of the contents in seconds."""
        return self.st_mtime_ns / NANOSECONDS

    @property
    def st_ctime(self) -> float:
        """Last change of the attributes in seconds."""
        return self.st_ctime_ns / NANOSECONDS

    @property
    def st_blocks(self) -> int:
        """The size in blocks of 512 bytes, holes included."""
        return -(-self.st_size // BLOCK_BYTES)

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat_bits.S_ISDIR(self.st_mode)

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat_bits.S_ISREG(self.st_mode)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link (only without following it)."""
        return stat_bits.S_ISLNK(self.st_mode)


@dataclass(frozen=True, slots=True)
class FileSystemStat:
    """Space of the file system in bytes, already divided by the number of replicas."""

    total_bytes: int
    free_bytes: int
    inode_count: int

    @property
    def used_bytes(self) -> int:
        """Bytes in use."""
        return self.total_bytes - self.free_bytes


class DirEntry:
    """A name of a directory, as `os.DirEntry`."""

    __slots__ = ("_inode", "_kind", "_own", "_stat_path", "name", "path")

    def __init__(
        self,
        directory: str,
        row: tuple[bytes, int, int, Row | None],
        stat_path: Callable[[str, bool], FileStat],
    ) -> None:
        name, self._inode, self._kind, own = row
        self.name = name.decode(errors="surrogateescape")
        self.path = f"{directory.rstrip('/')}/{self.name}"
        self._own = None if own is None else FileStat.from_row(own)
        self._stat_path = stat_path

    @property
    def has_stat(self) -> bool:
        """Whether the attributes came with the listing."""
        return self._own is not None

    def inode(self) -> int:
        """The inode number."""
        return self._inode

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._kind == 2

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is (or leads to) a directory."""
        return self._leads_to(1, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is (or leads to) a regular file."""
        return self._leads_to(0, follow_symlinks)

    def stat(self, *, follow_symlinks: bool = True) -> FileStat:
        """Its attributes; without a call when they came with the listing."""
        if self._own is None or (follow_symlinks and self.is_symlink()):
            return self._stat_path(self.path, follow_symlinks)
        return self._own

    def _leads_to(self, kind: int, follow: bool) -> bool:
        if not (follow and self.is_symlink()):
            return self._kind == kind
        try:
            found = self._stat_path(self.path, True)
        except FileNotFoundError:
            return False
        return found.is_dir() if kind == 1 else found.is_file()

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"
