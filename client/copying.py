"""Copies files and trees between this machine and a cluster, or within one: `firepond cp`.

Owns: the two sides of a copy and its plan. Invariants: nothing is written before the whole plan is
known to be possible; a file never replaces itself and a tree is never copied into itself, whichever
names, links or mounts lead there. Symbolic links in a tree stay links, permission bits are kept.
"""

from __future__ import annotations

import os
import stat as stat_bits
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO, RawIOBase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from firepond.fs.errors import (
    AlreadyExists,
    InvalidArgument,
    IoFailed,
    IsADirectory,
    NotFound,
    Unsupported,
)

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from firepond.client.attributes import FileStat
    from firepond.client.cluster import Cluster

PIECE_BYTES = 8 << 20

Stream = RawIOBase
"""An unbuffered file of either side."""


class Side(Protocol):
    """One end of a copy. `status` follows links, `link_status` does not; None: nothing is there."""

    def status(self, path: str) -> os.stat_result | FileStat | None: ...
    def link_status(self, path: str) -> os.stat_result | FileStat | None: ...
    def absolute(self, path: str) -> PurePosixPath: ...
    def make_directory(self, path: str) -> None: ...
    def names(self, path: str) -> list[str]: ...
    def read_link(self, path: str) -> str: ...
    def make_link(self, target: str, path: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def open(self, path: str, mode: str, permissions: int = 0o666) -> Stream: ...


@dataclass(frozen=True)
class Local:
    """The files of this machine."""

    def status(self, path: str) -> os.stat_result | None:
        try:
            return Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def link_status(self, path: str) -> os.stat_result | None:
        try:
            return Path(path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def absolute(self, path: str) -> PurePosixPath:
        return PurePosixPath(Path(path).absolute())

    def make_directory(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def names(self, path: str) -> list[str]:
        return sorted(entry.name for entry in Path(path).iterdir())

    def read_link(self, path: str) -> str:
        return str(Path(path).readlink())

    def make_link(self, target: str, path: str) -> None:
        Path(path).symlink_to(target)

    def remove(self, path: str) -> None:
        Path(path).unlink()

    def open(self, path: str, mode: str, permissions: int = 0o666) -> Stream:
        return FileIO(path, mode, opener=lambda name, flags: os.open(name, flags, permissions))


@dataclass(frozen=True)
class Remote:
    """The files of the cluster."""

    cluster: Cluster

    def status(self, path: str) -> FileStat | None:
        try:
            return self.cluster.stat(path)
        except (NotFound, NotADirectoryError):
            return None

    def link_status(self, path: str) -> FileStat | None:
        try:
            return self.cluster.lstat(path)
        except (NotFound, NotADirectoryError):
            return None

    def absolute(self, path: str) -> PurePosixPath:
        return PurePosixPath(path)

    def make_directory(self, path: str) -> None:
        self.cluster.makedirs(path, exist_ok=True)

    def names(self, path: str) -> list[str]:
        return self.cluster.listdir(path)

    def read_link(self, path: str) -> str:
        return self.cluster.readlink(path)

    def make_link(self, target: str, path: str) -> None:
        self.cluster.symlink(target, path)

    def remove(self, path: str) -> None:
        self.cluster.remove(path)

    def open(self, path: str, mode: str, permissions: int = 0o666) -> Stream:
        return self.cluster.open_raw(path, mode, permissions=permissions)


@dataclass(frozen=True)
class Step:
    """One thing to copy, and where to."""

    source: str
    destination: str
    status: os.stat_result | FileStat

    @property
    def kind(self) -> int:
        """The file type bits of the source."""
        return stat_bits.S_IFMT(self.status.st_mode)

    @property
    def size(self) -> int:
        """Bytes to copy."""
        return self.status.st_size if self.kind == stat_bits.S_IFREG else 0


def plan(
    from_side: Side, source: str, to_side: Side, destination: str, recursive: bool
) -> list[Step]:
    """What a copy does, in order; directories before what is in them. Changes nothing.

    Raises:
        InvalidArgument: source and destination are the same, or one is inside the other.
        IsADirectory: the source is a directory and `recursive` was not asked for.
        Unsupported: the source has something that is no file, directory or symbolic link.
    """
    status = from_side.status(source)
    if status is None:
        raise NotFound("nothing to copy is there", {"path": source})
    there = to_side.status(destination)
    if there is not None and stat_bits.S_ISDIR(there.st_mode):
        name = from_side.absolute(source).name or "root"
        destination = f"{destination.rstrip('/')}/{name}"
        there = to_side.status(destination)
    if not stat_bits.S_ISDIR(status.st_mode):
        if there is not None and stat_bits.S_ISDIR(there.st_mode):
            raise IsADirectory("a file cannot replace a directory", {"path": destination})
        _refuse_same(status, there, destination)
        return [_checked(Step(source, destination, status))]
    if not recursive:
        raise IsADirectory("this is a directory: add --recursive", {"path": source})
    if there is not None and not stat_bits.S_ISDIR(there.st_mode):
        raise AlreadyExists("a directory cannot replace a file", {"path": destination})
    for above in (to_side.absolute(destination), *to_side.absolute(destination).parents):
        _refuse_same(status, to_side.status(str(above)), destination)
    return list(_tree(from_side, Step(source, destination, status)))


def carry_out(
    from_side: Side, to_side: Side, step: Step, verify: bool, progress: Progress, task: TaskID
) -> None:
    """Copies one thing; with `verify`, its size is looked at again afterwards."""
    if step.kind == stat_bits.S_IFDIR:
        to_side.make_directory(step.destination)
        return
    if step.kind == stat_bits.S_IFLNK:
        if to_side.link_status(step.destination) is not None:
            to_side.remove(step.destination)
        to_side.make_link(from_side.read_link(step.source), step.destination)
        return
    copied = 0
    permissions = step.status.st_mode & 0o777
    with ExitStack() as files:
        reader = files.enter_context(from_side.open(step.source, "rb"))
        writer = files.enter_context(to_side.open(step.destination, "wb", permissions))
        while piece := reader.read(PIECE_BYTES):
            rest = memoryview(piece)
            while rest:
                rest = rest[writer.write(rest) or 0 :]
            copied += len(piece)
            progress.advance(task, len(piece))
    found = to_side.status(step.destination) if verify else None
    if verify and (found is None or found.st_size != copied):
        raise IoFailed(
            "the copy has another size: was it written by someone else?",
            {"path": step.destination, "copied_bytes": str(copied)},
        )


def _tree(from_side: Side, step: Step) -> Iterator[Step]:
    """A directory and all below it."""
    yield _checked(step)
    if step.kind != stat_bits.S_IFDIR:
        return
    for name in from_side.names(step.source):
        below = f"{step.source.rstrip('/')}/{name}"
        status = from_side.link_status(below)
        if status is not None:  # None: it was removed since.
            yield from _tree(from_side, Step(below, f"{step.destination}/{name}", status))


def _checked(step: Step) -> Step:
    """Refuses what cannot be copied: reading a pipe would never end."""
    if step.kind not in (stat_bits.S_IFREG, stat_bits.S_IFDIR, stat_bits.S_IFLNK):
        raise Unsupported(
            "only files, directories and symbolic links are copied", {"path": step.source}
        )
    return step


def _refuse_same(
    source: os.stat_result | FileStat, there: os.stat_result | FileStat | None, path: str
) -> None:
    """A mount has the inodes and times of its cluster, so both sides can be compared.

    Number and change time together are as good as unique over file systems.
    """
    if there is None:
        return
    if (source.st_ino, source.st_ctime_ns) == (there.st_ino, there.st_ctime_ns):
        raise InvalidArgument(
            "this would copy something onto or into itself", {"destination": path}
        )
