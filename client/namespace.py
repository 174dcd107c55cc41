"""Operations on names and attributes: what `os` and `shutil` have, for a cluster.

Owns: recursion (`walk`, `makedirs`, `rmtree`). Never: open files.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from firepond.client.attributes import DirEntry, FileStat
from firepond.client.open_mode import StrPath, path_bytes, path_text, process_umask
from firepond.fs.errors import AlreadyExists, FirepondError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from firepond import _native

NOW_NS = -1


def times_ns(times: tuple[float, float] | None, ns: tuple[int, int] | None) -> tuple[int, int]:
    """Times of access and change as `utime` takes them, in nanoseconds since 1970."""
    if times is not None and ns is not None:
        raise InvalidArgument("give times or ns, not both")
    if times is not None:
        ns = (round(times[0] * 1e9), round(times[1] * 1e9))
    if ns is not None and min(ns) < 0:
        raise InvalidArgument("times before 1970 are not kept", {"ns": str(ns)})
    return ns or (NOW_NS, NOW_NS)


class Namespace(ABC):
    """Directories, links and attributes of a cluster."""

    PAGE_COUNT = 1000

    @abstractmethod
    def native(self) -> _native.FileClient:
        """The native client of this process."""

    @abstractmethod
    def scandir(self, path: StrPath = "/", *, attributes: bool = False) -> Iterator[DirEntry]:
        """The entries of a directory."""

    def listdir(self, path: StrPath = "/") -> list[str]:
        """The names of a directory, in order."""
        return [entry.name for entry in self.scandir(path)]

    def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> FileStat:
        """The attributes of what a path leads to."""
        return FileStat.from_row(self.native().stat(path_bytes(path), follow_symlinks))

    def lstat(self, path: StrPath) -> FileStat:
        """The attributes of a path itself, also when it is a symbolic link."""
        return self.stat(path, follow_symlinks=False)

    def exists(self, path: StrPath) -> bool:
        """Whether a path leads to something."""
        return self._find(path) is not None

    def isdir(self, path: StrPath) -> bool:
        """Whether a path leads to a directory."""
        found = self._find(path)
        return found is not None and found.is_dir()

    def isfile(self, path: StrPath) -> bool:
        """Whether a path leads to a regular file."""
        found = self._find(path)
        return found is not None and found.is_file()

    def getsize(self, path: StrPath) -> int:
        """The size of a file in bytes."""
        return self.stat(path).st_size

    def _find(self, path: StrPath) -> FileStat | None:
        try:
            return self.stat(path)
        except (NotFound, NotADirectoryError):
            return None

    def mkdir(self, path: StrPath, mode: int = 0o777) -> None:
        """Makes a directory. Raises AlreadyExists, NotFound."""
        self.native().make_directory(path_bytes(path), mode & ~process_umask())

    def makedirs(self, path: StrPath, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        """Makes a directory and whatever is missing above it."""
        text = path_text(path)
        try:
            self.mkdir(text, mode)
        except NotFound:
            parent = os.path.dirname(text.rstrip("/"))  # noqa: PTH120
            if not parent.strip("/"):
                raise
            self.makedirs(parent, exist_ok=True)
            self.makedirs(text, mode, exist_ok=exist_ok)
        except (AlreadyExists, InvalidArgument):
            # The root has no name that could be made.
            if not (exist_ok and self.isdir(text)):
                raise

    def rmdir(self, path: StrPath) -> None:
        """Removes an empty directory. Raises DirectoryNotEmpty."""
        self.native().remove_directory(path_bytes(path))

    def remove(self, path: StrPath) -> None:
        """Removes a file or symbolic link; its bytes are collected when nobody has it open."""
        self.native().unlink(path_bytes(path))

    unlink = remove

    def rename(self, source: StrPath, destination: StrPath) -> None:
        """Renames. An existing destination is an error (AlreadyExists); see `replace`."""
        self.native().rename(path_bytes(source), path_bytes(destination), False)

    def replace(self, source: StrPath, destination: StrPath) -> None:
        """Renames; an existing destination is replaced at once."""
        self.native().rename(path_bytes(source), path_bytes(destination), True)

    def exchange(self, first: StrPath, second: StrPath) -> None:
        """Gives two names each other's file or directory, at once."""
        self.native().exchange(path_bytes(first), path_bytes(second))

    def link(self, source: StrPath, destination: StrPath) -> None:
        """Gives a file a second name."""
        self.native().link(path_bytes(source), path_bytes(destination))

    def symlink(self, target: StrPath, path: StrPath) -> None:
        """Makes a symbolic link at `path` that leads to `target`."""
        self.native().make_symlink(os.fsencode(target), path_bytes(path))

    def readlink(self, path: StrPath) -> str:
        """The target of a symbolic link."""
        return self.native().read_link(path_bytes(path)).decode(errors="surrogateescape")

    def chmod(self, path: StrPath, mode: int, *, follow_symlinks: bool = True) -> None:
        """Sets the permission bits."""
        self.native().set_attributes(path_bytes(path), follow_symlinks, mode=mode & 0o7777)

    def chown(
        self, path: StrPath, uid: int = -1, gid: int = -1, *, follow_symlinks: bool = True
    ) -> None:
        """Sets owner and group; −1 leaves one as it is."""
        self.native().set_attributes(
            path_bytes(path),
            follow_symlinks,
            uid=None if uid == -1 else uid,
            gid=None if gid == -1 else gid,
        )

    def utime(
        self,
        path: StrPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Sets times of access and change: seconds or nanoseconds since 1970; neither: now."""
        accessed, modified = times_ns(times, ns)
        self.native().set_attributes(
            path_bytes(path), follow_symlinks, accessed_ns=accessed, modified_ns=modified
        )

    def truncate(self, path: StrPath, size: int) -> None:
        """Cuts a file or extends it with zeros."""
        if size < 0:
            raise InvalidArgument("a size is not negative", {"size": str(size)})
        self.native().set_attributes(path_bytes(path), True, size=size)

    def walk(
        self,
        top: StrPath = "/",
        *,
        topdown: bool = True,
        onerror: Callable[[FirepondError], object] | None = None,
        followlinks: bool = False,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """(directory, its directories, its other names) for a tree, as `os.walk`."""
        directory = path_text(top)
        try:
            entries = list(self.scandir(directory))
        except FirepondError as error:
            if onerror is not None:
                onerror(error)
            return
        directories = [one.name for one in entries if one.is_dir()]
        links = {one.name for one in entries if one.is_symlink()}
        known = set(directories)
        others = [one.name for one in entries if one.name not in known]
        if topdown:
            yield directory, directories, others
        for name in directories:
            if followlinks or name not in links:
                below = f"{directory.rstrip('/')}/{name}"
                yield from self.walk(
                    below, topdown=topdown, onerror=onerror, followlinks=followlinks
                )
        if not topdown:
            yield directory, directories, others

    def rmtree(self, path: StrPath, *, ignore_errors: bool = False) -> None:
        """Removes a directory with all below it. Symbolic links are removed, not followed."""
        guard: contextlib.AbstractContextManager[object] = (
            contextlib.suppress(FirepondError) if ignore_errors else contextlib.nullcontext()
        )
        with guard:
            for entry in list(self.scandir(path)):
                if entry.is_dir(follow_symlinks=False):
                    self.rmtree(entry.path, ignore_errors=ignore_errors)
                else:
                    with guard:
                        self.remove(entry.path)
            self.rmdir(path)
