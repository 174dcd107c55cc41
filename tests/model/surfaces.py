"""The same operations on each thing that claims to be a file system.

Owns: how an operation of the reference is said to the kernel (a mount, a local directory), to the
SDK, and to both in turn on one tree. Every method has the name and the arguments of the
reference's, returns what that returns, and raises `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
from typing import Any

from firepond.client.cluster import Cluster
from firepond.client.open_mode import OpenMode
from firepond.client.raw_file import RawFile
from tests.model.nodes import OpenFlags, Stat, kind_of

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_FLAGS = {"replace": 0, "no_replace": 1, "exchange": 2}
KEEP_SIZE_AND_PUNCH_HOLE = 3


def stat_of(found: Any) -> Stat:
    """What is compared of a `stat_result` or a `FileStat`."""
    kind = kind_of(found.st_mode)
    size = 0 if kind == "directory" else found.st_size
    mode = found.st_mode & 0o7777
    return Stat(kind, mode, found.st_uid, found.st_gid, found.st_nlink, size)


def check(result: int) -> None:
    """Turns what a function of the C library returned into an exception."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class KernelSurface:
    """A directory, by system calls: of a mount or of a local file system."""

    kind = "kernel"

    def __init__(self, name: str, root: str) -> None:
        self.name = name
        self.root = os.fsencode(root)
        self.files: dict[int, int] = {}

    def _at(self, path: bytes) -> bytes:
        return self.root + b"/" + path

    def open(self, slot: int, path: bytes, flags: OpenFlags, mode: int) -> None:
        word = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)[flags.write * (1 + flags.read)]
        word |= os.O_CREAT * flags.create | os.O_EXCL * flags.exclusive
        word |= os.O_TRUNC * flags.truncate | os.O_APPEND * flags.append
        descriptor = os.open(self._at(path), word, mode)
        if kind_of(os.fstat(descriptor).st_mode) == "directory":
            os.close(descriptor)
            raise OSError(errno.EISDIR, "as the builtin open says")
        if flags.append:
            os.lseek(descriptor, 0, os.SEEK_END)
        self.files[slot] = descriptor

    def close(self, slot: int) -> None:
        os.close(self.files.pop(slot))

    def read(self, slot: int, size: int) -> bytes:
        return os.read(self.files[slot], size)

    def write(self, slot: int, data: bytes) -> int:
        return os.write(self.files[slot], data)

    def pread(self, slot: int, size: int, offset: int) -> bytes:
        return os.pread(self.files[slot], size, offset)

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.files[slot], data, offset)

    def seek(self, slot: int, offset: int, whence: int) -> int:
        return os.lseek(self.files[slot], offset, whence)

    def ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self.files[slot], size)

    def extend(self, slot: int, offset: int, length: int) -> None:
        self._allocate(slot, 0, offset, length)

    def punch_hole(self, slot: int, offset: int, length: int) -> None:
        self._allocate(slot, KEEP_SIZE_AND_PUNCH_HOLE, offset, length)

    def _allocate(self, slot: int, mode: int, offset: int, length: int) -> None:
        area = (ctypes.c_int64(offset), ctypes.c_int64(length))
        check(LIBC.fallocate(self.files[slot], mode, *area))

    def fsync(self, slot: int) -> None:
        os.fsync(self.files[slot])

    def fstat(self, slot: int) -> Stat:
        return stat_of(os.fstat(self.files[slot]))

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(self._at(path), mode)  # noqa: PTH102

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._at(path))  # noqa: PTH106

    def unlink(self, path: bytes) -> None:
        os.unlink(self._at(path))  # noqa: PTH108

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self._at(path))  # noqa: PTH211

    def link(self, source: bytes, path: bytes) -> None:
        os.link(self._at(source), self._at(path), follow_symlinks=False)

    def rename(self, source: bytes, path: bytes, how: str) -> None:
        names = (AT_FDCWD, self._at(source), AT_FDCWD, self._at(path))
        check(LIBC.renameat2(*names, RENAME_FLAGS[how]))

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._at(path))  # noqa: PTH115

    def listdir(self, path: bytes) -> list[bytes]:
        return sorted(os.listdir(self._at(path)))  # noqa: PTH208

    def stat(self, path: bytes) -> Stat:
        return stat_of(os.stat(self._at(path)))  # noqa: PTH116

    def lstat(self, path: bytes) -> Stat:
        return stat_of(os.lstat(self._at(path)))

    def modified_ns(self, path: bytes) -> int:
        return os.lstat(self._at(path)).st_mtime_ns

    def access(self, path: bytes, execute: bool) -> None:
        check(LIBC.access(self._at(path), os.X_OK if execute else os.R_OK | os.W_OK))

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._at(path), mode)  # noqa: PTH101

    def chown(self, path: bytes, uid: int, gid: int, follow: bool) -> None:
        os.chown(self._at(path), uid, gid, follow_symlinks=follow)

    def utime(self, path: bytes, modified_ns: int, follow: bool) -> None:
        os.utime(self._at(path), ns=(1, modified_ns), follow_symlinks=follow)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._at(path), size)

    def contents(self, path: bytes) -> bytes:
        with open(self._at(path), "rb") as file:  # noqa: PTH123
            return file.read()


class SdkSurface:
    """A directory of a cluster, by the SDK."""

    kind = "sdk"

    def __init__(self, name: str, cluster: Cluster, root: str) -> None:
        self.name = name
        self.cluster = cluster
        self.root = os.fsencode(root)
        self.files: dict[int, RawFile] = {}

    def _at(self, path: bytes) -> bytes:
        return self.root + b"/" + path

    def open(self, slot: int, path: bytes, flags: OpenFlags, mode: int) -> None:
        """With open(2)'s flags, of which the letters of `Cluster.open` name a part only."""
        from firepond.client.open_mode import process_umask

        at = self._at(path)
        native = self.cluster.native().open(
            at,
            read=flags.read,
            write=flags.write,
            create=flags.create,
            exclusive=flags.exclusive,
            truncate=flags.truncate,
            mode=mode & ~process_umask(),
        )
        rights = (flags.read, flags.write, flags.create, flags.exclusive)
        how = OpenMode(*rights, flags.truncate, flags.append, binary=True)
        self.files[slot] = RawFile(native, os.fsdecode(at), how)

    def close(self, slot: int) -> None:
        self.files.pop(slot).close()

    def read(self, slot: int, size: int) -> bytes:
        with bad_descriptor():
            return self.files[slot].read(size)

    def write(self, slot: int, data: bytes) -> int:
        with bad_descriptor():
            return self.files[slot].write(data)

    def pread(self, slot: int, size: int, offset: int) -> bytes:
        with bad_descriptor():
            return self.files[slot].pread(size, offset)

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        with bad_descriptor():
            return self.files[slot].pwrite(data, offset)

    def seek(self, slot: int, offset: int, whence: int) -> int:
        return self.files[slot].seek(offset, whence)

    def ftruncate(self, slot: int, size: int) -> None:
        with bad_descriptor(errno.EINVAL):
            self.files[slot].truncate(size)

    def extend(self, slot: int, offset: int, length: int) -> None:
        """By `truncate`: the SDK has no call of its own."""
        with bad_descriptor():
            file = self.files[slot]
            if not file.writable():
                raise io.UnsupportedOperation
            if offset + length > file.stat().st_size:
                file.truncate(offset + length)

    def punch_hole(self, slot: int, offset: int, length: int) -> None:
        with bad_descriptor():
            self.files[slot].punch_hole(offset, length)

    def fsync(self, slot: int) -> None:
        self.files[slot].fsync()

    def fstat(self, slot: int) -> Stat:
        return stat_of(self.files[slot].stat())

    def mkdir(self, path: bytes, mode: int) -> None:
        self.cluster.mkdir(self._at(path), mode)

    def rmdir(self, path: bytes) -> None:
        self.cluster.rmdir(self._at(path))

    def unlink(self, path: bytes) -> None:
        self.cluster.unlink(self._at(path))

    def symlink(self, target: bytes, path: bytes) -> None:
        self.cluster.symlink(os.fsdecode(target), self._at(path))

    def link(self, source: bytes, path: bytes) -> None:
        self.cluster.link(self._at(source), self._at(path))

    def rename(self, source: bytes, path: bytes, how: str) -> None:
        rename = {
            "replace": self.cluster.replace,
            "no_replace": self.cluster.rename,
            "exchange": self.cluster.exchange,
        }
        rename[how](self._at(source), self._at(path))

    def readlink(self, path: bytes) -> bytes:
        return os.fsencode(self.cluster.readlink(self._at(path)))

    def listdir(self, path: bytes) -> list[bytes]:
        return [os.fsencode(name) for name in self.cluster.listdir(self._at(path))]

    def stat(self, path: bytes) -> Stat:
        return stat_of(self.cluster.stat(self._at(path)))

    def lstat(self, path: bytes) -> Stat:
        return stat_of(self.cluster.lstat(self._at(path)))

    def modified_ns(self, path: bytes) -> int:
        return self.cluster.lstat(self._at(path)).st_mtime_ns

    def chmod(self, path: bytes, mode: int) -> None:
        self.cluster.chmod(self._at(path), mode)

    def chown(self, path: bytes, uid: int, gid: int, follow: bool) -> None:
        self.cluster.chown(self._at(path), uid, gid, follow_symlinks=follow)

    def utime(self, path: bytes, modified_ns: int, follow: bool) -> None:
        self.cluster.utime(self._at(path), ns=(1, modified_ns), follow_symlinks=follow)

    def truncate(self, path: bytes, size: int) -> None:
        self.cluster.truncate(self._at(path), size)

    def contents(self, path: bytes) -> bytes:
        return self.cluster.read_bytes(self._at(path))


class bad_descriptor:
    """Python's I/O classes say `UnsupportedOperation` where a system call has an errno."""

    def __init__(self, number: int = errno.EBADF) -> None:
        self.number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, io.UnsupportedOperation):
            raise OSError(self.number, "not open for this") from None


class SharedSurface:
    """One tree that the SDK and a mount change in turn: `by_mount` says whose turn it is.

    A handle belongs to the side that opened it. What the promises of docs/semantics.md need
    between two clients is done here, and nothing else: a change through a handle is followed by
    `fsync`, and a use of a handle is preceded by `fstat`, which learns of the other side's changes.
    """

    USES_OF_HANDLES = frozenset(
        {"read", "write", "pread", "pwrite", "seek", "extend", "punch_hole"}
    )
    CHANGES_BY_HANDLE = frozenset({"write", "pwrite", "extend", "punch_hole"})

    def __init__(self, name: str, sdk: SdkSurface, mount: KernelSurface) -> None:
        self.name = name
        self.sides = (sdk, mount)
        self.by_mount = False
        self.owners: dict[int, int] = {}

    @property
    def kind(self) -> str:
        """That of the side whose turn it is."""
        return self.sides[self.by_mount].kind

    def __getattr__(self, operation: str) -> Any:
        def run(*arguments: Any) -> Any:
            first = arguments[0] if arguments else None
            if operation == "open" or not isinstance(first, int):
                side = int(self.by_mount)
                result = getattr(self.sides[side], operation)(*arguments)
                if operation == "open":
                    self.owners[first] = side
                return result
            side = self.sides[self.owners[first]]
            if operation in self.USES_OF_HANDLES:
                side.fstat(first)
            result = getattr(side, operation)(*arguments)
            if operation in self.CHANGES_BY_HANDLE:
                side.fsync(first)
            return result

        return run
